# ruff: noqa: E402
import dataclasses
import json
import math
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from model import checkpoint, dataset, report
from model.config import RECIPES, load_recipe
from model.curves import INTERVALS, SUBJECTS, Judged
from model.dataset import DataError, Rows, record_of
from model.encoder import Encoder
from model.engine import softmax
from model.evaluate import (
    NEVER,
    auc,
    average_precision,
    calibration_error,
    figures,
    finding_temperature,
    fit_temperature,
    intervals,
    is_asked,
    judge,
    macro_f1,
    probabilities,
    recall_at,
    served,
    shown,
    thresholds,
    withheld,
)
from model.export import export_onnx
from model.labels import Concept, load_concepts
from tests.model import made
from tests.model.conftest import Trained

pytestmark = pytest.mark.train
SMOKE = load_recipe(RECIPES / "smoke.toml").train
CATALOG = {concept.id: concept for concept in load_concepts()}
# A nit, a suggestion, a bug and a critical, in columns 1 to 4; column 0 is no finding.
CONCEPTS = [CATALOG[name] for name in ("missing_docstring", "debug_print", "bare_except", "eval_exec")]

Scores = npt.NDArray[np.float64]
Truth = npt.NDArray[np.bool_]
# Few distinct scores, so that ties are common.
RANKED = st.lists(st.tuples(st.integers(-4, 4), st.booleans()), min_size=1, max_size=40).map(
    lambda pairs: (np.array([score for score, _ in pairs], float), np.array([truth for _, truth in pairs]))
)


def table(*pairs: tuple[float, int]) -> tuple[Scores, Truth]:
    return np.array([score for score, _ in pairs], float), np.array([bool(truth) for _, truth in pairs])


# Precision and recall.


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([(0.9, 1), (0.8, 1), (0.2, 0)], 1),
        ([(0.9, 1), (0.8, 0), (0.7, 1), (0.6, 0)], (1 + 2 / 3) / 2),
        ([(0.9, 0), (0.8, 1)], 1 / 2),
        ([(0.9, 1), (0.5, 1), (0.5, 0), (0.5, 0)], (1 + 2 / 4) / 2),  # three alike: at once or not at all
        ([(0.5, 1), (0.5, 0), (0.5, 0)], 1 / 3),
    ],
)
def test_average_precision_of_a_table_worked_by_hand(pairs: list[tuple[float, int]], expected: float) -> None:
    assert average_precision(*table(*pairs)) == pytest.approx(expected, abs=1e-4)


@settings(deadline=None)
@given(RANKED)
def test_average_precision_is_precision_summed_over_the_gains_in_recall(ranked: tuple[Scores, Truth]) -> None:
    scores, truth = ranked
    expected, before = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        flagged = scores >= threshold
        recall = truth[flagged].sum() / max(1, truth.sum())
        expected += (recall - before) * truth[flagged].mean()
        before = recall
    if truth.any():
        assert average_precision(scores, truth) == pytest.approx(expected, abs=1e-4)
    else:
        assert math.isnan(average_precision(scores, truth))


@settings(deadline=None)
@given(RANKED)
def test_auc_is_the_share_of_pairs_in_order(ranked: tuple[Scores, Truth]) -> None:
    scores, truth = ranked
    pairs = [(high > low) + (high == low) / 2 for high in scores[truth] for low in scores[~truth]]
    if pairs:
        assert auc(scores, truth) == pytest.approx(np.mean(pairs), abs=1e-4)
    else:
        assert math.isnan(auc(scores, truth))


@settings(deadline=None)
@given(RANKED, st.sampled_from([0.3, 0.5, 0.9]))
def test_recall_at_a_precision_is_the_best_of_all_thresholds(ranked: tuple[Scores, Truth], precision: float) -> None:
    scores, truth = ranked
    reached = [
        truth[scores >= each].sum() / max(1, truth.sum())
        for each in scores
        if truth[scores >= each].mean() >= precision
    ]
    assert recall_at(scores, truth, precision) == pytest.approx(max(reached, default=0), abs=1e-4)


