import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from model.dataset import DRAWS, split_of
from sentinelctl.cli import main
from sentinelctl.cli.data import _called
from tests.model import made
from tests.sentinelctl.review.test_change import commit, git

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """(exit code, stdout, stderr) of `sentinelctl data` with these words."""

    def run(*words: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(["data", *map(str, words)])
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A commit with a bare except in it, of a repository whose origin has a name that is trained on."""
    folder = tmp_path / "clone"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "trunk")
    git(folder, "remote", "add", "origin", f"https://github.com/{made.named('train', 1)[0]}.git")
    commit(folder, "a.py", "try:\n    run()\nexcept:\n    pass\n")
    return folder


def test_a_history_is_mined_by_the_analyzers_there_are_and_named_by_its_origin(
    repository: Path, tmp_path: Path, run: Run
) -> None:
    code, out, err = run("mine-git", repository, "--out", tmp_path / "data", "--json")
    assert code == 0
    source, *others = json.loads(out)["repositories"]
    assert [each["draw"] for each in (source, *others)] == list(DRAWS)
    name = made.named("train", 1)[0]
    assert (source["name"], source["split"], source["hunks"], source["lines"]) == (name, "train", 1, 4)
    assert source["head"] == git(repository, "rev-parse", "HEAD")
    (record,) = (tmp_path / "data" / f"{name.replace('/', '+')}.jsonl").read_text("utf-8").splitlines()
    assert "bare_except" in json.loads(record)["labels"]["2"]
    assert f"{name}, sample: 4 added lines in 1 hunks, " in err


def test_a_second_run_finds_it_mined(repository: Path, tmp_path: Path, run: Run) -> None:
    _, first, _ = run("mine-git", repository, "--out", tmp_path / "data", "--json")
    mined = tmp_path / "data" / f"{made.named('train', 1)[0].replace('/', '+')}.jsonl"
    mined.write_text("as the first run left it")
    code, second, _ = run("mine-git", repository, "--out", tmp_path / "data", "--json")
    assert (code, second) == (0, first)
    assert mined.read_text() == "as the first run left it"


def test_another_seed_draws_other_commits(repository: Path, tmp_path: Path, run: Run) -> None:
    for number in range(12):
        commit(repository, f"b{number}.py", f"x = {number}\n")
    drawn = set()
    for seed in (7, 8, 7):
        out = tmp_path / f"data-{len(list(tmp_path.iterdir()))}"
        assert run("mine-git", repository, "--out", out, "--draw", "sample", "--commits", 4, "--seed", seed)[0] == 0
        (mined,) = out.glob("*.jsonl")
        drawn.add(frozenset(json.loads(line)["sha"] for line in mined.read_text("utf-8").splitlines()))
    assert len(drawn) == 2


def test_the_name_given_decides_the_split(repository: Path, tmp_path: Path, run: Run) -> None:
    name = made.named("test", 1)[0]
    _, out, err = run("mine-git", repository, "--name", name, "--out", tmp_path / "data", "--json")
    assert [source["split"] for source in json.loads(out)["repositories"]] == ["test"] * 4
    assert err.rstrip().endswith("(test)")


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("https://github.com/owner/name.git", "owner/name"),
        ("https://github.com/owner/name", "owner/name"),
        ("https://github.com/owner/name/", "owner/name"),
        ("git@github.com:owner/name.git", "owner/name"),
        ("ssh://git@example.org:22/owner/name.git", "owner/name"),
        ("/srv/git/owner/name.git", "owner/name"),
        ("https://example.org/group/owner/name", "owner/name"),
        ("name.git", "local/name"),
    ],
)
def test_the_address_of_origin_names_the_repository(address: str, name: str, tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    git(tmp_path, "remote", "add", "origin", address)
    assert _called(tmp_path) == name


def test_without_an_origin_the_last_two_folders_do(tmp_path: Path) -> None:
    folder = tmp_path / "owner" / "name.git"
    folder.mkdir(parents=True)
    git(folder, "init", "-q", "--bare")
    assert _called(folder) == "owner/name"


@pytest.mark.parametrize(
    ("words", "messages"),
    [
        (["clone", "clone", "--name", "a/b"], ["--name names one repository"]),
        (["clone", "--name", "ab"], ["--name ab is not OWNER/NAME"]),
        (["clone", "--name", "group/a/b"], ["--name group/a/b is not OWNER/NAME"]),
        (["plain"], ["plain is no git repository with a commit in it", "clone it first"]),
        (["empty"], ["empty is no git repository with a commit in it"]),
        (["clone", "gone"], ["gone is no git repository with a commit in it"]),
        (["clone", "--commits", "0"], ["--commits"]),
        (["clone", "--files-of", "python=0"], ["--files-of python=0 is no LANGUAGE=N", "there are python, "]),
        (["clone", "--files-of", "cobol=5"], ["--files-of cobol=5 is no LANGUAGE=N"]),
        (["clone", "--draw", "lots"], ["no draw is called lots", "there are sample, grave, injected, whole, fixes"]),
        ([], ["PATH"]),
    ],
)
def test_what_cannot_be_mined_is_refused_before_anything_is_written(
    words: list[str], messages: list[str], repository: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plain").mkdir()
    (tmp_path / "empty").mkdir()
    git(tmp_path / "empty", "init", "-q")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    code, out, err = run("mine-git", *words, "--out", "data")
    assert (code, out) == (2, "")
    for message in messages:
        assert message in err
    assert not (tmp_path / "data").exists()


def test_without_any_analyzer_each_is_named_with_the_way_to_get_it(
    repository: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    code, _, err = run("mine-git", repository, "--out", tmp_path / "data")
    assert code == 3
    for name in ("ruff", "eslint", "shellcheck", "cppcheck", "flawfinder"):
        assert f"mining goes without one analyzer: {name} " in err
    assert "pip install 'sentinel-review[teachers]'" in err
    assert not (tmp_path / "data").exists()


@pytest.fixture
def mined(tmp_path: Path) -> Path:
    """Summaries as a run leaves them: two to train on and one to test on, of which one was drawn from twice."""
    data = tmp_path / "data"
    data.mkdir()
    for name in (*made.named("train", 2), *made.named("test", 1)):
        source = {
            "name": name,
            "head": "a" * 40,
            "licence": "MIT",
            "commits": 9,
            "hunks": 1000,
            "lines": 5,
            "findings": 2,
        }
        (data / f"{name.replace('/', '+')}.json").write_text(json.dumps(source))
    (data / f"{name.replace('/', '+')}@grave.json").write_text(json.dumps(source | {"hunks": 7, "findings": 4}))
    return data


def test_stats_counts_repositories_lines_and_findings_of_each_split_and_draw(mined: Path, run: Run) -> None:
    code, out, _ = run("stats", "--out", mined, "--json")
    assert code == 0
    assert json.loads(out)["splits"] == {
        "train": {"sample": {"repositories": 2, "hunks": 2000, "lines": 10, "findings": 4}},
        "test": {
            "sample": {"repositories": 1, "hunks": 1000, "lines": 5, "findings": 2},
            "grave": {"repositories": 1, "hunks": 7, "lines": 5, "findings": 4},
        },
    }
    _, out, _ = run("stats", "--out", mined)
    assert [line.split() for line in out.splitlines()] == [
        ["split", "draw", "repositories", "hunks", "lines", "findings"],
        ["train", "sample", "2", "2,000", "10", "4"],
        ["test", "sample", "1", "1,000", "5", "2"],
        ["test", "grave", "1", "7", "5", "4"],
    ]


def test_stats_writes_the_sources_as_a_table(mined: Path, tmp_path: Path, run: Run) -> None:
    run("stats", "--out", mined, "--sources", tmp_path / "sources.tsv")
    header, *rows = [line.split("\t") for line in (tmp_path / "sources.tsv").read_text("utf-8").splitlines()]
    assert header == ["name", "split", "head", "licence", "hunks", "lines", "findings", *DRAWS[1:]]
    assert [row[0] for row in rows] == sorted([*made.named("train", 2), *made.named("test", 1)])
    graves = {"train": "0", "test": "7"}
    assert all(
        row[1:] == [split_of(row[0]), "a" * 40, "MIT", "1000", "5", "2", graves[row[1]], "0", "0", "0"] for row in rows
    )


def test_stats_of_a_folder_without_data_says_how_to_fill_it(tmp_path: Path, run: Run) -> None:
    code, _, err = run("stats", "--out", tmp_path)
    assert code == 2
    assert "holds no mined data" in err
    assert "sentinelctl data mine-git" in err
