"""Prometheus beside the embedded runtime's services: what it is given, and `python -m sentinelctl.prometheus PATH`.

That writes its configuration into the state folder and becomes it: the supervisor sees one process.
"""

import http.client
import json
import os
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from sentinelctl import __version__
from sentinelctl.errors import SentinelError
from sentinelctl.runtime.statefile import StateDir
from sentinelctl.shipped import shipped
from sentinelctl.state import Port, Probe, ServiceSpec
from services.counts import replace_text

if TYPE_CHECKING:
    from services.settings import Settings

NAME: Final = "prometheus"
RULES: Final = ("rules.yml", "alerts.yml")
_ASK_S: Final = 2.0
_BY_NAME: Final = re.compile(r"^    dns_sd_configs:\n(?:      .*\n)+", re.MULTILINE)


def is_wanted(settings: "Settings") -> bool:
    """Switched on, and installed."""
    return settings.prometheus.enabled and shutil.which(NAME) is not None


def fault(settings: "Settings") -> str:
    """Why nobody records the metrics, where nobody said that nobody should; empty when somebody does."""
    if settings.project.runtime == "docker" or not settings.prometheus.enabled or is_wanted(settings):
        return ""
    return (
        "metrics are not recorded: no prometheus on PATH; install it (apt-get install prometheus, brew install "
        "prometheus) and `sentinelctl up` starts it, or set prometheus.enabled = false"
    )


def firing(url: str) -> list[dict[str, str]]:
    """Alerts that fire now, pages first: name, severity, summary. None where it does not answer; its probe says so."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=_ASK_S)
    try:
        connection.request("GET", "/api/v1/alerts")
        alerts = json.loads(connection.getresponse().read())["data"]["alerts"]
    except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError):
        return []
    finally:
        connection.close()
    found = [
        {
            "alert": one["labels"]["alertname"],
            "severity": one["labels"].get("severity", ""),
            "summary": one["annotations"].get("summary", ""),
        }
        for one in alerts
        if one["state"] == "firing"
    ]
    return sorted(found, key=lambda one: (one["severity"] != "page", one["alert"], one["summary"]))


def spec(settings: "Settings", replicas: int | None) -> ServiceSpec:
    """`replicas`: as an operator asked for."""
    own = settings.prometheus
    return ServiceSpec(
        name=NAME,
        command=(sys.executable, "-P", "-m", "sentinelctl.prometheus", shutil.which(NAME) or NAME),
        env={
            "SENTINEL_PROJECT_STATE_DIR": str(settings.state_dir.absolute()),
            "SENTINEL_PROMETHEUS_RETENTION_DAYS": f"{own.retention_days:g}",
            "SENTINEL_PROMETHEUS_RETENTION_MB": str(own.retention_mb),
        },
        ports=(Port("http", "SENTINEL_PROMETHEUS_PORT", own.port),),
        probe=Probe("http", "/-/ready"),
        replicas=(1 if replicas is None else replicas) if is_wanted(settings) else 0,
        max_replicas=1,
        version=__version__,
    )


def rendered(text: str, targets: Path) -> str:
    """compose/prometheus.yml with the replicas from a file instead of by name."""
    listed = f"    file_sd_configs:\n      - files: ['{str(targets).replace(chr(39), chr(39) * 2)}']\n"
    found, count = _BY_NAME.subn(lambda _: listed, text)
    if count != 1:
        raise SentinelError(f"compose/prometheus.yml has {count} blocks dns_sd_configs, where one was expected")
    return found


def command(binary: str, state: StateDir, environ: Mapping[str, str]) -> list[str]:
    """Writes what Prometheus reads, and returns how it is started: on loopback, its data bounded."""
    state.prometheus.mkdir(exist_ok=True)
    for name in RULES:
        replace_text(state.prometheus / name, shipped(f"compose/{name}").read_text(encoding="utf-8"))
    config = state.prometheus / "prometheus.yml"
    replace_text(config, rendered(shipped("compose/prometheus.yml").read_text(encoding="utf-8"), state.targets))
    return [
        binary,
        f"--config.file={config}",
        f"--storage.tsdb.path={state.prometheus / 'data'}",
        f"--storage.tsdb.retention.time={float(environ['SENTINEL_PROMETHEUS_RETENTION_DAYS']) * 24:.0f}h",
        f"--storage.tsdb.retention.size={environ['SENTINEL_PROMETHEUS_RETENTION_MB']}MB",
        f"--web.listen-address=127.0.0.1:{environ['SENTINEL_PROMETHEUS_PORT']}",
        "--log.level=warn",
        "--log.format=json",
    ]


def main(binary: str, environ: Mapping[str, str]) -> int:
    """Does not return where Prometheus starts."""
    try:
        os.execv(binary, command(binary, StateDir(Path(environ["SENTINEL_PROJECT_STATE_DIR"])), environ))  # noqa: S606
    except (SentinelError, OSError) as exc:
        sys.stderr.write(f"{binary} did not start: {exc}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], os.environ))
