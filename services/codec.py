"""Records to and from protobuf, and to JSON for people. Each topic holds one message type."""

import contextlib
from typing import Any, Final, TypeVar

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError, Message
from sentinel.v1.events_pb2 import DeadLetter, Event, Header, ReviewReady, ReviewRequest

from services.contract import Topic
from services.errors import Poison
from services.stream.types import NewRecord, Record

M = TypeVar("M", bound=Message)

MESSAGES: Final[dict[str, type[Message]]] = {
    Topic.PUSH_EVENTS: Event,
    Topic.DIFF_CHUNKS: ReviewRequest,
    Topic.REVIEWS: ReviewReady,
    Topic.DEAD_LETTERS: DeadLetter,
}

_MAX_MESSAGE: Final = 4_000  # characters of what a failure said: its record must still fit around


def encode(message: Message) -> bytes:
    """The same bytes for the same message."""
    return message.SerializeToString(deterministic=True)


def decode(kind: type[M], value: bytes) -> M:
    """Raises Poison `undecodable`."""
    try:
        return kind.FromString(value)
    except DecodeError as exc:
        raise Poison(
            "undecodable", f"{len(value)} bytes are no {kind.__name__}: {exc}; its producer speaks another version"
        ) from exc


def dead_letter(
    record: Record,
    *,
    reason: str,
    message: str,
    attempts: int,
    first_failed_at_ns: int,
    last_failed_at_ns: int,
    group: str,
    service_version: str,
) -> NewRecord:
    """`record` set aside: its bytes, where and when it was appended, and why it cannot succeed."""
    letter = DeadLetter(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        key=record.key,
        value=record.value,
        headers=[Header(name=name, value=value) for name, value in record.headers.items()],
        reason=reason,
        message=message[:_MAX_MESSAGE].encode(errors="replace").decode(),
        attempts=attempts,
        first_failed_at_ns=first_failed_at_ns,
        last_failed_at_ns=last_failed_at_ns,
        group=group,
        service_version=service_version,
        timestamp_ms=record.timestamp_ms,
    )
    return NewRecord(Topic.DEAD_LETTERS, record.key, encode(letter), dict(record.headers))


def to_json(topic: str, value: bytes) -> dict[str, Any]:
    """A record's value as plain data; a dead letter's own value opened up too, where it can be.

    Raises Poison `undecodable`, and KeyError for a topic that is not ours.
    """
    document = MessageToDict(
        decode(MESSAGES[topic], value), preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    if topic == Topic.DEAD_LETTERS:
        letter = decode(DeadLetter, value)
        document["key"] = letter.key.decode(errors="replace")
        document["headers"] = {header.name: header.value.decode(errors="replace") for header in letter.headers}
        if letter.topic in MESSAGES and letter.topic != Topic.DEAD_LETTERS:
            with contextlib.suppress(Poison):  # stays base64: that it cannot be decoded may be why it is here
                document["value"] = to_json(letter.topic, letter.value)
    return document
