"""An hour of GH Archive, made here in its documented form."""

import gzip
import io
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from model.dataset import DataError
from model.mining import archive
from model.mining.archive import BrokenArchive, extract, hours
from model.mining.comments import read
from tests.model.mining.events import HOUR, comment_event, packed, push_event


def write(path: Path, events: list[Any]) -> Path:
    path.write_bytes(packed(events))
    return path


def test_review_comments_are_taken_out_and_every_event_counted(tmp_path: Path) -> None:
    events = [push_event(1), comment_event(2), push_event(3), comment_event(4, actor="renovate[bot]"), comment_event(5)]
    found = extract(write(tmp_path / "a.json.gz", events), HOUR, tmp_path / "out")
    assert (found.events, found.comments, found.bots, found.skipped) == (5, 2, 1, 0)
    assert found.kinds == {"PullRequestReviewCommentEvent": 3, "PushEvent": 2}
    first, second = read(tmp_path / "out" / f"{HOUR}.jsonl")
    assert (first.id, first.repository, first.pull, first.path, first.line) == (2, "octo/hello", 12, "src/a.py", 2)
    assert second.id == 5
    assert archive.done(tmp_path / "out", HOUR) == found


def test_addresses_and_secrets_are_dropped(tmp_path: Path) -> None:
    event = comment_event(1, body="ask ada@example.com, AKIAABCDEFGHIJKLMNOP")
    extract(write(tmp_path / "a.json.gz", [event]), HOUR, tmp_path)
    assert next(read(tmp_path)).body == f"ask user@example.org, {'x' * 20}"


def test_lines_that_are_no_events_are_passed_over_and_counted(tmp_path: Path) -> None:
    without = comment_event(1)
    del without["payload"]["comment"]["path"]
    nothing = {"type": "PullRequestReviewCommentEvent", "payload": None}
    raw = b"not json\n[1]\n\n" + b"".join(
        json.dumps(each).encode() + b"\n" for each in (without, nothing, push_event(2))
    )
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(raw))
    found = extract(tmp_path / "a.json.gz", HOUR, tmp_path)
    assert (found.events, found.comments, found.skipped) == (3, 0, 5)


def test_a_line_too_long_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "_LINE_BYTES", 2_000)
    found = extract(
        write(tmp_path / "a.json.gz", [comment_event(1, body="x" * 9_000), comment_event(2)]), HOUR, tmp_path
    )
    assert (found.comments, found.skipped) == (1, 1)


@pytest.mark.parametrize("cut", [5, 60, -9, -4])
def test_a_file_that_ends_early_leaves_nothing(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "a.json.gz"
    path.write_bytes(packed([comment_event(number) for number in range(50)])[:cut])
    with pytest.raises(BrokenArchive, match="is not the whole gzip of 2024-01-01-15"):
        extract(path, HOUR, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_changed_byte_is_seen_by_the_checksum(tmp_path: Path) -> None:
    raw = bytearray(packed([comment_event(number) for number in range(50)]))
    raw[-6] ^= 1
    (tmp_path / "a.json.gz").write_bytes(raw)
    with pytest.raises(BrokenArchive):
        extract(tmp_path / "a.json.gz", HOUR, tmp_path)


def test_memory_does_not_grow_with_the_hour(tmp_path: Path) -> None:
    """1,000 comments of 2 kB are 2 MB of text; what is held at once stays under a third of it."""
    line = json.dumps(comment_event(1, body="word " * 400)).encode() + b"\n"
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=1) as file:
        for _ in range(1_000):
            file.write(line)
    (tmp_path / "a.json.gz").write_bytes(buffer.getvalue())
    del buffer
    tracemalloc.start()
    found = extract(tmp_path / "a.json.gz", HOUR, tmp_path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.comments == 1_000
    assert peak < 700_000


def test_hours_are_named_as_the_archive_names_them_across_days() -> None:
    assert hours("2024-02-28-23..2024-02-29-01") == ("2024-02-28-23", "2024-02-29-0", "2024-02-29-1")
    assert hours("2024-01-01-05") == ("2024-01-01-5",)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("yesterday", "'yesterday' is no hour"),
        ("2024-01-01-24", "is no hour"),
        ("2024-13-01-0", "is no hour"),
        ("2014-12-31-23", "before 2015"),
        ("2024-01-01-5..2024-01-01-4", "is 0 hours"),
        ("2016-01-01-0..2024-01-01-4", "hours; give an end"),
    ],
)
def test_what_is_no_span_of_hours_is_refused(text: str, says: str) -> None:
    with pytest.raises(DataError, match=says):
        hours(text)
