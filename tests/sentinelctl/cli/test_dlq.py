import sys

import pytest
from sentinel.v1.events_pb2 import DeadLetter

from services import codec
from services.contract import Topic
from services.stream.types import NewRecord, Record
from tests.sentinelctl.conftest import Log, push

from .test_main import Ctl


def letter(key: bytes, value: bytes, *, topic: str = Topic.PUSH_EVENTS, reason: str = "github_not_found") -> NewRecord:
    record = Record(topic, 1, 4, key, value, {"delivery-id": b"d-" + key}, 1_700_000_000_000)
    return codec.dead_letter(
        record, reason=reason, message="404 Not Found \x1b[2J", attempts=4, first_failed_at_ns=10**18,
        last_failed_at_ns=10**18 + 10**9, group="extractor", service_version="1.0",
    )  # fmt: skip


@pytest.fixture
def ids(log: Log) -> list[str]:
    """Three letters: two events that GitHub did not know, and bytes that are no review."""
    letters = [
        letter(b"7", codec.encode(push())),
        letter(b"8", codec.encode(push(after="c" * 40))),
        letter(b"9", b"\xff\xff", topic=Topic.REVIEWS, reason="undecodable"),
    ]
    return [f"{at.partition}:{at.offset}" for at in log.append(*letters)]


def listed(ctl: Ctl, *words: str) -> list[str]:
    return [one["id"] for one in ctl("dlq", "list", "--json", *words).document["letters"]]


def test_what_waits_is_listed_with_its_reason(ids: list[str], ctl: Ctl) -> None:
    ran = ctl("dlq", "list")
    assert all(one in ran.out for one in ids)
    assert "octo/hello push main aaaaaaa..bbbbbbb" in ran.out
    assert "404 Not Found \\x1b[2J" in ran.out, "the text of a failure cannot steer a terminal"
    assert "3 waiting: 2 github_not_found, 1 undecodable" in ran.err
    document = ctl("dlq", "list", "--json").document
    assert (document["waiting"], document["reasons"]) == (3, {"github_not_found": 2, "undecodable": 1})
    (undecodable,) = [one for one in document["letters"] if one["id"] == ids[2]]
    assert (undecodable["topic"], undecodable["attempts"], undecodable["delivery_id"]) == ("reviews", 4, "d-9")


def test_the_list_is_narrowed_by_reason_and_topic(ids: list[str], ctl: Ctl) -> None:
    assert set(listed(ctl, "--reason", "github_not_found")) == set(ids[:2])
    assert listed(ctl, "--topic", "reviews") == ids[2:]
    assert len(listed(ctl, "--limit", "1")) == 1
    assert "no dead letter waits that matches" in ctl("dlq", "list", "--topic", "diff-chunks").err


def test_one_letter_is_told_whole(ids: list[str], ctl: Ctl) -> None:
    document = ctl("dlq", "show", ids[0], "--json").document
    assert document["value"]["push"]["after"] == "b" * 40
    assert (document["reason"], document["partition"], document["offset"]) == ("github_not_found", 1, 4)
    assert document["last_failed_at_ns"] - document["first_failed_at_ns"] == 10**9
    shown = ctl("dlq", "show", ids[0])
    assert "came from   push-events 1:4, appended 2023-11-1" in shown.out
    assert '"full_name": "octo/hello"' in shown.out
    assert f"sentinelctl dlq retry {ids[0]}" in shown.err
    assert ctl("dlq", "show", ids[2], "--json").document["value"] == "//8="


def test_a_letter_put_back_is_the_same_record_with_its_attempts_and_waits_no_more(
    log: Log, ids: list[str], ctl: Ctl
) -> None:
    ran = ctl("dlq", "retry", ids[0], "--json")
    assert (ran.code, [one["id"] for one in ran.document["letters"]]) == (0, ids[:1])
    (back,) = log.read(Topic.PUSH_EVENTS)
    assert (back.key, back.value) == (b"7", codec.encode(push()))
    assert back.headers == {"delivery-id": b"d-7", "attempt": b"4"}
    assert set(listed(ctl)) == set(ids[1:])
    again = ctl("dlq", "retry", ids[0])
    assert (again.code, len(log.read(Topic.PUSH_EVENTS))) == (2, 1)
    assert "was settled" in again.err


