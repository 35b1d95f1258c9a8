"""The repository that is pushed: made in one go, the same commits for the same numbers."""

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sentinelctl.demo.history import read_history
from sentinelctl.errors import PreflightError

WIDE_REF: Final = "wide"
_WHO: Final = "Chaos <chaos@example.org>"
_BEGAN: Final = 1_700_000_000


@dataclass(frozen=True, slots=True)
class Made:
    """shas: of the default branch, oldest first. wide: a commit on its tip that touches many files; empty: none."""

    path: Path
    shas: tuple[str, ...]
    wide: str = ""


def make_history(path: Path, commits: int, *, wide_files: int = 0) -> Made:
    """A new repository at `path`, of one file whose second line each commit changes."""
    parts = []
    for number in range(commits):
        text = f"import os\nLIMIT = {number}\ndef load(path):\n    return open(path).read()\n"
        parts.append(_commit("refs/heads/main", number, f"step {number}", {"app.py": text}))
    if wide_files:
        files = {f"src/part_{number:04}.py": f"LIMIT = {number}\n" for number in range(wide_files)}
        parts.append(f"reset refs/heads/{WIDE_REF}\nfrom refs/heads/main\n\n")
        parts.append(_commit(f"refs/heads/{WIDE_REF}", commits, "all of it", files))
    path.mkdir(parents=True)
    _git(path, "init", "-q", "-b", "main")
    _git(path, "fast-import", "--quiet", stdin="".join(parts).encode())
    shas = tuple(push.after for push in read_history(path, commits).pushes)
    wide = _git(path, "rev-parse", WIDE_REF).strip() if wide_files else ""
    return Made(path, shas, wide)


def _commit(ref: str, number: int, message: str, files: dict[str, str]) -> str:
    head = f"commit {ref}\ncommitter {_WHO} {_BEGAN + number} +0000\n{_data(message)}"
    return head + "".join(f"M 100644 inline {name}\n{_data(text)}" for name, text in files.items()) + "\n"


def _data(text: str) -> str:
    return f"data {len(text.encode())}\n{text}\n"


def _git(path: Path, *words: str, stdin: bytes = b"") -> str:
    try:
        done = subprocess.run(["git", "-C", str(path), *words], input=stdin, capture_output=True, check=True)
    except FileNotFoundError as exc:
        raise PreflightError("git is not on PATH", remedy="install git 2.30 or later") from exc
    return done.stdout.decode()
