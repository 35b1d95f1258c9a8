"""Which comments of a refused review to leave out: GitHub refuses all for one, and does not say which. Pure."""

import re
from collections.abc import Collection, Iterator, Sequence

from services.github.types import Anchor, ChangedFile

MAX_TRIES = 8
"""Reviews tried at most, each without a part of the comments; a refused one is never seen by anybody."""

_HUNK = re.compile(r"@@ -(\d+)(?:,\d+)? \+(\d+)(?:,\d+)? @@")


def outside(anchors: Collection[Anchor], files: Collection[ChangedFile]) -> frozenset[Anchor]:
    """Those that are on no line of the diff that `files` show."""
    wanted = {path for path, _, _ in anchors}
    inside = {anchor for file in files if file.path in wanted for anchor in _anchors(file)}
    return frozenset(anchors) - inside


def parts(anchors: Sequence[Anchor]) -> Iterator[frozenset[Anchor]]:
    """At most MAX_TRIES parts of them, each to be left out once: one anchor each, where these are few."""
    unique = list(dict.fromkeys(anchors))
    size = -(-len(unique) // MAX_TRIES)
    return (frozenset(unique[start : start + size]) for start in range(0, len(unique), max(size, 1)))


def _anchors(file: ChangedFile) -> Iterator[Anchor]:
    old = new = 0
    for text in (file.patch or "").split("\n"):
        if hunk := _HUNK.match(text):
            old, new = int(hunk[1]), int(hunk[2])
        elif text[:1] == "-":
            yield (file.path, old, "LEFT")
            old += 1
        elif text[:1] in ("+", " "):
            yield (file.path, new, "RIGHT")
            new += 1
            if text[0] == " ":
                yield (file.path, old, "LEFT")
                old += 1
