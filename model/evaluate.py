"""Held-out figures, each beside what knows less: the commonest answer, the size of the line, a linear n-gram model.

End to end means that a line without a finding counts: most lines have none, so figures given a finding flatter.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from model import baselines, checkpoint, dataset, fixes
from model.config import TrainConfig
from model.curves import INTERVALS, LEAST, SUBJECTS, Curves, Grades, Judged, reliability
from model.dataset import NONE, DataError, Record, Rows
from model.encoder import Network
from model.engine import LEAST_KEPT, PRECISION, asked_of, load_engine, read_manifest, softmax
from model.inputs.chunk import Chunk
from model.inputs.tokenizer import Tokenizer
from model.labels import SEVERITIES, Concept, load_concepts

Floats = npt.NDArray[np.float32]
KEPT: Final = "baselines"  # folder of the mined data: baselines taught on it
NEVER: Final = 1.01  # a threshold no probability reaches
GRAVE_PRECISION: Final = {"bug": 0.8, "critical": 0.8}  # asked at the least: the graver the claim, the surer
_SUPPORT: Final = 8  # validation lines of a concept, and lines above the threshold, to believe a precision


def probabilities(encoder: Network, rows: Rows, *, temperature: float = 1.0, raw: bool = False) -> Floats:
    """(rows, outputs) by torch; logits when `raw`."""
    order = np.argsort(rows.lengths, kind="stable")
    found = np.zeros((len(rows), encoder.outputs), np.float32)
    with torch.inference_mode():
        for at in range(0, len(order), 256):
            picked = order[at : at + 256]
            logits = encoder(torch.from_numpy(rows.padded(picked)))
            found[picked] = (logits if raw else (logits / temperature).softmax(-1)).numpy()
    return found


def is_asked(rows: Rows, concepts: Sequence[Concept]) -> npt.NDArray[np.bool_]:
    """(rows, concepts), as the engine asks: by the file's language, whether it is a test, and what is the custom."""
    of_path = {path: np.array(asked_of(concepts, path), np.bool_) for path in set(rows.paths)}
    found = np.array([of_path[path] for path in rows.paths], np.bool_).reshape(len(rows), len(concepts))
    for column, concept in enumerate(concepts):
        if concept.only or concept.unless:
            found[:, column] &= np.array([not concept.excuses(own) for own, _, _ in rows.texts], np.bool_)
    return found


def withheld(chances: Floats, asked: npt.NDArray[np.bool_]) -> Floats:
    """Probabilities (rows, 1 + concepts) among what is asked and no finding, as the engine tells them."""
    found = chances.copy()
    found[:, 1:] *= asked
    found[:, 1:] /= np.maximum(found.sum(1, keepdims=True), LEAST_KEPT)
    found[:, NONE] = np.maximum(1 - found[:, 1:].sum(1), 0)
    return found


def fit_temperature(logits: Floats, labels: npt.NDArray[np.int16]) -> float:
    """The divisor of the logits that makes the labels likeliest."""
    if not len(labels):
        return 1.0
    values, truth = torch.from_numpy(logits), torch.from_numpy(labels.astype(np.int64))
    tried = [round(float(each), 3) for each in np.geomspace(0.5, 2.5, 33)]
    return min(tried, key=lambda each: float(F.cross_entropy(values / each, truth)))


def finding_temperature(logits: Floats, labels: npt.NDArray[np.int16], asked: npt.NDArray[np.bool_]) -> float:
    """The divisor with which the confidence of the likeliest finding, by `withheld`, comes nearest to the share right.

    Only lines where it reaches LEAST count: most are clean beyond doubt, and would have the last word on the others.
    """
    told = withheld(softmax(logits), asked)[:, 1:]
    doubtful = told.max(1, initial=0) >= LEAST
    if not doubtful.any():
        return 1.0
    right = told[doubtful].argmax(1) + 1 == labels[doubtful]

    def surprise(divisor: float) -> float:
        chances = withheld(softmax(logits[doubtful] / divisor), asked[doubtful])
        sure = chances[:, 1:].max(1).clip(1e-6, 1 - 1e-6)
        return -float(np.log(np.where(right, sure, 1 - sure)).mean())

    return min((round(float(each), 3) for each in np.geomspace(0.5, 2.5, 33)), key=surprise)


