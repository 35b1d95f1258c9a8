"""Mined records to arrays: the rows the network reads, one label each, and which repository they come from.

Records are what model.mining.git writes: one JSON-lines file a repository.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal, cast, get_args

import numpy as np
import numpy.typing as npt

from model.config import TrainConfig
from model.inputs.chunk import chunks
from model.inputs.diff import Hunk, number_lines
from model.inputs.files import is_beside
from model.inputs.tokenizer import Tokenizer, train_tokenizer
from model.labels import SEVERITIES, Concept, load_concepts

Split = Literal["train", "validation", "test"]
SPLITS: Final[tuple[Split, ...]] = get_args(Split)
Draw = Literal["sample", "grave", "injected", "whole", "fixes"]
DRAWS: Final[tuple[Draw, ...]] = get_args(Draw)
_HUNKS: Final[tuple[Draw, ...]] = ("sample", "grave", "injected")
_PIECES: Final[tuple[Draw, ...]] = ("whole",)
LEARNED: Final = _HUNKS + _PIECES
_HELD_OUT: Final[tuple[Draw, ...]] = ("sample", "grave")  # of held-out repositories: what no training hunk may copy
_COPIED: Final = 3  # lines that make a hunk a copy
_TELLING: Final = 16  # characters, blanks apart, from which a line is likely nobody else's
NONE: Final = 0  # the label of a clean line; concept i of the learned ones is i + 1


class DataError(ValueError):
    """Mined data that cannot serve what was asked; the message says what to mine."""


@dataclass(frozen=True, slots=True)
class Record:
    """One hunk with what the analyzers said. `labels`: index into hunk.lines to concept ids."""

    repository: str
    language: str
    hunk: Hunk
    labels: dict[int, tuple[str, ...]]
    unsure: frozenset[int]  # added lines about which no analyzer could speak
    injected: frozenset[int] = frozenset()  # lines that no commit added: faults put there


@dataclass(frozen=True, slots=True)
class Rows:
    """Row i is tokens[starts[i]:starts[i+1]], in the order of the records."""

    tokens: npt.NDArray[np.uint16]
    starts: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int16]
    repositories: npt.NDArray[np.int16]  # index into `names`
    languages: npt.NDArray[np.int16]  # index into `spoken`
    sizes: npt.NDArray[np.int16]  # added lines of the row's hunk
    is_injected: npt.NDArray[np.bool_]  # a fault that was put there
    texts: tuple[tuple[str, str, str], ...]  # the line, the one before, the one after
    paths: tuple[str, ...]  # the row's file
    names: tuple[str, ...]
    spoken: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        return np.diff(self.starts)

    def padded(self, rows: Sequence[int] | npt.NDArray[np.intp], multiple: int = 1) -> npt.NDArray[np.int64]:
        """(rows, longest of them, rounded up to a multiple), zeros where a row has ended."""
        numbers = np.asarray(rows, np.intp)
        starts, ends = self.starts[numbers, None], self.starts[numbers + 1, None]
        places = starts + np.arange(-(-int((ends - starts).max()) // multiple) * multiple)
        batch = np.zeros(places.shape, dtype=np.int64)
        batch[places < ends] = self.tokens[places[places < ends]]
        return batch


def only(rows: Rows, kept: npt.NDArray[Any]) -> Rows:
    """Some rows, by number or by mask, without their tokens."""
    numbers = np.flatnonzero(kept) if kept.dtype == bool else kept
    return Rows(
        np.zeros(0, np.uint16), np.zeros(1, np.int64), rows.labels[numbers], rows.repositories[numbers],
        rows.languages[numbers], rows.sizes[numbers], rows.is_injected[numbers],
        tuple(rows.texts[row] for row in numbers), tuple(rows.paths[row] for row in numbers), rows.names, rows.spoken,
    )  # fmt: skip


def split_of(repository: str) -> Split:
    """By the first hex digit of sha256("owner/name"): 0 and 1 test, 2 validation, the rest training."""
    digit = hashlib.sha256(repository.encode()).hexdigest()[0]
    return "test" if digit in "01" else "validation" if digit == "2" else "train"


def file_name(repository: str, draw: Draw) -> str:
    """Of one draw of owner/name; the sample has the plain name."""
    return f"{repository.replace('/', '+', 1)}{'' if draw == 'sample' else '@' + draw}.jsonl"


def of_file(path: Path) -> tuple[str, Draw]:
    """The owner/name and the draw a file of mined data holds; the inverse of file_name."""
    name, _, draw = path.name.removesuffix(path.suffix).partition("@")
    return name.replace("+", "/", 1), cast(Draw, draw or "sample")


def read(data: Path, split: Split, draws: Collection[Draw] = DRAWS[:1]) -> Iterator[Record]:
    """The records of one split and of these draws, file by file in the order of their names."""
    for path in sorted(data.glob("*.jsonl")):
        name, draw = of_file(path)
        if split_of(name) == split and draw in draws:
            with path.open(encoding="utf-8") as file:
                yield from (record_of(json.loads(line)) for line in file)


def read_learned(data: Path) -> Iterator[Record]:
    """What is trained on: the training split without hunks that held-out repositories have too."""
    held_out = held_out_lines(data)
    yield from (record for record in read(data, "train", _HUNKS) if not is_copy(record, held_out))
    yield from (record for record in read(data, "train", _PIECES) if not is_copy(record, held_out, least=1))


def record_of(raw: dict[str, Any]) -> Record:
    """A mined hunk, with what the catalog of today asks of its path and its lines."""
    old_start, _, new_start, _, section = raw["hunk"]
    lines = [(kind, text) for kind, text in raw["lines"]]  # a long hunk was cut, so its own counts say more
    old_lines, new_lines = (sum(kind != other for kind, _ in lines) for other in ("add", "del"))
    labels, unsure = _asked(raw)
    return Record(
        raw["repository"],
        raw["language"],
        number_lines(raw["path"], (old_start, old_lines), (new_start, new_lines), section, lines),
        labels,
        unsure,
        frozenset(at for at in raw.get("injected", ()) if at in labels),  # a fault that is excused is none
    )


def _asked(raw: dict[str, Any]) -> tuple[dict[int, tuple[str, ...]], frozenset[int]]:
    """(labels, unsure lines) of a mined hunk. A line that a concept excuses is clean of it.

    One of which it is not asked in such a file is neither a finding nor a clean line: it is unsure.
    """
    known = _catalog()
    is_quiet = bool(raw["labels"]) and is_beside(raw["path"])
    labels, unsure = {}, set(raw["unsure"])
    for key, said in raw["labels"].items():
        at, text = int(key), raw["lines"][int(key)][1]
        told = [name for name in said if name not in known or not known[name].excuses(text)]
        if here := tuple(name for name in told if not is_quiet or name not in known or known[name].in_tests):
            labels[at] = here
        elif told:
            unsure.add(at)
    return labels, frozenset(unsure)


@cache
def _catalog() -> dict[str, Concept]:
    return {concept.id: concept for concept in load_concepts()}


def digest(data: Path) -> str:
    """SHA-256 over the mined files' names and contents."""
    total = hashlib.sha256()
    for path in sorted(data.glob("*.jsonl")):
        total.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def counts(records: Iterable[Record]) -> Counter[str]:
    """How many lines each concept was said of."""
    return Counter(concept for record in records for said in record.labels.values() for concept in said)


