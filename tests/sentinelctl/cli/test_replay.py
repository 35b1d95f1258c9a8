import pytest
from sentinel.v1.events_pb2 import Event

from model.engine import WEIGHTS
from services import codec
from services.contract import Topic
from tests.sentinelctl.conftest import Log, pull, push, record_of

from .test_main import Ctl


def replayed(ctl: Ctl, *words: str) -> list[str]:
    return [one["delivery_id"] for one in ctl("replay", "--dry-run", "--json", *words).document["replayed"]]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--since", "1h"], ["d-2", "d-3", "d-4"]),
        (["--repo", "Octo/Other"], ["d-4"]),
        (["--delivery", "d-3"], ["d-3"]),
        (["--delivery", "d-3", "--repo", "octo/other"], []),
        (["--since", "1h", "--limit", "1"], ["d-4"]),
    ],
)
def test_events_are_chosen_by_time_delivery_and_repository(
    log: Log, ctl: Ctl, words: list[str], expected: list[str]
) -> None:
    # d-4 is of another repository by name, but of the same id: it is the newest event of the unit of d-1.
    log.append(record_of(push("d-1")))
    log.append(record_of(push("d-2", after="c" * 40)))
    log.append(record_of(pull("d-3")))
    log.append(record_of(push("d-4", repo="octo/other")))
    assert replayed(ctl, *words) == expected


def test_a_dry_run_says_which_and_puts_nothing_back(log: Log, ctl: Ctl) -> None:
    log.append(record_of(push()))
    ran = ctl("replay", "--since", "1h", "--post", "--dry-run")
    assert (ran.code, len(log.read(Topic.PUSH_EVENTS))) == (100, 1)
    assert "octo/hello push main aaaaaaa..bbbbbbb  d-1" in ran.err


def test_posting_appends_the_event_in_its_next_revision_once_for_each_head(log: Log, ctl: Ctl) -> None:
    log.append(record_of(push("d-1")), record_of(push("d-9")))
    for revision in (1, 2):
        ran = ctl("replay", "--repo", "octo/hello", "--post", "--json")
        assert (ran.code, ran.document["is_posted"]) == (0, True)
        assert [(one["delivery_id"], one["revision"]) for one in ran.document["replayed"]] == [("d-9", revision)]
    found = [codec.decode(Event, one.value) for one in log.read(Topic.PUSH_EVENTS)]
    assert [(one.delivery_id, one.revision) for one in found] == [("d-1", 0), ("d-9", 0), ("d-9", 1), ("d-9", 2)]
    assert found[-1].received_at_ns > found[0].received_at_ns


def test_the_revision_follows_the_highest_that_the_log_knows_even_outside_the_choice(log: Log, ctl: Ctl) -> None:
    log.append(record_of(push("d-1", revision=4)))
    ctl("replay", "--delivery", "d-1", "--post")
    found = [codec.decode(Event, one.value).revision for one in log.read(Topic.PUSH_EVENTS)]
    assert found == [4, 5]


def test_no_event_is_no_failure(log: Log, ctl: Ctl) -> None:
    ran = ctl("replay", "--since", "1h")
    assert ran.code == 0
    assert "no event matches; the log keeps 24 h" in ran.err


def test_somebody_must_say_which_events(log: Log, ctl: Ctl) -> None:
    assert ctl("replay").code == 2
    assert ctl("replay", "--since", "yesterday").code == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--against", "b"], "--against has nothing to compare with"),
        (["--model", "a", "--post"], "two models are compared without posting"),
        (["--model", "a"], "no model at "),
        (["--model", str(WEIGHTS)], "both are the same model, digest "),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_starts(
    log: Log, ctl: Ctl, words: list[str], message: str
) -> None:
    log.append(record_of(push()))
    ran = ctl("replay", "--since", "1h", *words)
    assert ran.code in (1, 2)
    assert message in ran.err
