"""Real fixes in pairs: is what a fix removed told from what it put in its place, with as many lines on either side?

Each subject scores a hunk, and learns on training pairs that the lines before a fix should score higher than those
after it. The model's score has a deep part, linear over what its encoder makes of each row, with a copy of the encoder
that learns on, and a wide one, that of the linear subject: so it is above the linear one where the encoder knows
something that n-grams do not. `auc_encoder` is of the deep part alone. Nothing here is served.
"""

import random
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional as F

from model import dataset
from model.baselines import ngram_features, size_features
from model.dataset import Record, Rows
from model.encoder import Encoder, Network
from model.inputs.diff import LineKind, number_lines
from model.inputs.tokenizer import Tokenizer
from model.ngrams import BUCKETS

Floats = npt.NDArray[np.float32]
SUBJECTS: Final = ("model", "linear", "size_only")
MOST: Final = 12_000  # pairs learned from
_SWAPPED: Final[dict[LineKind, LineKind]] = {"add": "del", "del": "add", "ctx": "ctx"}
_PASSES: Final = 3  # over the pairs, of each subject
_AT_ONCE: Final = 64  # pairs, of the model
_SCORE_RATE: Final = 3e-3
_TRUNK_RATE: Final = 3e-4


@dataclass(frozen=True, slots=True)
class Pairs:
    """Hunk 2·i as a fix left it and hunk 2·i + 1 as it was, in rows."""

    rows: Rows
    hunk: npt.NDArray[np.int64]  # of each row
    repositories: tuple[str, ...]  # of each pair

    def __len__(self) -> int:
        return len(self.repositories)


def pairs(records: Iterable[Record], tokenizer: Tokenizer, max_tokens: int, most: int | None = None) -> Pairs:
    """Both sides of each hunk; `most` of them, drawn evenly."""
    chosen = list(records)
    if most is not None and len(chosen) > most:
        chosen = random.Random(most).sample(chosen, most)
    both = [side for record in chosen for side in (record, _before(record))]
    rows = dataset.build(both, tokenizer, (), dataset.counts(()), max_tokens)
    sizes = [sum(line.kind == "add" and bool(line.text.strip()) for line in side.hunk.lines) for side in both]
    return Pairs(rows, np.repeat(np.arange(len(both)), sizes), tuple(record.repository for record in chosen))


def judge(
    encoder: Network, tokenizer: Tokenizer, train: Iterable[Record], test: Iterable[Record], seed: int
) -> dict[str, dict[str, Any]]:
    """Per subject: pairs asked, and the AUC of lines before a fix over lines after it, with its interval."""
    length = encoder.config.max_tokens
    taught, asked = pairs(train, tokenizer, length, MOST), pairs(test, tokenizer, length)
    if not len(taught) or not len(asked):
        return {name: {"pairs": 0, "auc": None, "interval": [None, None]} for name in SUBJECTS}
    deep, wide = _encoded(encoder, taught, asked, seed), _linear(ngram_features, taught, asked, seed)
    scores = (_unit(deep) + _unit(wide), wide, _linear(size_features, taught, asked, seed))
    found = {name: _figures(score, asked, seed) for name, score in zip(SUBJECTS, scores, strict=True)}
    found["model"]["auc_encoder"] = _figures(deep, asked, seed)["auc"]
    return found


def _before(record: Record) -> Record:
    """The record of the change that takes the fix back."""
    hunk = record.hunk
    lines = [(_SWAPPED[line.kind], line.text) for line in hunk.lines]
    old, new = (hunk.new_start, hunk.new_lines), (hunk.old_start, hunk.old_lines)
    return Record(
        record.repository,
        record.language,
        number_lines(hunk.path, old, new, hunk.section, lines),
        {},
        frozenset(),
    )


def _figures(scores: Floats, asked: Pairs, seed: int, draws: int = 200) -> dict[str, Any]:
    after, before = scores[0::2], scores[1::2]
    names = sorted(set(asked.repositories))
    of = [np.flatnonzero(np.array(asked.repositories) == name) for name in names]
    chance = np.random.default_rng(seed)
    drawn = []
    for _ in range(draws):
        picked = np.concatenate([of[at] for at in chance.integers(len(of), size=len(of))])
        drawn.append(_auc(before[picked], after[picked]))
    low, high = np.percentile(drawn, [2.5, 97.5])
    return {
        "pairs": len(asked),
        "auc": round(_auc(before, after), 4),
        "interval": [round(float(low), 4), round(float(high), 4)],
    }


