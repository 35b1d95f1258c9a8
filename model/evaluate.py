"""Held-out figures, each beside what knows less: the commonest answer, the size of the line, a linear n-gram model.

The baselines see the same training rows and are asked the same test rows. End to end means that a line without a
finding counts: most lines have none, so figures given a finding flatter.
"""

import math
import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional as F

from model import dataset
from model.config import TrainConfig
from model.dataset import NONE, Rows
from model.encoder import Encoder
from model.labels import CATEGORIES, SEVERITIES, Concept

Floats = npt.NDArray[np.float32]
NEVER: Final = 1.01  # a threshold no probability reaches
_PRECISION: Final = 0.6  # asked of what is shown
_SUPPORT: Final = 8  # validation lines of a concept, and lines above the threshold, to believe a precision
_BUCKETS: Final = 2**18
_SHOWN_FROM: Final = 0.1  # confidence below which a line counts as clean


def probabilities(encoder: Encoder, rows: Rows, *, temperature: float = 1.0, raw: bool = False) -> Floats:
    """(rows, outputs) by torch; logits when `raw`."""
    order = np.argsort(rows.lengths, kind="stable")
    found = np.zeros((len(rows), encoder.head.out_features), np.float32)
    with torch.inference_mode():
        for at in range(0, len(order), 256):
            picked = order[at : at + 256]
            logits = encoder(torch.from_numpy(rows.padded(picked)))
            found[picked] = (logits if raw else (logits / temperature).softmax(-1)).numpy()
    return found


def fit_temperature(logits: Floats, labels: npt.NDArray[np.int16]) -> float:
    """The divisor of the logits that makes the labels likeliest."""
    if not len(labels):
        return 1.0
    values, truth = torch.from_numpy(logits), torch.from_numpy(labels.astype(np.int64))
    tried = [round(float(each), 3) for each in np.geomspace(0.5, 2.5, 33)]
    return min(tried, key=lambda each: float(F.cross_entropy(values / each, truth)))


def thresholds(
    logits: Floats, labels: npt.NDArray[np.int16], temperature: float, concepts: Sequence[str]
) -> dict[str, float]:
    """Per concept the lowest confidence from which it is right 6 times in 10; NEVER where too few lines tell."""
    chances = _softmax(logits / temperature)
    found = {}
    for column, concept in enumerate(concepts, start=1):
        own = chances[:, column]
        candidates = np.flatnonzero(own >= _SHOWN_FROM)
        order = candidates[np.argsort(-own[candidates], kind="stable")]
        hits = np.cumsum(labels[order] == column)
        good = np.flatnonzero((hits / np.arange(1, len(order) + 1) >= _PRECISION) & (hits >= _SUPPORT))
        found[concept] = round(float(own[order[good[-1]]]), 4) if len(good) else NEVER
    return found


# Figures.


@dataclass(frozen=True, slots=True)
class Grades:
    """Columns of the output by severity and category, as membership matrices (1 + concepts, classes)."""

    severity: Floats
    category: Floats

    @classmethod
    def of(cls, concepts: Sequence[Concept]) -> "Grades":
        severity = np.zeros((1 + len(concepts), len(SEVERITIES)), np.float32)
        category = np.zeros((1 + len(concepts), len(CATEGORIES)), np.float32)
        for column, concept in enumerate(concepts, start=1):
            severity[column, SEVERITIES.index(concept.severity)] = 1
            category[column, CATEGORIES.index(concept.category)] = 1
        return cls(severity, category)


def figures(chances: Floats, rows: Rows, concepts: Sequence[Concept]) -> dict[str, Any]:
    """Every held-out figure of one set of probabilities (rows, 1 + concepts)."""
    grades = Grades.of(concepts)
    labels = rows.labels
    grave = np.isin(labels, _columns(concepts, SEVERITIES[1:]))
    positive = labels != NONE
    severity = (grades.severity.argmax(1) + 1) * (grades.severity.sum(1) > 0)  # 0 = none, then SEVERITIES
    best = chances[:, 1:].argmax(1) + 1  # given a finding
    answered = chances.argmax(1)  # end to end
    by_severity = chances @ grades.severity
    truth, given = severity[labels], severity[best]
    confidence = chances[:, 1:].max(1)
    return {
        "lines": len(rows),
        "prevalence": _share(grave),
        "line_ap": average_precision(by_severity[:, 1:].sum(1), grave),
        "line_auc": auc(by_severity[:, 1:].sum(1), grave),
        "any_prevalence": _share(positive),
        "any_ap": average_precision(1 - chances[:, NONE], positive),
        "any_auc": auc(1 - chances[:, NONE], positive),
        "severity_accuracy": _share(truth[positive] == given[positive]),
        "severity_balanced_accuracy": _mean_recall(truth[positive], given[positive]),
        "category_macro_f1": macro_f1(
            _class(grades.category, labels[positive]), _class(grades.category, best[positive])
        ),
        "concept_macro_f1": macro_f1(labels[positive], best[positive]),
        "concepts_seen": len(np.unique(labels[positive])),
        "five_way_macro_f1": macro_f1(truth, severity[answered]),
        "bug_recall_at_p50": recall_at(by_severity[:, SEVERITIES.index("bug")], truth == 1 + SEVERITIES.index("bug")),
        "critical_recall_at_p50": recall_at(
            by_severity[:, SEVERITIES.index("critical")], truth == 1 + SEVERITIES.index("critical")
        ),
        "bugs": int((truth == 1 + SEVERITIES.index("bug")).sum()),
        "criticals": int((truth == 1 + SEVERITIES.index("critical")).sum()),
        "ece": calibration_error(confidence, best == labels),
        "per_language": {
            name: {
                "lines": int((rows.languages == at).sum()),
                "prevalence": _share(grave[rows.languages == at]),
                "line_ap": average_precision(by_severity[rows.languages == at, 1:].sum(1), grave[rows.languages == at]),
            }
            for at, name in enumerate(rows.spoken)
        },
    }


