"""The command from its words to its exit code. The weights find nothing, which leaves the rules: those are certain."""

import io
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model.inputs.tokenizer import train_tokenizer
from model.labels import load_concepts
from model.teachers import find
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


def test_a_concept_is_explained_with_what_taught_it_and_what_the_weights_do_with_it(weights: Path, run: Run) -> None:
    code, out, _ = run("--explain", "bare_except")
    assert code == 0
    assert out.startswith("Bare except (bare_except)\nbug, error handling; python; not in tests, examples or scripts\n")
    assert "Name the exceptions" in out
    assert "taught by ruff E722" in out
    assert "shows it from" in out
    assert "decided by a rule in code" in run("--explain", "todo_left")[1]


def test_weights_that_never_learned_a_concept_or_never_show_it_say_so(weights: Path, tmp_path: Path) -> None:
    from model.engine import read_manifest
    from sentinelctl.review.explain import lines, named

    def said(concept: str, **thresholds: float) -> str:
        document = read_manifest(weights)
        manifest = replace(document, concepts=("bare_except",), thresholds=thresholds)
        return str(list(lines(named(concept), manifest))[-1])

    assert "was not taught it" in said("debug_print")
    assert "never shows it" in said("bare_except", bare_except=1.01)
    assert "shows it from 42% confidence" in said("bare_except", bare_except=0.42)


def test_a_concept_under_json_is_what_the_catalog_lists(run: Run) -> None:
    code, out, _ = run("--explain", "magic_value", "--json")
    assert code == 0
    found = json.loads(out)
    assert (found["version"], found["concept"], found["severity"]) == (1, "magic_value", "nit")


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("bare_excpt", "near it: bare_except,"),
        ("sql-injection", "shell_injection"),
        ("SQL", "sql_string_build"),
        ("zzz", "`sentinelctl model concepts` lists all"),
        ("", "`sentinelctl model concepts` lists all"),
    ],
)
def test_a_name_that_is_no_concept_is_refused_with_those_near_it(name: str, near: str, run: Run) -> None:
    code, out, err = run("--explain", name)
    assert (code, out) == (2, "")
    assert f"no concept is called {name!r}" in err
    assert near in err


def test_a_change_and_a_concept_are_not_asked_for_at_once(run: Run) -> None:
    code, _, err = run("HEAD", "--explain", "bare_except")
    assert code == 2
    assert "reviews no change" in err


FAULTS = """\
def load(path, cache=[]):
    try:
        return path
    except:
        return None
"""


@pytest.mark.parametrize("written", ["sarif", "rdjson"])
def test_what_ruff_says_of_the_change_stands_beside_our_own_findings(
    written: str, repository: Path, run: Run, tmp_path: Path
) -> None:
    """The real ruff over the whole file, of which the last commit added all but the first line."""
    commit(repository, "a.py", "import os, sys\n")
    commit(repository, "a.py", f"import os, sys\n{FAULTS}")
    ruff = [find("ruff", ""), "check", "--isolated", "--no-cache", "--select", "E401,E722,B006", "--output-format"]
    done = subprocess.run([*ruff, written, "a.py"], cwd=repository, capture_output=True, check=False)
    (tmp_path / "said").write_bytes(done.stdout)
    code, out, _ = run("HEAD", "--import", str(tmp_path / "said"), "--json", "--fail-on", "bug")
    assert code == 99
    document = json.loads(out)
    assert {(each["line"], each["concept"], *each["said_by"]) for each in document["findings"]} == {
        (2, "mutable_default", "ruff B006"),
        (5, "bare_except", "ruff E722"),
    }
    assert document["imported"] == {"on_the_diff": 2, "outside": 1}
    code, out, _ = run("HEAD", "--import", str(tmp_path / "said"))
    assert "a.py:5 bug[bare_except] Bare except (ruff E722; model " in out
    assert "imported: 2 on the diff, 1 elsewhere" in out.splitlines()[-1]


def test_our_own_sarif_can_be_imported_again(repository: Path, run: Run, tmp_path: Path) -> None:
    _, out, _ = run("HEAD", "--min-severity", "nit", "--format", "sarif")
    (tmp_path / "own.sarif").write_text(out)
    code, out, _ = run("HEAD", "--min-severity", "nit", "--import", str(tmp_path / "own.sarif"), "--json")
    assert code == 0
    assert {each["line"] for each in json.loads(out)["findings"]} == {2}


def test_a_report_and_a_diff_cannot_both_come_from_standard_input(run: Run) -> None:
    code, _, err = run("--diff", "-", "--import", "-")
    assert code == 2
    assert "standard input can be read once" in err


def test_a_report_that_is_none_is_refused_before_anything_is_reviewed(repository: Path, run: Run) -> None:
    code, out, err = run("HEAD", "--import", "a.py")
    assert (code, out) == (2, "")
    assert "a.py is no JSON" in err
