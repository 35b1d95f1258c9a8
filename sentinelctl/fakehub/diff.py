"""What `git diff-tree --patch-with-raw -z` says, as GitHub's list of files, and which lines a comment may sit on."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

# GitHub leaves `patch` out of a file above either (its repository limits page).
MAX_PATCH_LINES = 20_000
MAX_PATCH_BYTES = 500_000

_SECTION = re.compile(rb"^diff --git ", re.MULTILINE)
_FIRST_HUNK = re.compile(rb"^@@ -", re.MULTILINE)
_HUNK = re.compile(r"@@ -(\d+)(?:,\d+)? \+(\d+)(?:,\d+)? @@")
_STATUS = {"A": "added", "D": "removed", "M": "modified", "R": "renamed", "C": "copied", "T": "changed"}


@dataclass(frozen=True)
class FileDiff:
    """One file of a diff. Bytes that are not UTF-8 are shown as U+FFFD, as GitHub's JSON does."""

    path: str
    old_path: str | None
    """Set for a rename or a copy."""
    status: str
    sha: str
    """Of the blob: the new one, or the old one of a removed file."""
    additions: int
    deletions: int
    patch: str | None
    """From the first @@ on, without a last newline; None for binary, unchanged or too large content."""


@dataclass(frozen=True)
class Anchor:
    """A line of a patch: the position GitHub counts (the line below the first @@ is 1), and its hunk's header's."""

    position: int
    hunk: int


@dataclass(frozen=True)
class AnchorMap:
    """By line number: LEFT holds deleted and context lines, RIGHT added and context lines."""

    left: Mapping[int, Anchor]
    right: Mapping[int, Anchor]

    def at(self, side: str, line: int) -> Anchor | None:
        return (self.left if side == "LEFT" else self.right).get(line)


def anchors(patch: str | None) -> AnchorMap:
    left: dict[int, Anchor] = {}
    right: dict[int, Anchor] = {}
    old = new = hunk = 0
    for position, text in enumerate(patch.split("\n") if patch else ()):
        if header := _HUNK.match(text):
            old, new, hunk = int(header[1]), int(header[2]), position
            continue
        here = Anchor(position, hunk)
        if text.startswith(("-", " ")):
            left[old] = here
            old += 1
        if text.startswith(("+", " ")):
            right[new] = here
            new += 1
    return AnchorMap(left, right)


def hunk_text(patch: str, anchor: Anchor) -> str:
    """GitHub's `diff_hunk`: the hunk from its header to the line."""
    return "\n".join(patch.split("\n")[anchor.hunk : anchor.position + 1])


def parse_diff(output: bytes) -> tuple[FileDiff, ...]:
    """Files in git's order. git writes the raw records, an empty one, then one patch section a file in the same
    order; a file that changes its type has two, a deletion and a creation."""
    files: list[FileDiff] = []
    rest = output
    records: list[tuple[str, str, str, bytes | None, bytes]] = []
    while rest.startswith(b":"):
        about, path, rest = rest.split(b"\0", 2)
        _, _, old_sha, new_sha, letter = about.decode("ascii").split(" ")
        old_path: bytes | None = None
        if letter[0] in "RC":
            old_path = path
            path, rest = rest.split(b"\0", 1)
        records.append((letter[0], old_sha, new_sha, old_path, path))
    patch = rest.removeprefix(b"\0")
    starts = [match.start() for match in _SECTION.finditer(patch)]
    sections = [patch[start:end] for start, end in pairwise([*starts, len(patch)])]
    at = 0
    for letter, old_sha, new_sha, old_path, path in records:
        count = 2 if letter == "T" else 1
        files.append(_file(letter, old_sha, new_sha, old_path, path, sections[at : at + count]))
        at += count
    assert at == len(sections), f"git listed {at} changes and showed {len(sections)}"
    return tuple(files)


def _file(
    letter: str, old_sha: str, new_sha: str, old_path: bytes | None, path: bytes, sections: list[bytes]
) -> FileDiff:
    hunks = b"".join(section[found.start() :] for section in sections if (found := _FIRST_HUNK.search(section)))
    lines = hunks.split(b"\n")
    is_too_large = len(hunks) > MAX_PATCH_BYTES or len(lines) > MAX_PATCH_LINES
    return FileDiff(
        path=path.decode(errors="replace"),
        old_path=None if old_path is None else old_path.decode(errors="replace"),
        status=_STATUS[letter],
        sha=old_sha if letter == "D" else new_sha,
        additions=sum(line.startswith(b"+") for line in lines),
        deletions=sum(line.startswith(b"-") for line in lines),
        patch=None if not hunks or is_too_large else hunks.decode(errors="replace").removesuffix("\n"),
    )
