"""InferenceService over gRPC: messages to hunks, hunks to scored chunks, scores to findings."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from sentinel.v1 import inference_pb2 as pb
from sentinel.v1 import inference_pb2_grpc as rpc

from model.engine import Engine, Finding
from model.inputs.chunk import Chunk
from model.inputs.diff import DiffError, Hunk, LineKind, number_lines, parse_patch
from services.contract import SEVERITIES
from services.inference.batcher import Batcher, Clock, DeadlinePassed, Overloaded, Scored
from services.telemetry import Metrics

SERVICE: Final = "sentinel.v1.InferenceService"
MAX_MESSAGE_BYTES: Final = 64 * 1024 * 1024  # several hunks of 20,000 lines
DRAIN_S: Final = 12.0  # longest a call in progress may take once the server is told to stop
_KINDS: Final[dict[int, LineKind]] = {
    pb.Line.KIND_CONTEXT: "ctx",
    pb.Line.KIND_ADDED: "add",
    pb.Line.KIND_DELETED: "del",
}

log = structlog.get_logger(__name__)


class Malformed(ValueError):
    """A request that says something impossible; the message opens with the field."""


@dataclass(frozen=True, slots=True)
class Reviewed:
    """What one call came to. Findings are in the order of the hunks, each with the chunk of its file."""

    findings: tuple[pb.Finding, ...]
    hunks: tuple[pb.ReadHunk, ...]
    scored: Scored


class InferenceServer(rpc.InferenceServiceServicer):
    def __init__(self, engine: Engine, batcher: Batcher, metrics: Metrics, clock: Clock) -> None:
        self._engine, self._batcher, self._metrics, self._clock = engine, batcher, metrics, clock
        info = engine.info
        self._model = pb.Model(name=info.name, version=info.version, digest=info.digest)

    async def ReviewChunk(self, request: pb.ChunkRequest, context: Any) -> pb.ReviewResponse:  # noqa: N802 - gRPC's name
        try:
            if not request.filename:
                raise Malformed("filename: empty; give the file's path")
            hunks = await asyncio.to_thread(patch_hunks, request)
        except Malformed as exc:
            await _refuse(context, exc)
        reviewed = await self._review(hunks, context, first_index=request.chunk_index)
        worst = max(
            (finding for finding in reviewed.findings if finding.is_shown),
            key=lambda finding: (SEVERITIES.index(finding.severity), finding.confidence),
            default=pb.Finding(),
        )
        return pb.ReviewResponse(
            repo=request.repo,
            commit=request.commit,
            filename=request.filename,
            line=worst.line,
            severity=worst.severity,
            severity_id=SEVERITIES.index(worst.severity) if worst.severity else -1,
            category=worst.category,
            message=worst.text,
            confidence=worst.confidence,
            idempotency_key=request.idempotency_key,
            received_at=request.received_at,
            findings=reviewed.findings,
            model=self._model,
            forward_s=reviewed.scored.forward_s,
        )

    async def ReviewChunks(self, request: pb.ReviewChunksRequest, context: Any) -> pb.ReviewChunksResponse:  # noqa: N802
        try:
            hunks = await asyncio.to_thread(request_hunks, request)
        except Malformed as exc:
            await _refuse(context, exc)
        reviewed = await self._review(hunks, context)
        return pb.ReviewChunksResponse(
            findings=reviewed.findings,
            model=self._model,
            skipped=Counter(hunk.skipped for hunk in reviewed.hunks if hunk.skipped),
            queue_s=reviewed.scored.queue_s,
            forward_s=reviewed.scored.forward_s,
            hunks=reviewed.hunks,
        )

    async def _review(self, hunks: Sequence[Hunk], context: Any, *, first_index: int = 0) -> Reviewed:
        started = self._clock.time()
        remaining_s = context.time_remaining()
        windows = await asyncio.to_thread(lambda: [self._engine.encode(hunk) for hunk in hunks])
        try:
            scored = await self._batcher.submit(
                [chunk for window in windows for chunk in window],
                None if remaining_s is None else started + remaining_s,
            )
        except Overloaded as exc:
            retry_after_ms = max(1, round(exc.retry_after_s * 1000))
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED, str(exc), (("retry-after-ms", str(retry_after_ms)),)
            )
        except DeadlinePassed as exc:
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, str(exc))
        findings = await asyncio.to_thread(_findings, self._engine, hunks, windows, scored, first_index)
        read = tuple(
            pb.ReadHunk(chunks=_count(window), skipped=self._engine.skip_reason(hunk) or "")
            for hunk, window in zip(hunks, windows, strict=True)
        )
        self._metrics.inference_latency.observe(self._clock.time() - started)
        return Reviewed(tuple(findings), read, scored)


@asynccontextmanager
async def serve(server: InferenceServer, address: str) -> AsyncIterator[int]:
    """The bound port, answering until the block ends: then health says NOT_SERVING and calls in progress finish.

    Raises OSError where the address cannot be bound.
    """
    options = [
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.so_reuseport", 0),  # a second server on the port is an error, not a silent half of the calls
    ]
    listener = grpc.aio.server(options=options)
    serving = health.aio.HealthServicer()  # type: ignore[attr-defined] # the stubs leave it out
    rpc.add_InferenceServiceServicer_to_server(server, listener)  # type: ignore[no-untyped-call]
    health_pb2_grpc.add_HealthServicer_to_server(serving, listener)
    reflection.enable_server_reflection((SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), listener)
    try:
        port = listener.add_insecure_port(address)
    except RuntimeError as exc:
        raise OSError(f"cannot listen on {address}: {exc}") from exc
    await listener.start()
    for name in ("", SERVICE):
        await serving.set(name, health_pb2.HealthCheckResponse.SERVING)
    try:
        yield port
    finally:
        await serving.enter_graceful_shutdown()
        await listener.stop(DRAIN_S)


def request_hunks(request: pb.ReviewChunksRequest) -> list[Hunk]:
    """The hunks of a request, with line numbers. Raises Malformed naming the field."""
    hunks = []
    for at, message in enumerate(request.hunks):
        if not message.path:
            raise Malformed(f"hunks[{at}].path: empty; give the file's path")
        lines: list[tuple[LineKind, str]] = []
        for row, line in enumerate(message.lines):
            kind = _KINDS.get(line.kind)
            if kind is None:
                raise Malformed(f"hunks[{at}].lines[{row}].kind: {line.kind} is none of context, added, deleted")
            if "\n" in line.text:
                raise Malformed(f"hunks[{at}].lines[{row}].text: holds a newline; give one line each")
            lines.append((kind, line.text))
        old, new = (message.old_start, message.old_lines), (message.new_start, message.new_lines)
        try:
            hunks.append(number_lines(message.path, old, new, message.section, lines))
        except DiffError as exc:
            raise Malformed(f"hunks[{at}]: {exc}") from exc
    return hunks


def patch_hunks(request: pb.ChunkRequest) -> list[Hunk]:
    """The hunks of a patch. Raises Malformed naming the field and the line of the patch."""
    try:
        return list(parse_patch(request.patch, request.filename))
    except DiffError as exc:
        raise Malformed(f"patch: {exc}") from exc


def _findings(
    engine: Engine, hunks: Sequence[Hunk], windows: Sequence[tuple[Chunk, ...]], scored: Scored, first_index: int
) -> list[pb.Finding]:
    """Findings with the index of their chunk, counted through the hunks of a file."""
    found: list[pb.Finding] = []
    scores = iter(scored.scores)
    next_index: Counter[str] = Counter()
    for hunk, window in zip(hunks, windows, strict=True):
        base = first_index + next_index[hunk.path]
        index = {hunk.lines[at].new: base + n for n, chunk in enumerate(window) for at in chunk.lines}
        found += [
            _message(finding, index.get(finding.line, base))
            for finding in engine.findings(hunk, window, [next(scores) for _ in window])
        ]
        next_index[hunk.path] += _count(window)
    return found


def _count(window: Sequence[Chunk]) -> int:
    """A hunk that no model reads is one chunk: rules may have read it."""
    return max(1, len(window))


def _message(finding: Finding, chunk_index: int) -> pb.Finding:
    return pb.Finding(
        path=finding.path,
        line=finding.line,
        side=finding.side,
        concept=finding.concept,
        title=finding.title,
        text=finding.text,
        category=finding.category,
        severity=finding.severity,
        confidence=finding.confidence,
        is_shown=finding.is_shown,
        chunk_index=chunk_index,
    )


async def _refuse(context: Any, exc: Malformed) -> NoReturn:
    log.info("inference.malformed", error=str(exc))
    await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(exc))
    raise AssertionError("abort raises")
