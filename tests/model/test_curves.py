import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.curves import Curves, Grades, confusion, reliability, risk_coverage
from model.labels import CATEGORIES, SEVERITIES, load_concepts

CATALOG = {concept.id: concept for concept in load_concepts()}
# A nit, a suggestion, a bug and a critical, in columns 1 to 4; column 0 is no finding.
CONCEPTS = [CATALOG[name] for name in ("missing_docstring", "debug_print", "bare_except", "eval_exec")]

ANSWERED = st.lists(
    st.tuples(st.sampled_from([0.05, 0.1, 0.2, 0.5, 0.5001, 0.9, 1.0]), st.booleans()), min_size=1, max_size=60
).map(lambda pairs: (np.array([sure for sure, _ in pairs], np.float32), np.array([right for _, right in pairs])))


def test_a_column_is_graded_by_the_concept_it_stands_for() -> None:
    grades = Grades.of(CONCEPTS)
    assert grades.severities.tolist() == [0, 1, 2, 3, 4]
    names = ["none", *CATEGORIES]
    assert [names[each] for each in grades.categories] == ["none", *(concept.category for concept in CONCEPTS)]


def test_a_confusion_counts_the_lines_of_each_truth_by_what_was_answered() -> None:
    truth, answer = np.array([0, 0, 1, 2, 2, 2]), np.array([0, 1, 1, 0, 2, 2])
    assert confusion(truth, answer, 4).tolist() == [[1, 1, 0, 0], [0, 1, 0, 0], [1, 0, 2, 0], [0, 0, 0, 0]]
    assert confusion(np.zeros(0, int), np.zeros(0, int), 2).tolist() == [[0, 0], [0, 0]]


def test_confidences_are_gathered_in_bins_of_a_fifteenth_and_the_faint_left_out() -> None:
    confidence = np.array([0.9, 0.9, 0.55, 0.05, 1.0], np.float32)
    right = np.array([True, False, True, True, True])
    assert reliability(confidence, right) == (
        (pytest.approx(0.55), 1.0, 1),
        (pytest.approx(0.9), 0.5, 2),
        (1.0, 1.0, 1),
    )
    assert reliability(np.zeros(0, np.float32), np.zeros(0, bool)) == ()


def test_risk_is_the_share_wrong_of_the_surest_answered() -> None:
    confidence = np.array([0.9, 0.8, 0.8, 0.3, 0.05], np.float32)
    right = np.array([True, False, True, False, True])
    assert risk_coverage(confidence, right) == ((0.25, 0.0), (0.75, pytest.approx(1 / 3)), (1.0, 0.5))
    assert risk_coverage(np.full(4, 0.05, np.float32), np.ones(4, bool)) == ()


@given(ANSWERED)
def test_the_curves_agree_on_the_lines_that_have_a_confidence(
    answered: tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]],
) -> None:
    confidence, right = answered
    kept = confidence >= 0.1
    bins, curve = reliability(confidence, right), risk_coverage(confidence, right)
    assert sum(lines for _, _, lines in bins) == kept.sum()
    assert sum(lines * share for _, share, lines in bins) == pytest.approx(right[kept].sum())
    assert [share for share, _ in curve] == sorted({share for share, _ in curve})
    if kept.any():
        assert curve[-1] == (1.0, pytest.approx((~right[kept]).mean()))


def test_a_long_curve_keeps_its_ends() -> None:
    confidence = np.linspace(0.2, 1, 5000).astype(np.float32)
    curve = risk_coverage(confidence, np.arange(5000) % 3 > 0)
    assert len(curve) == 60
    assert (curve[0][0], curve[-1][0]) == (1 / 5000, 1.0)


def test_the_curves_of_a_subject_have_its_matrices_in_both_scales() -> None:
    labels, answered, best = np.array([0, 1, 3, 4]), np.array([0, 1, 4, 0]), np.array([1, 1, 4, 2])
    confidence = np.array([0.05, 0.9, 0.6, 0.2], np.float32)
    curves = Curves.of(labels, answered, best, confidence, Grades.of(CONCEPTS))
    assert curves.severity.shape == (1 + len(SEVERITIES), 1 + len(SEVERITIES))
    assert curves.category.shape == (1 + len(CATEGORIES), 1 + len(CATEGORIES))
    assert (curves.severity[3, 4], curves.severity[4, 0], curves.concept[1, 1]) == (1, 1, 1)
    assert curves.risk[-1] == (1.0, pytest.approx(2 / 3))