@settings(deadline=None)
@given(RANKED)
def test_only_the_order_of_the_scores_counts_and_not_that_of_the_lines(ranked: tuple[Scores, Truth]) -> None:
    scores, truth = ranked
    shuffle = np.random.default_rng(len(scores)).permutation(len(scores))
    for figure in (average_precision, auc, recall_at):
        as_it_is = figure(scores, truth)
        for other in (scores * 3 - 7, np.exp(scores), scores**3):
            assert figure(other, truth) == pytest.approx(as_it_is, nan_ok=True)
        assert figure(scores[shuffle], truth[shuffle]) == pytest.approx(as_it_is, nan_ok=True)


@settings(deadline=None)
@given(st.lists(st.booleans(), min_size=2).filter(lambda truth: any(truth) and not all(truth)))
def test_a_perfect_ranking_is_one_and_a_reversed_one_has_no_pair_in_order(truth: list[bool]) -> None:
    right = np.array(truth)
    assert (average_precision(right * 1.0, right), auc(right * 1.0, right), recall_at(right * 1.0, right)) == (1, 1, 1)
    assert auc(right * -1.0, right) == 0
    assert average_precision(np.zeros(len(right)), right) == pytest.approx(right.mean(), abs=1e-4)
    assert auc(np.zeros(len(right)), right) == 0.5


def test_of_no_lines_nothing_can_be_told() -> None:
    none: tuple[Scores, Truth] = (np.zeros(0), np.zeros(0, bool))
    assert math.isnan(average_precision(*none))
    assert math.isnan(auc(*none))
    assert recall_at(*none) == 0
    assert math.isnan(macro_f1(np.zeros(0, int), np.zeros(0, int)))
    assert math.isnan(calibration_error(np.zeros(0, np.float32), none[1]))


def test_macro_f1_of_a_table_worked_by_hand() -> None:
    truth, answer = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 3, 0])
    # 0: two right of three there and three said; 1: one right of two and two; 2: none; 3 is not in the truth.
    assert macro_f1(truth, answer) == pytest.approx((4 / 6 + 2 / 4 + 0) / 3, abs=1e-4)
    assert macro_f1(truth, truth) == 1


def test_calibration_error_of_a_table_worked_by_hand() -> None:
    confidence = np.array(
        [0.9, 0.9, 0.55, 0.05], np.float32
    )  # bins of a fifteenth; below a tenth a line counts as clean
    right = np.array([True, False, True, True])
    assert calibration_error(confidence, right) == pytest.approx((abs(1.8 - 1) + abs(0.55 - 1)) / 3, abs=1e-4)
    assert calibration_error(np.ones(5, np.float32), np.ones(5, bool)) == 0
    assert calibration_error(np.full(10, 0.7, np.float32), np.arange(10) < 7) == pytest.approx(0, abs=1e-4)


# What is asked.


def test_what_the_engine_does_not_ask_counts_for_none() -> None:
    def record(path: str, language: str, *lines: str) -> Any:
        return record_of(made.record("made/up0", *(("add", each) for each in lines), path=path, language=language))

    records = [
        record("src/a.py", "python", "except eval", 'except eval "$(ssh-agent -s)"', ""),
        record("tests/test_a.py", "python", "except eval"),
        record("a.go", "go", "except eval"),
    ]
    rows = dataset.build(records, made.tokenizer(), CONCEPTS, Counter(), 96)
    asked = is_asked(rows, CONCEPTS)
    assert asked.tolist() == [
        [True, True, True, True],
        [True, True, True, False],  # the custom of eval
        [CONCEPTS[at].in_tests for at in range(4)],
        [concept.speaks("go") for concept in CONCEPTS],
    ]
    assert not asked.all(1)[1:].any()
    chances = np.tile(np.array([0.4, 0.2, 0.1, 0.1, 0.2], np.float32), (4, 1))
    found = withheld(chances, asked)
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-6)
    np.testing.assert_allclose(found[0], chances[0], rtol=1e-6)
    np.testing.assert_allclose(found[1], [0.5, 0.25, 0.125, 0.125, 0], rtol=1e-6)
    assert is_asked(dataset.only(rows, np.arange(0)), CONCEPTS).shape == (0, 4)


