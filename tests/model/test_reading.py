import dataclasses
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from model import reading
from model.config import RECIPES, load_recipe
from model.dataset import DataError, split_of
from model.labels import load_concepts
from model.reading import Item
from tests.model.conftest import Trained

pytestmark = pytest.mark.train
SMOKE = load_recipe(RECIPES / "smoke.toml").train
CATALOG = {concept.id: concept for concept in load_concepts()}


@pytest.fixture(scope="module")
def items(trained: Trained) -> list[Item]:
    return reading.draw(trained.weights, trained.data, 7, SMOKE)


def test_a_sheet_holds_grave_findings_of_test_repositories_from_three_sources(items: list[Item]) -> None:
    number = {source: sum(item.source == source for item in items) for source in reading.NUMBERS}
    assert 0 < number["model"] <= 100
    assert 0 < number["chance"] <= 50
    assert {split_of(item.repository) for item in items} == {"test"}
    assert {item.concept.severity for item in items} <= {"bug", "critical"}
    assert len({item.hash for item in items}) == len(items)
    for item in items:
        (marked,) = [line for line in item.shown.splitlines() if line.startswith(">")]
        assert marked.startswith("> +")
        if item.source == "model":
            assert "except" in marked


def test_the_same_seed_draws_the_same_sheet(trained: Trained, items: list[Item]) -> None:
    assert reading.draw(trained.weights, trained.data, 7, SMOKE) == items
    assert [item.hash for item in reading.draw(trained.weights, trained.data, 8, SMOKE)] != [
        item.hash for item in items
    ]


def test_who_reads_sees_the_lines_and_the_claim_and_not_who_said_it(items: list[Item], tmp_path: Path) -> None:
    reading.write(items, tmp_path / "build" / "read.md")
    text = (tmp_path / "build" / "read.md").read_text("utf-8")
    assert all(item.hash in text and item.claim in text and item.shown in text for item in items)
    assert text.count("\n## ") == len(items) - 1
    renamed = [dataclasses.replace(item, source="chance") for item in items]
    reading.write(renamed, tmp_path / "other.md")
    assert (tmp_path / "other.md").read_text("utf-8") == text


def test_the_surest_are_of_what_is_wanted_however_sure_the_rest_is() -> None:
    chances = np.array([[0.0, 0.9, 0.1], [0.5, 0.3, 0.2], [0.0, 1.0, 0.0]], np.float32)
    wanted = np.array([[False, True], [True, True], [False, False]])
    assert reading.surest(chances, wanted, 2) == [(1, 0), (0, 1)]


def test_the_score_counts_verdicts_by_source_and_severity(tmp_path: Path) -> None:
    def item(name: str, source: reading.Source, concept: str) -> Item:
        return Item(name, source, "a/b", "a.py", CATALOG[concept], "> +x")

    asked = [
        item("1", "model", "bare_except"), item("2", "model", "eval_exec"), item("3", "model", "eval_exec"),
        item("4", "chance", "bare_except"), item("5", "linear", "bare_except"),
    ]  # fmt: skip
    path = tmp_path / "read.tsv"
    path.write_text("hash\tverdict\treason\n1\tact\tyes\n2\tleave\ta test\n4\tleave\tclean\n5\tact\tyes\n")
    found = reading.score(asked, reading.verdicts(path))
    assert found["model"] == {
        "all": {"read": 2, "act": 1},
        "bug": {"read": 1, "act": 1},
        "critical": {"read": 1, "act": 0},
    }
    assert (found["chance"]["all"], found["linear"]["all"]) == ({"read": 1, "act": 0}, {"read": 1, "act": 1})
    assert found["unread"] == 1


def test_a_verdict_is_one_of_two(tmp_path: Path) -> None:
    path = tmp_path / "read.tsv"
    path.write_text("hash\tverdict\treason\n1\tmaybe\t?\n")
    with pytest.raises(DataError, match="1 has the verdict 'maybe'; use act or leave"):
        reading.verdicts(path)
