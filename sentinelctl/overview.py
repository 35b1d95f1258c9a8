"""What runs, how it fares and how far behind it is: the table of `up` and `status`, and their document."""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from sentinelctl.lifecycle import Project
from sentinelctl.readiness import health
from sentinelctl.runtime.base import Usage
from sentinelctl.state import Replica
from services.contract import Group, Topic

if TYPE_CHECKING:
    from rich.table import Table

_MIB = 1024 * 1024
_STYLES = {"ready": "green", "not-ready": "yellow", "draining": "yellow"}
_READ_BY = ((Group.EXTRACTOR, Topic.PUSH_EVENTS), (Group.PUBLISHER, Topic.REVIEWS))


@dataclass(frozen=True, slots=True)
class Row:
    replica: Replica
    health: str
    usage: Usage | None

    def document(self) -> dict[str, Any]:
        return {
            "service": self.replica.service,
            "replica": self.replica.name,
            "pid": self.replica.pid,
            "health": self.health,
            "is_supervised": self.replica.is_supervised,
            "restarts": self.replica.restarts,
            "last_exit": self.replica.last_exit,
            "ports": dict(self.replica.ports),
            "started_at": self.replica.started_at,
            "cpu_percent": self.usage.cpu_percent if self.usage else None,
            "memory_bytes": self.usage.memory_bytes if self.usage else None,
        }


@dataclass(frozen=True, slots=True)
class GroupLag:
    """Records a group has yet to read of a topic, and for how many seconds the oldest has waited."""

    group: str
    topic: str
    records: int
    age_s: float


@dataclass(frozen=True, slots=True)
class Overview:
    runtime: str
    state_dir: str
    supervisor_pid: int | None
    rows: Sequence[Row]
    lag: Sequence[GroupLag]

    @property
    def is_healthy(self) -> bool:
        return all(row.health == "ready" for row in self.rows)

    def document(self) -> dict[str, Any]:
        return {
            "version": 1,
            "runtime": self.runtime,
            "state_dir": self.state_dir,
            "supervisor_pid": self.supervisor_pid,
            "services": [row.document() for row in self.rows],
            "lag": [asdict(one) for one in self.lag],
        }

    def table(self) -> "Table":
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, header_style="dim", pad_edge=False)
        for name in ("service", "replica", "pid", "health", "restarts", "cpu %", "memory", "ports"):
            table.add_column(name, justify="right" if name in ("pid", "restarts", "cpu %", "memory") else "left")
        for row in self.rows:
            replica = row.replica
            table.add_row(
                replica.service,
                str(replica.index),
                str(replica.pid or "–"),
                Text(row.health, _STYLES.get(row.health, "red")),
                str(replica.restarts),
                f"{row.usage.cpu_percent:.1f}" if row.usage else "–",
                f"{row.usage.memory_bytes / _MIB:.0f} MiB" if row.usage else "–",
                " ".join(f"{name} {number}" for name, number in replica.ports.items()),
            )
        return table

    def notes(self) -> list[str]:
        """Lines for people, below the table."""
        found = [f"lag: {one.group} {one.records} records of {one.topic}, {one.age_s:.1f} s" for one in self.lag]
        if any(not row.replica.is_supervised for row in self.rows):
            found.append("some processes lost their supervisor and serve unwatched; `sentinelctl up` adopts them")
        found += [
            f"{row.replica.name}: {row.replica.last_exit}, restarted {row.replica.restarts} times; "
            f"`sentinelctl logs {row.replica.service}` says why"
            for row in self.rows
            if row.health in ("crashed", "crash-loop")
        ]
        return [*found, f"state in {self.state_dir}"]


def overview(project: Project, *, over_s: float = 0.2) -> Overview:
    """`over_s`: how long CPU use is measured."""
    observed = project.runtime.observe()
    order = {spec.name: position for position, spec in enumerate(project.desired())}
    usage = project.runtime.usage(over_s=over_s) if observed.replicas else {}
    replicas = sorted(observed.replicas, key=lambda r: (order.get(r.service, len(order)), r.index))
    return Overview(
        runtime=project.runtime.name,
        state_dir=str(project.state_dir.path),
        supervisor_pid=observed.supervisor_pid,
        rows=[Row(replica, health(replica), usage.get(replica.name)) for replica in replicas],
        lag=asyncio.run(_lag(project)),
    )


async def _lag(project: Project) -> list[GroupLag]:
    """Empty while there is no log yet; looking must not make one."""
    from services.stream import open_admin

    settings = project.settings
    if not settings.stream_path.exists():
        return []
    admin = open_admin(settings.stream, settings.stream_path)
    try:
        there = await admin.topics()
        found = []
        for group, topic in _READ_BY:
            if topic in there:
                partitions = await admin.lag(group, topic)
                records = sum(one.records for one in partitions)
                age_s = max((one.age_s for one in partitions), default=0.0)
                found.append(GroupLag(group.value, topic.value, records, round(age_s, 3)))
        return found
    finally:
        await admin.close()