def learn_tokenizer(records: Iterable[Record], vocab_size: int, max_lines: int = 300_000) -> Tokenizer:
    """The pieces of the training split: every distinct line shown, up to `max_lines` spread over all of them.

    Raises DataError where there is none.
    """
    distinct = sorted({line.text for record in records for line in record.hunk.lines if line.kind != "del"})
    if not distinct:
        raise DataError("no line to train on; `sentinelctl data stats` shows the splits: mine more repositories")
    return train_tokenizer(distinct[:: max(1, len(distinct) // max_lines)], vocab_size)


def build(
    records: Iterable[Record],
    tokenizer: Tokenizer,
    concepts: Sequence[Concept],
    frequency: Counter[str],
    max_tokens: int,
    *,
    beside_injected: bool = True,
) -> Rows:
    """Every added line that is not blank and not unsure; of several concepts the gravest, then the rarest.

    `beside_injected`: whether the lines beside a fault that was put there are rows too; the sample has them already.
    """
    rank = {
        concept.id: (-SEVERITIES.index(concept.severity), frequency[concept.id], concept.id) for concept in concepts
    }
    column = {concept.id: at + 1 for at, concept in enumerate(concepts)}
    names: dict[str, int] = {}
    spoken: dict[str, int] = {}
    tokens: list[npt.NDArray[np.int32]] = []
    labels, repositories, languages, sizes, injected = [], [], [], [], []
    texts: list[tuple[str, str, str]] = []
    paths: list[str] = []
    for record in records:
        for chunk in chunks(record.hunk, tokenizer, max_rows=10_000, max_tokens=max_tokens):
            for row, at in zip(chunk.rows, chunk.lines, strict=True):
                if at in record.unsure or (record.injected and at not in record.injected and not beside_injected):
                    continue
                said = [concept for concept in record.labels.get(at, ()) if concept in column]
                tokens.append(row)
                labels.append(column[min(said, key=rank.__getitem__)] if said else NONE)
                repositories.append(names.setdefault(record.repository, len(names)))
                languages.append(spoken.setdefault(record.language, len(spoken)))
                sizes.append(len(chunk.rows))
                injected.append(at in record.injected)
                texts.append(_around(record.hunk, at))
                paths.append(record.hunk.path)
    starts = np.concatenate(([0], np.cumsum([len(row) for row in tokens]))).astype(np.int64)
    return Rows(
        np.concatenate(tokens).astype(np.uint16) if tokens else np.zeros(0, np.uint16),
        starts,
        np.asarray(labels, np.int16),
        np.asarray(repositories, np.int16),
        np.asarray(languages, np.int16),
        np.asarray(sizes, np.int16),
        np.asarray(injected, np.bool_),
        tuple(texts),
        tuple(paths),
        tuple(names),
        tuple(spoken),
    )


def _around(hunk: Hunk, at: int) -> tuple[str, str, str]:
    def near(step: int) -> str:
        index = at + step
        while 0 <= index < len(hunk.lines):
            if hunk.lines[index].kind != "del" and hunk.lines[index].text.strip():
                return hunk.lines[index].text[:200]
            index += step
        return ""

    return hunk.lines[at].text[:200], near(-1), near(1)


def sampling_rates(
    rows: Rows, outputs: int, config: TrainConfig
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """(rows,) how often each row is drawn an epoch, and (outputs,) how much more often each label than it occurs.

    Clean lines are drawn `negatives` times, rare concepts up to `max_repeat`, and faults that were put there at most
    `injected` of all. Grave draws have their clean lines with them, so they bend no rate; faults put there do.
    """
    number = np.bincount(rows.labels, minlength=outputs).astype(float)
    peak = number[1:].max(initial=1.0)
    of_label = np.minimum(config.max_repeat, (peak / np.maximum(number, 1.0)) ** config.temper)
    of_label[NONE] = max(config.negatives, 1e-9)  # a rate has a logarithm
    rates = of_label[rows.labels]
    injected = float(rates[rows.is_injected].sum())
    if injected:
        natural = float(rates.sum()) - injected
        rates[rows.is_injected] *= min(1.0, natural * config.injected / (1 - config.injected) / injected)
    drawn = np.bincount(rows.labels, weights=rates, minlength=outputs)
    natural_number = np.bincount(rows.labels[~rows.is_injected], minlength=outputs)
    return rates, np.where(number > 0, np.maximum(drawn, 1e-9) / np.maximum(natural_number, 0.5), of_label)


def epoch(rates: npt.NDArray[np.float64], chance: np.random.Generator) -> npt.NDArray[np.intp]:
    """Row numbers in random order, each `rates[row]` times on average."""
    times = np.floor(rates).astype(int) + (chance.random(len(rates)) < rates % 1)
    return chance.permutation(np.repeat(np.arange(len(rates)), times))


def held_out_lines(data: Path) -> npt.NDArray[np.uint64]:
    """Hashes, sorted, of the telling added lines of test and validation repositories."""
    found = {
        _hash(line.text)
        for split in SPLITS[1:]
        for record in read(data, split, _HELD_OUT)
        for line in record.hunk.lines
        if line.kind == "add" and _is_telling(line.text)
    }
    return np.sort(np.fromiter(found, np.uint64, len(found)))


def is_copy(record: Record, held_out: npt.NDArray[np.uint64], least: int = _COPIED) -> bool:
    """Whether at least half of a hunk's telling added lines, and `least` of them, stand in a held-out repository.

    Three where the hunk is a whole change; a piece was cut out of a file that may be a copy, so one is enough.
    """
    own = np.array(
        [_hash(line.text) for line in record.hunk.lines if line.kind == "add" and _is_telling(line.text)], np.uint64
    )
    if len(own) < least or not len(held_out):
        return False
    there = held_out[np.minimum(np.searchsorted(held_out, own), len(held_out) - 1)] == own
    return int(there.sum()) >= max(least, len(own) / 2)


def _is_telling(text: str) -> bool:
    return len("".join(text.split())) >= _TELLING


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b("".join(text.split()).encode(), digest_size=8).digest(), "little")
