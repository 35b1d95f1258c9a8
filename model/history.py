"""One repository's mined history, parted by date: what teaches, what is held back to calibrate, and what judges.

A line has the date of its commit. A label has none: analyzers' are made today for every line, and so are a team's.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from model.dataset import DataError, Record, record_of
from model.inputs.diff import LineKind, number_lines
from model.inputs.files import language
from model.labels import SEVERITIES, Concept
from model.mining.dismissed import Dismissed

JUDGED: Final = 0.2  # share of the lines, the newest, that judge
HELD_BACK: Final = 0.15  # of those before them, that calibrate
LEAST_TAUGHT: Final = 40  # lines with a finding to learn from
LEAST_HELD_BACK: Final = 16  # to calibrate on
LEAST_JUDGED: Final = 20  # graver than a nit, to judge by
LEAST_COMMITS: Final = 8  # that these lie in: they are what is drawn anew
_DAY_S: Final = 86_400


@dataclass(frozen=True, slots=True)
class Dated:
    """A hunk of one commit, whose id stands where other data has the repository; `time` in Unix s."""

    record: Record
    time: int


@dataclass(frozen=True, slots=True)
class Parts:
    """No commit of `taught` is as new as `held_from`, none of `held_back` as new as `judged_from` (Unix s, a midnight
    in UTC), and no hunk of a later part stands in an earlier one."""

    taught: tuple[Dated, ...]
    held_back: tuple[Dated, ...]
    judged: tuple[Dated, ...]
    held_from: int
    judged_from: int


def read(path: Path) -> Iterator[Dated]:
    """The records of one mined file."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            raw = json.loads(line)
            yield Dated(record_of(raw | {"repository": raw["sha"]}), raw["time"])


def only_findings(dated: Iterable[Dated]) -> Iterator[Dated]:
    """Of what fixes took away the lines that an analyzer names: about the others nobody can say what was wrong."""
    for one in dated:
        if one.record.labels:
            added = {at for at, line in enumerate(one.record.hunk.lines) if line.kind == "add"}
            yield replace(one, record=replace(one.record, unsure=frozenset(added - one.record.labels.keys())))


