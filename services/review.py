"""A head's review while it is made, by the extractor or, where its call came too late, by the overflow in inference."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from sentinel.v1.events_pb2 import ReviewReady
from sentinel.v1.inference_pb2 import Finding, Hunk, Line, Model

from model.inputs import diff
from services.codec import encode
from services.contract import SEVERITIES, Topic
from services.errors import Retryable
from services.stream.types import NewRecord
from services.telemetry import Metrics

_KINDS: Final = {"add": Line.KIND_ADDED, "del": Line.KIND_DELETED, "ctx": Line.KIND_CONTEXT}
_FIELD_BYTES: Final = 8  # around one embedded message: its tag and its length


def hunk_message(hunk: diff.Hunk) -> Hunk:
    """As it travels; the line numbers follow from the starts and the kinds."""
    return Hunk(
        path=hunk.path,
        old_start=hunk.old_start,
        old_lines=hunk.old_lines,
        new_start=hunk.new_start,
        new_lines=hunk.new_lines,
        section=hunk.section,
        lines=[Line(kind=_KINDS[line.kind], text=line.text) for line in hunk.lines],
    )


def add(
    review: ReviewReady,
    hunks: int,
    findings: Iterable[Finding],
    skipped: Mapping[str, int],
    model: Model | None,
    forward_s: float,
) -> None:
    """What inference said of `hunks` more hunks; `skipped` counts those of them that no model read, by reason.

    Raises Retryable when it says more than it was asked.
    """
    reviewed = hunks - sum(skipped.values())
    if reviewed < 0:
        raise Retryable(f"inference says it skipped {sum(skipped.values())} of {hunks} hunks; run one version of both")
    coverage = review.coverage
    coverage.hunks_reviewed += reviewed
    skip(review, skipped)
    review.findings.extend(findings)
    review.timings.forward_s += forward_s
    if model is not None:
        review.model.CopyFrom(model)


def skip(review: ReviewReady, skipped: Mapping[str, int]) -> None:
    """Counts hunks that nobody will read, by reason."""
    for reason, count in skipped.items():
        review.coverage.skipped[reason] += count


def ready(review: ReviewReady, key: bytes, metrics: Metrics, *, now_ns: int, max_bytes: int) -> NewRecord:
    """The record for the publisher, once every hunk is either reviewed or counted as skipped."""
    coverage = review.coverage
    assert coverage.hunks == coverage.hunks_reviewed + sum(coverage.skipped.values())
    review.timings.ready_at_ns = now_ns
    fit(review, max_bytes)
    metrics.hunks.labels("reviewed").inc(coverage.hunks_reviewed)
    for reason, count in coverage.skipped.items():
        metrics.hunks.labels(reason).inc(count)
    return NewRecord(Topic.REVIEWS, key, encode(review))


def fit(review: ReviewReady, max_bytes: int) -> None:
    """Drops findings until the record is no longer than that: those nobody is shown, then the least severe.

    How many of the shown ones went is counted in the review.
    """
    if review.ByteSize() <= max_bytes:
        return
    ranked = sorted((one for one in review.findings if one.is_shown), key=_rank)
    del review.findings[:]
    room = max_bytes - review.ByteSize() - _FIELD_BYTES
    for kept, finding in enumerate(ranked):
        room -= finding.ByteSize() + _FIELD_BYTES
        if room < 0:
            review.findings_cut += len(ranked) - kept
            return
        review.findings.append(finding)


def pieces(hunks: Sequence[Hunk], max_bytes: int) -> list[list[Hunk]]:
    """Hunks in order, in as few records as take them one after the other; each hunk must fit in one of its own."""
    parts: list[list[Hunk]] = []
    room = 0
    for hunk in hunks:
        size = hunk.ByteSize() + _FIELD_BYTES
        if not parts or size > room:
            parts.append([])
            room = max_bytes
        parts[-1].append(hunk)
        room -= size
    return parts


def fits(hunk: Hunk, max_bytes: int) -> bool:
    return hunk.ByteSize() + _FIELD_BYTES <= max_bytes


def _rank(finding: Finding) -> tuple[int, float]:
    severity = SEVERITIES.index(finding.severity) if finding.severity in SEVERITIES else -1
    return -severity, -finding.confidence
