"""Hunks to the rows the network reads: one row per added line, with a little of what stands around it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from model.inputs.diff import Hunk
from model.inputs.files import is_test_path, language
from model.inputs.tokenizer import Tokenizer

_NEIGHBOUR: Final = 12  # tokens kept of a line before or after
_CHARS: Final = 400  # of a line that are read; what lies further out is cut


@dataclass(frozen=True, slots=True)
class RowShape:
    """How much a row shows; the weights say it, since they were taught on rows of one shape."""

    max_tokens: int = 96
    context: int = 1  # lines on each side

    @classmethod
    def of(cls, manifest: Mapping[str, Any]) -> Self:
        """That of the weights of a manifest.json."""
        config = manifest.get("config", {})
        return cls(**{name: int(config[name]) for name in cls.__slots__ if name in config})


@dataclass(frozen=True, slots=True)
class Chunk:
    """A window of one hunk: up to `max_rows` added lines that are not blank."""

    index: int  # of the window in its hunk, from 0
    rows: tuple[npt.NDArray[np.int32], ...]  # token ids, ragged, each of at most RowShape.max_tokens
    lines: tuple[int, ...]  # per row: index into hunk.lines


def chunks(hunk: Hunk, tokenizer: Tokenizer, *, max_rows: int = 32, shape: RowShape = RowShape()) -> tuple[Chunk, ...]:
    """The windows of one hunk, in the order of its lines.

    A row is `<language> [<test>] <own> the line`, then `<before> <add|ctx> line` for each of the nearest lines above
    that are not blank, nearest first, then `<after> <add|ctx> line` for those below. They are of the new file, so
    deleted lines are never read. Of a line beside it the beginning is kept; of the one right above, the end.
    """
    opening = [tokenizer.language(language(hunk.path))]
    if is_test_path(hunk.path):
        opening.append(tokenizer.special("<test>"))
    opening.append(tokenizer.special("<own>"))
    shown = [index for index, line in enumerate(hunk.lines) if line.kind != "del" and line.text.strip()]
    tokens = [tokenizer.encode(hunk.lines[index].text[:_CHARS]) for index in shown]
    room = shape.max_tokens - len(opening) - 2 * shape.context * (_NEIGHBOUR + 2)
    before, after, add, ctx = map(tokenizer.special, ("<before>", "<after>", "<add>", "<ctx>"))
    kinds = [add if hunk.lines[index].kind == "add" else ctx for index in shown]

    def beside(position: int) -> list[int]:
        ids: list[int] = []
        for step in range(1, min(shape.context, position) + 1):
            near = tokens[position - step]
            ids += [before, kinds[position - step], *(near[-_NEIGHBOUR:] if step == 1 else near[:_NEIGHBOUR])]
        for at in range(position + 1, min(position + shape.context + 1, len(shown))):
            ids += [after, kinds[at], *tokens[at][:_NEIGHBOUR]]
        return ids

    rows: list[npt.NDArray[np.int32]] = []
    lines: list[int] = []
    for position, index in enumerate(shown):
        if hunk.lines[index].kind == "add":
            rows.append(np.asarray([*opening, *tokens[position][:room], *beside(position)], dtype=np.int32))
            lines.append(index)
    return tuple(
        Chunk(at // max_rows, tuple(rows[at : at + max_rows]), tuple(lines[at : at + max_rows]))
        for at in range(0, len(rows), max_rows)
    )
