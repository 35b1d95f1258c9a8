"""What runs, how it fares and how far behind it is: the table of `up` and `status`, and their document."""

import asyncio
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from sentinelctl import prometheus
from sentinelctl.containers import GRAFANA
from sentinelctl.duration import age
from sentinelctl.errors import PreflightError, SentinelError
from sentinelctl.lifecycle import Project
from sentinelctl.log.reading import GroupLag, group_lags, looking
from sentinelctl.readiness import probe_fault
from sentinelctl.runtime.base import Usage
from sentinelctl.state import Replica

if TYPE_CHECKING:
    from rich.table import Table

_MIB = 1024 * 1024
_STYLES = {"ready": "green", "not-ready": "yellow", "draining": "yellow"}


@dataclass(frozen=True, slots=True)
class Row:
    replica: Replica
    fault: str
    """Why it is not ready, as `probe_fault` says it; empty when it is."""
    usage: Usage | None

    @property
    def health(self) -> str:
        """ready, not-ready, draining, crashed or crash-loop."""
        return self.fault.partition(":")[0] or "ready"

    @property
    def story(self) -> str:
        """Why it is not ready and what became of it before, for people."""
        ended = self.replica.last_exit if self.health == "not-ready" else ""
        return f"{self.replica.name} is {self.fault}" + (f" (restarted after {ended})" if ended else "")

    def document(self) -> dict[str, Any]:
        return {
            "service": self.replica.service,
            "replica": self.replica.name,
            "pid": self.replica.pid,
            "health": self.health,
            "fault": self.fault,
            "is_supervised": self.replica.is_supervised,
            "restarts": self.replica.restarts,
            "last_exit": self.replica.last_exit,
            "ports": dict(self.replica.ports),
            "started_at": self.replica.started_at,
            "cpu_percent": self.usage.cpu_percent if self.usage else None,
            "memory_bytes": self.usage.memory_bytes if self.usage else None,
        }


@dataclass(frozen=True, slots=True)
class Overview:
    runtime: str
    state_dir: str
    supervisor_pid: int | None
    rows: Sequence[Row]
    missing: Sequence[str]
    """Replicas that the settings ask for and that do not run here."""
    lag: Sequence[GroupLag]
    seen_at: float
    """Unix seconds."""
    log_fault: str = ""
    """Why the lag is not known."""
    metrics_fault: str = ""
    """Why nobody records the metrics."""
    alerts: Sequence[Mapping[str, str]] = ()
    """Those that fire: name, severity, summary."""

    @property
    def is_healthy(self) -> bool:
        """What runs is ready, and somebody would restart it."""
        return all(not row.fault and row.replica.is_supervised for row in self.rows)

    @property
    def metrics_url(self) -> str:
        """Of the Prometheus that runs here; empty when none does."""
        return _url(prometheus.NAME, (row.replica for row in self.rows))

    @property
    def dashboard_url(self) -> str:
        """Of the Grafana that runs here; empty when none does."""
        return _url(GRAFANA, (row.replica for row in self.rows))

    def document(self) -> dict[str, Any]:
        return {
            "version": 1,
            "runtime": self.runtime,
            "state_dir": self.state_dir,
            "supervisor_pid": self.supervisor_pid,
            "services": [row.document() for row in self.rows],
            "missing": list(self.missing),
            "lag": [asdict(one) for one in self.lag],
            "log_fault": self.log_fault,
            "metrics_url": self.metrics_url,
            "dashboard_url": self.dashboard_url,
            "metrics_fault": self.metrics_fault,
            "alerts": [dict(one) for one in self.alerts],
        }

    def table(self) -> "Table":
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, header_style="dim", pad_edge=False)
        used = ("cpu", "memory") if any(row.usage for row in self.rows) else ()
        for name in ("replica", "pid", "health", "up", "restarts", *used, "ports"):
            table.add_column(name, justify="left" if name in ("replica", "health", "ports") else "right")
        for row in self.rows:
            replica = row.replica
            table.add_row(
                replica.name,
                str(replica.pid or "–"),
                Text(row.health, _STYLES.get(row.health, "red")),
                age(self.seen_at - replica.started_at) if replica.pid else "–",
                str(replica.restarts),
                *(_used(row.usage) if used else ()),
                " ".join(f"{name} {number}" for name, number in replica.ports.items()),
            )
        return table

    def notes(self) -> list[str]:
        """Lines for people, below the table: what needs them first, each with what to do."""
        found = [f"{row.story}; `sentinelctl logs {row.replica.name}` says more" for row in self.rows if row.fault]
        if any(not row.replica.is_supervised for row in self.rows):
            found.append(
                "the supervisor is gone: these serve, but none would be restarted; `sentinelctl up` adopts them"
            )
        if self.rows and self.missing:
            found.append(f"not running here: {', '.join(self.missing)}; `sentinelctl up` starts what is missing")
        found += [
            f"lag: {one.group} has {one.records} of {one.topic} to read"
            + (f", the oldest for {one.age_s:.1f} s" if one.records else "")
            for one in self.lag
        ]
        if self.log_fault:
            found.append(f"lag unknown: {self.log_fault}")
        found += [f"alert: {one['summary']} ({one['alert']}, {one['severity']})" for one in self.alerts]
        if self.metrics_url:
            found.append(f"metrics and alerts: {self.metrics_url}/alerts")
        elif self.rows and self.metrics_fault:
            found.append(self.metrics_fault)
        if self.dashboard_url:
            found.append(f"dashboard: {self.dashboard_url}")
        supervisor = f"supervisor pid {self.supervisor_pid}, " if self.supervisor_pid else ""
        return [*found, f"{supervisor}state in {self.state_dir}"]


