"""python -m sentinelctl.runtime.supervisor STATE_DIR: starts, restarts and drains replicas, and outlives the terminal.

It does what it is told over a unix socket, one JSON line a request, and writes state.json after each change. Secrets
come over that socket and live in its memory and in the environment of the children. Standard library only: it is one
more process for as long as the services run.
"""

import asyncio
import contextlib
import fcntl
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import urlsplit

from sentinelctl.errors import SentinelError
from sentinelctl.runtime.process import free_ports, is_same, send_signal, start_token
from sentinelctl.runtime.statefile import Recorded, StateDir
from sentinelctl.state import Replica, ServiceSpec, Status
from services.counts import read_counts, replace_text

STABLE_S: Final = 30.0
"""A process that ran this long had started well: its next end is a first failure again."""
_FIRST_DELAY_S: Final = 0.2
_MAX_DELAY_S: Final = 30.0
_TICK_S: Final = 0.1
_POLL_S: Final = 0.02
_LONELY_S: Final = 10.0
"""Without a replica for this long, it ends: whoever started it was interrupted."""
_GRACE_S: Final = 15.0
"""Of a child that an earlier supervisor started."""
_MAX_LOG_BYTES: Final = 8 * 1024 * 1024
_MAX_REQUEST_BYTES: Final = 1024 * 1024
_MAX_SOCKET_PATH: Final = 100  # sun_path holds 108 bytes on Linux, 104 on macOS


def delay_s(failures: int, jitter: float) -> float:
    """Wait before a restart: doubling from 0.2 s to 30 s, shortened by up to half (`jitter` in 0..1)."""
    return min(_MAX_DELAY_S, _FIRST_DELAY_S * 2.0 ** min(failures - 1, 16)) * (1 - jitter / 2)


@dataclass(slots=True)
class Child:
    replica: Replica
    spec: ServiceSpec | None
    """How it is started again; it holds secrets, and is never written down. None: adopted from an earlier supervisor,
    and nobody has said yet."""
    popen: subprocess.Popen[bytes] | None = None
    retry_at: float = 0.0

    def exit_text(self) -> str | None:
        """How it ended; None while it runs."""
        if self.popen is None:
            alive = self.replica.pid is not None and is_same(self.replica.pid, self.replica.started)
            return None if alive else "ended while nobody could see how"
        code = self.popen.poll()
        if code is None:
            return None
        return f"exit {code}" if code >= 0 else signal.Signals(-code).name

    def signal(self, number: signal.Signals) -> None:
        if self.popen is not None:
            self.popen.send_signal(number)
        elif self.replica.pid is not None:
            send_signal(self.replica.pid, self.replica.started, number)