# Calibration.


def drawn(seed: int, rows: int = 600, outputs: int = 4, spread: float = 3.0) -> tuple[Any, npt.NDArray[np.int16]]:
    """Logits, in coarse steps so that some are alike, and labels that follow them."""
    chance = np.random.default_rng(seed)
    logits = np.round(chance.normal(size=(rows, outputs)) * spread, 1).astype(np.float32)
    labels = [chance.choice(outputs, p=row / row.sum()) for row in softmax(logits).astype(float)]
    return logits, np.array(labels, np.int16)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.sampled_from([0.5, 1.0, 3.0]), st.sampled_from([0.6, 1.0, 2.0]))
def test_what_is_shown_of_a_concept_was_right_six_times_in_ten(seed: int, spread: float, temperature: float) -> None:
    logits, labels = drawn(seed, spread=spread)
    names = ["one", "two", "three"]
    chances = softmax(logits / temperature)
    found = thresholds(chances, labels, alike(*names))
    reaches = {name: chances[:, column] >= found[name] for column, name in enumerate(names, start=1)}
    right = {name: labels[reaches[name]] == column for column, name in enumerate(names, start=1)}
    alone = [name for name in names if list(found.values()).count(found[name]) == 1 and found[name] != NEVER]
    shared = [name for name in names if name not in alone and found[name] != NEVER]
    for group in (*([name] for name in alone), shared):
        if group:
            shown_right = np.concatenate([right[name] for name in group])
            assert len(shown_right) < 8 or shown_right.mean() >= 0.6


def alike(*names: str) -> list[Concept]:
    """Concepts of one severity."""
    return [dataclasses.replace(CATALOG["debug_print"], id=name) for name in names]


TWO = alike("one", "two")


def certain(*groups: tuple[int, int, float, int]) -> tuple[Any, npt.NDArray[np.int16]]:
    """(lines, column said, its confidence, label) of each group, as logits of three columns."""
    logits, labels = [], []
    for number, column, confidence, label in groups:
        row = np.full(3, np.log((1 - confidence) / 2))
        row[column] = np.log(confidence)
        logits += [row] * number
        labels += [label] * number
    return np.array(logits, np.float32), np.array(labels, np.int16)


def test_a_threshold_is_the_lowest_confidence_that_keeps_the_precision() -> None:
    logits, labels = certain((10, 1, 0.9, 1), (6, 1, 0.7, 0), (10, 1, 0.5, 0), (10, 2, 0.8, 0))
    found = thresholds(softmax(logits), labels, TWO)
    assert found["one"] == pytest.approx(0.7, abs=1e-4)  # 10 of 16; with the next ten, 10 of 26
    assert found["two"] == pytest.approx(0.9, abs=1e-4)  # where all of both are right; it has none there


def test_equal_confidences_are_shown_together_or_not_at_all() -> None:
    logits, labels = certain((10, 1, 0.9, 1), (9, 1, 0.7, 1), (40, 1, 0.7, 0))
    assert thresholds(softmax(logits), labels, TWO)["one"] == pytest.approx(0.9, abs=1e-4)


def test_concepts_with_too_few_lines_share_the_threshold_of_all_of_them() -> None:
    logits, labels = certain((5, 1, 0.95, 1), (5, 2, 0.85, 2))
    found = thresholds(softmax(logits), labels, TWO)
    assert found["one"] == found["two"] == pytest.approx(0.85, abs=1e-4)


