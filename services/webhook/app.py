"""The receiver's HTTP side: size cap, signature, parse, append, and only then 202."""

import asyncio
import contextlib
import math
import random
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from http import HTTPStatus
from typing import Final

import structlog
from fastapi import FastAPI, Response
from msgspec.json import encode as encode_json
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from sentinel.v1.events_pb2 import Event
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from services.codec import encode
from services.contract import Header, Outcome, Topic
from services.errors import BusUnavailable
from services.stream.types import NewRecord
from services.telemetry import Metrics
from services.tracing import OFF, Tracing
from services.webhook.event import BadPayload, Ignored, read_event
from services.webhook.intake import Intake
from services.webhook.server import IS_WHOLE
from services.webhook.signature import is_signed
from services.webhook.writer import Writes

log = structlog.get_logger(__name__)

# GitHub gives a delivery up after 10 s: each wait ends early enough to answer what went wrong.
BODY_TIMEOUT_S: Final = 10.0
APPEND_TIMEOUT_S: Final = 8.0

PATH: Final = "/webhook"

_JSON = (b"content-type", b"application/json")
_DELIVERY_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_TRACEPARENT = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})")


class Status(StrEnum):
    """What a delivery is answered: `status` in the body and in `sentinel_webhook_received_total`."""

    ACCEPTED = "accepted"
    IGNORED = "ignored"
    DUPLICATE = "duplicate"
    PONG = "pong"
    INVALID = "invalid"
    UNAUTHORIZED = "unauthorized"
    TIMED_OUT = "timed_out"
    TOO_LARGE = "too_large"
    UNAVAILABLE = "unavailable"


_CODES: Final = {
    Status.ACCEPTED: HTTPStatus.ACCEPTED,
    Status.IGNORED: HTTPStatus.ACCEPTED,
    Status.DUPLICATE: HTTPStatus.ACCEPTED,
    Status.PONG: HTTPStatus.OK,
    Status.INVALID: HTTPStatus.BAD_REQUEST,
    Status.UNAUTHORIZED: HTTPStatus.UNAUTHORIZED,
    Status.TIMED_OUT: HTTPStatus.REQUEST_TIMEOUT,
    Status.TOO_LARGE: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    Status.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
}


@dataclass(frozen=True, slots=True)
class Answer:
    status: Status
    reason: str = ""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    trace: bytes = b""
    """The delivery's traceparent, where one was begun for it."""


# Looking a member up in its enumeration takes as long as a regular expression.
_ACCEPTED: Final = Answer(Status.ACCEPTED)
_DUPLICATE: Final = Answer(Status.DUPLICATE, "delivery_already_appended")
_REFUSED: Final = frozenset(status for status, code in _CODES.items() if code >= HTTPStatus.BAD_REQUEST)
_ENDED: Final = {Status.IGNORED: Outcome.IGNORED, Status.DUPLICATE: Outcome.DUPLICATE}
_TOLD: Final = frozenset({Status.ACCEPTED, Status.PONG})  # the first by the writer, the second is worth no line
_TOPIC: Final = Topic.PUSH_EVENTS


class Gone(Exception):
    """The sender hung up before its body ended: nobody waits for an answer."""