def interval(
    chances: Floats, rows: Rows, concepts: Sequence[Concept], seed: int, draws: int = 300
) -> tuple[float, float]:
    """95 % of line_ap when the repositories are drawn anew."""
    scores = (chances @ Grades.of(concepts).severity)[:, 1:].sum(1)
    grave = np.isin(rows.labels, _columns(concepts, SEVERITIES[1:]))
    of = [np.flatnonzero(rows.repositories == at) for at in range(len(rows.names))]
    chance = np.random.default_rng(seed)
    drawn = []
    for _ in range(draws):
        picked = np.concatenate([of[at] for at in chance.integers(len(of), size=len(of))])
        drawn.append(average_precision(scores[picked], grave[picked]))
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return round(float(low), 4), round(float(high), 4)


def average_precision(scores: npt.NDArray[Any], truth: npt.NDArray[np.bool_]) -> float:
    """Area under precision and recall, equal scores taken together; nan without a positive."""
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True)) if len(scores) else np.zeros(0, int)
    hits = np.cumsum(truth[order])[ends]
    gained = np.diff(np.concatenate(([0], hits)))
    total = int(truth.sum())
    return _rounded(float((gained * hits / (ends + 1)).sum() / total)) if total else math.nan


def auc(scores: npt.NDArray[Any], truth: npt.NDArray[np.bool_]) -> float:
    """Chance that a positive outranks a negative, ties counted half."""
    positive, negative = int(truth.sum()), int((~truth).sum())
    if not positive or not negative:
        return math.nan
    _, inverse, number = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(number) - (number - 1) / 2)[inverse]
    return _rounded(float((ranks[truth].sum() - positive * (positive + 1) / 2) / (positive * negative)))


def recall_at(scores: npt.NDArray[Any], truth: npt.NDArray[np.bool_], precision: float = 0.5) -> float:
    """The largest share of the positives found while at least `precision` of what is flagged is right."""
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    hits = np.cumsum(truth[order])[ends]
    good = hits[hits / (ends + 1) >= precision]
    return _rounded(float(good.max() / truth.sum())) if truth.any() and len(good) else 0.0


def macro_f1(truth: npt.NDArray[Any], answer: npt.NDArray[Any]) -> float:
    """Over the classes that occur in the truth."""
    scores = []
    for each in np.unique(truth):
        both = int(((truth == each) & (answer == each)).sum())
        scores.append(2 * both / (int((truth == each).sum()) + int((answer == each).sum())))
    return _rounded(float(np.mean(scores))) if scores else math.nan


def calibration_error(confidence: Floats, right: npt.NDArray[np.bool_], bins: int = 15) -> float:
    """ECE over the lines whose confidence is at least 0.1."""
    kept = confidence >= _SHOWN_FROM
    confidence, right = confidence[kept], right[kept]
    slot = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [abs(float(confidence[slot == each].sum() - right[slot == each].sum())) for each in range(bins)]
    return _rounded(sum(gaps) / max(1, len(confidence)))


# Baselines.


def majority(train: Rows, outputs: int, number: int) -> Floats:
    """The training set's frequencies, whatever the line."""
    frequency = np.bincount(train.labels, minlength=outputs) / max(1, len(train))
    return np.tile(frequency.astype(np.float32), (number, 1))


