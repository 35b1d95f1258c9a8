"""Whether serving reads and answers hunks as training does: the same rows, and the same findings from them."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from model import dataset
from model.dataset import Record
from model.engine import Engine, Finding
from model.inputs.chunk import Chunk
from model.inputs.diff import Hunk
from model.inputs.files import language
from model.inputs.tokenizer import Tokenizer
from model.labels import Concept

_WITHIN = 1e-3  # of a confidence: float32 adds up otherwise in other company


@dataclass(frozen=True, slots=True)
class Skew:
    """`other_rows`, `other_findings`: places (path:line) where the two sides differ."""

    hunks: int
    skipped: int  # in a language not taught
    lines: int
    findings: int
    other_rows: tuple[str, ...]
    other_findings: tuple[str, ...]
    largest_gap: float  # of a confidence

    @property
    def is_none(self) -> bool:
        return not self.other_rows and not self.other_findings


def compare(
    engine: Engine, tokenizer: Tokenizer, concepts: Sequence[Concept], max_tokens: int, hunks: Iterable[Hunk]
) -> Skew:
    """Training's side is dataset.build over records and one pass over all rows; serving's a hunk at a time."""
    read = [hunk for hunk in hunks if any(line.kind == "add" for line in hunk.lines)]
    taught = [hunk for hunk in read if engine.skip_reason(hunk) is None]
    records = [Record("local/check", language(hunk.path), hunk, {}, frozenset()) for hunk in taught]
    rows = dataset.build(records, tokenizer, concepts, Counter(), max_tokens)
    pieces = [piece.astype(np.int32) for piece in np.split(rows.tokens, rows.starts[1:-1])] if len(rows) else []
    chances = engine.predict([Chunk(0, tuple(pieces), tuple(range(len(pieces))))])
    other_rows: list[str] = []
    other_findings: list[str] = []
    gap, number, at = 0.0, 0, 0
    for hunk in taught:
        added = tuple(i for i, line in enumerate(hunk.lines) if line.kind == "add" and line.text.strip())
        own = slice(at, at + len(added))
        at += len(added)
        served = engine.encode(hunk)
        theirs = {index: row for chunk in served for index, row in zip(chunk.lines, chunk.rows, strict=True)}
        for index, row in zip(added, pieces[own], strict=True):
            if index not in theirs or not np.array_equal(theirs[index], row):
                other_rows.append(f"{hunk.path}:{hunk.lines[index].new}")
        trained = [Chunk(0, tuple(pieces[own]), added)] if added else []
        expected = engine.findings(hunk, trained, [each[own] for each in chances if added])
        found = engine.findings(hunk, served, engine.predict(served))
        number += len(found)
        ours, others = ({_key(each): each.confidence for each in side} for side in (expected, found))
        other_findings += sorted({f"{path}:{line}" for path, line, *_ in ours.keys() ^ others.keys()})
        gaps = {key: abs(ours[key] - others[key]) for key in ours.keys() & others.keys()}
        gap = max([gap, *gaps.values()])
        other_findings += [f"{path}:{line}" for (path, line, *_), apart in gaps.items() if apart > _WITHIN]
    skipped = len(read) - len(taught)
    return Skew(len(read), skipped, len(rows), number, tuple(other_rows), tuple(other_findings), gap)


def _key(finding: Finding) -> tuple[str, int, str, bool]:
    return finding.path, finding.line, finding.concept, finding.is_shown