class Receiver:
    """POST /webhook as a bare ASGI application: FastAPI's way to it would cost more than the work itself.

    secrets: the present one and, during a rotation, the one before.
    """

    def __init__(
        self,
        writer: Writes,
        metrics: Metrics,
        secrets: Sequence[bytes],
        *,
        max_body_bytes: int,
        tracing: Tracing = OFF,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        if not secrets or not all(secrets):
            raise ValueError("the receiver needs at least one secret, and none of them empty")
        self._writer = writer
        self._intake = Intake(writer, metrics, timeout_s=APPEND_TIMEOUT_S)
        self._metrics = metrics
        self._answered = {status: metrics.webhook_received.labels(status) for status in Status}
        self._ended = {status: metrics.delivery_ended.labels(outcome) for status, outcome in _ENDED.items()}
        self._tracing = tracing
        self._secrets = tuple(secrets)
        self._max_body_bytes = max_body_bytes
        self._now_ns = now_ns

    async def close(self) -> None:
        await self._intake.close()
        await self._writer.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers: dict[bytes, bytes] = dict(reversed(scope["headers"]))  # of a repeated header the first counts
        try:
            answer = await self._answer(scope, headers, receive)
        except Gone:
            return
        self._answered[answer.status].inc()
        delivery_id = _delivery_id(headers)
        if answer.status not in _TOLD:
            trace = (answer.trace or traceparent(headers.get(b"traceparent", b""))).decode()
            about = {"delivery_id": delivery_id, "traceparent": trace, "reason": answer.reason}
            if answer.status in _REFUSED:
                log.warning("delivery.refused", status=answer.status, **about)
            else:
                self._ended[answer.status].inc()
                log.info("delivery.ended", outcome=_ENDED[answer.status], **about)
        await _send(send, answer, delivery_id)

    async def _answer(self, scope: Scope, headers: dict[bytes, bytes], receive: Receive) -> Answer:
        try:
            # Most bodies have come with their headers, and a timer costs a tenth of all that follows.
            async with contextlib.nullcontext() if IS_WHOLE in scope else asyncio.timeout(BODY_TIMEOUT_S):
                body = await self._body(headers, receive)
        except TimeoutError:
            reason = f"the body did not end within {BODY_TIMEOUT_S:g} s"
            return Answer(Status.TIMED_OUT, reason, ((b"connection", b"close"),))
        received_at_ns = self._now_ns()
        if body is None:
            # The connection stays: closing it on unread bytes resets it, and the sender would never see this answer.
            # The server throws the rest away as it comes.
            return Answer(
                Status.TOO_LARGE, f"the body is larger than {self._max_body_bytes} bytes (webhook.max_body_bytes)"
            )
        if not is_signed(body, headers.get(b"x-hub-signature-256", b""), self._secrets):
            return Answer(Status.UNAUTHORIZED, "X-Hub-Signature-256 is missing or does not fit the body and our secret")
        return await self._take(headers, body, received_at_ns)

    async def _body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes | None:
        """All of the body, None as soon as it is known to be too large. Raises Gone."""
        declared = headers.get(b"content-length", b"0")
        if not declared.isdigit() or int(declared[:20]) > self._max_body_bytes:
            return None
        parts: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] != "http.request":
                raise Gone
            part: bytes = message.get("body", b"")
            size += len(part)
            if size > self._max_body_bytes:
                return None
            parts.append(part)
            if not message.get("more_body", False):
                return b"".join(parts)

    async def _take(self, headers: dict[bytes, bytes], body: bytes, received_at_ns: int) -> Answer:
        name = headers.get(b"x-github-event", b"").decode("latin-1")
        if not name:
            return Answer(Status.INVALID, "the header X-GitHub-Event is missing")
        delivery_id = _delivery_id(headers)
        if not delivery_id:
            return Answer(Status.INVALID, "the header X-GitHub-Delivery is missing or no delivery id")
        if headers.get(b"content-type", b"").lower().startswith(b"application/x-www-form-urlencoded"):
            return Answer(Status.INVALID, "the body is a form; set the hook's content type to application/json")
        if name == "ping":
            return Answer(Status.PONG)
        try:
            event = read_event(name, body, delivery_id=delivery_id, received_at_ns=received_at_ns)
        except BadPayload as exc:
            return Answer(Status.INVALID, str(exc))
        if isinstance(event, Ignored):
            return Answer(Status.IGNORED, event.reason)
        theirs = headers.get(b"traceparent", b"")
        with self._tracing.span(
            f"{name} receive", theirs.decode("latin-1"), "server", delivery_id=delivery_id
        ) as trace:
            return await self._append(name, delivery_id, event, trace.encode() or traceparent(theirs))

    async def _append(self, name: str, delivery_id: str, event: Event, trace: bytes) -> Answer:
        record = NewRecord(
            _TOPIC,
            str(event.repository.id).encode(),
            encode(event),
            {Header.TRACEPARENT: trace, Header.DELIVERY_ID: delivery_id.encode()},
        )
        try:
            appended = await self._intake.take(
                delivery_id, record, traceparent=trace.decode(), kind=name, repo=event.repository.full_name
            )
        except (BusUnavailable, TimeoutError) as exc:
            retry_after_s = exc.retry_after_s if isinstance(exc, BusUnavailable) else 1.0
            self._tracing.failed("not_appended")
            log.error("delivery.not_appended", delivery_id=delivery_id, traceparent=trace.decode(), error=str(exc))
            return Answer(
                Status.UNAVAILABLE,
                "the log does not take records; redeliver this delivery later",
                ((b"retry-after", b"%d" % max(1, math.ceil(retry_after_s))),),
                trace,
            )
        if appended is None:
            return replace(_DUPLICATE, trace=trace)
        return _ACCEPTED


def create_app(receiver: Receiver, metrics: Metrics, is_ready: Callable[[], Awaitable[bool]]) -> ASGIApp:
    """`is_ready`: whether the log takes records now."""
    others = _others(receiver, metrics, is_ready)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        is_delivery = scope["type"] == "http" and scope["method"] == "POST" and scope["path"] == PATH
        await (receiver if is_delivery else others)(scope, receive, send)

    return app


def _others(receiver: Receiver, metrics: Metrics, is_ready: Callable[[], Awaitable[bool]]) -> FastAPI:
    app = FastAPI(title="Sentinel webhook receiver", openapi_url=None, redirect_slashes=False)
    app.router.routes.append(Route(PATH, receiver, methods=["POST"]))  # says 405 to every other method

    @app.get("/health")
    async def health() -> Response:
        return Response("ok\n", media_type="text/plain")

    @app.get("/ready")
    async def ready() -> Response:
        taken = await is_ready()
        return Response("ready\n" if taken else "not ready\n", 200 if taken else 503, media_type="text/plain")

    @app.get("/metrics")
    async def scrape() -> Response:
        return Response(generate_latest(metrics.registry), headers={"content-type": CONTENT_TYPE_LATEST})

    return app


def traceparent(header: bytes) -> bytes:
    """Ours for the record: the sender's trace with a new parent where its header is valid, else a new trace.

    Source: W3C Trace Context, level 1.
    """
    theirs = _TRACEPARENT.fullmatch(header)
    # No secrets: random costs a fiftieth of what the system's own randomness does. An all-zero id would be no id.
    trace, flags = (theirs[1], theirs[2]) if theirs else (b"%032x" % (random.getrandbits(128) or 1), b"01")
    return b"00-%b-%016x-%b" % (trace, random.getrandbits(64) or 1, flags)


def _delivery_id(headers: dict[bytes, bytes]) -> str:
    """Empty when the header is missing or could not be a delivery id."""
    value = headers.get(b"x-github-delivery", b"").decode("latin-1")
    return value if _DELIVERY_ID.fullmatch(value) else ""


async def _send(send: Send, answer: Answer, delivery_id: str) -> None:
    body = encode_json({"status": answer.status, "reason": answer.reason, "delivery_id": delivery_id}) + b"\n"
    headers = [_JSON, (b"content-length", b"%d" % len(body)), *answer.headers]
    await send({"type": "http.response.start", "status": _CODES[answer.status], "headers": headers})
    await send({"type": "http.response.body", "body": body})
