"""Findings for a person to judge, blind: the model's, the linear baseline's and lines drawn by chance, in one order.

What analyzers say is not what a reviewer would act on, so some are read. The sheet holds other people's code and stays
out of the repository; verdicts are kept by hash (`eval/read.tsv`), so that another reader can draw the same sheet and
judge again.
"""

import csv
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from model import baselines, dataset
from model.config import TrainConfig
from model.dataset import DataError, Record
from model.evaluate import KEPT, Floats, Subject, is_asked, served, withheld
from model.inputs.diff import Hunk
from model.labels import SEVERITIES, Concept

Source = Literal["model", "linear", "chance"]
VERDICTS: Final = ("act", "leave")  # a reviewer would act on it, or not
NUMBERS: Final[dict[Source, int]] = {"model": 100, "linear": 50, "chance": 50}
_GRAVE: Final = SEVERITIES.index("bug")
_AROUND: Final = 4  # lines shown on either side


@dataclass(frozen=True, slots=True)
class Item:
    """`source` is for the score alone: who reads does not see it."""

    hash: str
    source: Source
    repository: str
    path: str
    concept: Concept
    shown: str  # the hunk around the line, which is marked by >

    @property
    def claim(self) -> str:
        return f"{self.concept.severity}: {self.concept.title}"


def draw(weights: Path, data: Path, seed: int, config: TrainConfig, min_confidence: float = 0.0) -> list[Item]:
    """The sheet, in random order: lines of test repositories with what is said of them, bugs and criticals alone.

    The model's are of what users are shown with this `min_confidence`, the linear model's as many of its surest,
    chance's any line with a concept drawn as often as the model says it. Of neither model a concept counts that is not
    asked of such a file or line. Fewer where there are fewer. Raises DataError without one.
    """
    subject = Subject.of(weights, data)
    concepts = subject.concepts
    records = list(dataset.read(data, "test"))
    rows = subject.rows(records)
    where = [
        (record, at)
        for record in records
        for at, line in enumerate(record.hunk.lines)
        if line.kind == "add" and line.text.strip() and at not in record.unsure
    ]
    grave = np.array([SEVERITIES.index(concept.severity) >= _GRAVE for concept in concepts])
    least = np.array([max(min_confidence, subject.manifest["thresholds"][concept.id]) for concept in concepts])
    asked = is_asked(rows, concepts)
    chances = withheld(served(weights, rows), asked)
    said: dict[Source, list[tuple[int, int]]] = {"model": _said(chances, asked, least, grave)}
    number = len(said["model"])
    if not number:
        raise DataError(f"the weights in {weights} show no bug and no critical on {data}: there is nothing to read")
    linear = baselines.learned(data / KEPT, baselines.ngram_features, subject.train, 1 + len(concepts), config)
    said["linear"] = surest(linear.answer(rows), asked & grave, number)
    chance = np.random.default_rng(seed)
    lines = chance.choice(len(rows), size=min(len(rows), NUMBERS["chance"]), replace=False)
    said["chance"] = [(int(row), said["model"][int(chance.integers(number))][1]) for row in lines]
    items = [
        _item(source, *where[row], concepts[column])
        for source, found in said.items()
        for row, column in _some(found, NUMBERS[source], chance)
    ]
    once = {item.hash: item for item in reversed(items)}  # said by two: the model's counts
    return [list(once.values())[at] for at in chance.permutation(len(once))]


def write(items: Sequence[Item], sheet: Path) -> None:
    """One text to read: a number, the claim, the lines."""
    sheet.parent.mkdir(parents=True, exist_ok=True)
    parts = [
        f"## {item.hash}\n{item.repository} {item.path}\n{item.claim} ({item.concept.id})\n\n{item.shown}\n"
        for item in items
    ]
    sheet.write_text("\n".join(parts), "utf-8")


def verdicts(path: Path) -> dict[str, str]:
    """hash to verdict. Raises DataError naming a row that has another one."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    for row in rows:
        if row.get("verdict") not in VERDICTS:
            raise DataError(
                f"{path}: {row.get('hash')} has the verdict {row.get('verdict')!r}; use {' or '.join(VERDICTS)}"
            )
    return {row["hash"]: row["verdict"] for row in rows}


def score(items: Iterable[Item], judged: dict[str, str]) -> dict[str, Any]:
    """Per source: how many were read, and the share that a reviewer would act on, by severity too."""
    found: dict[str, Any] = {}
    items = list(items)
    for source in NUMBERS:
        own = [item for item in items if item.source == source and item.hash in judged]
        parts = {"all": own} | {
            severity: [item for item in own if item.concept.severity == severity] for severity in SEVERITIES[_GRAVE:]
        }
        found[source] = {
            name: {"read": len(part), "act": sum(judged[item.hash] == "act" for item in part)}
            for name, part in parts.items()
        }
    return found | {"unread": sum(item.hash not in judged for item in items)}


def _said(
    chances: Floats, asked: npt.NDArray[np.bool_], least: npt.NDArray[Any], grave: npt.NDArray[np.bool_]
) -> list[tuple[int, int]]:
    """(row, concept) of what is shown and grave."""
    reaches = asked & (chances[:, 1:] >= least)
    best = np.where(reaches, chances[:, 1:], 0).argmax(1)
    kept = np.flatnonzero(reaches.any(1) & grave[best])
    return [(int(row), int(best[row])) for row in kept]


def surest(chances: Floats, wanted: npt.NDArray[np.bool_], number: int) -> list[tuple[int, int]]:
    """(row, concept) of what is likeliest among what is wanted; a row of which nothing is wanted comes last."""
    asked = np.where(wanted, chances[:, 1:], 0)
    best, sure = asked.argmax(1), asked.max(1)
    return [(int(row), int(best[row])) for row in np.argsort(-sure, kind="stable")[:number]]


def _some(found: list[tuple[int, int]], number: int, chance: np.random.Generator) -> list[tuple[int, int]]:
    picked = chance.permutation(len(found))[:number]
    return [found[at] for at in picked]


def _item(source: Source, record: Record, at: int, concept: Concept) -> Item:
    text = "\0".join(
        (record.repository, record.hunk.path, str(record.hunk.lines[at].new), _lines(record.hunk, at), concept.id)
    )
    name = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:12]
    return Item(name, source, record.repository, record.hunk.path, concept, _lines(record.hunk, at))


def _lines(hunk: Hunk, at: int) -> str:
    signs = {"add": "+", "del": "-", "ctx": " "}
    first, last = max(0, at - _AROUND), min(len(hunk.lines), at + _AROUND + 1)
    return "\n".join(
        f"{'>' if here == at else ' '} {signs[hunk.lines[here].kind]}{hunk.lines[here].text}"
        for here in range(first, last)
    )