def _used(usage: Usage | None) -> tuple[str, str]:
    if usage is None:
        return "–", "–"
    return f"{usage.cpu_percent:.0f} %", f"{usage.memory_bytes / _MIB:.0f} MiB"


def _url(service: str, replicas: Iterable[Replica]) -> str:
    ports = (replica.ports["http"] for replica in replicas if replica.service == service and replica.ports)
    return next((f"http://127.0.0.1:{number}" for number in ports), "")


def overview(project: Project, *, over_s: float | None = None, ready: Collection[str] = ()) -> Overview:
    """`over_s`: how long CPU use is measured; None measures none, and an engine takes a second for each look.

    ready: replicas that were seen ready a moment ago, and are not asked again.
    """
    observed = project.runtime.observe()
    desired = project.desired()
    order = {spec.name: position for position, spec in enumerate(desired)}
    usage = project.runtime.usage(over_s=over_s) if observed.replicas and over_s is not None else {}
    replicas = sorted(observed.replicas, key=lambda r: (order.get(r.service, len(order)), r.index))
    asked = [replica for replica in replicas if replica.name not in ready]
    with ThreadPoolExecutor(max(1, min(16, len(asked)))) as threads:
        found = threads.map(partial(probe_fault, project.runtime), asked)
        faults = dict(zip((replica.name for replica in asked), found, strict=True))
    there = {replica.name for replica in replicas}
    wanted = [f"{spec.name}-{index}" for spec in desired for index in range(1, spec.replicas + 1)]
    lag, log_fault = asyncio.run(_lag(project))
    return Overview(
        runtime=project.runtime.name,
        state_dir=str(project.state_dir.path),
        supervisor_pid=observed.supervisor_pid,
        rows=[Row(one, faults.get(one.name, ""), usage.get(one.name)) for one in replicas],
        missing=[name for name in wanted if name not in there],
        lag=lag,
        seen_at=time.time(),
        log_fault=log_fault,
        metrics_fault=prometheus.fault(project.settings),
        alerts=prometheus.firing(url) if (url := _url(prometheus.NAME, replicas)) else (),
    )


async def _lag(project: Project) -> tuple[list[GroupLag], str]:
    """None while there is no log yet. One that fails must not hide what runs."""
    try:
        async with looking(project.settings) as admin:
            return await group_lags(admin, await admin.topics()), ""
    except PreflightError:
        return [], ""
    except SentinelError as exc:
        return [], exc.message
