import pytest
from sentinel.v1.events_pb2 import DeadLetter

from sentinelctl.errors import UsageError
from sentinelctl.log.letters import Letter, chosen, put_back, settled
from services import codec
from services.stream.types import Record


def letter(offset: int = 1, *, reason: str = "undecodable", topic: str = "push-events", attempts: int = 4) -> Letter:
    record = Record(topic, 2, 41, b"7", b"\xff\x00", {"delivery-id": b"d-1", "attempt": b"3"}, 0)
    new = codec.dead_letter(
        record, reason=reason, message="no", attempts=attempts, first_failed_at_ns=1, last_failed_at_ns=2,
        group="extractor", service_version="1",
    )  # fmt: skip
    return Letter(
        Record(new.topic, 0, offset, new.key, new.value, new.headers, offset), codec.decode(DeadLetter, new.value)
    )


def test_a_record_that_is_put_back_is_the_one_that_was_set_aside_with_its_attempts_counted() -> None:
    back, done = put_back(letter(17))
    assert (back.topic, back.key, back.value) == ("push-events", b"7", b"\xff\x00")
    assert back.headers == {"delivery-id": b"d-1", "attempt": b"4"}
    content = codec.decode(DeadLetter, done.value).settled
    assert (content.place.partition, content.place.offset, content.action) == (0, 17, "retried")
    assert done.key == b"7", "or it would not lie behind its letter"


def test_a_letter_without_a_record_cannot_be_put_back() -> None:
    unreadable = Letter(letter().record, DeadLetter(reason="unreadable", message="3 bytes are no DeadLetter"))
    with pytest.raises(UsageError, match="3 bytes are no DeadLetter"):
        put_back(unreadable)
    assert codec.decode(DeadLetter, settled(unreadable, "purged").value).settled.action == "purged"


LETTERS = [
    letter(1),
    letter(2, reason="attempts_exhausted"),
    letter(3, topic="reviews"),
    letter(4, reason="attempts_exhausted", topic="reviews"),
]


@pytest.mark.parametrize(
    ("ids", "reason", "topic", "limit", "expected"),
    [
        ([], None, None, None, ["0:1", "0:2", "0:3", "0:4"]),
        ([], "attempts_exhausted", None, None, ["0:2", "0:4"]),
        ([], None, "reviews", None, ["0:3", "0:4"]),
        ([], "attempts_exhausted", "reviews", None, ["0:4"]),
        ([], None, None, 2, ["0:1", "0:2"]),
        (["0:4", "0:1", "0:4"], None, None, None, ["0:4", "0:1"]),
        (["0:4", "0:1"], "undecodable", None, None, ["0:1"]),
        ([], "nothing_like_it", None, None, []),
    ],
)
def test_letters_are_chosen_by_id_and_filter(
    ids: list[str], reason: str | None, topic: str | None, limit: int | None, expected: list[str]
) -> None:
    assert [one.id for one in chosen(LETTERS, ids, reason=reason, topic=topic, limit=limit)] == expected


def test_an_id_that_waits_for_nobody_is_refused() -> None:
    with pytest.raises(UsageError, match="no dead letter '9:9' waits"):
        chosen(LETTERS, ["0:1", "9:9"], reason=None, topic=None, limit=None)
