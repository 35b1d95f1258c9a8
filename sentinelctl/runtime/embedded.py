"""Services as processes of this machine, under a supervisor that outlives the command that started it."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import urlsplit

from sentinelctl.errors import PreflightError, SentinelError
from sentinelctl.runtime.base import Applied, LogLine, Progress, Usage, never, unseen
from sentinelctl.runtime.process import (
    children,
    cpu_and_memory,
    is_same,
    limit_files,
    port_fault,
    send_signal,
    start_token,
)
from sentinelctl.runtime.statefile import StateDir
from sentinelctl.state import Kind, ObservedState, Operation, Plan, Replica, ServiceSpec

_ANSWER_S: Final = 120.0  # a drain may take its grace
_POLL_S: Final = 0.02
_FOLLOW_S: Final = 0.2
_PROBE_S: Final = 2.0
_TAIL_BYTES_A_LINE: Final = 4096


class EmbeddedRuntime:
    name = "embedded"
    at_once = 1

    def __init__(self, state_dir: Path) -> None:
        self._dir = StateDir(state_dir.absolute())

    def observe(self) -> ObservedState:
        """What the supervisor wrote down; without it, those of its children that still run, unsupervised."""
        recorded = self._dir.read()
        if recorded is None:
            return ObservedState()
        if is_same(recorded.supervisor_pid, recorded.supervisor_started):
            return ObservedState(recorded.replicas, recorded.supervisor_pid)
        survivors = (r for r in recorded.replicas if r.pid is not None and is_same(r.pid, r.started))
        return ObservedState(tuple(replace(replica, is_supervised=False) for replica in survivors))

    def resolve(self, desired: Sequence[ServiceSpec]) -> tuple[ServiceSpec, ...]:
        return tuple(desired)

    def needs(self, plan: Plan) -> tuple[Operation, ...]:  # noqa: ARG002
        return ()

    def leftovers(self, *, with_volumes: bool) -> tuple[Operation, ...]:  # noqa: ARG002 - `Project.data_files` has them
        return ()

    def answer_fault(self, replica: Replica) -> str:
        if not replica.probe:
            return ""
        url = urlsplit(replica.probe)
        connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=_PROBE_S)
        try:
            connection.request("GET", url.path)
            answer = connection.getresponse()
            body = answer.read(200).decode(errors="replace").strip()
        except (OSError, http.client.HTTPException) as exc:
            return f"not-ready: {replica.probe}: {exc}"
        finally:
            connection.close()
        return "" if answer.status == http.client.OK else f"not-ready: {replica.probe} answers {answer.status} {body}"

    def signal(self, replica: Replica, number: signal.Signals) -> None:
        for pid, started in processes(replica, number):
            send_signal(pid, started, number)

    def limit_files(self, replica: Replica, longest: int | None) -> bool:
        return replica.pid is not None and limit_files(replica.pid, longest)

    def logged(self) -> list[str]:
        return self._dir.logged()

    def check(self, plan: Plan) -> None:
        """Every fixed port of the plan is free, or held by the very replica that is replaced."""
        held = {(r.name, number) for r in self.observe().replicas for number in r.ports.values()}
        claimed: dict[int, str] = {}
        for operation in plan.operations:
            if operation.spec is None or operation.kind is Kind.ADOPT:
                continue
            for port in operation.spec.ports:
                if operation.index > 1 or not port.number:
                    continue
                if (operation.replica, port.number) not in held and (fault := port_fault(port.host, port.number)):
                    raise PreflightError(
                        f"{operation.service} needs port {port.number} ({port.name}), which is {fault}",
                        remedy=f"end that process, or set {port.variable} to another port; 0 takes a free one",
                    )
                if other := claimed.get(port.number):
                    raise PreflightError(
                        f"{port.variable} and {other} are both {port.number}", remedy="give them a port each"
                    )
                claimed[port.number] = port.variable

    def apply(self, operation: Operation, progress: Progress = unseen) -> Applied:  # noqa: ARG002 - no step takes long
        if operation.kind is Kind.STOP:
            return self._stop(operation)
        assert operation.spec is not None
        do = "adopt" if operation.kind is Kind.ADOPT else "start"
        answer = self._ask({"do": do, "index": operation.index, "spec": operation.spec.document()})
        return Applied(answer["pid"], answer["was_killed"])

    def logs(
        self, names: Collection[str], *, lines: int, follow: bool = False, until: Callable[[], bool] = never
    ) -> Iterator[LogLine]:
        tails = {name: _Tail(name, self._dir.log_of(name)) for name in self._logged(names)}
        yield from _in_time_order([line for tail in tails.values() for line in tail.last(lines)])
        while follow:
            is_last = until()
            tails = {name: tails.get(name) or _Tail(name, self._dir.log_of(name)) for name in self._logged(names)}
            fresh = [line for tail in tails.values() for line in tail.fresh()]
            yield from _in_time_order(fresh)
            if is_last:
                return
            if not fresh:
                time.sleep(_FOLLOW_S)

    def _logged(self, names: Collection[str]) -> list[str]:
        return [name for name in self._dir.logged() if name in names or name.rpartition("-")[0] in names]

    def usage(self, *, over_s: float) -> dict[str, Usage]:
        pids = {r.name: r.pid for r in self.observe().replicas if r.pid is not None}
        began = time.monotonic()
        before = {name: cpu_and_memory(pid) for name, pid in pids.items()}
        time.sleep(over_s)
        passed_s = time.monotonic() - began
        found = {}
        for name, pid in pids.items():
            first, last = before[name], cpu_and_memory(pid)
            if first is not None and last is not None:
                found[name] = Usage(round(100 * max(0.0, last[0] - first[0]) / passed_s, 1), last[1])
        return found

    def close(self) -> None:
        """Nothing is held between calls."""

    def _stop(self, operation: Operation) -> Applied:
        replica = next((r for r in self.observe().replicas if r.name == operation.replica), None)
        if replica is None:
            return Applied(None)
        asked = self._dir.read()
        answer = self._ask({"do": "stop", "name": replica.name})
        if asked is not None and not self.observe().replicas:
            self._await_end(asked.supervisor_pid, asked.supervisor_started)
        return Applied(None, answer["was_killed"])

    def _await_end(self, pid: int, started: str) -> None:
        """The supervisor ends by itself after its last replica, a moment after it has said so."""
        deadline = time.monotonic() + _ANSWER_S
        while is_same(pid, started) and time.monotonic() < deadline:
            time.sleep(_POLL_S)

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        address = self._supervisor()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
            line.settimeout(_ANSWER_S)
            try:
                line.connect(address)
                line.sendall(json.dumps(request).encode() + b"\n")
                with line.makefile("rb") as answers:
                    answer = answers.readline()
            except OSError as exc:
                raise SentinelError(
                    f"the supervisor did not answer at {address}: {exc}", remedy=self._look_at_supervisor()
                ) from exc
        if not answer:
            raise SentinelError(
                f"the supervisor ended while it was asked to {request['do']} a replica",
                remedy=self._look_at_supervisor(),
            )
        document = cast("dict[str, Any]", json.loads(answer))
        if "error" in document:
            raise SentinelError(
                f"the supervisor is of another version: {document['error']}",
                remedy="`sentinelctl down`, then `sentinelctl up`",
            )
        return document

    def _supervisor(self) -> str:
        """Where it listens; started when there is none."""
        if self.observe().supervisor_pid is None:
            self._dir.create()
            with self._dir.log_of("supervisor").open("ab") as log:
                started = subprocess.run(
                    # -P: a random.py in the folder where the command was typed is not the standard library's
                    [sys.executable, "-P", "-m", "sentinelctl.runtime.supervisor", str(self._dir.path)],
                    cwd=self._dir.path,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={name: value for name, value in os.environ.items() if not name.startswith("SENTINEL_")},
                    start_new_session=True,
                    check=False,
                )
            if started.returncode:
                raise SentinelError("the supervisor did not start", remedy=self._look_at_supervisor())
        recorded = self._dir.read()
        assert recorded is not None
        return recorded.socket

    def _look_at_supervisor(self) -> str:
        return f"its last words are in {self._dir.log_of('supervisor')}; `sentinelctl up` starts another"


def processes(replica: Replica, number: signal.Signals) -> list[tuple[int, str]]:
    """Whom a signal to it concerns: each with its start."""
    if replica.pid is None:
        return []
    below = children(replica.pid) if number in (signal.SIGSTOP, signal.SIGCONT) else []
    return [(replica.pid, replica.started), *((pid, token) for pid in below if (token := start_token(pid)) is not None)]


def _in_time_order(lines: Sequence[LogLine]) -> list[LogLine]:
    """By the `ts` of each line; one without stays behind the one before it, as a traceback must."""
    stamps: dict[str, float] = {}
    keyed = []
    for line in lines:
        stamps[line.replica] = _stamp(line.text, stamps.get(line.replica, 0.0))
        keyed.append((stamps[line.replica], line))
    return [line for _, line in sorted(keyed, key=lambda pair: pair[0])]


def _stamp(text: str, otherwise: float) -> float:
    if not text.startswith("{"):
        return otherwise
    try:
        return float(json.loads(text)["ts"])
    except (ValueError, KeyError, TypeError):
        return otherwise


@dataclass(slots=True)
class _Tail:
    """One log, read from its end; survives the rotation."""

    replica: str
    path: Path
    position: int = 0
    partial: bytes = field(default=b"")

    def last(self, lines: int) -> list[LogLine]:
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            start = max(0, size - max(lines, 1) * _TAIL_BYTES_A_LINE)
            file.seek(start)
            body = file.read(size - start)
        whole, _, self.partial = body.rpartition(b"\n")
        self.position = size
        rows = whole.split(b"\n") if whole else []
        rows = rows[1:] if start else rows
        return [self._line(row) for row in deque(rows, maxlen=lines)]

    def fresh(self) -> list[LogLine]:
        if not self.path.exists():
            return []
        if self.path.stat().st_size < self.position:
            self.position, self.partial = 0, b""
        with self.path.open("rb") as file:
            file.seek(self.position)
            body = file.read()
        self.position += len(body)
        *rows, self.partial = (self.partial + body).split(b"\n")
        return [self._line(row) for row in rows]

    def _line(self, row: bytes) -> LogLine:
        return LogLine(self.replica, row.decode(errors="replace"))
