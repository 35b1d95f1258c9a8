"""The call to inference: which replica, how long, and what comes back when none takes it in time."""

import asyncio
import contextlib
import re
import socket
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Final, Literal, Protocol

import grpc
import structlog
from sentinel.v1 import inference_pb2 as pb
from sentinel.v1.inference_pb2_grpc import InferenceServiceStub

from model.inputs.diff import Hunk
from services.errors import ConfigError, Poison, Retryable
from services.extractor.hunks import MAX_FILE_BYTES, hunk_bytes
from services.review import hunk_message

log = structlog.get_logger(__name__)

MAX_CALL_BYTES = 3 * 1024 * 1024
"""Of hunks in one call; gRPC servers refuse messages over 4 MiB unless told otherwise."""
MAX_CALL_LINES = 8192
"""Of hunks in one call, so that a large change loses at most this much work when its time is up."""
FILE_PREFIX = "file:"
DNS_PREFIX = "dns:"
LOOK_EVERY_S: Final = 1.0
"""How old an answer of a file or a name server may be."""
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
_LOOK_UP_S: Final = 3.0
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


Resolve = Callable[[str, int], Awaitable[list[str]]]
"""The addresses, HOST:PORT each, that a name has now. Raises OSError when nobody says."""


async def resolve(host: str, port: int) -> list[str]:
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return sorted({f"[{at[0]}]:{port}" if family == socket.AF_INET6 else f"{at[0]}:{port}" for family, *_, at in found})


class Targets:
    """Addresses of the replicas: a list; a file with one a line; or all that a name has, asked for again and again.

    What cannot be read or resolved leaves what was known.
    """

    def __init__(self, setting: str, clock: Callable[[], float] = time.monotonic, resolve: Resolve = resolve) -> None:
        """Raises ConfigError for what is no address. A file or a name may appear later."""
        self._clock, self._resolve = clock, resolve
        self._path = Path(setting.removeprefix(FILE_PREFIX)) if setting.startswith(FILE_PREFIX) else None
        self._name = setting.removeprefix(DNS_PREFIX) if setting.startswith(DNS_PREFIX) else ""
        self._stamp: tuple[int, int] | None = None
        self._looked_at: float | None = None
        self._looking: asyncio.Task[None] | None = None
        self._addresses: tuple[str, ...] = ()
        named = _addresses([self._name] if self._name else [] if self._path else setting.split(","))
        if not named and self._path is None:
            raise ConfigError(
                f"inference.target is {setting!r}; give HOST:PORT, comma-separated, file:PATH or dns:HOST:PORT"
            )
        if not self._name:
            self._addresses = named

    async def current(self) -> tuple[str, ...]:
        """As they were at most a second ago; only the first look at a name is waited for."""
        now = self._clock()
        if self._looked_at is None or now - self._looked_at >= LOOK_EVERY_S:
            if self._path is not None:
                self._looked_at = now
                self._read(self._path)
            elif self._name and self._looking is None:
                self._looked_at = now
                self._looking = asyncio.create_task(self._look_up(), name="inference-targets")
        if self._looking is not None and not self._addresses:
            await asyncio.shield(self._looking)
        return self._addresses

    async def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    def _read(self, path: Path) -> None:
        with contextlib.suppress(OSError, UnicodeDecodeError, ConfigError):
            status = path.stat()
            if (stamp := (status.st_mtime_ns, status.st_size)) != self._stamp:
                self._addresses = _addresses(path.read_text(encoding="utf-8").splitlines())
                self._stamp = stamp

    async def _look_up(self) -> None:
        host, _, port = self._name.rpartition(":")
        try:
            async with asyncio.timeout(_LOOK_UP_S):
                self._addresses = tuple(await self._resolve(host.strip("[]"), int(port)))
        except (OSError, TimeoutError) as exc:
            log.warning("targets.unresolved", name=self._name, error=str(exc) or "no answer")
        finally:
            self._looking = None


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
        await self._targets.close()
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
        for replica in self._in_turn(await self._targets.current()):
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

    def _in_turn(self, addresses: Sequence[str]) -> list[_Replica]:
        """Each once, the next one first and those without a connection last."""
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
