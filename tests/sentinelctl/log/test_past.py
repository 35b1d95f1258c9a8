from sentinel.v1.events_pb2 import Event

from sentinelctl.log.past import Past, again, anew, unit
from services import codec
from services.contract import Topic
from services.stream.types import Record
from tests.sentinelctl.conftest import pull, push


def past(event: Event) -> Past:
    headers = {"delivery-id": b"d-1", "traceparent": b"00-1-2-01", "attempt": b"4"}
    return Past(Record(Topic.PUSH_EVENTS, 0, 1, b"7", codec.encode(event), headers, 10), event)


def test_a_replay_that_posts_is_the_next_revision_received_now() -> None:
    event = push(revision=2)
    new = anew(past(event), now_ns=99)
    replayed = codec.decode(Event, new.value)
    assert (replayed.revision, replayed.received_at_ns) == (3, 99)
    assert (new.topic, new.key, new.headers) == (Topic.PUSH_EVENTS, b"7", {"delivery-id": b"d-1"})
    replayed.revision, replayed.received_at_ns = event.revision, event.received_at_ns
    assert replayed == event
    assert event.revision == 2, "the past is as it was"


def test_a_replay_that_posts_nothing_is_the_same_event() -> None:
    old = past(push())
    assert again(old).value == old.record.value
    assert again(old).headers == {"delivery-id": b"d-1"}


def test_an_event_is_of_one_unit_whatever_its_delivery_action_or_revision() -> None:
    assert unit(push("d-1")) == unit(push("d-9", revision=1))
    assert unit(pull(action="opened")) == unit(pull(action="reopened"))
    assert len({unit(push()), unit(push(after="d" * 40)), unit(pull()), unit(pull(head="d" * 40))}) == 4