def thresholds(
    chances: Floats,
    labels: npt.NDArray[np.int16],
    concepts: Sequence[Concept],
    precision: float = PRECISION,
    earlier: Mapping[str, float] = MappingProxyType({}),
) -> dict[str, float]:
    """Per concept the lowest confidence from which it is right this share of the time, of a grave one GRAVE_PRECISION.

    `chances` (rows, 1 + concepts) are those that are shown, by `withheld`. Concepts with too few validation lines to
    tell keep the `earlier` one, or share one threshold with the others of their severity, set on all of them together,
    and where that cannot be told either, have the one from which all concepts together are right as often. NEVER where
    even that cannot be told, or where enough of them are shown with it, and wrong.
    """

    def grave(group: Sequence[int]) -> float:
        return max((GRAVE_PRECISION.get(concepts[column - 1].severity, 0.0) for column in group), default=0.0)

    found: dict[int, float] = {}
    kept = {at: earlier[concept.id] for at, concept in enumerate(concepts, start=1) if concept.id in earlier}
    columns = range(1, 1 + len(concepts))
    alone = [[column] for column in columns]
    alike = [[column for column in columns if concepts[column - 1].severity == each] for each in SEVERITIES]
    for groups in (alone, alike):
        left = [[column for column in group if column not in found] for group in groups]
        told = [(group, _least(group, chances, labels, max(precision, grave(group)))) for group in left]
        found |= {column: least for group, least in told if least is not None for column in group}
        found = kept | found
    for untold in ([column for column in group if column not in found] for group in alike):
        asked = max(precision, grave(untold))
        least = _least(columns, chances, labels, asked) if untold else None
        if least is not None:
            shown = chances[:, untold] >= least
            right = shown & (labels[:, None] == untold)
            least = NEVER if shown.sum() >= _SUPPORT and right.sum() < asked * shown.sum() else least
        found |= dict.fromkeys(untold, NEVER if least is None else least)
    return {concept.id: found[column] for column, concept in enumerate(concepts, start=1)}


def _least(columns: Sequence[int], chances: Floats, labels: npt.NDArray[np.int16], precision: float) -> float | None:
    """The lowest confidence from which these columns, taken together, are right this share of the time."""
    if not columns:
        return None
    scores = np.concatenate([chances[:, column] for column in columns])
    right = np.concatenate([labels == column for column in columns])
    candidates = np.flatnonzero(scores >= LEAST)
    order = candidates[np.argsort(-scores[candidates], kind="stable")]
    ends = _ends(scores[order])
    hits = np.cumsum(right[order])[ends]
    good = ends[(hits / (ends + 1) >= precision) & (hits >= _SUPPORT)]
    return float(scores[order[good[-1]]]) if len(good) else None


@dataclass(frozen=True, slots=True)
class Subject:
    """Weights that are judged, and what taught them, which teaches the baselines too."""

    encoder: Network
    tokenizer: Tokenizer
    manifest: dict[str, Any]
    concepts: tuple[Concept, ...]
    frequency: Counter[str]
    train: Rows

    @classmethod
    def of(cls, weights: Path, data: Path) -> Self:
        """Raises CheckpointError."""
        encoder, tokenizer, manifest = checkpoint.load(weights)
        by_id = {concept.id: concept for concept in load_concepts()}
        concepts = tuple(by_id[name] for name in manifest["concepts"])
        records = list(dataset.read_learned(data))
        frequency = dataset.counts(records)
        train = dataset.build(records, tokenizer, concepts, frequency, encoder.config.max_tokens, beside_injected=False)
        return cls(encoder, tokenizer, manifest, concepts, frequency, train)

    def rows(self, records: Iterable[Record]) -> Rows:
        return dataset.build(records, self.tokenizer, self.concepts, self.frequency, self.encoder.config.max_tokens)


