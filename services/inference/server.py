"""InferenceService over gRPC."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, NoReturn

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from sentinel.v1 import inference_pb2 as pb
from sentinel.v1 import inference_pb2_grpc as rpc

from model.inputs.diff import DiffError, Hunk, parse_patch
from services.contract import SEVERITIES, Header
from services.errors import ConfigError
from services.inference.batcher import DeadlinePassed, Overloaded
from services.inference.reviewer import Malformed, Reviewed, Reviewer, numbered
from services.tracing import OFF, Tracing

SERVICE: Final = "sentinel.v1.InferenceService"
MAX_MESSAGE_BYTES: Final = 64 * 1024 * 1024  # several hunks of 20,000 lines
DRAIN_S: Final = 10.0  # longest a call in progress may take once the server is told to stop

log = structlog.get_logger(__name__)


class InferenceServer(rpc.InferenceServiceServicer):
    def __init__(self, reviewer: Reviewer, tracing: Tracing = OFF) -> None:
        self._reviewer, self._tracing = reviewer, tracing

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
            model=self._reviewer.model,
            forward_s=reviewed.scored.forward_s,
        )

    async def ReviewChunks(self, request: pb.ReviewChunksRequest, context: Any) -> pb.ReviewChunksResponse:  # noqa: N802
        try:
            hunks = await asyncio.to_thread(numbered, request.hunks)
        except Malformed as exc:
            await _refuse(context, exc)
        reviewed = await self._review(hunks, context)
        return pb.ReviewChunksResponse(
            findings=reviewed.findings,
            model=self._reviewer.model,
            skipped=reviewed.skipped,
            queue_s=reviewed.scored.queue_s,
            forward_s=reviewed.scored.forward_s,
            hunks=reviewed.hunks,
        )

    async def _review(self, hunks: Sequence[Hunk], context: Any, *, first_index: int = 0) -> Reviewed:
        """Under the caller's trace. A call without hunks, which asks for the model alone, leaves no trace."""
        if not hunks:
            return await self._answer(hunks, context, first_index)
        parent, delivery_id = _caller(context)
        with self._tracing.span("hunks review", parent, "server", delivery_id=delivery_id, hunks=len(hunks)) as trace:
            reviewed = await self._answer(hunks, context, first_index)
            log.info(
                "hunks.reviewed",
                delivery_id=delivery_id,
                traceparent=trace or parent,
                hunks=len(hunks),
                findings=len(reviewed.findings),
                queue_s=round(reviewed.scored.queue_s, 4),
                forward_s=round(reviewed.scored.forward_s, 4),
            )
            return reviewed

    async def _answer(self, hunks: Sequence[Hunk], context: Any, first_index: int) -> Reviewed:
        try:
            return await self._reviewer.review(hunks, within_s=context.time_remaining(), first_index=first_index)
        except Overloaded as exc:
            retry_after_ms = max(1, round(exc.retry_after_s * 1000))
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED, str(exc), (("retry-after-ms", str(retry_after_ms)),)
            )
        except DeadlinePassed as exc:
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, str(exc))
        raise AssertionError("abort raises")


@asynccontextmanager
async def serve(server: InferenceServer, address: str) -> AsyncIterator[int]:
    """The bound port, answering until the block ends: then health says NOT_SERVING and calls in progress finish.

    Raises ConfigError where the address cannot be bound.
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
        raise ConfigError(f"cannot listen on {address}: {exc}; end what holds the port, or set inference.port") from exc
    await listener.start()
    for name in ("", SERVICE):
        await serving.set(name, health_pb2.HealthCheckResponse.SERVING)
    try:
        yield port
    finally:
        await serving.enter_graceful_shutdown()
        await listener.stop(DRAIN_S)


def patch_hunks(request: pb.ChunkRequest) -> list[Hunk]:
    """The hunks of a patch. Raises Malformed naming the field and the line of the patch."""
    try:
        return list(parse_patch(request.patch, request.filename))
    except DiffError as exc:
        raise Malformed(f"patch: {exc}") from exc


def _caller(context: Any) -> tuple[str, str]:
    """The traceparent and the delivery id of a call; empty where it names none."""
    given = dict(context.invocation_metadata() or ())
    return str(given.get(Header.TRACEPARENT, "")), str(given.get(Header.DELIVERY_ID, ""))


async def _refuse(context: Any, exc: Malformed) -> NoReturn:
    trace, delivery_id = _caller(context)
    log.info("inference.malformed", delivery_id=delivery_id, traceparent=trace, error=str(exc))
    await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(exc))
    raise AssertionError("abort raises")