class Supervisor:
    def __init__(self, state_dir: StateDir, chance: random.Random) -> None:
        self._dir = state_dir
        self._chance = chance
        self._children: dict[str, Child] = {}
        self._one_at_a_time = asyncio.Lock()
        self._scaling: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()
        self._lonely_since = time.monotonic()
        self._base_env = {name: value for name, value in os.environ.items() if not name.startswith("SENTINEL_")}
        self._socket = ""
        self._is_saved = True

    async def run(self, is_up: int) -> None:
        """Until nothing is left to watch, or SIGTERM. Writes a byte to the descriptor `is_up` once it listens."""
        self._take_over()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        with self._socket_path() as self._socket:
            server = await asyncio.start_unix_server(self._serve, self._socket, limit=_MAX_REQUEST_BYTES)
            self._write()
            os.write(is_up, b"1")
            os.close(is_up)
            async with server:
                while not self._stop.is_set():
                    self._look()
                    if self._scaling is None or self._scaling.done():
                        self._scaling = asyncio.create_task(self._scale())
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(_TICK_S):
                            await self._stop.wait()
                async with self._one_at_a_time:
                    for name in reversed(list(self._children)):
                        await self._drain(name)
        self._dir.state.unlink(missing_ok=True)

    def _take_over(self) -> None:
        """What an earlier supervisor left running, by pid and start time."""
        recorded = self._dir.read()
        for replica in recorded.replicas if recorded else ():
            if replica.pid is not None and is_same(replica.pid, replica.started):
                found = replace(replica, is_supervised=False, status=Status.RUNNING)
                self._children[replica.name] = Child(found, spec=None)

    @contextlib.contextmanager
    def _socket_path(self) -> Iterator[str]:
        path = self._dir.path / "control.sock"
        folder = "" if len(os.fsencode(path)) < _MAX_SOCKET_PATH else tempfile.mkdtemp(prefix="sentinel-")
        path = Path(folder) / "control.sock" if folder else path
        path.unlink(missing_ok=True)
        try:
            yield str(path)
        finally:
            path.unlink(missing_ok=True)
            if folder:
                shutil.rmtree(folder, ignore_errors=True)

    # Requests

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = json.loads(await reader.readline())
            async with self._one_at_a_time:
                try:
                    answer = await self._handle(request)
                except (LookupError, TypeError) as exc:  # words that only another version knows
                    answer = {"error": f"{type(exc).__name__}: {exc}"}
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
        except (OSError, ValueError):
            pass  # the asker is gone, or was never one of ours
        finally:
            writer.close()
        if not self._children:
            self._stop.set()

    async def _handle(self, request: dict[str, Any]) -> dict[str, Any]:
        match request["do"]:
            case "start":
                spec, index = ServiceSpec.of(request["spec"]), int(request["index"])
                was_killed = await self._drain(f"{spec.name}-{index}")
                return {"pid": self._start(spec, index), "was_killed": was_killed}
            case "adopt":
                spec = ServiceSpec.of(request["spec"])
                child = self._children.get(f"{spec.name}-{request['index']}")
                if child is None:
                    return {"pid": None, "was_killed": False}
                child.spec = spec
                child.replica = replace(child.replica, is_supervised=True)
                self._save()
                return {"pid": child.replica.pid, "was_killed": False}
            case "stop":
                return {"pid": None, "was_killed": await self._drain(request["name"])}
            case other:
                raise LookupError(f"no request is named {other}")

    def _start(self, spec: ServiceSpec, index: int) -> int | None:
        replica = spec.replica(index, self._ports(spec, index))
        self._children[replica.name] = child = Child(replica, spec)
        self._spawn(child)
        self._save()
        return child.replica.pid

    def _ports(self, spec: ServiceSpec, index: int) -> dict[str, int]:
        fixed = {port.name: port.number for port in spec.ports if index == 1 and port.number}
        taken = {number for child in self._children.values() for number in child.replica.ports.values()}
        return fixed | free_ports(
            {port.name: port.reachable for port in spec.ports if port.name not in fixed}, but=taken
        )

    async def _drain(self, name: str) -> bool:
        """SIGTERM, then SIGKILL. True when it took force."""
        child = self._children.get(name)
        if child is None:
            return False
        self._tell_to_end(child)
        return await self._see_off(child)

    def _tell_to_end(self, child: Child) -> None:
        """Its address is withdrawn first."""
        child.replica = replace(child.replica, status=Status.DRAINING)
        self._save()
        if child.exit_text() is None:
            child.signal(signal.SIGTERM)

    async def _see_off(self, child: Child) -> bool:
        """Until its grace is over; True when it took force."""
        name, was_killed = child.replica.name, False
        grace_s = child.spec.grace_s if child.spec else _GRACE_S
        if not await _ended(child, grace_s):
            was_killed = True
            self._note(name, "error", "replica.killed", grace_s=grace_s)
            child.signal(signal.SIGKILL)
            await _ended(child, grace_s)
        self._note(name, "info", "replica.stopped", how=child.exit_text())
        del self._children[name]
        self._lonely_since = time.monotonic()
        self._save()
        return was_killed

    # What the autoscaler asks for

    async def _scale(self) -> None:
        """One step towards its counts, unless a command is at work or an operator asked for a count of that service."""
        async with self._one_at_a_time:
            if self._step() is None:
                return
            try:
                with self._dir.locked(wait_s=0):
                    step = self._step()  # anew: a command may have ended in between
                    ending = None if step is None else self._take(*step)
            except (SentinelError, OSError):  # a command is at work, or the disk is full: the next look tries again
                return
            if ending is not None:
                await self._see_off(ending)

    def _step(self) -> tuple[ServiceSpec, int, bool] | None:
        """A service, the number of a replica, and whether it is to start or to end: the highest ends first."""
        specs: dict[str, ServiceSpec] = {}
        there: dict[str, set[int]] = {}
        for child in sorted(self._children.values(), key=lambda one: -one.replica.index):
            there.setdefault(child.replica.service, set()).add(child.replica.index)
            if child.spec is not None:
                specs[child.replica.service] = child.spec
        configured = {name: spec.configured for name, spec in specs.items()}
        wanted = read_counts(self._dir.autoscale, configured)
        for name in wanted.keys() - read_counts(self._dir.scale, configured).keys():
            indexes, count = there[name], max(1, wanted[name])
            missing = set(range(1, count + 1)) - indexes
            if missing:
                return specs[name], min(missing), True
            if max(indexes) > count:
                return specs[name], max(indexes), False
        return None

    def _take(self, spec: ServiceSpec, index: int, is_start: bool) -> Child | None:
        """Returns the replica that was told to end."""
        if is_start:
            self._start(spec, index)
            return None
        child = self._children[f"{spec.name}-{index}"]
        self._tell_to_end(child)
        return child

    # Watching

    def _look(self) -> None:
        now = time.monotonic()
        for child in list(self._children.values()):
            match child.replica.status:
                case Status.RUNNING:
                    self._rotate(child.replica.name)
                    if (how := child.exit_text()) is not None:
                        self._ended_by_itself(child, how, now)
                case Status.BACKING_OFF if now >= child.retry_at:
                    self._spawn(child)
                    self._save()
        if not self._is_saved:
            self._save()
        if not self._children and now - self._lonely_since > _LONELY_S:
            self._stop.set()

    def _ended_by_itself(self, child: Child, how: str, now: float) -> None:
        name = child.replica.name
        if child.spec is None:
            self._note(name, "error", "replica.exited", how=how, restart="nobody said how; `sentinelctl up` does")
            del self._children[name]
            self._lonely_since = now
        else:
            was_stable = time.time() - child.replica.started_at > STABLE_S
            failures = 1 if was_stable else child.replica.failures + 1
            self._back_off(child, how, failures)
        self._save()

    def _back_off(self, child: Child, how: str, failures: int) -> None:
        wait_s = delay_s(failures, self._chance.random())
        child.retry_at = time.monotonic() + wait_s
        child.popen = None
        child.replica = replace(
            child.replica, status=Status.BACKING_OFF, pid=None, started="", failures=failures, last_exit=how
        )
        self._note(child.replica.name, "error", "replica.exited", how=how, restart_in_s=round(wait_s, 2))

    def _spawn(self, child: Child) -> None:
        assert child.spec is not None
        name = child.replica.name
        is_restart = child.replica.status is Status.BACKING_OFF
        try:
            with self._dir.log_of(name).open("ab") as log:
                child.popen = subprocess.Popen(
                    child.spec.command,
                    cwd=self._dir.path,
                    env={**self._base_env, **child.spec.environment(child.replica)},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
        except OSError as exc:
            self._back_off(child, str(exc), child.replica.failures + 1)
            return
        child.replica = replace(
            child.replica,
            status=Status.RUNNING,
            pid=child.popen.pid,
            started=start_token(child.popen.pid) or "",
            started_at=time.time(),
            restarts=child.replica.restarts + is_restart,
        )
        self._note(name, "info", "replica.started", pid=child.popen.pid)

    def _rotate(self, name: str) -> None:
        """Copies and truncates: the process keeps its descriptor, which appends. At most a line in between is lost."""
        path = self._dir.log_of(name)
        with contextlib.suppress(OSError):
            if path.stat().st_size > _MAX_LOG_BYTES:
                shutil.copyfile(path, path.with_suffix(".log.1"))
                os.truncate(path, 0)

    # What others read

    def _save(self) -> None:
        """On a full disk others read what was, until there is room again: what runs here must not end by that."""
        try:
            self._write()
            self._is_saved = True
        except OSError:
            self._is_saved = False

    def _write(self) -> None:
        replicas = [child.replica for child in self._children.values()]
        published: dict[str, list[str]] = {}
        for replica in replicas:
            if replica.address:
                serves = replica.status is not Status.DRAINING
                published.setdefault(replica.service, []).extend([replica.address] if serves else [])
        for service in {path.name for path in self._dir.endpoints.iterdir()} | published.keys():
            text = "".join(f"{address}\n" for address in published.get(service, []))
            if not service.startswith(".") and _text_of(self._dir.endpoints / service) != text:
                replace_text(self._dir.endpoints / service, text)
        scraped = json.dumps(targets(replicas), indent=1) + "\n"
        if _text_of(self._dir.targets) != scraped:
            replace_text(self._dir.targets, scraped)
        self._dir.write(Recorded(os.getpid(), start_token(os.getpid()) or "", self._socket, tuple(replicas)))

    def _note(self, name: str, level: str, event: str, **fields: Any) -> None:
        """A line among the replica's own, in their form: what happened to it belongs to its story."""
        line = {"event": event, **fields, "level": level, "ts": time.time(), "service": "supervisor"}
        with contextlib.suppress(OSError), self._dir.log_of(name).open("a", encoding="utf-8") as log:
            log.write(json.dumps(line) + "\n")


def targets(replicas: Iterable[Replica]) -> list[dict[str, Any]]:
    """For Prometheus's file_sd: what answers a probe has /metrics beside it. One that is down is missed there."""
    return [
        {
            "targets": [urlsplit(replica.probe).netloc],
            "labels": {"service": replica.service, "instance": replica.name},
        }
        for replica in replicas
        if replica.probe
    ]


async def _ended(child: Child, within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while child.exit_text() is None:
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(_POLL_S)
    return True


def _text_of(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def _hold_lock(state_dir: StateDir) -> IO[str] | None:
    """For as long as the process lives; None when another supervisor has it."""
    file = state_dir.supervisor_lock.open("a", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def main(arguments: list[str]) -> int:
    """Returns in the caller's process when the detached one takes requests."""
    state_dir = StateDir(Path(arguments[0]))
    lock = _hold_lock(state_dir)
    if lock is None:
        sys.stderr.write(f"another supervisor holds {state_dir.supervisor_lock}\n")
        return 1
    can_be_told, is_up = os.pipe()
    if os.fork():
        os.close(is_up)
        return 0 if os.read(can_be_told, 1) else 1
    os.close(can_be_told)
    os.setsid()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with lock:
        asyncio.run(Supervisor(state_dir, random.Random()).run(is_up))  # noqa: S311
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
