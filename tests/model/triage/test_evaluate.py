import numpy as np
import pytest

from model.triage.evaluate import figures, majority


def test_balanced_counts_each_severity_that_occurs_alike() -> None:
    truth = (np.array([1, 1, 1, 3]), np.array([0, 0, 2, 2]))
    found = figures(truth, (np.array([1, 1, 1, 1]), np.array([0, 0, 2, 0])))
    assert (found.accuracy, found.balanced_accuracy) == (0.75, 0.5)
    assert found.recall == {"nit": None, "suggestion": 1.0, "bug": None, "critical": 0.0}
    assert (found.category_accuracy, found.category_balanced_accuracy) == (0.75, 0.75)


def test_the_majority_says_what_training_had_most_of() -> None:
    severity, category = majority((np.array([1, 2, 2]), np.array([5, 5, 0])), 2)
    assert (severity.tolist(), category.tolist()) == ([2, 2], [5, 5])


@pytest.mark.train
def test_linear_n_grams_learn_words_that_decide() -> None:
    pytest.importorskip("torch")
    from model.config import TrainConfig
    from model.triage.evaluate import linear
    from tests.model.triage import made

    bodies = ["it is wrong here", "all is well", "that is wrong too", "well done"] * 20
    train = [made.comment(body) for body in bodies]
    labels = np.array(["wrong" in body for body in bodies], np.int64)
    asked = [made.comment("wrong again"), made.comment("very well")]
    severity, category = linear(train, (labels, labels), asked, TrainConfig(temper=0.25))
    assert severity.tolist() == category.tolist() == [1, 0]