def test_rare_concepts_share_with_their_severity_first() -> None:
    bugs = [dataclasses.replace(each, severity="bug") for each in alike("three", "four")]
    logits, labels = certain((5, 1, 0.95, 1), (5, 2, 0.85, 2))
    wide = np.full((len(logits), 5), -20, np.float32)
    wide[:, :3] = logits
    more, of_more = certain((9, 1, 0.9, 1), (20, 1, 0.7, 0))
    of_bugs = np.full((len(more), 5), -20, np.float32)
    of_bugs[:, [0, 3, 4]] = more
    of_bugs[:4, [3, 4]] = of_bugs[:4, [4, 3]]  # four of one, five of the other: too few for either
    truth = np.concatenate((labels, np.where(of_more == 1, 3, 0)))
    truth[len(labels) : len(labels) + 4] = 4
    found = thresholds(softmax(np.concatenate((wide, of_bugs))), truth.astype(np.int16), [*alike("one", "two"), *bugs])
    assert found["one"] == found["two"] == pytest.approx(0.85, abs=1e-3)
    assert found["three"] == found["four"] == pytest.approx(0.9, abs=1e-3)


def test_a_severity_with_too_few_lines_has_the_threshold_of_all_unless_it_is_wrong_there() -> None:
    logits, labels = certain((20, 1, 0.9, 1), (5, 1, 0.6, 0), (3, 2, 0.95, 2))
    bug = dataclasses.replace(CATALOG["debug_print"], id="two", severity="bug")
    assert thresholds(softmax(logits), labels, [TWO[0], bug])["two"] == pytest.approx(0.6, abs=1e-4)  # 23 of 28
    wrong, of_wrong = certain((8, 2, 0.65, 0))
    logits, labels = np.concatenate((logits, wrong)), np.concatenate((labels, of_wrong))
    assert thresholds(softmax(logits), labels, [TWO[0], bug])["two"] == pytest.approx(0.9, abs=1e-4)  # 23 of 23
    wrong, of_wrong = certain((5, 2, 0.92, 0))
    logits, labels = np.concatenate((logits, wrong)), np.concatenate((labels, of_wrong))
    assert thresholds(softmax(logits), labels, [TWO[0], bug])["two"] == NEVER  # 3 of 8, of all 23 of 28


def test_a_higher_precision_asks_for_more_confidence() -> None:
    logits, labels = certain((10, 1, 0.9, 1), (6, 1, 0.7, 0), (10, 1, 0.5, 0))
    found = [thresholds(softmax(logits), labels, TWO, precision)["one"] for precision in (0.3, 0.6, 0.9)]
    assert found == pytest.approx([0.5, 0.7, 0.9], abs=1e-4)


def test_a_grave_claim_has_to_be_surer() -> None:
    logits, labels = certain((10, 1, 0.9, 1), (6, 1, 0.7, 0))  # 10 of 16 are fewer than seven in ten
    grave = [dataclasses.replace(each, severity="bug") for each in TWO]
    assert thresholds(softmax(logits), labels, TWO)["one"] == pytest.approx(0.7, abs=1e-4)
    assert thresholds(softmax(logits), labels, grave)["one"] == pytest.approx(0.9, abs=1e-4)


def test_without_enough_lines_nothing_is_ever_shown() -> None:
    logits, labels = certain((3, 1, 0.9, 1), (3, 2, 0.8, 2))
    assert set(thresholds(softmax(logits), labels, TWO).values()) == {NEVER}
    none = np.zeros((0, 3), np.float32), np.zeros(0, np.int16)
    assert set(thresholds(*none, TWO).values()) == {NEVER}
    assert fit_temperature(*none) == of_findings(*none) == 1.0


def all_asked(logits: Any) -> npt.NDArray[np.bool_]:
    return np.ones((len(logits), logits.shape[1] - 1), np.bool_)


def of_findings(logits: Any, labels: npt.NDArray[np.int16]) -> float:
    return finding_temperature(logits, labels, all_asked(logits))


@pytest.mark.parametrize("fit", [fit_temperature, of_findings])
@pytest.mark.parametrize("factor", [0.6, 1.0, 2.0])
def test_the_temperature_undoes_how_far_the_logits_were_stretched(fit: Callable[..., float], factor: float) -> None:
    logits, labels = drawn(3, rows=4000, spread=2)
    assert fit(logits * np.float32(factor), labels) == pytest.approx(factor, rel=0.12)


