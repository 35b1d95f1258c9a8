"""What knows less than the encoder, asked the same lines: the commonest answer, the size of the line, n-grams.

They see the same training rows, drawn in the same proportions. A learned figure means something beside theirs alone.
"""

import hashlib
import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

from model import dataset, ngrams
from model.config import TrainConfig
from model.dataset import Rows
from model.ngrams import BUCKETS, WORD, characters, words

Floats = npt.NDArray[np.float32]
Features = Callable[[Rows], list[npt.NDArray[np.int64]]]  # of each row the numbers of its features, below BUCKETS
_RATE: Final = 0.1


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


@dataclass(frozen=True, slots=True)
class Linear:
    """Multinomial logistic regression on hashed features. table: (BUCKETS, outputs), bias: (outputs,), float32."""

    features: Features
    table: torch.Tensor
    bias: torch.Tensor

    def answer(self, rows: Rows) -> Floats:
        """(rows, outputs), probabilities."""
        found = [np.zeros((0, len(self.bias)), np.float32)]
        with torch.inference_mode():
            for part in _parts(self.features(rows), 1024):
                flat = torch.from_numpy(np.concatenate(part))
                found.append(_score(part, flat, self.table, self.bias).softmax(-1).numpy())
        return np.concatenate(found)


def learned(kept: Path, features: Features, train: Rows, outputs: int, config: TrainConfig) -> Linear:
    """What `learn` makes, from the folder `kept` where the same code made it of the same rows.

    It takes as long as judging the weights, and a judgement is seldom asked for once. One a kind of features is kept.
    """
    name = features.__name__
    path = kept / f"{name}-{_digest(train, outputs, config)}.safetensors"
    if path.is_file():
        tensors = load_file(path)
        return Linear(features, tensors["table"], tensors["bias"])
    made = learn(features, train, outputs, config)
    kept.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    save_file({"table": made.table, "bias": made.bias}, part)
    for older in kept.glob(f"{name}-*.safetensors"):
        older.unlink()
    part.rename(path)
    return made


def learn(features: Features, train: Rows, outputs: int, config: TrainConfig, passes: int = 2) -> Linear:
    """Rows are drawn as for the encoder; Adagrad."""
    chance = np.random.default_rng(config.seed)
    table, squares = torch.zeros(2, BUCKETS, outputs)
    bias = nn.Parameter(torch.zeros(outputs))
    adagrad = torch.optim.Adagrad([bias], lr=_RATE)
    rates, bend = dataset.sampling_rates(train, outputs, config)
    offset = torch.from_numpy(np.log(bend)).float()
    drawn = np.concatenate([dataset.epoch(rates, chance) for _ in range(passes)])
    kept = np.unique(drawn)
    where = np.full(len(train), -1)
    where[kept] = np.arange(len(kept))
    known = features(dataset.only(train, kept))
    for at in range(0, len(drawn), 512):
        picked = drawn[at : at + 512]
        rows = [known[where[row]] for row in picked]
        # Of the table only what the batch reads is differentiated: the same steps as over all of it, sooner.
        read, local = torch.from_numpy(np.concatenate(rows)).unique(return_inverse=True)
        weights = table[read].requires_grad_()
        loss = F.cross_entropy(
            _score(rows, local, weights, bias) + offset, torch.from_numpy(train.labels[picked].astype(np.int64))
        )
        loss.backward()
        adagrad.step()
        adagrad.zero_grad()
        slope = weights.grad
        assert slope is not None
        with torch.no_grad():
            own = squares[read].addcmul_(slope, slope)
            squares.index_copy_(0, read, own)
            table.index_copy_(0, read, weights.addcdiv_(slope, own.sqrt_().add_(1e-10), value=-_RATE))
    return Linear(features, table, bias.detach())


def _score(
    rows: Sequence[npt.NDArray[np.int64]], flat: torch.Tensor, table: torch.Tensor, bias: torch.Tensor
) -> torch.Tensor:
    """Logits of rows whose features, one row after the other, are `flat`: rows of `table`."""
    starts = np.concatenate(([0], np.cumsum([len(row) for row in rows])[:-1]))
    scale = torch.tensor([max(1, len(row)) ** -0.5 for row in rows])
    return F.embedding_bag(flat, table, torch.from_numpy(starts), mode="sum") * scale[:, None] + bias


def _digest(train: Rows, outputs: int, config: TrainConfig) -> str:
    """Over the rows, how they are drawn, and the code that reads and learns them."""
    drawn = (config.seed, config.negatives, config.temper, config.max_repeat, config.injected)
    total = hashlib.sha256(repr((outputs, drawn)).encode())
    for module in (sys.modules[__name__], dataset, ngrams):
        total.update(inspect.getsource(module).encode())
    for column in (train.labels, train.languages, train.sizes, train.is_injected):
        total.update(np.ascontiguousarray(column).tobytes())
    for texts in train.texts:
        total.update("\0".join((*texts, "\n")).encode("utf-8", "replace"))
    return total.hexdigest()[:16]


def _parts(rows: list[npt.NDArray[np.int64]], size: int) -> Iterator[list[npt.NDArray[np.int64]]]:
    for at in range(0, len(rows), size):
        yield rows[at : at + size]
