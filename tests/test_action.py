"""The scripts of action.yml, run by bash with a `sentinelctl` that tells what it was given."""

import os
import re
import subprocess
import textwrap
from pathlib import Path

import pytest

from tests.sentinelctl.review.test_change import commit, git

ACTION = (Path(__file__).parents[1] / "action.yml").read_text(encoding="utf-8")
SCRIPTS = [textwrap.dedent(script) for script in re.findall(r"^ +run: \|\n((?:^ {8}.*\n?)+)", ACTION, re.MULTILINE)]
NULL_SHA = "0" * 40


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    told = tmp_path / "runner/sentinel/bin/sentinelctl"
    told.parent.mkdir(parents=True)
    told.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    told.chmod(0o755)
    git(tmp_path, "init", "-q")
    commit(tmp_path, "a.py", "x = 1\n")
    commit(tmp_path, "b.py", "x = 1\n")
    return tmp_path


def review(repository: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": os.environ["PATH"],
        "RUNNER_TEMP": str(repository / "runner"),
        **dict.fromkeys(("FAIL_ON", "RANGE", "BASE", "HEAD"), ""),
        **variables,
    }
    return subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", SCRIPTS[-1]],
        cwd=repository,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_no_script_holds_an_expression_that_a_pull_request_could_fill() -> None:
    assert len(SCRIPTS) == 2
    assert not any("${{" in script for script in SCRIPTS)


def test_a_pull_request_is_reviewed_since_it_parted_from_its_base(repository: Path) -> None:
    base, head = git(repository, "rev-parse", "HEAD~1", "HEAD").split()
    done = review(repository, BASE=base, HEAD=head, FAIL_ON="bug")
    assert done.stdout.split() == ["review", "--format", "github", "--fail-on=bug", "--", f"{base}...{head}"]


def test_a_new_branch_is_reviewed_by_its_last_commit(repository: Path) -> None:
    head = git(repository, "rev-parse", "HEAD")
    assert review(repository, BASE=NULL_SHA, HEAD=head).stdout.split() == ["review", "--format", "github", "--", head]


def test_a_range_of_ones_own_is_passed_on_as_it_is(repository: Path) -> None:
    done = review(repository, BASE="f" * 40, HEAD="e" * 40, RANGE="$(touch owned)..HEAD")
    assert done.stdout.splitlines()[-1] == "$(touch owned)..HEAD"
    assert not (repository / "owned").exists()


def test_a_push_that_was_forced_is_reviewed_by_its_last_commit_and_says_so(repository: Path) -> None:
    head = git(repository, "rev-parse", "HEAD")
    notice, *words = review(repository, BASE="f" * 40, HEAD=head).stdout.splitlines()
    assert notice.startswith(f"::notice title=Sentinel::{'f' * 40} is gone")
    assert words == ["review", "--format", "github", "--", head]


@pytest.mark.parametrize("gone", ["BASE", "HEAD"])
def test_a_checkout_without_its_history_is_told_what_to_set(
    repository: Path, tmp_path_factory: pytest.TempPathFactory, gone: str
) -> None:
    clone = tmp_path_factory.mktemp("shallow")
    git(clone, "clone", "-q", "--depth", "1", f"file://{repository}", ".")
    head = git(repository, "rev-parse", "HEAD")
    done = review(clone, **{"BASE": head, "HEAD": head, gone: "f" * 40})
    assert done.returncode == 2
    assert done.stdout.startswith("::error title=Sentinel::The commit ffff")
    assert "fetch-depth: 0" in done.stdout
