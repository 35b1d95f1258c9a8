from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from model import history
from model.dataset import DataError, record_of
from model.history import Dated, day, dismiss, dismissals, part, untold
from model.labels import load_concepts
from model.mining.dismissed import Dismissed
from tests.model import made

DAY = 86_400
BEGAN = 1_700_000_000 // DAY * DAY
CONCEPTS = [concept for concept in load_concepts() if concept.id in ("bare_except", "debug_print", "trailing_comma")]


def dated(at_day: float, path: str, *texts: str, labels: dict[int, list[str]] | None = None) -> Dated:
    lines = [("add", text) for text in texts]
    raw = made.record(f"{at_day:08.2f}", *lines, labels=labels or {}, path=path)
    return Dated(record_of(raw), BEGAN + int(at_day * DAY))


def daily(days: int = 120) -> Iterator[Dated]:
    """Ten lines a day, one of them bare."""
    for at in range(days):
        yield dated(at, f"m{at}.py", *[f"x = {at * 10 + n}" for n in range(9)], "except:", labels={9: ["bare_except"]})


def test_the_newest_fifth_judges_and_what_came_just_before_is_held_back() -> None:
    parts = part([*daily()][::-1], CONCEPTS)
    assert (day(parts.held_from), day(parts.judged_from)) == (day(BEGAN + 78 * DAY), day(BEGAN + 96 * DAY))
    assert [len(each) for each in (parts.taught, parts.held_back, parts.judged)] == [78, 18, 24]
    assert max(one.time for one in parts.taught) < parts.held_from <= min(one.time for one in parts.held_back)
    assert max(one.time for one in parts.held_back) < parts.judged_from <= min(one.time for one in parts.judged)


def test_no_day_lies_on_both_sides_of_a_cut() -> None:
    """Half of the lines came on one day, which is older than the newest fifth."""
    many = [
        dated(70 + n / 1000, f"n{n}.py", "except:", *[f"y = {n}{x}" for x in range(9)], labels={0: ["bare_except"]})
        for n in range(100)
    ]
    parts = part([*daily(), *many], CONCEPTS)
    assert {one.time // DAY for one in parts.judged}.isdisjoint(one.time // DAY for one in parts.held_back)
    assert {one.time // DAY for one in parts.held_back}.isdisjoint(one.time // DAY for one in parts.taught)


def test_a_hunk_that_came_before_does_not_judge() -> None:
    again = replace(next(daily()), time=BEGAN + 100 * DAY + 5)
    parts = part([*daily(), again], CONCEPTS)
    assert again not in parts.judged
    assert len(parts.judged) == 24


@pytest.mark.parametrize(
    ("days", "message"),
    [
        (40, "26 lines with a finding before 2023-12-10, where 40 are needed"),
        (80, "12 such lines from then to 2024-01-17, where 16 are needed"),
        (120, None),
    ],
)
def test_too_little_for_one_of_the_parts_is_refused_with_what_is_there(days: int, message: str | None) -> None:
    if message is None:
        assert part([*daily(days)], CONCEPTS).judged
        return
    with pytest.raises(DataError, match=f"this history is too short to learn from: {message}"):
        part([*daily(days)], CONCEPTS)


def test_nits_alone_cannot_judge() -> None:
    nits = [concept for concept in load_concepts() if concept.severity == "nit" and not concept.is_rule][:1]
    mild = [
        replace(one, record=replace(one.record, labels={9: (nits[0].id,)})) if one.time >= BEGAN + 96 * DAY else one
        for one in daily()
    ]
    with pytest.raises(DataError, match="0 lines graver than a nit since"):
        part(mild, [*CONCEPTS, *nits])


def test_one_commit_cannot_judge() -> None:
    one = [replace(each, record=replace(each.record, repository="one")) for each in daily()]
    with pytest.raises(DataError, match="1 commits with such a line since"):
        part(one, CONCEPTS)


def test_of_what_a_fix_took_away_only_named_lines_are_told() -> None:
    named = dated(1, "a.py", "x = 1", "except:", "y = 2", labels={1: ["bare_except"]})
    (found,) = history.only_findings([named, dated(1, "b.py", "x = 1")])
    assert (found.record.labels, found.record.unsure) == ({1: ("bare_except",)}, {0, 2})


def test_a_dismissed_concept_is_no_longer_said_of_its_line_wherever_it_stands() -> None:
    here = dated(
        1, "a.py", "  except:", "print(except)", labels={0: ["bare_except"], 1: ["debug_print", "bare_except"]}
    )
    other = dated(2, "b.py", "except:", labels={0: ["bare_except"]})
    asked = [Dismissed("a.py", "bare_except", "except:"), Dismissed("a.py", "debug_print", "print(except)")]
    first, second = dismiss([here, other], asked)
    assert first.record.labels == {1: ("bare_except",)}
    assert second == other


def placed(**changes: Any) -> tuple[int, int]:
    """How many of one dismissed finding (may teach, are too new to)."""
    old, new = dismissals(
        [Dismissed(**{"path": "z.py", "concept": "bare_except", "source": "except:"} | changes)], PARTS
    )
    return len(old), len(new)


PARTS = part([*daily()], CONCEPTS)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"path": "m3.py", "source": "    x = 31"}, (1, 0)),
        ({"path": "m80.py", "source": "x = 801"}, (0, 1)),
        ({"path": "m100.py", "source": "x = 1001"}, (0, 1)),
        ({"path": "m3.py", "source": "x = 31", "time": BEGAN + 99 * DAY}, (1, 0)),  # as old as its line
        ({"time": BEGAN + 3 * DAY}, (1, 0)),
        ({"time": BEGAN + 80 * DAY}, (0, 1)),
        ({}, (1, 0)),  # of no known age, and nowhere in the history
    ],
)
def test_a_dismissed_finding_teaches_when_its_line_is_older_than_the_cut(
    changes: dict[str, Any], expected: tuple[int, int]
) -> None:
    assert placed(**changes) == expected


def test_the_hunk_of_a_dismissed_finding_tells_of_its_line_alone() -> None:
    ((_, known),), _ = dismissals([Dismissed("m3.py", "debug_print", "x = 31")], PARTS)
    assert (known.labels, set(range(10)) - known.unsure) == ({9: ("bare_except",)}, {1})
    ((_, alone),), _ = dismissals([Dismissed("z.py", "debug_print", "  log(x)", before="try:", after="")], PARTS)
    assert [(line.kind, line.text) for line in alone.hunk.lines] == [("ctx", "try:"), ("add", "  log(x)")]
    assert (alone.labels, alone.unsure, alone.language) == ({}, frozenset(), "python")


def test_a_line_that_was_told_does_not_judge_when_it_comes_again() -> None:
    again = dated(110, "m3.py", "  x = 31", "y = 1")
    old, _ = dismissals([Dismissed("m3.py", "debug_print", "x = 31")], PARTS)
    first, second = untold([again, PARTS.judged[0]], old)
    assert (first.record.unsure, second) == ({0}, PARTS.judged[0])
