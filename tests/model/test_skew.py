from collections.abc import Sequence
from pathlib import Path

import pytest

from model.engine import Probabilities, load_engine
from model.inputs.chunk import Chunk, chunks
from model.inputs.diff import Hunk, number_lines
from model.labels import load_concepts
from model.skew import compare
from tests.model import made
from tests.model.test_engine import added, tokenizer, weights  # noqa: F401 (fixtures)

CONCEPTS = [concept for concept in load_concepts() if not concept.is_rule]
ODD = ("def load(path, cache=[]):", "", "    except:", "        print(path)", "\t\u00e9\u4e2d\U0001f600", "x" * 900)
HUNKS = [
    added("app/store.py", *ODD),
    added("tests/test_a.py", *[f"assert value_{n} == {n}" for n in range(100)]),
    number_lines("b.py", (3, 3), (3, 2), "f()", [("del", "x = 1"), ("ctx", "y = 2"), ("add", "z = 3"), ("del", "q")]),
    number_lines("gone.py", (3, 1), (2, 0), "", [("del", "x = 1")]),
    added("blank.py", "", "   ", "\t"),
    added("main.rs", "fn main() {}"),
]  # fmt: skip


class Altered:
    """An engine whose serving side departs in one respect."""

    def __init__(self, engine: object, **changes: object) -> None:
        self._engine = engine
        self.__dict__.update(changes)

    def __getattr__(self, name: str) -> object:
        return getattr(self._engine, name)


def test_serving_reads_and_answers_as_training_does(weights: Path) -> None:  # noqa: F811
    engine = load_engine(weights=weights, threads=1)
    found = compare(engine, made.tokenizer(), CONCEPTS, 96, HUNKS)
    assert found.is_none
    assert (found.hunks, found.skipped, found.lines) == (5, 1, 106)
    assert found.findings > 0
    assert found.largest_gap < 1e-4


def test_the_shipped_weights_have_no_skew() -> None:
    from model.engine import WEIGHTS, read_manifest
    from model.inputs.tokenizer import Tokenizer

    manifest = read_manifest()
    by_id = {concept.id: concept for concept in load_concepts()}
    concepts = [by_id[name] for name in manifest.concepts]
    tokenizer = Tokenizer.load(WEIGHTS / "tokenizer.model")  # noqa: F811
    source = [added(f"model/{path.name}", *path.read_text().splitlines()) for path in WEIGHTS.parent.glob("*.py")]
    found = compare(
        load_engine(threads=2), tokenizer, concepts, manifest.document["config"]["max_tokens"], [*source, *HUNKS]
    )
    assert found.is_none
    assert found.findings > 20


def test_rows_that_are_cut_otherwise_are_named(weights: Path) -> None:  # noqa: F811
    engine = load_engine(weights=weights, threads=1)
    found = compare(engine, made.tokenizer(), CONCEPTS, 40, HUNKS)
    assert "app/store.py:6" in found.other_rows
    assert not found.is_none


def test_a_line_that_serving_leaves_out_is_named(weights: Path) -> None:  # noqa: F811
    engine = load_engine(weights=weights, threads=1)

    def without_the_last(hunk: Hunk) -> tuple[Chunk, ...]:
        return tuple(Chunk(each.index, each.rows[:-1], each.lines[:-1]) for each in chunks(hunk, made.tokenizer()))

    found = compare(Altered(engine, encode=without_the_last), made.tokenizer(), CONCEPTS, 96, HUNKS[:1])  # type: ignore[arg-type]
    assert found.other_rows == ("app/store.py:6",)


def test_another_answer_to_the_same_rows_is_named(weights: Path) -> None:  # noqa: F811
    engine = load_engine(weights=weights, threads=1)
    calls = []

    def later_otherwise(windows: Sequence[Chunk]) -> list[Probabilities]:
        calls.append(windows)
        scores = engine.predict(windows)
        return scores if len(calls) == 1 else [score[:, ::-1] for score in scores]

    found = compare(Altered(engine, predict=later_otherwise), made.tokenizer(), CONCEPTS, 96, HUNKS)  # type: ignore[arg-type]
    assert found.other_rows == ()
    assert found.other_findings


@pytest.mark.parametrize("hunks", [[], [HUNKS[3]], [HUNKS[4]], [HUNKS[5]]], ids=["none", "deleted", "blank", "other"])
def test_of_nothing_nothing_differs(hunks: list[Hunk], weights: Path) -> None:  # noqa: F811
    found = compare(load_engine(weights=weights, threads=1), made.tokenizer(), CONCEPTS, 96, hunks)
    assert found.is_none
    assert found.lines == 0