def judge(weights: Path, data: Path, config: TrainConfig, progress: Callable[[str], None]) -> Judged:
    """The figures of the shipped int8 weights on the test repositories, each baseline's beside them.

    Of each line all are asked what the engine asks, so that what is judged is what would be said.
    `unseen_text` asks only lines whose text, blanks aside, stands nowhere in the training data. `injected` are faults
    of templates that training never had; `injected_taught` of those it had, in validation repositories. A figure that
    cannot be told, as of a severity with no line, is None. Raises DataError without a test repository.
    """
    subject = Subject.of(weights, data)
    concepts, train = subject.concepts, subject.train
    test, grave, injected = (
        subject.rows(dataset.read(data, "test", [draw])) for draw in ("sample", "grave", "injected")
    )
    of_taught = subject.rows(dataset.read(data, "validation", ["injected"]))
    if not len(test):
        raise DataError(f"{data} holds no test repository; `sentinelctl data stats` shows the splits: mine more")
    progress(
        f"{len(test):,} lines of {len(test.names)} test repositories, {len(grave):,} more of commits searched for "
        f"grave faults, {int(injected.is_injected.sum()):,} faults put in; {len(train):,} lines taught the baselines"
    )
    least = np.array([subject.manifest["thresholds"][concept.id] for concept in concepts])
    known = {_plain(own) for own, _, _ in train.texts}
    unseen = np.array([_plain(own) not in known for own, _, _ in test.texts])
    outputs, grades = 1 + len(concepts), Grades.of(concepts)
    sets = (test, grave, injected, of_taught)
    masks = [is_asked(rows, concepts) for rows in sets]

    def linear(features: baselines.Features) -> list[Floats]:
        taught = baselines.learned(data / KEPT, features, train, outputs, config)
        return [taught.answer(rows) for rows in sets]

    asked: dict[str, Callable[[], Sequence[Floats]]] = {
        "model": lambda: [served(weights, rows) for rows in sets],
        "linear": lambda: linear(baselines.ngram_features),
        "size_only": lambda: linear(baselines.size_features),
        "majority": lambda: [baselines.majority(train, outputs, len(rows)) for rows in sets],
    }
    found: dict[str, Any] = {
        "repositories": list(test.names),
        "data_digest": dataset.digest(data),
        "baseline_seed": config.seed,
    }
    curves = {}
    for name in SUBJECTS:
        chances, of_grave, of_injected, by_taught = map(withheld, asked[name](), masks)
        found[name] = figures(chances, test, concepts) | {"intervals": intervals(chances, test, concepts, config.seed)}
        found[name]["with_grave"] = together((chances, test), (of_grave, grave), grades)
        found[name]["injected"] = put_in(of_injected, injected, grades)
        found[name]["injected_taught"] = put_in(by_taught, of_taught, grades)
        found[name]["unseen_text"] = _some(figures(chances[unseen], dataset.only(test, unseen), concepts))
        if name == "model":
            found[name]["shown"] = shown(chances, test.labels, least, concepts)
        answers = Answers.of(chances, test.labels, grades)
        curves[name] = Curves.of(answers.labels, answers.answered, answers.best, answers.confidence, grades)
        progress(f"{name}: line AP {found[name]['line_ap']}, five-way macro-F1 {found[name]['five_way_macro_f1']}")
    of_fixes = fixes.judge(
        subject.encoder,
        subject.tokenizer,
        dataset.read(data, "train", ["fixes"]),
        dataset.read(data, "test", ["fixes"]),
        config.seed,
    )
    for name, told in of_fixes.items():
        found[name]["fixes"] = told
    return Judged(_defined(found), curves, tuple(concepts))


def together(sample: tuple[Floats, Rows], grave: tuple[Floats, Rows], grades: Grades) -> dict[str, Any]:
    """Bugs and criticals of the sample and of the commits searched for them; how frequent they are means nothing."""
    chances = np.concatenate((sample[0], grave[0]))
    labels = np.concatenate((sample[1].labels, grave[1].labels))
    names = [rows.names[at] for rows in (sample[1], grave[1]) for at in rows.repositories]
    said = measures(Answers.of(chances, labels, grades), grades)
    critical = grades.severities[labels] == 1 + SEVERITIES.index("critical")
    kept = ("lines", "bugs", "criticals", "bug_recall_at_p50", "critical_recall_at_p50")
    return {key: said[key] for key in kept} | {
        "repositories_with_a_critical": len({name for name, is_one in zip(names, critical, strict=True) if is_one})
    }


