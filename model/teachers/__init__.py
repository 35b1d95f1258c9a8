"""Analyzers that teach the model: files in, diagnostics out. Each is one module; an absent one is named."""

import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One report; rows count from 1 and `end_row` is the last row it covers."""

    file: str
    row: int
    end_row: int
    code: str


@dataclass(frozen=True, slots=True)
class Report:
    """What one run said. `unparsable`: files it could not read, whose lines say nothing either way."""

    diagnostics: tuple[Diagnostic, ...]
    unparsable: frozenset[str] = frozenset()


class TeacherAbsent(Exception):
    """The analyzer is not on this machine; the message says how to get it."""


@dataclass(frozen=True, slots=True)
class Teacher:
    """`check(folder, files)` runs the analyzer over files named relative to `folder`."""

    name: str
    languages: tuple[str, ...]
    check: Callable[[Path, Sequence[str]], Report] = field(repr=False)


def find(program: str, remedy: str) -> str:
    """Path of a program, on PATH or beside the running Python (a venv need not be activated), or TeacherAbsent."""
    found = shutil.which(program) or shutil.which(program, path=str(Path(sys.executable).parent))
    if found is None:
        raise TeacherAbsent(f"{program} is not on PATH; {remedy}")
    return found