def test_lines_that_are_clean_beyond_doubt_leave_the_confidence_of_findings_alone() -> None:
    logits, labels = drawn(3, rows=4000, spread=2)
    clean = np.tile(np.array([20, *[0] * (logits.shape[1] - 1)], np.float32), (40_000, 1))
    with_clean = np.concatenate((logits * 2, clean)), np.concatenate((labels, np.zeros(len(clean), labels.dtype)))
    assert of_findings(*with_clean) == of_findings(logits * 2, labels)


def test_what_is_said_of_concepts_that_are_not_asked_leaves_the_temperature_alone() -> None:
    logits, labels = drawn(3, rows=4000, spread=2)
    nonsense = np.concatenate((logits * 2, np.ones((len(logits), 1), np.float32)), axis=1)
    mask = np.concatenate((all_asked(logits), np.zeros((len(logits), 1), np.bool_)), axis=1)
    assert finding_temperature(nonsense, labels, mask) == pytest.approx(of_findings(logits * 2, labels), rel=0.05)


# All figures of one set of answers.


def rows_of(*lines: tuple[str, str]) -> Rows:
    """(repository, concept or nothing) of each line, one line a hunk."""
    records = [made.record(name, ("add", "except eval"), labels={0: [said]} if said else {}) for name, said in lines]
    return dataset.build([record_of(each) for each in records], made.tokenizer(), CONCEPTS, Counter(), 96)


def sure(*columns: int, confidence: float = 0.9) -> Any:
    """A row a line, sure of this column."""
    chances = np.full((len(columns), 1 + len(CONCEPTS)), (1 - confidence) / len(CONCEPTS), np.float32)
    chances[np.arange(len(columns)), columns] = confidence
    return chances


@pytest.fixture
def eight() -> Rows:
    """Three clean lines, a nit, a suggestion, two bugs and a critical, of two repositories."""
    return rows_of(
        ("a/a", ""), ("a/a", ""), ("a/a", ""), ("a/a", "missing_docstring"), ("a/a", "debug_print"),
        ("b/b", "bare_except"), ("b/b", "bare_except"), ("b/b", "eval_exec"),
    )  # fmt: skip


ANSWERS = (0, 0, 1, 1, 2, 3, 0, 3)  # a clean line called a nit, a bug called clean, the critical called a bug


def test_figures_of_answers_worked_by_hand(eight: Rows) -> None:
    found = figures(sure(*ANSWERS), eight, CONCEPTS)
    counts = {name: found[name] for name in ("lines", "concepts_seen", "bugs", "criticals")}
    assert counts == {"lines": 8, "concepts_seen": 4, "bugs": 2, "criticals": 1}
    assert (found["prevalence"], found["any_prevalence"]) == (4 / 8, 5 / 8)
    # Suggestion or worse: three of four stand first, the last is alike with four others. Any: four of the first five.
    assert found["line_ap"] == pytest.approx(3 / 4 * 1 + 1 / 4 * 4 / 8)
    assert found["any_ap"] == pytest.approx(4 / 5 * 4 / 5 + 1 / 5 * 5 / 8)
    assert found["line_auc"] == pytest.approx((3 * 4 + 4 / 2) / 16)
    # Given a finding, the bug called clean has no concept above the others, and the first stands for it: a nit.
    assert found["severity_accuracy"] == 3 / 5
    assert found["severity_balanced_accuracy"] == (1 + 1 + 1 / 2 + 0) / 4
    for figure in ("category_macro_f1", "concept_macro_f1"):
        assert found[figure] == pytest.approx((2 / 3 + 1 + 1 / 2 + 0) / 4, abs=1e-4)
    # End to end: none, nit, suggestion, bug, critical.
    assert found["five_way_macro_f1"] == pytest.approx((4 / 6 + 2 / 3 + 1 + 2 / 4 + 0) / 5, abs=1e-4)
    assert (found["bug_recall_at_p50"], found["critical_recall_at_p50"]) == (1 / 2, 0)
    assert found["ece"] == pytest.approx(abs(5 * 0.9 - 3) / 5, abs=1e-4)
    kept = ("lines", "prevalence", "line_ap", "any_ap")
    assert found["per_language"] == {"python": {name: found[name] for name in kept}}


