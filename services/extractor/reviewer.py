"""The call to inference: which replica, how long, and what comes back when none takes it in time."""

import asyncio
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Final, Literal, Protocol

import grpc
from sentinel.v1 import inference_pb2 as pb
from sentinel.v1.inference_pb2_grpc import InferenceServiceStub

from model.inputs.diff import Hunk
from services.errors import ConfigError, Poison, Retryable
from services.extractor.hunks import MAX_FILE_BYTES, hunk_bytes
from services.review import hunk_message

MAX_CALL_BYTES = 3 * 1024 * 1024
"""Of hunks in one call; gRPC servers refuse messages over 4 MiB unless told otherwise."""
MAX_CALL_LINES = 8192
"""Of hunks in one call, so that a large change loses at most this much work when its time is up."""
FILE_PREFIX = "file:"
SILENT_S: Final = 1.0
"""A replica that answers nothing for so long, and then misses a deadline, is taken for dead or stopped."""
PAUSE_S: Final = 10.0
"""How long nobody asks such a replica; then one call finds out for all."""

Why = Literal["busy", "late", "unreachable"]

_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")
_ELSEWHERE: Final[dict[grpc.StatusCode, Why]] = {
    grpc.StatusCode.UNAVAILABLE: "unreachable",
    grpc.StatusCode.CANCELLED: "unreachable",  # a replica that stops while it works on the call
    grpc.StatusCode.RESOURCE_EXHAUSTED: "busy",
    grpc.StatusCode.DEADLINE_EXCEEDED: "late",
}
_LEAVE_S: Final = 30.0  # for calls in progress to a replica that is no longer listed
_OPTIONS = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2000),
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
)

assert MAX_FILE_BYTES < MAX_CALL_BYTES


@dataclass(frozen=True, slots=True)
class Reviewed:
    """skipped: hunks no model read, by reason. forward_s: seconds in the forward pass.

    hunks: what became of each that was taken, in the order given; none where the server is too old to say.
    left: hunks that no replica took in time, for the reason in `why` with the replicas' words in `said`.
    """

    findings: tuple[pb.Finding, ...] = ()
    model: pb.Model | None = None
    skipped: Mapping[str, int] | None = None
    forward_s: float = 0.0
    hunks: tuple[pb.ReadHunk, ...] = ()
    left: tuple[Hunk, ...] = ()
    why: Why = "busy"
    said: str = ""


class Reviewer(Protocol):
    async def review(
        self,
        repository_id: int,
        commit_sha: str,
        hunks: Sequence[Hunk],
        metadata: Mapping[str, str],
        *,
        within_s: float,
    ) -> Reviewed:
        """Of as many hunks as inference takes in that time. Raises Poison for hunks it will never take."""


class _NotTaken(Exception):
    def __init__(self, why: Why, said: str) -> None:
        super().__init__(said)
        self.why: Why = why


