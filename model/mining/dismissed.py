"""Findings that a team waved away, from a file of JSON lines: one object a finding.

`path` and `concept` as `review --json` and the topic `reviews` name them, and which line it was: `source`, its text, or
`line` with `commit`, a commit of the repository in which the file has it. Other fields are let be.
"""

import json
import subprocess
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.dataset import DataError
from model.mining.git import _drop_secrets


@dataclass(frozen=True, slots=True)
class Dismissed:
    """`time`: Unix s of the commit it was seen in, where that is known. before, after: what stood around the line."""

    path: str
    concept: str
    source: str
    time: int | None = None
    before: str = ""
    after: str = ""


def read_dismissed(file: Path, repository: Path, known: Collection[str]) -> tuple[Dismissed, ...]:
    """Every finding of the file, once. `known`: the catalog's ids. Raises DataError naming the line that is wrong."""
    try:
        rows = file.read_text("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as exc:
        raise DataError(f"the dismissed findings {file} cannot be read: {exc}; give a file of JSON lines") from exc
    found: dict[tuple[str, str, str], Dismissed] = {}
    for number, row in enumerate(rows, start=1):
        if row.strip():
            one = _one(row, f"{file}:{number}", repository, known)
            found.setdefault((one.path, one.concept, one.source.strip()), one)
    return tuple(found.values())


def _one(row: str, where: str, repository: Path, known: Collection[str]) -> Dismissed:
    try:
        raw = json.loads(row)
    except ValueError as exc:
        raise DataError(f"{where} is no JSON: {exc}; give one object a line") from exc
    if not isinstance(raw, dict) or not all(isinstance(raw.get(name), str) for name in ("path", "concept")):
        raise DataError(f"{where} lacks path or concept; give both, as `sentinelctl review --json` names them")
    path, concept = raw["path"], raw["concept"]
    if concept not in known:
        raise DataError(f"{where} names the concept {concept!r}, which is none; `sentinelctl model concepts` lists all")
    if isinstance(raw.get("source"), str) and raw["source"].strip():
        return Dismissed(path, concept, _drop_secrets(raw["source"]))
    if isinstance(raw.get("line"), int) and isinstance(raw.get("commit"), str):
        return _looked_up(raw, where, repository)
    raise DataError(f"{where} does not say which line; give `source`, its text, or `line` and `commit`")


def _looked_up(raw: dict[str, Any], where: str, repository: Path) -> Dismissed:
    path, line, commit = raw["path"], raw["line"], raw["commit"]
    time = _git(repository, "show", "-s", "--format=%ct", "--end-of-options", f"{commit}^{{commit}}").strip()
    rows = _git(repository, "show", "--end-of-options", f"{commit}:{path}").split("\n")
    if not time or not 0 < line <= len(rows) or not rows[line - 1].strip():
        raise DataError(
            f"{where}: {repository} has no line {line} of {path} in the commit {commit[:40]}; fetch that commit, or "
            "give `source` instead"
        )
    near = [_drop_secrets(each) for each in ("", *rows[: line + 1], "")]
    return Dismissed(path, raw["concept"], near[line], int(time), near[line - 1], near[line + 1])


def _git(repository: Path, *arguments: str) -> str:
    """What git says; nothing where it refuses."""
    done = subprocess.run(["git", "-C", str(repository), *arguments], capture_output=True, check=False)
    return "" if done.returncode else done.stdout.decode("utf-8", "replace")