def test_right_answers_have_full_marks(eight: Rows) -> None:
    found = figures(sure(*eight.labels), eight, CONCEPTS)
    perfect = [name for name in found if name.endswith(("_ap", "_auc", "_f1", "_accuracy", "_p50"))]
    assert len(perfect) == 11
    assert {name: found[name] for name in perfect} == dict.fromkeys(perfect, 1)


def test_what_is_shown_is_counted_by_severity(eight: Rows) -> None:
    least = np.array([0.5, 0.5, 0.95, 0.5])  # no bug is sure enough
    found = shown(sure(*ANSWERS), eight.labels, least, CONCEPTS)
    assert found["nit"] == {"lines": 2, "precision": 0.5, "recall": 1}
    assert found["suggestion"] == {"lines": 1, "precision": 1, "recall": 1}
    assert found["bug"] == {"lines": 0, "precision": pytest.approx(math.nan, nan_ok=True), "recall": 0}
    assert found["any"] == {"lines": 3, "precision": pytest.approx(2 / 3, abs=1e-4), "recall": 2 / 5}


def test_each_interval_holds_its_figure_and_is_drawn_by_repository(eight: Rows) -> None:
    answers = sure(*ANSWERS)
    own, found = figures(answers, eight, CONCEPTS), intervals(answers, eight, CONCEPTS, seed=7)
    assert set(found) == set(INTERVALS)
    assert {name for name, (low, high) in found.items() if not low <= own[name] <= high} == set()
    assert found["line_ap"][0] < found["line_ap"][1]
    assert found == intervals(answers, eight, CONCEPTS, seed=7)
    assert found != intervals(answers, eight, CONCEPTS, seed=8, draws=5)
    one = rows_of(*(("a/a", CONCEPTS[label - 1].id if label else "") for label in eight.labels))
    alone = intervals(answers, one, CONCEPTS, seed=7)
    assert alone == {name: (own[name], own[name]) for name in INTERVALS}


def test_a_figure_that_no_draw_can_tell_has_no_interval() -> None:
    clean = rows_of(("a/a", ""), ("b/b", ""))
    low, high = intervals(sure(0, 0), clean, CONCEPTS, seed=7)["concept_macro_f1"]
    assert math.isnan(low)
    assert math.isnan(high)


# Held out, from mined data to the manifest's figures.


@pytest.fixture(scope="module")
def curves(trained: Trained) -> Judged:
    return judge(trained.weights, trained.data, SMOKE, trained.said.append)


@pytest.fixture(scope="module")
def judged(curves: Judged) -> dict[str, Any]:
    return curves.figures


def test_every_baseline_stands_beside_the_model_with_the_same_figures(judged: dict[str, Any], trained: Trained) -> None:
    names = ("model", "majority", "size_only", "linear")
    assert judged["repositories"] == sorted(made.named("test", 2))
    assert judged["data_digest"] == dataset.digest(trained.data)
    assert all(set(judged[name]) - {"shown", "fixes"} == set(judged["majority"]) for name in names)
    for draw in ("injected", "injected_taught"):
        assert all(judged[name][draw]["faults"] == 0 for name in names)  # nothing was put in here
    assert {judged[name]["with_grave"]["bugs"] for name in names} == {judged["model"]["bugs"]}
    assert {judged[name]["lines"] for name in names} == {2 * 40 * 4}
    majority = judged["majority"]
    assert majority["line_ap"] >= majority["prevalence"]  # where a concept is asked at all tells a little
    assert majority["line_auc"] >= 0.5
    assert judged["model"]["line_ap"] > judged["size_only"]["line_ap"] > majority["line_ap"]
    assert judged["linear"]["line_ap"] > 0.9
    json.dumps(judged, allow_nan=False)


def test_the_matrices_of_every_subject_count_every_line_once(curves: Judged) -> None:
    assert set(curves.curves) == set(SUBJECTS)
    for name, each in curves.curves.items():
        assert each.severity.sum() == each.category.sum() == each.concept.sum() == curves.figures[name]["lines"]
        assert (each.severity.sum(1) == curves.curves["model"].severity.sum(1)).all()
    own = curves.curves["model"].severity
    assert own[3].sum() == curves.figures["model"]["bugs"]
    assert own.trace() / own.sum() > 0.9
    assert curves.curves["majority"].severity[:, 1:].sum() == 0