def test_a_dry_run_says_which_and_changes_nothing(log: Log, ids: list[str], ctl: Ctl) -> None:
    for command in ("retry", "purge"):
        ran = ctl("dlq", command, "--reason", "github_not_found", "--dry-run", "--json")
        assert (ran.code, {one["id"] for one in ran.document["letters"]}) == (100, set(ids[:2]))
        assert ran.document["is_dry_run"] is True
    assert log.read(Topic.PUSH_EVENTS) == []
    assert len(listed(ctl)) == 3


def test_all_of_a_reason_go_back_and_a_limit_holds_the_rest(log: Log, ids: list[str], ctl: Ctl) -> None:
    assert ctl("dlq", "retry", "--reason", "github_not_found", "--limit", "1").code == 0
    assert len(log.read(Topic.PUSH_EVENTS)) == 1
    assert ctl("dlq", "retry", "--all").code == 0
    assert (len(log.read(Topic.PUSH_EVENTS)), len(log.read(Topic.REVIEWS))) == (2, 1)
    assert listed(ctl) == []
    assert "no dead letter waits" in ctl("dlq", "list").err


@pytest.mark.parametrize("command", ["retry", "purge"])
def test_somebody_must_say_which(ids: list[str], ctl: Ctl, command: str) -> None:
    ran = ctl("dlq", command)
    assert ran.code == 2
    assert "--all" in ran.err


def test_purge_asks_and_a_no_changes_nothing(
    log: Log, ids: list[str], ctl: Ctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr("typer.confirm", lambda question, **_: pytest.fail(question) if "3" not in question else _no())
    assert ctl("dlq", "purge", "--all").code == 130
    assert len(listed(ctl)) == 3


def _no() -> None:
    import typer

    raise typer.Abort


def test_where_nobody_can_be_asked_purge_refuses(ids: list[str], ctl: Ctl) -> None:
    ran = ctl("dlq", "purge", "--all", "--json")
    assert (ran.code, len(listed(ctl))) == (2, 3)
    assert "--yes" in ran.document["error"]["remedy"]


def test_what_is_purged_waits_no_more_and_nothing_is_put_back(log: Log, ids: list[str], ctl: Ctl) -> None:
    assert ctl("dlq", "purge", *ids[1:], "--yes").code == 0
    assert listed(ctl) == ids[:1]
    assert (log.read(Topic.PUSH_EVENTS), log.read(Topic.REVIEWS)) == ([], [])


def test_a_letter_of_another_version_can_be_seen_and_purged_but_not_put_back(log: Log, ctl: Ctl) -> None:
    ((_, partition, offset),) = log.append(NewRecord(Topic.DEAD_LETTERS, b"7", b"\xff\xff"))
    name = f"{partition}:{offset}"
    assert ctl("dlq", "list", "--json").document["reasons"] == {"unreadable": 1}
    assert "2 bytes are no DeadLetter" in ctl("dlq", "show", name).out
    assert ctl("dlq", "retry", name).code == 2
    assert ctl("dlq", "purge", name, "--yes").code == 0
    assert listed(ctl) == []


def test_letters_behind_their_settling_are_new_ones(log: Log, ids: list[str], ctl: Ctl) -> None:
    ctl("dlq", "retry", ids[0])
    failed_again = letter(b"7", codec.encode(push()))
    ((_, partition, offset),) = log.append(failed_again)
    assert f"{partition}:{offset}" in listed(ctl)
    assert codec.decode(DeadLetter, failed_again.value).attempts == 4