def put_in(chances: Floats, rows: Rows, grades: Grades) -> dict[str, Any]:
    """How faults that were put in stand out from the clean lines beside them, and whether their category is told."""
    if not len(rows):
        return {"faults": 0, "line_auc": math.nan, "category_macro_f1": math.nan}
    kept = rows.is_injected | (rows.labels == NONE)
    answers = Answers.of(chances, rows.labels, grades)
    put = rows.is_injected
    return {
        "faults": int(put.sum()),
        "line_auc": auc(answers.finding[kept], put[kept]),
        "category_macro_f1": macro_f1(grades.categories[rows.labels[put]], grades.categories[answers.best[put]]),
    }


def served(weights: Path, rows: Rows) -> Floats:
    """(rows, outputs) as the onnx engine answers them, so that what is measured is what ships."""
    if not len(rows):
        return np.zeros((0, 1 + len(read_manifest(weights).concepts)), np.float32)
    engine = load_engine("onnx", weights)
    pieces = tuple(piece.astype(np.int32) for piece in np.split(rows.tokens, rows.starts[1:-1]))
    return engine.predict([Chunk(0, pieces, tuple(range(len(pieces))))])[0]


def shown_answers(chances: Floats, least: npt.NDArray[Any]) -> npt.NDArray[np.intp]:
    """Of each line the likeliest column of those that reach their concept's threshold; NONE where none does."""
    reaches = chances[:, 1:] >= least
    return np.where(reaches.any(1), (chances[:, 1:] * reaches).argmax(1) + 1, NONE)


def shown(
    chances: Floats, labels: npt.NDArray[np.int16], least: npt.NDArray[Any], concepts: Sequence[Concept]
) -> dict[str, Any]:
    """Of what reaches its concept's threshold, per severity: lines shown, share that is right, share of all found."""
    answer = shown_answers(chances, least)
    found = {}
    for severity in (*SEVERITIES, "any"):
        columns = _columns(concepts, SEVERITIES if severity == "any" else [severity])
        flagged, there = np.isin(answer, columns), np.isin(labels, columns)
        right = flagged & (answer == labels)
        found[severity] = {
            "lines": int(flagged.sum()),
            "precision": _share(right[flagged]),
            "recall": _share(right[there]),
        }
    return found


def _defined(found: Any) -> Any:
    """JSON has no nan: what could not be told is None."""
    if isinstance(found, dict):
        return {name: _defined(value) for name, value in found.items()}
    if isinstance(found, list | tuple):
        return [_defined(value) for value in found]
    return None if isinstance(found, float) and math.isnan(found) else found


def _plain(text: str) -> str:
    return " ".join(text.split())


def _some(found: dict[str, Any]) -> dict[str, Any]:
    return {name: found[name] for name in ("lines", "prevalence", "line_ap", "any_ap", "five_way_macro_f1")}


# Figures.


@dataclass(frozen=True, slots=True)
class Answers:
    """What the figures are made of, one entry a line."""

    labels: npt.NDArray[Any]  # column of the truth, 0 none
    best: npt.NDArray[Any]  # likeliest column of a finding
    answered: npt.NDArray[Any]  # likeliest column, none included
    confidence: Floats  # of `best`
    finding: Floats  # score that there is one
    severity: Floats  # (lines, SEVERITIES) scores

    @classmethod
    def of(cls, chances: Floats, labels: npt.NDArray[Any], grades: Grades) -> "Answers":
        return cls(
            labels, chances[:, 1:].argmax(1) + 1, chances.argmax(1), chances[:, 1:].max(1), 1 - chances[:, NONE],
            chances @ grades.severity,
        )  # fmt: skip

    def take(self, picked: npt.NDArray[Any]) -> "Answers":
        return Answers(*(getattr(self, name)[picked] for name in Answers.__slots__))


def figures(chances: Floats, rows: Rows, concepts: Sequence[Concept]) -> dict[str, Any]:
    """Every held-out figure of one set of probabilities (rows, 1 + concepts)."""
    grades = Grades.of(concepts)
    answers = Answers.of(chances, rows.labels, grades)
    of_language = {name: answers.take(rows.languages == at) for at, name in enumerate(rows.spoken)}
    return {
        **measures(answers, grades),
        "per_language": {
            name: {key: value for key, value in measures(spoken, grades).items() if key in _OF_LANGUAGE}
            for name, spoken in of_language.items()
        },
    }


