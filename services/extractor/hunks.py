"""From the files GitHub lists to the hunks worth a model's time; all others are counted, by reason. Pure."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from model.inputs.diff import DiffError, Hunk, parse_patch
from model.inputs.files import says_generated, skip_reason
from services.github.types import ChangedFile
from services.settings import ExtractorSettings

MAX_FILE_BYTES = 2 * 1024 * 1024
"""Of the hunks of one file, which travel in one call: its chunks are numbered there."""

_LINE_OVERHEAD_BYTES = 8
_HEADER = re.compile(r"^@@ -", re.MULTILINE)
_EMPTY_BLOB = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"


@dataclass(frozen=True, slots=True)
class Selection:
    """hunks: in GitHub's order, those of a file together. skipped: how many were left out, by reason."""

    hunks: tuple[Hunk, ...]
    skipped: Counter[str]


def select(files: Iterable[ChangedFile], settings: ExtractorSettings) -> Selection:
    """Every hunk of every file is either in `hunks` or counted once in `skipped`.

    A file that GitHub gave no patch for counts as one hunk, unless its content did not change at all.
    """
    hunks: list[Hunk] = []
    skipped: Counter[str] = Counter()
    for file in files:
        reason = _file_reason(file, settings.ignore)
        if reason is not None:
            skipped[reason] += _count(file)
            continue
        try:
            parsed = parse_patch(file.patch or "", file.path)
        except DiffError:
            skipped["unparsable"] += _count(file)
            continue
        if says_generated(parsed):
            skipped["generated"] += len(parsed)
            continue
        room_bytes = MAX_FILE_BYTES
        for hunk in parsed:
            size = hunk_bytes(hunk)
            if len(hunk.lines) > settings.max_hunk_lines or size > min(settings.max_hunk_bytes, room_bytes):
                skipped["too_large"] += 1
            elif len(hunks) >= settings.max_hunks:
                skipped["over_budget"] += 1
            else:
                room_bytes -= size
                hunks.append(hunk)
    return Selection(tuple(hunks), skipped)


def hunk_bytes(hunk: Hunk) -> int:
    """Its size on the wire, from above."""
    return sum(len(line.text.encode()) + _LINE_OVERHEAD_BYTES for line in hunk.lines)


def _file_reason(file: ChangedFile, ignore: tuple[str, ...]) -> str | None:
    if file.patch is None and _is_same_content(file):
        return None
    if reason := skip_reason(file.path):
        return reason
    if any(fnmatchcase(file.path, glob) for glob in ignore):
        return "ignored"
    if file.patch is None:
        return "too_large" if file.changes else "binary"
    return None


def _is_same_content(file: ChangedFile) -> bool:
    """Renamed, given another mode, or empty: there is no hunk to miss."""
    return not file.changes and (file.status in ("renamed", "copied", "changed") or file.sha == _EMPTY_BLOB)


def _count(file: ChangedFile) -> int:
    return max(1, len(_HEADER.findall(file.patch or "")))