def test_the_page_shows_what_was_judged(curves: Judged, trained: Trained, tmp_path: Path) -> None:
    manifest = checkpoint.read_manifest(trained.weights)
    page = report.write(curves, manifest, tmp_path / "deep" / "down")
    assert f"{curves.figures['model']['line_ap']:.3f}" in page.read_text()
    kept = json.loads((page.parent / "figures.json").read_text())
    assert kept["heldout"] == curves.figures
    assert kept["curves"]["model"]["severity"] == curves.curves["model"].severity.tolist()


def test_the_smoke_model_knows_the_pattern_in_repositories_never_trained_on(judged: dict[str, Any]) -> None:
    assert judged["model"]["line_ap"] > 0.95
    assert judged["model"]["five_way_macro_f1"] > 0.9
    assert judged["model"]["shown"]["any"]["precision"] >= 0.6
    assert judged["model"]["shown"]["any"]["lines"] > 0


def test_text_that_training_never_had_is_judged_apart(judged: dict[str, Any], trained: Trained) -> None:
    def lines(split: dataset.Split) -> list[str]:
        return [
            " ".join(line.text.split())
            for record in dataset.read(trained.data, split)
            for line in record.hunk.lines
            if line.kind == "add"
        ]

    known = set(lines("train"))
    assert judged["model"]["unseen_text"]["lines"] == sum(line not in known for line in lines("test"))
    assert 0 < judged["model"]["unseen_text"]["lines"] < judged["model"]["lines"]


def test_other_weights_have_other_figures_and_leave_the_baselines_alone(
    judged: dict[str, Any], trained: Trained, tmp_path: Path
) -> None:
    """The same file with each tensor's numbers in another order: what is judged is what the weights say."""
    encoder, tokenizer, manifest = checkpoint.load(trained.weights)
    torch.manual_seed(1)
    with torch.no_grad():
        for value in encoder.parameters():
            value.copy_(value.flatten()[torch.randperm(value.numel())].view_as(value))
    checkpoint.save(tmp_path, encoder, tokenizer)
    export_onnx(encoder, tmp_path)
    checkpoint.write_manifest(tmp_path, manifest)
    shuffled = judge(tmp_path, trained.data, SMOKE, trained.said.append).figures
    assert shuffled["model"]["line_ap"] < 0.6 < judged["model"]["line_ap"]
    assert shuffled["model"]["five_way_macro_f1"] < judged["model"]["five_way_macro_f1"]
    for name in ("majority", "size_only", "linear"):
        assert shuffled[name] == judged[name]


def test_what_is_judged_is_the_int8_graph_that_ships(trained: Trained, tmp_path: Path) -> None:
    encoder, tokenizer, manifest = checkpoint.load(trained.weights)
    concepts = [CATALOG[name] for name in manifest["concepts"]]
    rows = dataset.build(dataset.read(trained.data, "test"), tokenizer, concepts, Counter(), 96)
    answers = served(trained.weights, rows)
    np.testing.assert_allclose(answers, probabilities(encoder, rows, temperature=manifest["temperature"]), atol=0.05)
    for path in trained.weights.iterdir():
        shutil.copy(path, tmp_path / path.name)
    export_onnx(Encoder(encoder.config, 3), tmp_path)  # another graph beside the same safetensors
    checkpoint.write_manifest(tmp_path, manifest)
    assert np.abs(served(tmp_path, rows) - answers).max() > 0.1


def test_without_a_test_repository_there_is_nothing_to_judge_by(trained: Trained, tmp_path: Path) -> None:
    for path in trained.data.glob("*.json*"):
        if dataset.split_of(path.stem.replace("+", "/")) == "train":
            shutil.copy(path, tmp_path / path.name)
    with pytest.raises(DataError, match=r"holds no test repository; `sentinelctl data stats`"):
        judge(trained.weights, tmp_path, SMOKE, lambda _: None)
