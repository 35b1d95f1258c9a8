"""What a run changed, written down before it changes it, so that anybody can undo it: the run, its guard, `chaos heal`.

One JSON object a line in `<folder>/journal.jsonl`, flushed to the disk. What ends with the run's own process (a forge's
fault, a proxy, a held lock) needs no entry.
"""

import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sentinelctl.errors import SentinelError
from sentinelctl.runtime.process import is_same, start_token

if TYPE_CHECKING:
    from sentinelctl.runtime.base import Runtime
    from sentinelctl.state import Replica

FILE: Final = "journal.jsonl"


@dataclass(frozen=True, slots=True)
class Entry:
    """ends_at: Unix seconds after which anybody undoes it; 0: as long as the run lives."""

    id: int
    undo: Mapping[str, Any]
    ends_at: float


class Journal:
    """Of one run, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._last_id = 0

    @property
    def path(self) -> Path:
        return self.folder / FILE

    @classmethod
    def begun(cls, folder: Path) -> "Journal":
        """A new one, of the run that is this process."""
        folder.mkdir(parents=True, mode=0o700)
        journal = cls(folder)
        journal._write({"run": os.getpid(), "started": start_token(os.getpid()) or "", "at": time.time()})
        return journal

    def note(self, undo: Mapping[str, Any], *, for_s: float = 0.0) -> int:
        """`undo` becomes necessary now; for_s: after so long, whatever the run does."""
        self._last_id += 1
        ends_at = time.time() + for_s if for_s else 0.0
        self._write({"id": self._last_id, "undo": dict(undo), "ends_at": ends_at})
        return self._last_id

    def undone(self, entry: int) -> None:
        self._write({"done": entry})

    @contextmanager
    def changing(self, undo: Mapping[str, Any], *, for_s: float = 0.0) -> Iterator[None]:
        """The block makes a change; it is undone at its end, whatever ends it."""
        entry = self.note(undo, for_s=for_s)
        try:
            yield
        finally:
            perform(undo)
            self.undone(entry)

    def close(self) -> None:
        self._write({"closed": time.time()})

    def _write(self, line: Mapping[str, Any]) -> None:
        with self._lock, self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())

    # What others read

    def lines(self) -> list[dict[str, Any]]:
        """A last line that a crash cut short is no line: what it announced was not begun."""
        found: list[dict[str, Any]] = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                break
        return found

    def open_entries(self) -> list[Entry]:
        """What was not undone yet, the latest first."""
        lines = self.lines()
        done = {line["done"] for line in lines if "done" in line}
        made = [Entry(line["id"], line["undo"], line["ends_at"]) for line in lines if "undo" in line]
        return [one for one in reversed(made) if one.id not in done]

    @property
    def is_closed(self) -> bool:
        return any("closed" in line for line in self.lines())

    @property
    def is_alive(self) -> bool:
        """Whether the run itself still goes on."""
        head = self.lines()[:1]
        return bool(head) and is_same(int(head[0]["run"]), str(head[0]["started"]))

    def heal(self) -> list[str]:
        """Undoes what is left and says what that was; nothing, the second time."""
        found = []
        for entry in self.open_entries():
            found.append(perform(entry.undo))
            self.undone(entry.id)
        if not self.is_closed:
            self.close()
        return found


def perform(undo: Mapping[str, Any]) -> str:
    """Does it and says what it did. Harmless where there is nothing left to do."""
    match undo["do"]:
        case "resume":
            return _resume(undo)
        case "limit":
            return _lift(undo)
        case "connect":
            return _connect(undo)
        case "kill":
            return _kill(undo)
        case "stack":
            return _take_down(undo)
    raise SentinelError(f"this version cannot undo {undo['do']!r}", remedy="use the version that began the run")


def _to_replica(undo: Mapping[str, Any], do: Callable[["Runtime", "Replica"], object]) -> None:
    """As often as it is there: once or, where it is gone, not at all."""
    from sentinelctl.lifecycle import Project
    from services.settings import Settings

    project = Project(Settings.model_validate(undo["settings"]))
    try:
        for replica in project.runtime.observe().replicas:
            if replica.name == undo["replica"]:
                do(project.runtime, replica)
    finally:
        project.runtime.close()


def _resume(undo: Mapping[str, Any]) -> str:
    import signal

    _to_replica(undo, lambda runtime, replica: runtime.signal(replica, signal.SIGCONT))
    return f"SIGCONT to {undo['replica']}"


def _lift(undo: Mapping[str, Any]) -> str:
    _to_replica(undo, lambda runtime, replica: runtime.limit_files(replica, None))
    return f"lifted the limit on the size of files of {undo['replica']}"


def _connect(undo: Mapping[str, Any]) -> str:
    from sentinelctl.runtime.docker import DockerRuntime

    def join(runtime: "Runtime", replica: "Replica") -> None:
        if isinstance(runtime, DockerRuntime):
            runtime.join_network(replica)

    _to_replica(undo, join)
    return f"connected {undo['replica']} again"


def _kill(undo: Mapping[str, Any]) -> str:
    import signal

    from sentinelctl.runtime.process import send_signal

    was_there = send_signal(undo["pid"], undo["started"], signal.SIGKILL)
    return f"ended {undo['of']}" if was_there else f"{undo['of']} had ended"


def _take_down(undo: Mapping[str, Any]) -> str:
    """Secrets are no part of it: taking down needs none."""
    from sentinelctl.lifecycle import Project
    from services.settings import Settings

    folder = Path(undo["folder"])
    settings = Settings.model_validate(undo["settings"])
    if folder.exists() or settings.project.runtime == "docker":
        project = Project(settings)
        try:
            project.state_dir.create()
            project.take_down(with_volumes=True)
        finally:
            project.runtime.close()
    shutil.rmtree(folder, ignore_errors=True)
    return f"took down the stack in {folder}"


def interrupted(home: Path) -> list[Journal]:
    """Of runs that ended without closing their journal, the latest first. `home` holds a folder for each run."""
    journals = [Journal(path.parent) for path in sorted(home.glob(f"*/{FILE}"), reverse=True)]
    return [one for one in journals if not one.is_alive and (not one.is_closed or one.open_entries())]
