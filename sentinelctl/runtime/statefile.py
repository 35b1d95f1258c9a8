"""The state folder of the embedded runtime: what is written where, and by whom."""

import contextlib
import fcntl
import json
import os
import shlex
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from sentinelctl.errors import LockedError, PreflightError
from sentinelctl.state import Replica, Status
from services import counts
from services.counts import replace_text

_LOCK_WAIT_S: Final = 3.0  # the autoscaler's replica is started under the lock, in a container on a busy engine
_LOCK_POLL_S: Final = 0.02


@dataclass(frozen=True, slots=True)
class Recorded:
    """What the supervisor last wrote about itself and its replicas."""

    supervisor_pid: int
    supervisor_started: str
    socket: str
    replicas: tuple[Replica, ...]


@dataclass(frozen=True, slots=True)
class StateDir:
    """Readable by its owner alone. `digest.key` keys the digests of secrets; no file but Grafana's holds one."""

    path: Path

    @property
    def state(self) -> Path:
        return self.path / counts.STATE

    @property
    def scaling(self) -> Path:
        """What commands and the autoscaler tell each other."""
        return self.path / counts.FOLDER

    @property
    def scale(self) -> Path:
        """Counts that an operator asked for."""
        return self.path / counts.OPERATOR

    @property
    def autoscale(self) -> Path:
        """Counts that the autoscaler asks for."""
        return self.path / counts.AUTOSCALER

    @property
    def decisions(self) -> Path:
        """What the autoscaler decided, and why: one JSON object a line."""
        return self.path / counts.DECISIONS

    @property
    def digest_key(self) -> Path:
        return self.path / "digest.key"

    @property
    def grafana_password(self) -> Path:
        """Of Grafana's admin, from its first start on."""
        return self.path / "grafana.password"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def data(self) -> Path:
        """Of the SQLite files, where the settings name no other folder."""
        return self.path / "data"

    @property
    def endpoints(self) -> Path:
        return self.path / "endpoints"

    @property
    def targets(self) -> Path:
        """Where each replica's /metrics is, as Prometheus reads it."""
        return self.path / "targets.json"

    @property
    def prometheus(self) -> Path:
        """Its configuration, written at each start, and its data."""
        return self.path / "prometheus"

    @property
    def supervisor_lock(self) -> Path:
        return self.path / "supervisor.lock"

    @property
    def lock(self) -> Path:
        return self.path / counts.LOCK

    def log_of(self, replica: str) -> Path:
        return self.logs / f"{replica}.log"

    def logged(self) -> list[str]:
        """Replicas that ever wrote a log here."""
        return sorted(path.stem for path in self.logs.glob("*-*.log"))

    def fault(self) -> str:
        """Why it can neither be used nor made; empty when it can."""
        there = next(folder for folder in (self.path, *self.path.parents) if os.access(folder, os.F_OK))
        if not there.is_dir():
            return f"{there} is no folder"
        return "" if os.access(there, os.R_OK | os.W_OK | os.X_OK) else f"{there} is not writable for this user"

    def require(self) -> None:
        """Raises PreflightError when it has a fault."""
        if fault := self.fault():
            raise PreflightError(
                f"no state can be kept in {self.path}: {fault}", remedy="set project.state_dir to a folder of yours"
            )

    def create(self) -> None:
        self.require()
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.logs.mkdir(exist_ok=True)
        self.endpoints.mkdir(exist_ok=True)
        self.scaling.mkdir(exist_ok=True)

    def read(self) -> Recorded | None:
        """None when no supervisor ever wrote here, or ended in order. Raises PreflightError as `require` does."""
        self.require()
        document = read_json(self.state)
        if not document:
            return None
        return Recorded(
            supervisor_pid=document["supervisor"]["pid"],
            supervisor_started=document["supervisor"]["started"],
            socket=document["supervisor"]["socket"],
            replicas=tuple(Replica(**{**one, "status": Status(one["status"])}) for one in document["replicas"]),
        )

    def write(self, recorded: Recorded) -> None:
        write_json(
            self.state,
            {
                "supervisor": {
                    "pid": recorded.supervisor_pid,
                    "started": recorded.supervisor_started,
                    "socket": recorded.socket,
                },
                "replicas": [replica.document() for replica in recorded.replicas],
            },
        )

    @contextlib.contextmanager
    def locked(self, wait_s: float = _LOCK_WAIT_S) -> Iterator[None]:
        """For commands that change something: one at a time. Raises LockedError naming who holds it."""
        self.create()
        deadline = time.monotonic() + wait_s
        with self.lock.open("a+", encoding="utf-8") as file:
            while not _flock(file):
                if time.monotonic() >= deadline:
                    file.seek(0)
                    who = file.read().strip() or "another sentinelctl, or the autoscaler,"
                    raise LockedError(
                        f"{who} is changing what lies in {self.path}",
                        remedy="wait until it is done, or end it; its lock goes with it",
                    )
                time.sleep(_LOCK_POLL_S)
            os.fchmod(file.fileno(), 0o644)  # the autoscaler's container takes it as another user
            file.truncate(0)
            file.write(f"pid {os.getpid()} ({shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])})\n")
            file.flush()
            try:
                yield
            finally:
                file.truncate(0)


def _flock(file: IO[str]) -> bool:
    """False while another process holds it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def read_json(path: Path) -> dict[str, Any]:
    """Empty when there is none, or what a power cut left of one."""
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    return document


def write_json(path: Path, document: dict[str, Any]) -> None:
    replace_text(path, json.dumps(document, indent=1) + "\n")