class Targets:
    """Addresses of the replicas: a list, or a file with one a line that is read again when it changes."""

    def __init__(self, setting: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Raises ConfigError for what is no address. A file may appear later."""
        self._clock = clock
        self._path = Path(setting.removeprefix(FILE_PREFIX)) if setting.startswith(FILE_PREFIX) else None
        self._stamp: tuple[int, int] | None = None
        self._looked_at: float | None = None
        self._addresses: tuple[str, ...] = ()
        if self._path is None:
            self._addresses = _addresses(setting.split(","))
            if not self._addresses:
                raise ConfigError(f"inference.target is {setting!r}; give HOST:PORT, comma-separated, or file:PATH")

    def current(self) -> tuple[str, ...]:
        """Looks at the file at most once a second. A file that cannot be read leaves what was known."""
        now = self._clock()
        if self._path is not None and (self._looked_at is None or now - self._looked_at >= 1):
            self._looked_at = now
            try:
                status = self._path.stat()
                if (stamp := (status.st_mtime_ns, status.st_size)) != self._stamp:
                    self._addresses = _addresses(self._path.read_text(encoding="utf-8").splitlines())
                    self._stamp = stamp
            except (OSError, UnicodeDecodeError, ConfigError):
                return self._addresses
        return self._addresses


class _Replica:
    def __init__(self, address: str) -> None:
        self.address = address
        self.channel = grpc.aio.insecure_channel(address, options=_OPTIONS)
        self.stub = InferenceServiceStub(self.channel)  # type: ignore[no-untyped-call]
        self.answered_at = 0.0
        self.asked_again_at = 0.0

    @property
    def is_failing(self) -> bool:
        return self.channel.get_state() is grpc.ChannelConnectivity.TRANSIENT_FAILURE


class GrpcReviewer:
    """Takes the replicas in turn; a call that one cannot take goes to another."""

    def __init__(self, targets: Targets, clock: Callable[[], float] = time.monotonic) -> None:
        self._targets, self._clock = targets, clock
        self._replicas: dict[str, _Replica] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._turn = 0

    async def close(self) -> None:
        await asyncio.gather(*[replica.channel.close(None) for replica in self._replicas.values()], *self._closing)

    async def review(
        self,
        repository_id: int,
        commit_sha: str,
        hunks: Sequence[Hunk],
        metadata: Mapping[str, str],
        *,
        within_s: float,
    ) -> Reviewed:
        """No hunks, no call. Large changes take several, each with whole files, one after the other."""
        deadline = self._clock() + within_s
        findings: list[pb.Finding] = []
        read: list[pb.ReadHunk] = []
        skipped: dict[str, int] = {}
        model, forward_s, done = None, 0.0, 0
        for part in calls(hunks):
            request = pb.ReviewChunksRequest(
                repository_id=repository_id, commit_sha=commit_sha, hunks=[hunk_message(hunk) for hunk in part]
            )
            try:
                response = await self._call(request, tuple(metadata.items()), deadline)
            except _NotTaken as exc:
                reviewed = Reviewed(tuple(findings), model, skipped, forward_s, tuple(read))
                return replace(reviewed, left=tuple(hunks[done:]), why=exc.why, said=str(exc))
            findings += response.findings
            read += response.hunks
            for reason, count in response.skipped.items():
                skipped[reason] = skipped.get(reason, 0) + count
            model, forward_s, done = response.model, forward_s + response.forward_s, done + len(part)
        return Reviewed(tuple(findings), model, skipped, forward_s, tuple(read))

    async def model(self, metadata: Mapping[str, str], *, within_s: float) -> pb.Model | None:
        """The one that serves now; None where no replica says so in that time."""
        try:
            answer = await self._call(pb.ReviewChunksRequest(), tuple(metadata.items()), self._clock() + within_s)
        except _NotTaken:
            return None
        return answer.model

    async def _call(
        self, request: pb.ReviewChunksRequest, metadata: tuple[tuple[str, str], ...], deadline: float
    ) -> pb.ReviewChunksResponse:
        refusals: list[str] = []
        why: Why = "unreachable"
        for replica in self._in_turn():
            asked_at = self._clock()
            if asked_at < replica.asked_again_at:
                refusals.append(f"{replica.address}: silent when last asked")
                continue
            if replica.asked_again_at:
                replica.asked_again_at = asked_at + PAUSE_S  # the others wait for what this call finds out
            try:
                response: pb.ReviewChunksResponse = await replica.stub.ReviewChunks(
                    request, timeout=max(0.001, deadline - asked_at), metadata=metadata
                )
            except grpc.aio.AioRpcError as exc:
                said = f"{replica.address}: {exc.code().name} {exc.details() or ''}".rstrip()
                if exc.code() is grpc.StatusCode.INVALID_ARGUMENT:
                    raise Poison("inference_refused", f"inference refuses the hunks; {said}") from exc
                if exc.code() not in _ELSEWHERE:
                    raise Retryable(f"inference failed; {said}") from exc
                refusals.append(said)
                why = _ELSEWHERE[exc.code()]
                self._judge(replica, why, asked_at)
                if why == "late":
                    break
            else:
                replica.answered_at, replica.asked_again_at = self._clock(), 0.0
                return response
        if not refusals:
            raise _NotTaken(why, "no inference replica is known; `sentinelctl status` shows whether one runs")
        raise _NotTaken(why, "; ".join(refusals))

    def _judge(self, replica: _Replica, why: Why, asked_at: float) -> None:
        """A refusal is an answer. A deadline missed while calls beside it were answered is a call that was too long."""
        now = self._clock()
        if why == "busy":
            replica.answered_at, replica.asked_again_at = now, 0.0
        elif why == "late" and now - max(asked_at, replica.answered_at) >= SILENT_S:
            replica.asked_again_at = now + PAUSE_S

    def _in_turn(self) -> list[_Replica]:
        """Each once, the next one first and those without a connection last."""
        addresses = self._targets.current()
        for address in self._replicas.keys() - set(addresses):
            closing = asyncio.create_task(self._replicas.pop(address).channel.close(_LEAVE_S))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
        for address in addresses:
            if address not in self._replicas:
                self._replicas[address] = _Replica(address)
        self._turn += 1
        first = self._turn % len(addresses) if addresses else 0
        turn = [self._replicas[address] for address in (*addresses[first:], *addresses[:first])]
        return sorted(turn, key=lambda replica: replica.is_failing)


def calls(hunks: Sequence[Hunk]) -> list[list[Hunk]]:
    """Hunks by call: those of one file in the same one, and each within the limits unless one file alone is larger."""
    parts: list[list[Hunk]] = []
    room_bytes = room_lines = 0
    for _, group in groupby(hunks, key=lambda hunk: hunk.path):
        file = list(group)
        size, lines = sum(map(hunk_bytes, file)), sum(len(hunk.lines) for hunk in file)
        if not parts or size > room_bytes or lines > room_lines:
            parts.append([])
            room_bytes, room_lines = MAX_CALL_BYTES, MAX_CALL_LINES
        parts[-1] += file
        room_bytes, room_lines = room_bytes - size, room_lines - lines
    return parts


def _addresses(lines: Sequence[str]) -> tuple[str, ...]:
    """Raises ConfigError naming the first that is no address."""
    found = [line.strip() for line in lines if line.strip()]
    for address in found:
        matched = _ADDRESS.fullmatch(address)
        if not matched or not 0 < int(matched[2]) < 65536:
            raise ConfigError(f"inference.target holds {address!r}; an address is HOST:PORT, such as 127.0.0.1:50051")
    return tuple(dict.fromkeys(found))
