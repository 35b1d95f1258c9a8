"""Figures of triage, and what knows less than the network: the commonest answer, and linear n-grams."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from model.config import TrainConfig
from model.labels import CATEGORIES, SEVERITIES
from model.mining.comments import Comment
from model.ngrams import BUCKETS, characters, words
from model.triage import rule
from model.triage.engine import Triage

Ints = npt.NDArray[np.int64]
Answers = tuple[Ints, Ints]
"""Severity and category of each comment, by their places in labels.py."""

_READ: Final = 2_000  # characters of a comment that the linear model reads


@dataclass(frozen=True, slots=True)
class Figures:
    accuracy: float
    balanced_accuracy: float  # recall of each severity that occurs, on average
    recall: dict[str, float | None]  # of each severity; None where it does not occur
    category_accuracy: float
    category_balanced_accuracy: float


def figures(truth: Answers, said: Answers) -> Figures:
    severity, category = (_recalls(*pair) for pair in zip(truth, said, (len(SEVERITIES), len(CATEGORIES)), strict=True))
    return Figures(
        accuracy=float((truth[0] == said[0]).mean()),
        balanced_accuracy=_mean(severity),
        recall=dict(zip(SEVERITIES, severity, strict=True)),
        category_accuracy=float((truth[1] == said[1]).mean()),
        category_balanced_accuracy=_mean(category),
    )


def judge(engine: Triage, comments: Sequence[Comment]) -> dict[str, Any]:
    """Weights on comments that they may or may not have been taught by, beside the commonest answer and the rules."""
    truth = labels_of(comments)
    verdicts = engine.classify(comments)
    said = (
        np.array([SEVERITIES.index(each.severity) for each in verdicts], np.int64),
        np.array([CATEGORIES.index(each.category) for each in verdicts], np.int64),
    )
    answers = {"model": said, "majority": majority(truth, len(comments)), "rule": labels_of(comments)}
    return {"comments": len(comments), **{name: asdict(figures(truth, each)) for name, each in answers.items()}}


def labels_of(comments: Sequence[Comment]) -> Answers:
    """What the rules say of each."""
    return (
        np.array([SEVERITIES.index(rule.severity_of(each.body)) for each in comments], np.int64),
        np.array([CATEGORIES.index(rule.category_of(each.body)) for each in comments], np.int64),
    )


def majority(known: Answers, number: int) -> Answers:
    severity, category = (np.full(number, np.bincount(labels).argmax(), np.int64) for labels in known)
    return severity, category


def linear(
    train: Sequence[Comment], known: Answers, asked: Sequence[Comment], config: TrainConfig, passes: int = 2
) -> Answers:
    """Multinomial logistic regression on hashed n-grams of the comment: characters 2 to 5, words 1 to 3. Needs torch.

    Its classes weigh as the network's do.
    """
    features, questions = [_hashed(each.body) for each in train], [_hashed(each.body) for each in asked]
    answers = [
        _logistic(features, labels, questions, outputs, config, passes)
        for labels, outputs in zip(known, (len(SEVERITIES), len(CATEGORIES)), strict=True)
    ]
    return answers[0], answers[1]


def _logistic(
    features: list[Ints], labels: Ints, asked: list[Ints], outputs: int, config: TrainConfig, passes: int
) -> Ints:
    import torch
    from torch import nn
    from torch.nn import functional as F

    torch.manual_seed(config.seed)
    table = nn.EmbeddingBag(BUCKETS, outputs, mode="sum", sparse=True)
    nn.init.zeros_(table.weight)
    bias = nn.Parameter(torch.zeros(outputs))
    optimizers = torch.optim.Adagrad(table.parameters(), lr=0.1), torch.optim.Adagrad([bias], lr=0.1)
    counts = np.bincount(labels, minlength=outputs).clip(1)
    weights = torch.from_numpy((counts.sum() / counts) ** config.temper).float()
    chance = np.random.default_rng(config.seed)

    def score(rows: list[Ints]) -> "torch.Tensor":
        starts = np.concatenate(([0], np.cumsum([len(row) for row in rows])[:-1]))
        scale = torch.tensor([max(1, len(row)) ** -0.5 for row in rows])
        return table(torch.from_numpy(np.concatenate(rows)), torch.from_numpy(starts)) * scale[:, None] + bias

    for _ in range(passes):
        order = chance.permutation(len(features))
        for at in range(0, len(order), 128):
            picked = order[at : at + 128]
            loss = F.cross_entropy(score([features[row] for row in picked]), torch.from_numpy(labels[picked]), weights)
            with torch.sparse.check_sparse_tensor_invariants(False):  # said outright, or torch warns
                loss.backward()
                for optimizer in optimizers:
                    optimizer.step()
                    optimizer.zero_grad()
    with torch.inference_mode():
        parts = [score(asked[at : at + 512]).argmax(-1).numpy() for at in range(0, len(asked), 512)]
    return np.concatenate(parts)


def _hashed(text: str) -> Ints:
    lowered = text[:_READ].lower()
    return np.unique(np.concatenate([*characters(lowered), words(lowered)]))


def _recalls(truth: Ints, said: Ints, outputs: int) -> list[float | None]:
    return [float((said[truth == at] == at).mean()) if (truth == at).any() else None for at in range(outputs)]


def _mean(recalls: Sequence[float | None]) -> float:
    known = [each for each in recalls if each is not None]
    return sum(known) / len(known)