def _unit(scores: Floats) -> Floats:
    """Of one spread."""
    return scores / max(float(scores.std()), 1e-9)


def _auc(higher: Floats, lower: Floats) -> float:
    from model.evaluate import auc

    truth = np.concatenate((np.ones(len(higher), bool), np.zeros(len(lower), bool)))
    return auc(np.concatenate((higher, lower)), truth)


def _encoded(encoder: Network, taught: Pairs, asked: Pairs, seed: int) -> Floats:
    """A linear score over the mean of what a copy of the encoder makes of a hunk's rows; both learn from the pairs."""
    trunk = deepcopy(encoder if isinstance(encoder, Encoder) else encoder.encoder)
    trunk.head.requires_grad_(False)  # of concepts, which nothing here asks
    weight = nn.Parameter(torch.zeros(2 * trunk.config.width))
    optimizer = torch.optim.AdamW(
        [{"params": [weight], "lr": _SCORE_RATE}, {"params": [*trunk.parameters()], "lr": _TRUNK_RATE}],
        weight_decay=0.01,
    )
    steps = _PASSES * -(-len(taught) // _AT_ONCE)
    falling = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
    chance = np.random.default_rng(seed)
    torch.manual_seed(seed)
    trunk.train()
    for _ in range(_PASSES):
        for part in np.array_split(chance.permutation(len(taught)), max(1, steps // _PASSES)):
            score = _means(trunk, taught, np.sort(np.concatenate((2 * part, 2 * part + 1)))) @ weight
            loss = F.softplus(score[0::2] - score[1::2]).mean()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trunk.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            falling.step()
    trunk.eval()
    with torch.inference_mode():
        parts = np.array_split(np.arange(2 * len(asked)), max(1, len(asked) // _AT_ONCE))
        scores: Floats = torch.cat([_means(trunk, asked, part) @ weight for part in parts]).numpy()
    return scores


def _means(trunk: Encoder, of: Pairs, hunks: npt.NDArray[np.int64]) -> torch.Tensor:
    """(hunks, features) of these, in rising order: the mean over the rows of each."""
    rows = np.flatnonzero(np.isin(of.hunk, hunks))
    where = torch.from_numpy(np.searchsorted(hunks, of.hunk[rows]))
    features = trunk.features(torch.from_numpy(of.rows.padded(rows)))
    number = torch.bincount(where, minlength=len(hunks)).clamp(min=1)
    return torch.zeros(len(hunks), features.shape[1]).index_add(0, where, features) / number[:, None]


def _linear(features: Callable[[Rows], list[npt.NDArray[np.int64]]], taught: Pairs, asked: Pairs, seed: int) -> Floats:
    """Pairwise logistic regression over hashed features."""
    torch.manual_seed(seed)
    table = nn.EmbeddingBag(BUCKETS, 1, mode="sum", sparse=True)
    nn.init.zeros_(table.weight)
    optimizer = torch.optim.Adagrad(table.parameters(), lr=0.1)

    def by_hunk(of: Pairs) -> list[npt.NDArray[np.int64]]:
        parts: list[list[npt.NDArray[np.int64]]] = [[] for _ in range(2 * len(of))]
        for hunk, found in zip(of.hunk, features(of.rows), strict=True):
            parts[hunk].append(found)
        return [np.concatenate(part) if part else np.zeros(0, np.int64) for part in parts]

    def score(hunks: Sequence[npt.NDArray[np.int64]]) -> torch.Tensor:
        starts = np.concatenate(([0], np.cumsum([len(each) for each in hunks])[:-1]))
        scale = torch.tensor([max(1, len(each)) ** -0.5 for each in hunks])
        return table(torch.from_numpy(np.concatenate(hunks)), torch.from_numpy(starts))[:, 0] * scale

    known = by_hunk(taught)
    chance = np.random.default_rng(seed)
    for _ in range(_PASSES):
        for part in np.array_split(chance.permutation(len(taught)), max(1, len(taught) // 128)):
            loss = F.softplus(score([known[2 * at] for at in part]) - score([known[2 * at + 1] for at in part])).mean()
            with torch.sparse.check_sparse_tensor_invariants(False):
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
    with torch.inference_mode():
        wanted = by_hunk(asked)
        found: Floats = torch.cat([score(wanted[at : at + 1024]) for at in range(0, len(wanted), 1024)]).numpy()
    return found
