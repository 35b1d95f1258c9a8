"""data mine-reviews and triage against fakehub, mine-archive against a server that breaks off, and label on both."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sentinelctl.cli import main
from sentinelctl.fakehub.faults import parse
from sentinelctl.fakehub.hub import HUMAN, User
from sentinelctl.fakehub.server import Running, running_fakehub
from tests.model.mining.events import HOUR, comment_event, packed, push_event
from tests.sentinelctl.fakehub.conftest import NEW, OLD, new_workshop
from tests.sentinelctl.test_download import Served, serving

Run = Callable[..., tuple[int, str, str]]
BODIES = ("This will crash on an empty file.", "nit: blank", "Ask ada@example.com, it could be shorter.")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """(exit code, stdout, stderr) of sentinelctl with these words."""

    def run(*words: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(list(map(str, words)))
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    """A pull request with three comments by people and one by a bot."""
    shop = new_workshop(tmp_path / "sample")
    shop.commit("first", OLD)
    shop.commit("second", NEW)
    with running_fakehub([shop.path], token="s3cret") as running:
        served = running.hub.repositories[0]
        running.hub.create_pull(served, base="main~1", head="main")
        for body in BODIES:
            say(running, body)
        say(running, "nit: by a machine", User(5, "renovate[bot]", "Bot"))
        monkeypatch.setenv("SENTINEL_GITHUB_API_URL", running.url)
        monkeypatch.setenv("SENTINEL_GITHUB_TOKEN", "s3cret")
        yield running


def say(running: Running, body: str, author: User = HUMAN) -> None:
    served = running.hub.repositories[0]
    pull = served.pulls[1]
    comment = {"commit_id": pull.head_sha, "path": "two_hunks.py", "line": 3, "side": "RIGHT", "body": body}
    running.hub.create_comment(served, pull, author, comment)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def settled(hub: Running) -> list[int]:
    """The status of each request, once no more come: the hub notes one after it has answered."""
    before = -1
    while before != len(hub.hub.requests):
        before = len(hub.hub.requests)
        time.sleep(0.2)
    return [each.status for each in list(hub.hub.requests)]


def test_reviews_are_mined_once_and_then_only_what_is_new(hub: Running, tmp_path: Path, run: Run) -> None:
    out = tmp_path / "data"
    code, shown, _ = run("data", "mine-reviews", "--repo", "local/sample", "--out", out, "--json")
    assert code == 0
    (found,) = json.loads(shown)["repositories"]
    assert (found["repository"], found["comments"], found["new"], found["bots"]) == ("local/sample", 3, 3, 1)
    mined = lines(out / "local+sample.jsonl")
    assert [each["body"] for each in mined] == [*BODIES[:2], "Ask user@example.org, it could be shorter."]
    assert {(each["path"], each["line"], each["pull"]) for each in mined} == {("two_hunks.py", 3, 1)}
    assert all(each["diff_hunk"].startswith("@@") for each in mined)

    asked = len(settled(hub))
    code, _, err = run("data", "mine-reviews", "--repo", "local/sample", "--out", out)
    assert "local/sample: 0 new comments, 3 in all; 1 of bots left out" in err
    assert settled(hub)[asked:] == [304]

    say(hub, "wrong")
    _, _, err = run("data", "mine-reviews", "--repo", "local/sample", "--out", out)
    assert "1 new comments, 4 in all" in err


def test_a_limit_is_waited_out_and_a_hiccup_asked_again(hub: Running, tmp_path: Path, run: Run) -> None:
    words = ("data", "mine-reviews", "--repo", "local/sample", "--out", tmp_path / "data")
    hub.hub.faults.put(parse({"kind": "limit", "wait_s": 1}))
    code, _, err = run(*words)
    assert code == 0
    assert "waiting 1 s; going on by itself" in err
    hub.hub.faults.put(parse({"kind": "status", "status": 502}))
    code, _, err = run(*words)
    assert code == 0
    assert "502 Server Error; asking again" in err
    assert len(lines(tmp_path / "data" / "local+sample.jsonl")) == 3


@pytest.mark.parametrize(
    ("name", "token", "code", "says"),
    [
        ("local/none", "s3cret", 1, "404 Not Found"),
        ("local/sample", "wrong", 1, "refuses our credentials"),
        ("local/sample", "", 2, "no GitHub credentials"),
        ("sample", "s3cret", 2, "is not owner/name"),
    ],
)
def test_what_cannot_be_fetched_is_refused_at_once(
    hub: Running, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch, name: str, token: str, code: int, says: str
) -> None:
    monkeypatch.setenv("SENTINEL_GITHUB_TOKEN", token)
    found, _, err = run("data", "mine-reviews", "--repo", name, "--out", tmp_path / "data")
    assert found == code
    assert says in err


def archived() -> bytes:
    return packed([push_event(0), *(comment_event(number, body=f"comment {number}") for number in range(1, 400))])


def test_an_hour_is_downloaded_over_a_break_and_done_once(tmp_path: Path, run: Run) -> None:
    content = archived()
    out = tmp_path / "data"
    words = ("data", "mine-archive", "--hours", HOUR, "--out", out, "--pause", 0, "--json", "--from")
    with serving(Served(content=content, plan=[len(content) // 2 if len(content) // 2 < 400 else 399, None])) as served:
        code, shown, err = run(*words, served.url)
        assert code == 0
        (hour,) = json.loads(shown)["hours"]
        assert (hour["comments"], hour["events"], hour["bytes"]) == (399, 400, len(content))
        assert f"{HOUR}: 399 review comments among 400 events" in err
        assert len(lines(out / f"{HOUR}.jsonl")) == 399
        assert not list((out / "archive").iterdir())
        assert served.ranges[1] is not None
        asked = len(served.asked)
        assert run(*words, served.url)[1] == shown
        assert len(served.asked) == asked


def test_a_file_that_is_no_whole_gzip_is_refused_and_fetched_anew_by_the_next_run(tmp_path: Path, run: Run) -> None:
    words = ("data", "mine-archive", "--hours", HOUR, "--out", tmp_path / "data", "--pause", 0, "--from")
    with serving(Served(content=archived()[:-20])) as served:
        code, _, err = run(*words, served.url)
        assert code == 1
        assert "is not the whole gzip" in err
        assert not (tmp_path / "data" / f"{HOUR}.jsonl").exists()
        served.content = archived()
        assert run(*words, served.url)[0] == 0


def test_hours_in_a_folder_are_read_there_and_absent_ones_named(tmp_path: Path, run: Run) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / f"{HOUR}.json.gz").write_bytes(archived())
    words = ("data", "mine-archive", "--hours", f"{HOUR}..2024-01-01-16", "--from", tmp_path / "kept")
    code, shown, err = run(*words, "--out", tmp_path / "data", "--json")
    assert code == 0
    assert json.loads(shown)["missing"] == ["2024-01-01-16"]
    assert "2024-01-01-16.json.gz is not there" in err
    assert (tmp_path / "kept" / f"{HOUR}.json.gz").exists()
    code, _, err = run(
        "data", "mine-archive", "--hours", "2024-01-02-0", "--from", tmp_path / "kept", "--out", tmp_path
    )
    assert code == 2
    assert "none of the 1 hours" in err


@pytest.mark.parametrize(
    ("words", "says"),
    [(("--hours", "noon"), "is no hour"), (("--hours", HOUR, "--from", "nowhere"), "neither an address nor a folder")],
)
def test_words_that_make_no_sense_are_refused(tmp_path: Path, run: Run, words: tuple[str, ...], says: str) -> None:
    code, _, err = run("data", "mine-archive", *words, "--out", tmp_path)
    assert code == 2
    assert says in err


def test_mined_comments_are_labelled_and_counted(tmp_path: Path, run: Run) -> None:
    (tmp_path / f"{HOUR}.json.gz").write_bytes(packed([comment_event(1, "this is wrong in a loop"), comment_event(2)]))
    run("data", "mine-archive", "--hours", HOUR, "--from", tmp_path, "--out", tmp_path / "data")
    code, shown, err = run("data", "label", tmp_path / "data")
    assert code == 0
    assert "logic" in shown
    assert "2 comments; the labels are what a keyword rule says" in err
    assert [each["severity"] for each in lines(tmp_path / "data" / f"{HOUR}.jsonl")] == ["bug", "suggestion"]
    _, shown, _ = run("data", "label", tmp_path / "data", "--json")
    assert json.loads(shown)["counts"]["bug"] == {"logic": 1}
    code, _, err = run("data", "label", tmp_path / "none")
    assert code == 1
    assert "mine-reviews" in err
