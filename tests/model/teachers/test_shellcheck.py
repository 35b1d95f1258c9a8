import os
from pathlib import Path

import pytest

from model.teachers import Teacher, shellcheck
from tests.model.teachers.present import check, present, said


@pytest.fixture
def teacher() -> Teacher:
    return present(lambda: shellcheck.teacher(["SC2086", "SC3010"]))


def test_each_fault_is_reported_at_its_row(teacher: Teacher, tmp_path: Path) -> None:
    report = check(teacher, tmp_path, {"a.sh": 'x=$1\necho "$x"\nrm $x\n', "b.sh": "echo\nls $2\n"})
    assert said(report) == {("a.sh", 3, "SC2086"), ("b.sh", 2, "SC2086")}
    assert report.unparsable == frozenset()


def test_only_the_rules_asked_for_are_reported(teacher: Teacher, tmp_path: Path) -> None:
    unused = "x=`ls`\n"  # SC2034, SC2006
    assert said(check(teacher, tmp_path, {"a.sh": unused})) == set()


def test_the_first_line_says_which_shell_is_spoken(teacher: Teacher, tmp_path: Path) -> None:
    test = "[[ -n x ]]\n"  # SC3010: undefined in POSIX sh
    files = {
        "posix.sh": f"#!/bin/sh\n{test}",
        "env.sh": f"#!/usr/bin/env -S /bin/sh\n{test}",
        "bash.sh": f"#!/bin/bash\n{test}",
        "none.sh": test,
    }
    assert said(check(teacher, tmp_path, files)) == {("posix.sh", 2, "SC3010"), ("env.sh", 2, "SC3010")}


def test_a_file_that_does_not_parse_is_named_and_the_others_are_read(teacher: Teacher, tmp_path: Path) -> None:
    report = check(teacher, tmp_path, {"a.sh": "if true; then\n", "b.sh": "ls $1\n"})
    assert report.unparsable == {"a.sh"}
    assert ("b.sh", 1, "SC2086") in said(report)


def test_a_project_s_own_configuration_is_not_read(teacher: Teacher, tmp_path: Path) -> None:
    (tmp_path / ".shellcheckrc").write_text("disable=SC2086\n")
    assert said(check(teacher, tmp_path, {"a.sh": "ls $1\n"})) == {("a.sh", 1, "SC2086")}


def test_a_run_that_was_ended_is_no_clean_bill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shellcheck").write_text('#!/bin/sh\necho "{\\"comments\\": []}"\necho out of memory >&2\nkill -9 $$\n')
    (tmp_path / "shellcheck").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(RuntimeError, match="shellcheck ended with -9: out of memory"):
        check(shellcheck.teacher(["SC2086"]), tmp_path, {"a.sh": "ls $1\n"})