_OF_LANGUAGE: Final = ("lines", "prevalence", "line_ap", "any_ap")


def measures(answers: Answers, grades: Grades) -> dict[str, Any]:
    """The figures of any lines; nan where they cannot tell one."""
    severity = grades.severities
    labels, best = answers.labels, answers.best
    positive = labels != NONE
    truth, given = severity[labels], severity[best]
    grave, worse = truth > 1 + SEVERITIES.index("nit"), answers.severity[:, 1:].sum(1)
    bug, critical = 1 + SEVERITIES.index("bug"), 1 + SEVERITIES.index("critical")
    return {
        "lines": len(labels),
        "prevalence": _share(grave),
        "line_ap": average_precision(worse, grave),
        "line_auc": auc(worse, grave),
        "any_prevalence": _share(positive),
        "any_ap": average_precision(answers.finding, positive),
        "any_auc": auc(answers.finding, positive),
        "severity_accuracy": _share(truth[positive] == given[positive]),
        "severity_balanced_accuracy": _mean_recall(truth[positive], given[positive]),
        "category_macro_f1": macro_f1(grades.categories[labels[positive]], grades.categories[best[positive]]),
        "concept_macro_f1": macro_f1(labels[positive], best[positive]),
        "concepts_seen": len(np.unique(labels[positive])),
        "five_way_macro_f1": macro_f1(truth, severity[answers.answered]),
        "bug_recall_at_p50": recall_at(answers.severity[:, bug - 1], truth == bug),
        "critical_recall_at_p50": recall_at(answers.severity[:, critical - 1], truth == critical),
        "bugs": int((truth == bug).sum()),
        "criticals": int((truth == critical).sum()),
        "ece": calibration_error(answers.confidence, best == labels),
    }


def intervals(
    chances: Floats, rows: Rows, concepts: Sequence[Concept], seed: int, draws: int = 200
) -> dict[str, tuple[float, float]]:
    """Of each figure of INTERVALS, the middle 95 % of what it is when the repositories are drawn anew."""
    grades = Grades.of(concepts)
    answers = Answers.of(chances, rows.labels, grades)
    of = [np.flatnonzero(rows.repositories == at) for at in range(len(rows.names))]
    chance = np.random.default_rng(seed)
    drawn = [
        measures(answers.take(np.concatenate([of[at] for at in chance.integers(len(of), size=len(of))])), grades)
        for _ in range(draws)
    ]
    found = {}
    for name in INTERVALS:
        values = [each[name] for each in drawn if not math.isnan(each[name])]
        low, high = np.percentile(values, [2.5, 97.5]) if values else (math.nan, math.nan)
        found[name] = (_rounded(float(low)), _rounded(float(high)))
    return found


def average_precision(scores: npt.NDArray[Any], truth: npt.NDArray[np.bool_]) -> float:
    """Area under precision and recall, equal scores taken together; nan without a positive."""
    order = np.argsort(-scores, kind="stable")
    ends = _ends(scores[order])
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
    ends = _ends(scores[order])
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


def calibration_error(confidence: Floats, right: npt.NDArray[np.bool_]) -> float:
    """ECE over the lines whose confidence is at least 0.1; nan without one."""
    bins = reliability(confidence, right)
    total = sum(lines for _, _, lines in bins)
    return _rounded(sum(lines * abs(sure - share) for sure, share, lines in bins) / total) if total else math.nan


def _ends(scores: npt.NDArray[Any]) -> npt.NDArray[np.intp]:
    """Where a run of equal scores ends: no threshold parts them."""
    return np.flatnonzero(np.append(scores[1:] != scores[:-1], True)[: len(scores)])


def _columns(concepts: Sequence[Concept], severities: Sequence[str]) -> list[int]:
    return [column for column, concept in enumerate(concepts, start=1) if concept.severity in severities]


def _mean_recall(truth: npt.NDArray[Any], answer: npt.NDArray[Any]) -> float:
    recalls = [float((answer[truth == each] == each).mean()) for each in np.unique(truth)]
    return _rounded(float(np.mean(recalls))) if recalls else math.nan


def _share(truth: npt.NDArray[np.bool_]) -> float:
    return _rounded(float(truth.mean())) if len(truth) else math.nan


def _rounded(value: float) -> float:
    return round(value, 4)
