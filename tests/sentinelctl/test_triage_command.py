"""sentinelctl triage with the shipped weights, over files and over a fakehub."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from model.triage.engine import WEIGHTS
from sentinelctl.fakehub.server import Running
from tests.model.triage import made
from tests.sentinelctl.test_reviews_commands import hub, run

Run = Callable[..., tuple[int, str, str]]
__all__ = ["hub", "run"]

SAID = (
    "This will crash when the buffer is empty.",
    "The condition is wrong: it skips the last element.",
    "Maybe we could use a set here?",
    "nit: trailing whitespace",
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    known = [made.comment(body, number=number) for number, body in enumerate(reversed(SAID), 1)]
    return made.write(tmp_path / "comments.jsonl", known)


def test_comments_are_counted_and_the_gravest_shown_first(file: Path, run: Run) -> None:
    code, shown, _ = run("triage", "--file", file, "--json")
    assert code == 0
    document = json.loads(shown)
    assert document["comments"] == 4
    assert {one: sum(row.values()) for one, row in document["counts"].items()} == {
        "nit": 1,
        "suggestion": 1,
        "bug": 1,
        "critical": 1,
    }
    assert [each["body"] for each in document["gravest"]] == list(SAID)
    assert document["gravest"][0]["place"] == "made/up#1 src/a.py:4"
    assert document["heldout"]["one repository left out"]["rule"]["accuracy"] == 1.0


def test_people_read_a_table_the_comments_and_what_it_means(file: Path, run: Run) -> None:
    _, shown, err = run("triage", "--file", file, "--limit", 2)
    assert shown.splitlines()[0].split() == ["critical", "bug", "suggestion", "nit", "all"]
    assert "critical" in shown.splitlines()[-5]
    assert SAID[0] in shown
    assert SAID[2] not in shown
    assert "4 review comments of comments.jsonl. Held out (one repository left out): accuracy 0.9" in err
    assert "so the rule itself scores 1.00 by construction" in err


def test_a_comment_cannot_steer_the_terminal(tmp_path: Path, run: Run) -> None:
    body = "crash \x1b[2J [bold]not ours[/] \u202eturned"
    _, shown, _ = run("triage", "--file", made.write(tmp_path / "a.jsonl", [made.comment(body)]))
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert r"crash \x1b[2J [bold]not ours[/] \u202eturned" in shown


def test_the_table_is_drawn(file: Path, tmp_path: Path, run: Run) -> None:
    _, _, err = run("triage", "--file", file, "--picture", tmp_path / "a.svg")
    assert f"wrote {tmp_path / 'a.svg'}" in err
    assert "4 review comments of comments.jsonl" in (tmp_path / "a.svg").read_text("utf-8")


def test_a_repository_s_comments_are_fetched_and_sorted(hub: Running, tmp_path: Path, run: Run) -> None:
    code, shown, _ = run("triage", "--repo", "local/sample", "--json")
    assert code == 0
    document = json.loads(shown)
    assert [each["severity"] for each in document["gravest"]] == ["critical", "suggestion", "nit"]
    assert not list(Path.cwd().glob("local+sample*"))
    run("triage", "--repo", "local/sample", "--out", tmp_path / "kept")
    assert (tmp_path / "kept" / "local+sample.jsonl").exists()


def test_an_empty_file_is_an_empty_table(tmp_path: Path, run: Run) -> None:
    (tmp_path / "a.jsonl").write_text("")
    code, shown, err = run("triage", "--file", tmp_path / "a.jsonl")
    assert code == 0
    assert shown.splitlines()[1].split() == ["all", "0", "0", "0", "0", "0"]
    assert "0 review comments" in err


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ((), 2, "give --repo OWNER/NAME or --file FILE"),
        (("--repo", "a/b", "--file", "x"), 2, "give --repo OWNER/NAME or --file FILE"),
        (("--file", "none.jsonl"), 1, "none.jsonl cannot be read"),
        (("--file", "none.jsonl", "--weights", WEIGHTS.parent), 1, "where triage reads 'triage'"),
    ],
)
def test_what_makes_no_sense_is_refused(run: Run, words: tuple[object, ...], code: int, says: str) -> None:
    found, _, err = run("triage", *words)
    assert found == code
    assert says in err
