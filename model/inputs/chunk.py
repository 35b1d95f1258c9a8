"""Hunks to the rows the network reads: one row per added line, with a little of what stands around it."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from model.inputs.diff import Hunk
from model.inputs.files import is_test_path, language
from model.inputs.tokenizer import Tokenizer

MAX_TOKENS: Final = 96  # of a row, where the weights do not say otherwise
_NEIGHBOUR: Final = 12  # tokens kept of a line before or after
_CHARS: Final = 400  # of a line that are read; what lies further out is cut


@dataclass(frozen=True, slots=True)
class Chunk:
    """A window of one hunk: up to `max_rows` added lines that are not blank."""

    index: int  # of the window in its hunk, from 0
    rows: tuple[npt.NDArray[np.int32], ...]  # token ids, ragged, each of at most max_tokens
    lines: tuple[int, ...]  # per row: index into hunk.lines


def chunks(hunk: Hunk, tokenizer: Tokenizer, *, max_rows: int = 32, max_tokens: int = MAX_TOKENS) -> tuple[Chunk, ...]:
    """The windows of one hunk, in the order of its lines.

    A row is `<language> [<test>] <own> the line <before> <add|ctx> tail <after> <add|ctx> head`: the nearest line that
    is not blank on each side of the new file, so deleted lines are never read.
    """
    opening = [tokenizer.language(language(hunk.path))]
    if is_test_path(hunk.path):
        opening.append(tokenizer.special("<test>"))
    opening.append(tokenizer.special("<own>"))
    shown = [index for index, line in enumerate(hunk.lines) if line.kind != "del" and line.text.strip()]
    tokens = [tokenizer.encode(hunk.lines[index].text[:_CHARS]) for index in shown]
    room = max_tokens - len(opening) - 2 * (_NEIGHBOUR + 2)

    def beside(position: int, marker: str) -> list[int]:
        if not 0 <= position < len(shown):
            return []
        kind = "<add>" if hunk.lines[shown[position]].kind == "add" else "<ctx>"
        ids = tokens[position]
        kept = ids[-_NEIGHBOUR:] if marker == "<before>" else ids[:_NEIGHBOUR]
        return [tokenizer.special(marker), tokenizer.special(kind), *kept]

    rows: list[npt.NDArray[np.int32]] = []
    lines: list[int] = []
    for position, index in enumerate(shown):
        if hunk.lines[index].kind == "add":
            ids = [
                *opening,
                *tokens[position][:room],
                *beside(position - 1, "<before>"),
                *beside(position + 1, "<after>"),
            ]
            rows.append(np.asarray(ids, dtype=np.int32))
            lines.append(index)
    return tuple(
        Chunk(at // max_rows, tuple(rows[at : at + max_rows]), tuple(lines[at : at + max_rows]))
        for at in range(0, len(rows), max_rows)
    )
