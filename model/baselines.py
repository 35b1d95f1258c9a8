"""What knows less than the encoder, asked the same lines: the commonest answer, the size of the line, n-grams.

They see the same training rows, drawn in the same proportions. A learned figure means something beside theirs alone.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional as F

from model import dataset
from model.config import TrainConfig
from model.dataset import Rows
from model.ngrams import BUCKETS, WORD, characters, words

Floats = npt.NDArray[np.float32]


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
    found = []
    for (own, before, after), language, size in zip(rows.texts, rows.languages, size_features(rows), strict=True):
        beside = [*(f"< {each}" for each in WORD.findall(before)), *(f"> {each}" for each in WORD.findall(after))]
        place = np.asarray([256 + int(language)], np.int64)
        found.append(np.unique(np.concatenate([size, place, *characters(own), words(own, beside)])))
    return found


def linear(
    features: Callable[[Rows], list[npt.NDArray[np.int64]]],
    train: Rows,
    asked: Sequence[Rows],
    outputs: int,
    config: TrainConfig,
    passes: int = 2,
) -> list[Floats]:
    """Multinomial logistic regression on hashed features, rows drawn as for the encoder; probabilities of each set."""
    torch.manual_seed(config.seed)
    chance = np.random.default_rng(config.seed)
    table = nn.EmbeddingBag(BUCKETS, outputs, mode="sum", sparse=True)
    nn.init.zeros_(table.weight)
    bias = nn.Parameter(torch.zeros(outputs))
    sparse, dense = torch.optim.Adagrad(table.parameters(), lr=0.1), torch.optim.Adagrad([bias], lr=0.1)
    rates, bend = dataset.sampling_rates(train, outputs, config)
    offset = torch.from_numpy(np.log(bend)).float()
    drawn = np.concatenate([dataset.epoch(rates, chance) for _ in range(passes)])
    kept = np.unique(drawn)
    where = np.full(len(train), -1)
    where[kept] = np.arange(len(kept))
    known = features(dataset.only(train, kept))

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
        with torch.sparse.check_sparse_tensor_invariants(False):  # said outright, or torch warns
            loss.backward()
            for optimizer in (sparse, dense):
                optimizer.step()
                optimizer.zero_grad()
    with torch.inference_mode():
        return [
            np.concatenate(
                [
                    np.zeros((0, outputs), np.float32),
                    *(score(part).softmax(-1).numpy() for part in _parts(features(rows), 1024)),
                ]
            )
            for rows in asked
        ]


def _parts(rows: list[npt.NDArray[np.int64]], size: int) -> Iterator[list[npt.NDArray[np.int64]]]:
    for at in range(0, len(rows), size):
        yield rows[at : at + size]
