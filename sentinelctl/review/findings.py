"""A diff to what is shown of it: findings with their source lines, and how much of the diff was read. Pure but for the
engine it is given."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from model.engine import Engine, Finding, ModelInfo, review
from model.inputs.chunk import Chunk
from model.inputs.diff import FileDiff, Hunk, Line
from model.inputs.files import skip_reason
from model.labels import SEVERITIES, Severity

CONTEXT_LINES = 2


@dataclass(frozen=True, slots=True)
class Shown:
    """A finding, the lines of the new file around it, and an id that does not move with the line."""

    finding: Finding
    source: tuple[Line, ...]
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Reviewed:
    """skipped: hunks (or files without any) nobody read, by reason. hidden: findings below what was asked for, by
    severity."""

    findings: tuple[Shown, ...]
    hidden: Mapping[str, int]
    hunks: int
    skipped: Mapping[str, int]
    model: ModelInfo

    @property
    def hunks_reviewed(self) -> int:
        return self.hunks - sum(self.skipped.values())

    def reaches(self, severity: Severity) -> bool:
        """Whether a shown finding is of this severity or worse."""
        return any(at_least(each.finding.severity, severity) for each in self.findings)


def at_least(severity: Severity, least: Severity) -> bool:
    return SEVERITIES.index(severity) >= SEVERITIES.index(least)


def review_files(
    engine: Engine,
    files: tuple[FileDiff, ...],
    min_severity: Severity,
    watched: Callable[[Sequence[Sequence[Chunk]]], Iterable[Sequence[Chunk]]] = iter,
) -> Reviewed:
    """Findings in the order of the diff; a concept below its own threshold is never among them.

    `watched` as for model.engine.review.
    """
    hunks: list[Hunk] = []
    skipped: Counter[str] = Counter()
    total = 0
    for file in files:
        total += len(file.hunks) if file.kind == "text" else 1
        if file.kind != "text":
            skipped[file.kind] += 1
        elif reason := skip_reason(file.path):
            skipped[reason] += len(file.hunks)
        else:
            hunks.extend(file.hunks)
    skipped.update(filter(None, map(engine.skip_reason, hunks)))
    shown: list[Shown] = []
    hidden: Counter[str] = Counter()
    seen: Counter[tuple[str, str, str]] = Counter()
    for hunk, findings in zip(hunks, review(engine, hunks, watched), strict=True):
        for finding in findings:
            if not finding.is_shown:
                continue
            if not at_least(finding.severity, min_severity):
                hidden[finding.severity] += 1
                continue
            source = _around(hunk, finding.line)
            shown.append(Shown(finding, source, _fingerprint(finding, source, seen)))
    return Reviewed(tuple(shown), dict(hidden), total, {name: n for name, n in skipped.items() if n}, engine.info)


def _around(hunk: Hunk, number: int) -> tuple[Line, ...]:
    return tuple(line for line in hunk.lines if line.new is not None and abs(line.new - number) <= CONTEXT_LINES)


def _fingerprint(finding: Finding, source: tuple[Line, ...], seen: Counter[tuple[str, str, str]]) -> str:
    """Path, concept, the line's text without its blanks' widths, and which of several alike it is."""
    text = " ".join(next((line.text for line in source if line.new == finding.line), "").split())
    key = (finding.path, finding.concept, text)
    seen[key] += 1
    return hashlib.sha256("\0".join((*key, str(seen[key]))).encode("utf-8", "replace")).hexdigest()[:32]
