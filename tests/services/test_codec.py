import base64
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sentinel.v1.events_pb2 import DeadLetter, Event, PushEvent, Repository, ReviewReady, ReviewRequest

from services import codec
from services.contract import Topic
from services.errors import Poison
from services.stream.types import NewRecord, Record

EVENT = Event(
    delivery_id="d-1", repository=Repository(id=7, full_name="octo/hello"), push=PushEvent(ref="refs/heads/main")
)


def letter(value: bytes, *, topic: str = Topic.PUSH_EVENTS, message: str = "no") -> NewRecord:
    record = Record(topic, 3, 41, b"7", value, {"delivery-id": b"d-1", "raw": b"\xff"}, 1_700_000_000_000)
    return codec.dead_letter(
        record,
        reason="undecodable",
        message=message,
        attempts=4,
        first_failed_at_ns=10,
        last_failed_at_ns=20,
        group="extractor",
        service_version="1.0",
    )


@pytest.mark.parametrize("message", [EVENT, ReviewReady(event=EVENT, revision=2), DeadLetter(offset=9)])
def test_a_message_survives_the_wire(message: Event | ReviewReady | DeadLetter) -> None:
    assert codec.decode(type(message), codec.encode(message)) == message


@given(value=st.binary())
def test_any_bytes_decode_or_are_poison(value: bytes) -> None:
    with contextlib.suppress(Poison):
        codec.decode(ReviewReady, value)


def test_what_cannot_be_decoded_is_named() -> None:
    with pytest.raises(Poison, match="2 bytes are no Event"):
        codec.decode(Event, b"\xff\xff")


def test_a_dead_letter_keeps_everything_of_its_record() -> None:
    new = letter(b"\xff\xff")
    assert (new.topic, new.key, new.headers) == (Topic.DEAD_LETTERS, b"7", {"delivery-id": b"d-1", "raw": b"\xff"})
    found = codec.decode(DeadLetter, new.value)
    assert (found.topic, found.partition, found.offset, found.key, found.value) == (
        "push-events",
        3,
        41,
        b"7",
        b"\xff\xff",
    )
    assert {header.name: header.value for header in found.headers} == {"delivery-id": b"d-1", "raw": b"\xff"}
    assert (found.reason, found.attempts, found.group, found.service_version) == ("undecodable", 4, "extractor", "1.0")
    assert (found.first_failed_at_ns, found.last_failed_at_ns, found.timestamp_ms) == (10, 20, 1_700_000_000_000)


def test_a_message_that_is_no_unicode_text_is_still_set_aside() -> None:
    assert codec.decode(DeadLetter, letter(b"", message="name \udcff.py").value).message == "name ?.py"


def test_what_a_failure_said_at_length_is_cut_so_that_its_record_still_fits() -> None:
    assert len(letter(b"", message="x" * 10**6).value) < 5_000


def test_json_shows_fields_by_their_names() -> None:
    document = codec.to_json(Topic.PUSH_EVENTS, codec.encode(EVENT))
    assert document["delivery_id"] == "d-1"
    assert document["repository"]["full_name"] == "octo/hello"
    assert document["push"]["is_forced"] is False


def test_json_of_a_dead_letter_opens_its_value() -> None:
    document = codec.to_json(Topic.DEAD_LETTERS, letter(codec.encode(EVENT)).value)
    assert document["value"]["delivery_id"] == "d-1"
    assert document["key"] == "7"
    assert document["headers"]["delivery-id"] == "d-1"


def test_json_of_a_dead_letter_opens_the_values_of_every_topic() -> None:
    request = ReviewRequest(so_far=ReviewReady(event=EVENT))
    document = codec.to_json(Topic.DEAD_LETTERS, letter(codec.encode(request), topic=Topic.DIFF_CHUNKS).value)
    assert document["value"]["so_far"]["event"]["delivery_id"] == "d-1"


def test_json_of_a_dead_letter_shows_undecodable_bytes_as_base64() -> None:
    assert (
        codec.to_json(Topic.DEAD_LETTERS, letter(b"\xff\xff").value)["value"] == base64.b64encode(b"\xff\xff").decode()
    )
