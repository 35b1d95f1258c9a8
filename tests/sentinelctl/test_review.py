"""The command from its words to its exit code. The weights find nothing, which leaves the rules: those are certain."""

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from model.inputs.tokenizer import train_tokenizer
from model.labels import load_concepts
from sentinelctl.cli import main
from tests.model.test_engine import write_weights
from tests.sentinelctl.review.test_change import commit, git

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    tokenizer = train_tokenizer([f"value = other + {n}" for n in range(200)], 300)
    concepts = [concept.id for concept in load_concepts() if not concept.is_rule]
    write_weights(folder, tokenizer.model, np.zeros((len(tokenizer), 1 + len(concepts)), np.float32), concepts)
    return folder


@pytest.fixture
def run(weights: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """(exit code, stdout, stderr) of `sentinelctl review` with these words."""

    def run(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(["review", "--weights", str(weights), *words])
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    git(tmp_path, "init", "-q", "-b", "trunk")
    commit(tmp_path, "a.py", "x = 1\n")
    commit(tmp_path, "a.py", "x = 1\ny = 2 \n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_last_commit_is_reviewed_and_a_nit_fails_when_asked(repository: Path, run: Run) -> None:
    code, out, err = run("--fail-on", "nit")
    assert code == 99
    assert "a.py:2 nit[trailing_whitespace] Trailing whitespace (100%)" in out
    assert out.splitlines()[-1] == "1 finding (1 nit) in 1 of 1 hunk"
    assert err.startswith("reviewing the last commit")


def test_what_is_milder_than_asked_does_not_fail(repository: Path, run: Run) -> None:
    code, out, _ = run("HEAD~1..HEAD", "--fail-on", "bug")
    assert code == 0
    assert out == "no findings in 1 of 1 hunk; not shown: 1 nit (--min-severity nit shows all)\n"


def test_nothing_staged_is_said(repository: Path, run: Run) -> None:
    code, out, err = run("--staged")
    assert (code, out) == (0, "no findings in 0 of 0 hunks\n")
    assert "the staged change is empty" in err


def test_json_is_one_document_on_stdout_wherever_it_is_asked_for(repository: Path, run: Run) -> None:
    for words in (("--json",), ("--format", "json"), ("--json", "--format", "json")):
        code, out, _ = run("HEAD", "--min-severity", "nit", *words)
        assert code == 0
        assert [finding["line"] for finding in json.loads(out)["findings"]] == [2]


def test_github_and_sarif_name_the_line(repository: Path, run: Run) -> None:
    _, out, err = run("HEAD", "--min-severity", "nit", "--format", "github")
    assert out.startswith("::notice file=a.py,line=2,title=nit%3A Trailing whitespace (100%25)::")
    assert "1 finding (1 nit)" in err
    _, out, _ = run("HEAD", "--min-severity", "nit", "--format", "sarif")
    (result,) = json.loads(out)["runs"][0]["results"]
    assert result["ruleId"] == "trailing_whitespace"


def test_a_diff_is_read_from_a_file_and_from_standard_input(
    repository: Path, run: Run, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    diff = git(repository, "diff", "HEAD~1", "HEAD") + "\n"
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.chdir(elsewhere)
    (elsewhere / "a.diff").write_text(diff)
    assert run("--diff", "a.diff")[1].startswith("no findings in 1 of 1 hunk")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(diff.encode())))
    assert run("--diff", "-")[1].startswith("no findings in 1 of 1 hunk")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("nowhere",), "nowhere names no commit"),
        (("HEAD", "--staged"), "each name a change"),
        (("--json", "--format", "sarif"), "two formats"),
        (("--diff", "missing"), "missing cannot be read"),
        (("--diff", "a.py"), "is no diff that can be read"),
        (("--fail-on", "catastrophe"), "catastrophe"),
    ],
)
def test_words_that_make_no_sense_end_with_a_sentence_and_2(
    repository: Path, run: Run, words: tuple[str, ...], message: str
) -> None:
    code, _, err = run(*words)
    assert code == 2
    assert message in err


def test_outside_a_repository_it_says_what_to_do(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run("--json")
    assert (code, json.loads(out)["error"]["exit_code"]) == (2, 2)
    assert "sentinelctl review --diff -" in err


def test_weights_that_cannot_be_served_are_refused(repository: Path, run: Run, tmp_path: Path) -> None:
    code, _, err = run("--weights", str(tmp_path / "none"))
    assert code == 1
    assert "no model at" in err