def part(dated: Sequence[Dated], concepts: Collection[Concept]) -> Parts:
    """Raises DataError where a part is too small to do its work."""
    lines: Counter[int] = Counter()
    for one in dated:
        lines[one.time // _DAY_S] += sum(line.kind == "add" for line in one.record.hunk.lines)
    judged_from = _since(lines, JUDGED * lines.total())
    earlier = Counter({day: number for day, number in lines.items() if day < judged_from})
    held_from = _since(earlier, HELD_BACK * lines.total())
    parts: list[list[Dated]] = [[], [], []]
    seen: set[tuple[str, ...]] = set()
    for one in sorted(dated, key=lambda each: each.time):
        at = (one.time // _DAY_S >= held_from) + (one.time // _DAY_S >= judged_from)
        shown = _added(one.record)
        if at == 0 or shown not in seen:
            parts[at].append(one)
        seen.add(shown)
    taught, held_back, judged = (tuple(each) for each in parts)
    found = Parts(taught, held_back, judged, held_from * _DAY_S, judged_from * _DAY_S)
    _check(found, concepts)
    return found


def _since(lines: Counter[int], wanted: float) -> int:
    """The newest day from which on there are so many lines."""
    total = 0
    for day in sorted(lines, reverse=True):
        total += lines[day]
        if total >= wanted:
            return day
    return min(lines, default=0)


def _added(record: Record) -> tuple[str, ...]:
    return (record.hunk.path, *(line.text for line in record.hunk.lines if line.kind == "add"))


def _check(parts: Parts, concepts: Collection[Concept]) -> None:
    every = {concept.id for concept in concepts}
    grave = {concept.id for concept in concepts if concept.severity != SEVERITIES[0]}
    commits = {one.record.repository for one in parts.judged if findings([one], grave)}
    for number, least, what in (
        (findings(parts.taught, every), LEAST_TAUGHT, f"lines with a finding before {day(parts.held_from)}"),
        (findings(parts.held_back, every), LEAST_HELD_BACK, f"such lines from then to {day(parts.judged_from)}"),
        (findings(parts.judged, grave), LEAST_JUDGED, f"lines graver than a nit since {day(parts.judged_from)}"),
        (len(commits), LEAST_COMMITS, f"commits with such a line since {day(parts.judged_from)}"),
    ):
        if number < least:
            raise DataError(
                f"this history is too short to learn from: {number} {what}, where {least} are needed; mine one with "
                "more commits, or go on with the weights there are"
            )


def findings(dated: Iterable[Dated], concepts: AbstractSet[str]) -> int:
    """Lines of which one of these concepts is said."""
    return sum(not concepts.isdisjoint(said) for one in dated for said in one.record.labels.values())


def day(time: int) -> str:
    """`2026-03-01`, in UTC."""
    return datetime.fromtimestamp(time, UTC).date().isoformat()


def dismiss(dated: Sequence[Dated], dismissed: Sequence[Dismissed]) -> list[Dated]:
    """The same hunks, with no dismissed concept said of its line: there it has become clean."""
    away: dict[tuple[str, str], set[str]] = defaultdict(set)
    for each in dismissed:
        away[each.path, each.source.strip()].add(each.concept)
    return [replace(one, record=_without(one.record, away)) for one in dated]


def _without(record: Record, away: dict[tuple[str, str], set[str]]) -> Record:
    labels = {}
    for at, said in record.labels.items():
        gone = away.get((record.hunk.path, record.hunk.lines[at].text.strip()), set())
        if left := tuple(concept for concept in said if concept not in gone):
            labels[at] = left
    return record if labels == record.labels else replace(record, labels=labels)


Hunks = list[tuple[Dismissed, Record]]


def dismissals(dismissed: Sequence[Dismissed], parts: Parts) -> tuple[Hunks, Hunks]:
    """(those that may teach, those whose line is too new to), each as a hunk in which nothing else is told.

    A line that stands in mined commits is as old as the first of them, else as the commit that was named with it.
    """
    first: dict[tuple[str, str], tuple[Dated, int]] = {}
    for one in sorted((*parts.taught, *parts.held_back, *parts.judged), key=lambda each: each.time):
        for at, line in enumerate(one.record.hunk.lines):
            if line.kind == "add":
                first.setdefault((one.record.hunk.path, line.text.strip()), (one, at))
    old: Hunks = []
    new: Hunks = []
    for each in dismissed:
        if (known := first.get((each.path, each.source.strip()))) is not None:
            one, at = known
            added = {index for index, line in enumerate(one.record.hunk.lines) if line.kind == "add"}
            record, time = replace(one.record, unsure=frozenset(added - {at})), one.time
        else:
            record, time = _alone(each), each.time or 0
        (old if time < parts.held_from else new).append((each, record))
    return old, new


def untold(dated: Sequence[Dated], told: Hunks) -> list[Dated]:
    """The same hunks, nothing known of lines that stand again where a dismissed finding taught: they would judge what
    was told."""
    lines = {(one.path, one.source.strip()) for one, _ in told}
    found = []
    for one in dated:
        again = {
            at
            for at, line in enumerate(one.record.hunk.lines)
            if line.kind == "add" and (one.record.hunk.path, line.text.strip()) in lines
        }
        found.append(replace(one, record=replace(one.record, unsure=one.record.unsure | again)) if again else one)
    return found


def _alone(dismissed: Dismissed) -> Record:
    around: list[tuple[LineKind, str]] = [
        ("ctx", dismissed.before),
        ("add", dismissed.source),
        ("ctx", dismissed.after),
    ]
    lines = [(kind, text) for kind, text in around if kind == "add" or text.strip()]
    hunk = number_lines(dismissed.path, (1, len(lines) - 1), (1, len(lines)), "", lines)
    return Record("dismissed", language(dismissed.path), hunk, {}, frozenset())
