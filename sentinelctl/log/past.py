"""Events of the past that are worth another look, one for each unit of review."""

import contextlib
from dataclasses import dataclass

from sentinel.v1.events_pb2 import Event, ReviewReady

from sentinelctl.log.reading import since
from services import codec
from services.contract import Header, Topic
from services.errors import Poison
from services.stream.base import Admin
from services.stream.types import NewRecord, Record

Unit = tuple[int, str, str]
"""Repository, pull request or ref, and what of it: as the publisher's key, without the revision."""


@dataclass(frozen=True, slots=True)
class Past:
    """The newest event of a unit. Its revision is the highest that the log knows of the unit."""

    record: Record
    event: Event

    @property
    def delivery_id(self) -> str:
        return self.event.delivery_id


async def past_events(
    admin: Admin, *, since_ms: int = 0, delivery_id: str | None = None, repo: str | None = None
) -> list[Past]:
    """In the order they were received. `repo`: owner/name, in any case."""
    newest: dict[Unit, Past] = {}
    for record in await since(admin, Topic.PUSH_EVENTS):
        try:
            event = codec.decode(Event, record.value)
        except Poison:
            continue  # it has become a dead letter, or is about to
        if event.WhichOneof("kind") is not None:
            newest[unit(event)] = Past(record, event)
    return sorted(
        (
            past
            for past in newest.values()
            if past.record.timestamp_ms >= since_ms
            and delivery_id in (None, past.delivery_id)
            and (repo is None or repo.lower() == past.event.repository.full_name.lower())
        ),
        key=lambda past: past.record.timestamp_ms,
    )


def unit(event: Event) -> Unit:
    if event.HasField("push"):
        push = event.push
        return event.repository.id, push.ref, f"{push.before}..{push.after}"
    return event.repository.id, str(event.pull_request.number), event.pull_request.head_sha


async def said_before(admin: Admin) -> dict[Unit, ReviewReady]:
    """The last review of each unit that the log still holds."""
    found: dict[Unit, ReviewReady] = {}
    for record in await since(admin, Topic.REVIEWS):
        with contextlib.suppress(Poison):
            review = codec.decode(ReviewReady, record.value)
            found[unit(review.event)] = review
    return found


def again(past: Past) -> NewRecord:
    """The event as it was."""
    return NewRecord(Topic.PUSH_EVENTS, past.record.key, past.record.value, _headers(past))


def anew(past: Past, *, now_ns: int) -> NewRecord:
    """The event in its next revision, whose review is posted although there is one; received now, so that its latency
    is that of the replay."""
    event = Event()
    event.CopyFrom(past.event)
    event.revision += 1
    event.received_at_ns = now_ns
    return NewRecord(Topic.PUSH_EVENTS, past.record.key, codec.encode(event), _headers(past))


def _headers(past: Past) -> dict[str, bytes]:
    headers = past.record.headers
    return {Header.DELIVERY_ID: headers[Header.DELIVERY_ID]} if Header.DELIVERY_ID in headers else {}
