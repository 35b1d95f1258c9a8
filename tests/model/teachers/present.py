"""Analyzers of this machine: a test whose analyzer is absent is skipped with what the teacher says of it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from model.teachers import Report, Teacher, TeacherAbsent


def present(make: Callable[[], Teacher]) -> Teacher:
    try:
        return make()
    except TeacherAbsent as exc:
        pytest.skip(str(exc))


def check(teacher: Teacher, folder: Path, files: dict[str, str]) -> Report:
    for name, text in files.items():
        (folder / name).write_text(text)
    return teacher.check(folder, list(files))


def said(report: Report) -> set[tuple[str, int, str]]:
    return {(one.file, one.row, one.code) for one in report.diagnostics}
