"""The call to inference: which replica, how long, and what its refusals mean."""

import asyncio
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

import grpc
from sentinel.v1 import inference_pb2 as pb
from sentinel.v1.inference_pb2_grpc import InferenceServiceStub

from model.inputs.diff import Hunk
from services.errors import ConfigError, Deferred, Poison, Retryable
from services.extractor.hunks import MAX_FILE_BYTES, hunk_bytes

MAX_CALL_BYTES = 3 * 1024 * 1024
"""Of hunks in one call; gRPC servers refuse messages over 4 MiB unless told otherwise."""
MAX_CALL_LINES = 8192
"""Of hunks in one call, so that its time does not grow with the change: a deadline missed means a slow server."""
FILE_PREFIX = "file:"
RETRY_AFTER = "retry-after-ms"

_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")
_KINDS = {"add": pb.Line.KIND_ADDED, "del": pb.Line.KIND_DELETED, "ctx": pb.Line.KIND_CONTEXT}
_ELSEWHERE = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.CANCELLED,  # a replica that stops while it works on the call
    grpc.StatusCode.RESOURCE_EXHAUSTED,
)
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
    """skipped: hunks no model read, by reason. forward_s: seconds in the forward pass. hunks: in the order given."""

    findings: tuple[pb.Finding, ...] = ()
    model: pb.Model | None = None
    skipped: Mapping[str, int] | None = None
    forward_s: float = 0.0
    hunks: tuple[pb.ReadHunk, ...] = ()


class Reviewer(Protocol):
    async def review(
        self, repository_id: int, commit_sha: str, hunks: Sequence[Hunk], metadata: Mapping[str, str]
    ) -> Reviewed:
        """Raises Deferred while no replica can take the call, Poison for hunks it will never take."""


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

    @property
    def is_failing(self) -> bool:
        return self.channel.get_state() is grpc.ChannelConnectivity.TRANSIENT_FAILURE


class GrpcReviewer:
    """Takes the replicas in turn; one that does not answer is asked last, and its call goes to another."""

    def __init__(self, targets: Targets, *, timeout_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._targets, self._timeout_s, self._clock = targets, timeout_s, clock
        self._replicas: dict[str, _Replica] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._turn = 0

    async def close(self) -> None:
        await asyncio.gather(*[replica.channel.close(None) for replica in self._replicas.values()], *self._closing)

    async def review(
        self, repository_id: int, commit_sha: str, hunks: Sequence[Hunk], metadata: Mapping[str, str]
    ) -> Reviewed:
        """No hunks, no call. Large changes take several, each with whole files, one after the other."""
        findings: list[pb.Finding] = []
        read: list[pb.ReadHunk] = []
        skipped: dict[str, int] = {}
        model, forward_s = None, 0.0
        for part in calls(hunks):
            request = pb.ReviewChunksRequest(
                repository_id=repository_id, commit_sha=commit_sha, hunks=[_message(hunk) for hunk in part]
            )
            response = await self._call(request, tuple(metadata.items()))
            findings += response.findings
            read += response.hunks
            for reason, count in response.skipped.items():
                skipped[reason] = skipped.get(reason, 0) + count
            model, forward_s = response.model, forward_s + response.forward_s
        return Reviewed(tuple(findings), model, skipped, forward_s, tuple(read))

    async def model(self, metadata: Mapping[str, str]) -> pb.Model:
        """The one that serves now."""
        return (await self._call(pb.ReviewChunksRequest(), tuple(metadata.items()))).model

    async def _call(
        self, request: pb.ReviewChunksRequest, metadata: tuple[tuple[str, str], ...]
    ) -> pb.ReviewChunksResponse:
        deadline = self._clock() + self._timeout_s
        refusals: list[str] = []
        retry_after_s: list[float] = []
        for replica in self._in_turn():
            try:
                response: pb.ReviewChunksResponse = await replica.stub.ReviewChunks(
                    request, timeout=max(0.001, deadline - self._clock()), metadata=metadata
                )
                return response
            except grpc.aio.AioRpcError as exc:
                said = f"{replica.address}: {exc.code().name} {exc.details() or ''}".rstrip()
                if exc.code() is grpc.StatusCode.INVALID_ARGUMENT:
                    raise Poison("inference_refused", f"inference refuses the hunks; {said}") from exc
                if exc.code() not in (*_ELSEWHERE, grpc.StatusCode.DEADLINE_EXCEEDED):
                    raise Retryable(f"inference failed; {said}") from exc
                refusals.append(said)
                retry_after_s.append(_retry_after_s(exc))
                if exc.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                    break
        if not refusals:
            raise Deferred("no inference replica is known; `sentinelctl status` shows whether one runs")
        raise Deferred(f"inference did not take the call: {'; '.join(refusals)}", retry_after_s=min(retry_after_s))

    def _in_turn(self) -> list[_Replica]:
        """Each once, the next one first and those without a connection last."""
        addresses = self._targets.current()
        for address in self._replicas.keys() - set(addresses):
            closing = asyncio.create_task(self._replicas.pop(address).channel.close(self._timeout_s))
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


def _message(hunk: Hunk) -> pb.Hunk:
    return pb.Hunk(
        path=hunk.path,
        old_start=hunk.old_start,
        old_lines=hunk.old_lines,
        new_start=hunk.new_start,
        new_lines=hunk.new_lines,
        section=hunk.section,
        lines=[pb.Line(kind=_KINDS[line.kind], text=line.text) for line in hunk.lines],
    )


def _retry_after_s(exc: grpc.aio.AioRpcError) -> float:
    trailer: Any = exc.trailing_metadata()
    wait_ms = str(dict(trailer or ()).get(RETRY_AFTER, ""))
    return max(0.01, int(wait_ms) / 1000) if wait_ms.isascii() and wait_ms.isdigit() else 1.0


def _addresses(lines: Sequence[str]) -> tuple[str, ...]:
    """Raises ConfigError naming the first that is no address."""
    found = [line.strip() for line in lines if line.strip()]
    for address in found:
        matched = _ADDRESS.fullmatch(address)
        if not matched or not 0 < int(matched[2]) < 65536:
            raise ConfigError(f"inference.target holds {address!r}; an address is HOST:PORT, such as 127.0.0.1:50051")
    return tuple(dict.fromkeys(found))
