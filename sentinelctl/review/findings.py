"""A diff to what is shown of it: findings with their source lines, and how much of the diff was read. Pure but for the
engine it is given."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from model.engine import Engine, Finding, ModelInfo, review
from model.inputs.chunk import Chunk
from model.inputs.diff import FileDiff, Hunk, Line
from model.inputs.files import says_generated, skip_reason
from model.labels import SEVERITIES, Severity
from sentinelctl.console import clean
from sentinelctl.review.explain import named
from sentinelctl.review.imports import Imported, place

CONTEXT_LINES = 2
OURSELVES = "sentinel"


@dataclass(frozen=True, slots=True)
class Shown:
    """A finding, the lines of the new file around it, and an id that does not move with the line."""

    finding: Finding
    source: tuple[Line, ...]
    fingerprint: str
    said_by: tuple[str, ...] = (OURSELVES,)  # who says so, analyzers with their rule
    confidence: float | None = None  # the model's, calibrated; None where it does not read the line

    @property
    def said(self) -> str:
        """`75%` of the model alone; `ruff E722; model 75%` where another analyzer says so."""
        others = [clean(each) for each in self.said_by if each != OURSELVES]
        own = "" if self.confidence is None else f"{self.confidence:.0%}"
        return "; ".join([*others, *([f"model {own}" if others else own] if own else [])])


@dataclass(frozen=True, slots=True)
class Reviewed:
    """skipped: hunks (or files without any) nobody read, by reason. hidden: findings below what was asked for, by
    severity."""

    findings: tuple[Shown, ...]
    hidden: Mapping[str, int]
    hunks: int
    skipped: Mapping[str, int]
    model: ModelInfo
    imported: int = 0  # reports of other analyzers that lie on the diff
    outside: int = 0  # those that do not

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
    imported: Sequence[Imported] = (),
    cwd: Path = Path(),
    min_confidence: float = 0.0,
) -> Reviewed:
    """Findings in the order of the diff; one below its concept's threshold or `min_confidence` is never among them.

    With reports of other analyzers, those on added lines are merged with the model's by line and concept, and all are
    ranked: the worst first, then the surest. `cwd`: where the analyzers ran. `watched` as for model.engine.review.
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
        elif says_generated(file.hunks):
            skipped["generated"] += len(file.hunks)
        else:
            hunks.extend(file.hunks)
    skipped.update(filter(None, map(engine.skip_reason, hunks)))
    proposals = place(imported, {hunk.path for hunk in hunks}, cwd) if imported else {}
    shown: list[Shown] = []
    hidden: Counter[str] = Counter()
    seen: Counter[tuple[str, str, str]] = Counter()
    lie_here: set[int] = set()
    for hunk, said in zip(hunks, review(engine, hunks, watched), strict=True):
        findings = [replace(each, is_shown=each.is_shown and each.confidence >= min_confidence) for each in said]
        here = list(_on(hunk, proposals.get(hunk.path, ())))
        lie_here |= {id(proposal) for _, proposal in here}
        for finding, said_by, confidence in merge(engine, hunk, findings, here):
            if not at_least(finding.severity, min_severity):
                hidden[finding.severity] += 1
                continue
            source = _around(hunk, finding.line)
            shown.append(Shown(finding, source, _fingerprint(finding, source, seen), said_by, confidence))
    if imported:
        shown.sort(key=lambda each: (-SEVERITIES.index(each.finding.severity), -(each.confidence or 0)))
    return Reviewed(
        tuple(shown), dict(hidden), total, {name: n for name, n in skipped.items() if n}, engine.info,
        len(lie_here), len(imported) - len(lie_here),
    )  # fmt: skip


Merged = tuple[Finding, tuple[str, ...], float | None]


def merge(
    engine: Engine, hunk: Hunk, findings: Sequence[Finding], proposals: Sequence[tuple[int, Imported]]
) -> Iterator[Merged]:
    """What is shown of a hunk: the model's own, and each proposal (line, report) once for a line and a concept.

    The confidence of a proposal is the model's: how likely it finds that concept on that line.
    """
    said: dict[tuple[int, str], dict[str, Imported]] = {}
    for line, proposal in proposals:
        said.setdefault((line, proposal.concept), {})[proposal.said_by] = proposal
    for finding in findings:
        others = said.pop((finding.line, finding.concept), {})
        if finding.is_shown or others:
            own = (OURSELVES,) if finding.is_shown else ()
            yield replace(finding, is_shown=True), (*own, *others), finding.confidence
    asked = list(said)
    texts = {line.new: line.text for line in hunk.lines if line.kind == "add"}
    for (line, name), confidence in zip(asked, engine.weigh(hunk, asked) if asked else [], strict=True):
        first = next(iter(said[line, name].values()))
        text = named(name).say(texts[line]) if first.is_known else first.text
        finding = Finding(
            hunk.path, line, "RIGHT", name, first.title, text, first.category, first.severity, confidence or 0.0, True
        )
        yield finding, tuple(said[line, name]), confidence


def _on(hunk: Hunk, proposals: Iterable[Imported]) -> Iterator[tuple[int, Imported]]:
    """Each report that touches an added line of the hunk, with the first such line."""
    added = [line.new for line in hunk.lines if line.kind == "add" and line.new is not None]
    for proposal in proposals:
        if (line := next((at for at in added if proposal.first <= at <= proposal.last), None)) is not None:
            yield line, proposal


def _around(hunk: Hunk, number: int) -> tuple[Line, ...]:
    return tuple(line for line in hunk.lines if line.new is not None and abs(line.new - number) <= CONTEXT_LINES)


def _fingerprint(finding: Finding, source: tuple[Line, ...], seen: Counter[tuple[str, str, str]]) -> str:
    """Path, concept, the line's text without its blanks' widths, and which of several alike it is."""
    text = " ".join(next((line.text for line in source if line.new == finding.line), "").split())
    key = (finding.path, finding.concept, text)
    seen[key] += 1
    return hashlib.sha256("\0".join((*key, str(seen[key]))).encode("utf-8", "replace")).hexdigest()[:32]