def size_features(rows: Rows) -> list[npt.NDArray[np.int64]]:
    """Length, indentation and size of the hunk, in buckets, and nothing of the text."""
    found = []
    for (own, _, _), size in zip(rows.texts, rows.sizes, strict=True):
        indent = len(own) - len(own.lstrip())
        found.append(
            np.asarray([min(len(own), 200) // 4, 64 + min(indent, 40), 128 + min(int(size).bit_length(), 12)], np.int64)
        )
    return found


def ngram_features(rows: Rows) -> list[npt.NDArray[np.int64]]:
    """Hashed n-grams: characters 2 to 5 and words 1 to 3 of the line, words of the lines around it, and its size."""
    word = re.compile(r"\w+|[^\w\s]")
    found = []
    for (own, before, after), language, size in zip(rows.texts, rows.languages, size_features(rows), strict=True):
        codes = np.frombuffer(f" {own} ".encode("utf-8", "replace"), np.uint8).astype(np.uint64)
        parts = [size, np.asarray([256 + int(language)], np.int64)]
        for n in (2, 3, 4, 5):
            total = np.full(max(0, len(codes) - n + 1), n, np.uint64)
            for at in range(n):
                total = total * np.uint64(1_000_003) + codes[at : at + len(total)]
            parts.append(((total ^ (total >> np.uint64(17))) % np.uint64(_BUCKETS)).astype(np.int64))
        words = word.findall(own)
        grams = [" ".join(words[at : at + n]) for n in (1, 2, 3) for at in range(len(words) - n + 1)]
        grams += [f"< {each}" for each in word.findall(before)] + [f"> {each}" for each in word.findall(after)]
        parts.append(np.asarray([zlib.crc32(each.encode("utf-8", "replace")) % _BUCKETS for each in grams], np.int64))
        found.append(np.unique(np.concatenate(parts)))
    return found


def linear(
    features: Callable[[Rows], list[npt.NDArray[np.int64]]],
    train: Rows,
    asked: Rows,
    outputs: int,
    config: TrainConfig,
    passes: int = 2,
) -> Floats:
    """Multinomial logistic regression on hashed features, rows drawn as for the encoder; probabilities of `asked`."""
    torch.manual_seed(config.seed)
    chance = np.random.default_rng(config.seed)
    table = nn.EmbeddingBag(_BUCKETS, outputs, mode="sum", sparse=True)
    nn.init.zeros_(table.weight)
    bias = nn.Parameter(torch.zeros(outputs))
    sparse, dense = torch.optim.Adagrad(table.parameters(), lr=0.1), torch.optim.Adagrad([bias], lr=0.1)
    rates = dataset.sampling_rates(train.labels, outputs, config.negatives, config.temper, config.max_repeat)
    offset = torch.from_numpy(np.log(rates)).float()
    drawn = np.concatenate([dataset.epoch(train.labels, rates, chance) for _ in range(passes)])
    kept = np.unique(drawn)
    where = np.full(len(train), -1)
    where[kept] = np.arange(len(kept))
    known = features(_only(train, kept))

    def score(rows: list[npt.NDArray[np.int64]]) -> torch.Tensor:
        starts = np.concatenate(([0], np.cumsum([len(row) for row in rows])[:-1]))
        flat = torch.from_numpy(np.concatenate(rows))
        scale = torch.tensor([max(1, len(row)) ** -0.5 for row in rows])
        return table(flat, torch.from_numpy(starts)) * scale[:, None] + bias

    for at in range(0, len(drawn), 512):
        picked = drawn[at : at + 512]
        loss = F.cross_entropy(
            score([known[where[row]] for row in picked]) + offset,
            torch.from_numpy(train.labels[picked].astype(np.int64)),
        )
        loss.backward()
        for optimizer in (sparse, dense):
            optimizer.step()
            optimizer.zero_grad()
    answers = features(asked)
    with torch.inference_mode():
        return np.concatenate(
            [score(answers[at : at + 1024]).softmax(-1).numpy() for at in range(0, len(answers), 1024)]
        )


def _only(rows: Rows, kept: npt.NDArray[np.intp]) -> Rows:
    """The texts, languages and sizes of some rows; their tokens are left out."""
    return Rows(
        np.zeros(0, np.uint16), np.zeros(1, np.int64), rows.labels[kept], rows.repositories[kept], rows.languages[kept],
        rows.sizes[kept], tuple(rows.texts[row] for row in kept), rows.names, rows.spoken,
    )  # fmt: skip


def _columns(concepts: Sequence[Concept], severities: Sequence[str]) -> list[int]:
    return [column for column, concept in enumerate(concepts, start=1) if concept.severity in severities]


def _class(members: Floats, columns: npt.NDArray[Any]) -> npt.NDArray[np.intp]:
    return members[columns].argmax(1)


def _mean_recall(truth: npt.NDArray[Any], answer: npt.NDArray[Any]) -> float:
    recalls = [float((answer[truth == each] == each).mean()) for each in np.unique(truth)]
    return _rounded(float(np.mean(recalls))) if recalls else math.nan


def _share(truth: npt.NDArray[np.bool_]) -> float:
    return _rounded(float(truth.mean())) if len(truth) else math.nan


def _rounded(value: float) -> float:
    return round(value, 4)


def _softmax(logits: Floats) -> Floats:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)
