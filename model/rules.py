"""The concepts that a regular expression decides, for added lines of every language. Everything else is the model's."""

import re
from collections.abc import Iterator
from typing import Final

from model.inputs.diff import Hunk
from model.inputs.files import language

MAX_COLUMNS: Final = 120
_READ: Final = 2000  # characters of a line looked at: a marker further out helps nobody
_COMMENT = re.compile(r"#|//|/\*|^\s*\*|--|\"\"\"")
_MARKER = re.compile(r"\b(?:TODO|FIXME|XXX)\b")
_URL = re.compile(r"https?://\S{40}")
_PROSE: Final = frozenset({"markdown", "html", "other"})
_UNWRAPPED: Final = _PROSE | {"json", "xml", "sql", "yaml", "toml", "css"}


def rule_findings(hunk: Hunk) -> Iterator[tuple[int, str]]:
    """(new line number, concept id) of each added line that a rule names, in the order of the lines."""
    spoken = language(hunk.path)
    for line in hunk.lines:
        if line.kind != "add" or line.new is None:
            continue
        text = line.text.removesuffix("\r")
        if spoken not in _UNWRAPPED and len(text) > MAX_COLUMNS and not _URL.search(text[:_READ]):
            yield line.new, "line_too_long"
        if spoken != "markdown" and text.endswith((" ", "\t")):
            yield line.new, "trailing_whitespace"
        if (
            spoken not in _PROSE
            and (comment := _COMMENT.search(text, 0, _READ))
            and _MARKER.search(text, comment.end(), _READ)
        ):
            yield line.new, "todo_left"
