import pytest
from sentinel.v1.events_pb2 import (
    Coverage,
    DeadLetter,
    Event,
    Place,
    PushEvent,
    Repository,
    ReviewReady,
    ReviewRequest,
    Settled,
)
from sentinel.v1.inference_pb2 import Finding, Hunk

from sentinelctl.log.headline import headline
from services.codec import encode
from services.contract import Topic
from services.stream.types import Record
from tests.sentinelctl.conftest import pull, push

NEW_BRANCH = Event(
    repository=Repository(full_name="o/r"), push=PushEvent(ref="refs/heads/x", before="0" * 40, after="d" * 40)
)


def record(topic: str, value: bytes) -> Record:
    return Record(topic, 3, 41, b"7", value, {}, 0)


@pytest.mark.parametrize(
    ("topic", "message", "expected"),
    [
        (Topic.PUSH_EVENTS, push(), "octo/hello push main aaaaaaa..bbbbbbb"),
        (Topic.PUSH_EVENTS, push(revision=2), "octo/hello push main aaaaaaa..bbbbbbb (revision 2)"),
        (Topic.PUSH_EVENTS, NEW_BRANCH, "o/r push x new..ddddddd"),
        (Topic.PUSH_EVENTS, pull(), "octo/hello pull #3 ccccccc opened"),
        (Topic.PUSH_EVENTS, Event(), "? of a kind this version does not know"),
        (
            Topic.DIFF_CHUNKS,
            ReviewRequest(so_far=ReviewReady(event=pull()), hunks=[Hunk()]),
            "octo/hello pull #3 ccccccc opened: 1 hunk still to be read",
        ),
        (
            Topic.DIFF_CHUNKS,
            ReviewRequest(so_far=ReviewReady(event=pull()), pieces=[Place(), Place()]),
            "octo/hello pull #3 ccccccc opened: 2 pieces still to be read",
        ),
        (
            Topic.DIFF_CHUNKS,
            ReviewRequest(hunks=[Hunk(), Hunk()]),
            "a piece: 2 hunks of a head too large for one record",
        ),
        (
            Topic.REVIEWS,
            ReviewReady(
                event=push(),
                coverage=Coverage(hunks=7, hunks_reviewed=5),
                findings=[Finding(is_shown=True), Finding()],
                findings_cut=3,
            ),
            "octo/hello push main aaaaaaa..bbbbbbb: 5 of 7 hunks, 4 shown",
        ),
        (
            Topic.DEAD_LETTERS,
            DeadLetter(
                topic="reviews", partition=2, offset=9, reason="undecodable", attempts=4, message="two\nlines \x1b[31m"
            ),
            "reviews 2:9, undecodable after 4 attempts: two lines \\x1b[31m",
        ),
        (
            Topic.DEAD_LETTERS,
            DeadLetter(settled=Settled(place=Place(partition=3, offset=17), action="purged")),
            "3:17 was purged",
        ),
    ],
)
def test_a_record_is_told_in_one_line(topic: str, message: Event, expected: str) -> None:
    assert headline(record(topic, encode(message))) == expected


def test_bytes_that_cannot_be_decoded_and_topics_of_others_are_told_too() -> None:
    assert headline(record(Topic.REVIEWS, b"\xff\xff")) == "2 bytes that are no ReviewReady"
    assert headline(record("elsewhere", b"abc")) == "3 bytes"


def test_what_a_payload_says_cannot_steer_a_terminal() -> None:
    event = push(repo="octo/\x1b]0;x\x07\u202ehello")
    assert headline(record(Topic.PUSH_EVENTS, encode(event))).isprintable()
