"""What a report draws of a set of answers: confusions, how sure is how right, and what silence buys. Pure; no torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from model.labels import CATEGORIES, SEVERITIES, Concept

Floats = npt.NDArray[np.float32]
Table = npt.NDArray[np.int64]
BINS: Final = 15
LEAST: Final = 0.1  # confidence below which a line counts as clean
_POINTS: Final = 60  # of a curve
SUBJECTS: Final = ("model", "linear", "size_only", "majority")
INTERVALS: Final = (
    "line_ap", "any_ap", "five_way_macro_f1", "bug_recall_at_p50", "critical_recall_at_p50", "severity_accuracy",
    "severity_balanced_accuracy", "category_macro_f1", "concept_macro_f1", "ece",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Grades:
    """Columns of the output by severity and category, as membership matrices (1 + concepts, classes)."""

    severity: Floats
    category: Floats

    @property
    def severities(self) -> npt.NDArray[Any]:
        """Of each column: 0 none, then 1 + its place in SEVERITIES."""
        return (self.severity.argmax(1) + 1) * (self.severity.sum(1) > 0)

    @property
    def categories(self) -> npt.NDArray[Any]:
        """Of each column: 0 none, then 1 + its place in CATEGORIES."""
        return (self.category.argmax(1) + 1) * (self.category.sum(1) > 0)

    @classmethod
    def of(cls, concepts: Sequence[Concept]) -> "Grades":
        severity = np.zeros((1 + len(concepts), len(SEVERITIES)), np.float32)
        category = np.zeros((1 + len(concepts), len(CATEGORIES)), np.float32)
        for column, concept in enumerate(concepts, start=1):
            severity[column, SEVERITIES.index(concept.severity)] = 1
            category[column, CATEGORIES.index(concept.category)] = 1
        return cls(severity, category)


@dataclass(frozen=True, slots=True)
class Curves:
    """Of one subject. Matrices count lines, truth by row and answer by column; class 0 is no finding."""

    severity: Table  # (1 + SEVERITIES)²
    category: Table  # (1 + CATEGORIES)²
    concept: Table  # (1 + concepts)²
    reliability: tuple[tuple[float, float, int], ...]  # mean confidence, share right, lines
    risk: tuple[tuple[float, float], ...]  # share answered of the lines that have a confidence, share wrong of those

    @classmethod
    def of(
        cls,
        labels: npt.NDArray[Any],
        answered: npt.NDArray[Any],
        best: npt.NDArray[Any],
        confidence: Floats,
        grades: Grades,
    ) -> "Curves":
        """labels, answered, best: column of each line's truth, likeliest answer, and likeliest finding."""
        severity, category, right = grades.severities, grades.categories, best == labels
        return cls(
            confusion(severity[labels], severity[answered], 1 + len(SEVERITIES)),
            confusion(category[labels], category[answered], 1 + len(CATEGORIES)),
            confusion(labels, answered, len(severity)),
            reliability(confidence, right),
            risk_coverage(confidence, right),
        )


@dataclass(frozen=True, slots=True)
class Judged:
    """`figures` are what the manifest keeps; `curves` what a report draws of each subject."""

    figures: dict[str, Any]
    curves: dict[str, Curves]
    concepts: tuple[Concept, ...]


def confusion(truth: npt.NDArray[Any], answer: npt.NDArray[Any], classes: int) -> Table:
    """(classes, classes): lines of each truth (row) by what was answered (column)."""
    return np.bincount(truth.astype(np.int64) * classes + answer, minlength=classes * classes).reshape(classes, classes)


def reliability(confidence: Floats, right: npt.NDArray[np.bool_]) -> tuple[tuple[float, float, int], ...]:
    """Per occupied bin: mean confidence, share right, lines. Lines below LEAST are left out."""
    kept = confidence >= LEAST
    confidence, right = confidence[kept], right[kept]
    slot = np.minimum((confidence * BINS).astype(int), BINS - 1)
    return tuple(
        (float(confidence[slot == each].mean()), float(right[slot == each].mean()), int((slot == each).sum()))
        for each in range(BINS)
        if (slot == each).any()
    )


def risk_coverage(confidence: Floats, right: npt.NDArray[np.bool_]) -> tuple[tuple[float, float], ...]:
    """From the surest line to all that reach LEAST: share answered, share of these that is wrong.

    Equal confidences are answered together, so a subject that is always equally sure has one point.
    """
    kept = confidence >= LEAST
    confidence, right = confidence[kept], right[kept]
    order = np.argsort(-confidence, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(confidence[order]) != 0, True)[: len(order)])
    ends = ends[np.unique(np.linspace(0, len(ends) - 1, min(_POINTS, len(ends))).astype(int))] if len(ends) else ends
    wrong = np.cumsum(~right[order])
    return tuple((float((at + 1) / len(order)), float(wrong[at] / (at + 1))) for at in ends)
