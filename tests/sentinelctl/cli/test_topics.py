import json
from pathlib import Path

import pytest

from services.contract import Group, Topic
from services.stream.types import NewRecord
from tests.sentinelctl.conftest import PARTITIONS, Log, pull, push, record_of

from .test_main import Ctl


def test_every_topic_is_listed_with_what_its_reader_has_yet_to_do(log: Log, ctl: Ctl) -> None:
    log.append(record_of(push()), record_of(pull()))
    ran = ctl("topics", "list", "--json")
    assert ran.code == 0
    rows = {one["topic"]: one for one in ran.document["topics"]}
    assert list(rows) == ["push-events", "diff-chunks", "reviews", "reviews-dlq"]
    events = rows["push-events"]
    assert (events["partitions"], events["records"], events["group"], events["lag"]) == (
        PARTITIONS,
        2,
        "extractor",
        2,
    )
    assert rows["reviews-dlq"]["group"] is None
    shown = ctl("topics", "list").out
    assert [line.split()[0] for line in shown.splitlines()] == ["topic", *rows]


def test_a_topic_is_described_partition_by_partition(log: Log, ctl: Ctl) -> None:
    ((_, partition, _), _) = log.append(record_of(push()), record_of(push("d-3")))
    log.commit(Group.EXTRACTOR, Topic.PUSH_EVENTS, 1)
    document = ctl("--json", "topics", "describe", "push-events").document
    row = document["partitions"][partition]
    assert (row["start"], row["end"], row["records"], row["committed"], row["lag"]) == (0, 2, 2, 1, 1)
    assert row["age_s"] >= 0
    assert document["group"] == "extractor"
    assert "committed" in ctl("topics", "describe", "push-events").out
    assert "read by no group" in ctl("topics", "describe", "reviews-dlq").err


def test_the_lag_of_each_group_is_told(log: Log, ctl: Ctl) -> None:
    log.append(NewRecord(Topic.DIFF_CHUNKS, b"7", b""), NewRecord(Topic.DIFF_CHUNKS, b"7", b""))
    found = {one["topic"]: one for one in ctl("topics", "lag", "--json").document["lag"]}
    assert (found["diff-chunks"]["group"], found["diff-chunks"]["records"]) == ("inference", 2)
    assert [found[topic]["records"] for topic in ("push-events", "reviews")] == [0, 0]
    (only,) = ctl("topics", "lag", "diff-chunks", "--json").document["lag"]
    assert only["records"] == 2
    assert ctl("topics", "lag", "diff-chunks").out.splitlines()[1].split()[:3] == ["inference", "diff-chunks", "2"]


def test_records_are_told_in_a_line_each_and_in_json_whole(log: Log, ctl: Ctl) -> None:
    log.append(record_of(push()), record_of(pull()), NewRecord(Topic.PUSH_EVENTS, b"8", b"\xff\xff"))
    lines = ctl("topics", "tail", "push-events").out.splitlines()
    assert len(lines) == 3
    assert any("octo/hello push main aaaaaaa..bbbbbbb" in line and line.rstrip().endswith("d-1") for line in lines)
    assert any("2 bytes that are no Event" in line for line in lines)
    documents = [json.loads(line) for line in ctl("topics", "tail", "push-events", "--json").out.splitlines()]
    (whole,) = [one for one in documents if one["headers"].get("delivery-id") == "d-2"]
    assert whole["value"]["pull_request"]["number"] == "3"
    assert (whole["topic"], whole["key"]) == ("push-events", "7")
    assert '"pull_request"' in ctl("-v", "topics", "tail", "push-events").out


@pytest.mark.parametrize(("words", "expected"), [(["-n", "1"], 1), (["--since", "1h"], 3), (["-n", "0"], 0)])
def test_how_much_is_told_can_be_said(log: Log, ctl: Ctl, words: list[str], expected: int) -> None:
    log.append(*[record_of(push(f"d-{number}")) for number in range(3)])
    assert len(ctl("topics", "tail", "push-events", *words).out.splitlines()) == expected


def test_a_quiet_topic_is_said_to_be_quiet(log: Log, ctl: Ctl) -> None:
    assert "no record of reviews is kept" in ctl("topics", "tail", "reviews").err
    assert "none of reviews is that new" in ctl("topics", "tail", "reviews", "--since", "1h").err


@pytest.mark.parametrize("command", ["describe", "tail", "lag"])
def test_a_topic_that_is_not_there_ends_with_usage(log: Log, ctl: Ctl, command: str) -> None:
    ran = ctl("topics", command, "nope", "--json")
    assert ran.code == 2
    assert ran.document["error"]["remedy"] == "there are diff-chunks, push-events, reviews, reviews-dlq"


def test_without_a_log_nothing_is_made_and_preflight_fails(ctl: Ctl, tmp_path: Path) -> None:
    for words in (["topics", "list"], ["dlq", "list"], ["replay", "--since", "1h"]):
        ran = ctl(*words)
        assert ran.code == 3
        assert "nothing was started" in ran.err
    assert not (tmp_path / "state").exists()
