# ruff: noqa: E402
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from model import dataset
from model.baselines import learn, learned, majority, ngram_features, size_features
from model.config import TrainConfig
from model.dataset import Rows, record_of
from model.evaluate import average_precision
from model.labels import load_concepts
from tests.model import made

pytestmark = pytest.mark.train
torch.set_num_threads(1)  # as training does; the tables are too small to share
CONCEPTS = [concept for concept in load_concepts() if concept.id in made.CONCEPTS]


def rows_of(*lines: str, label: str = "", path: str = "src/a.py", language: str = "python") -> Rows:
    """One hunk a line."""
    records = [
        made.record("made/up0", ("add", line), labels={0: [label]} if label else {}, path=path, language=language)
        for line in lines
    ]
    return dataset.build([record_of(each) for each in records], made.tokenizer(), CONCEPTS, Counter(), 96)


def taught(*groups: tuple[str, list[str]]) -> Rows:
    """Lines of each label."""
    records = [
        made.record("made/up0", ("add", line), labels={0: [label]} if label else {})
        for label, lines in groups
        for line in lines
    ]
    return dataset.build([record_of(each) for each in records], made.tokenizer(), CONCEPTS, Counter(), 96)


def test_the_majority_answers_every_line_with_what_training_had() -> None:
    rows = taught(("", ["x = 1"] * 6), ("bare_except", ["except:"] * 3), ("debug_print", ["print(x)"]))
    answers = majority(rows, 4, 2)
    np.testing.assert_allclose(answers, [[0.6, 0.3, 0.1, 0]] * 2, rtol=1e-6)


def test_size_says_length_indentation_and_hunk_and_nothing_of_the_text() -> None:
    one, other, indented, longer = size_features(rows_of("abcdef", "ghijkl", "  abcd", "abcdef" * 3))
    assert one.tolist() == other.tolist()
    assert one.tolist() != indented.tolist()
    assert one.tolist() != longer.tolist()
    hunk = made.record("made/up0", *[("add", "abcdef")] * 9)
    larger = dataset.build([record_of(hunk)], made.tokenizer(), CONCEPTS, Counter(), 96)
    assert size_features(larger)[0].tolist() != one.tolist()


def test_ngrams_are_of_the_line_its_neighbours_and_its_language() -> None:
    def features(*lines: tuple[str, str], **changes: str) -> set[int]:
        record = record_of(made.record("made/up0", *lines, **changes))
        rows = dataset.build([record], made.tokenizer(), CONCEPTS, Counter(), 96)
        return set(ngram_features(rows)[0].tolist())

    plain = features(("add", "value = 1"))
    assert plain == features(("add", "value = 1"))
    assert plain < features(("ctx", "try:"), ("add", "value = 1"))  # what stands beside only adds
    assert plain != features(("add", "value = 2"))
    before, after = features(("ctx", "x"), ("add", "y")), features(("add", "y"), ("ctx", "x"))
    assert before != after
    assert max(features(("add", "naïve = '你好'")), default=0) < 2**18


def test_a_linear_model_learns_what_a_word_decides_and_size_alone_does_not() -> None:
    """Lines of one length, told apart by a word."""
    random = np.random.default_rng(2)

    def lines(verb: str, number: int) -> list[str]:
        return [f"{verb}({''.join(random.choice(list('abcdef'), 6))})" for _ in range(number)]

    train = taught(("", lines("store", 400)), ("debug_print", lines("print", 100)))
    asked = taught(("", lines("store", 100)), ("debug_print", lines("print", 25)))
    config = TrainConfig(negatives=0.5)
    truth = asked.labels > 0
    found = {
        features: learn(features, train, 1 + len(CONCEPTS), config).answer(asked)
        for features in (ngram_features, size_features)
    }
    for answers in found.values():
        assert answers.shape == (len(asked), 1 + len(CONCEPTS))
        np.testing.assert_allclose(answers.sum(1), 1, rtol=1e-5)
    assert average_precision(1 - found[ngram_features][:, 0], truth) > 0.95
    assert average_precision(1 - found[size_features][:, 0], truth) < 0.4  # one line in five


def test_drawing_clean_lines_less_does_not_shift_what_it_believes() -> None:
    """Nothing to tell the lines apart by: what is left to believe is how often each label occurs."""
    train = taught(("", ["value = 1"] * 900), ("debug_print", ["value = 1"] * 100))
    answers = learn(size_features, train, 1 + len(CONCEPTS), TrainConfig(negatives=0.2), passes=100).answer(train)
    column = 1 + [concept.id for concept in CONCEPTS].index("debug_print")
    assert answers[0, column] == pytest.approx(0.1, abs=0.04)


def test_the_same_seed_gives_the_same_answers() -> None:
    train = taught(("", ["x = 1", "y"] * 20), ("bare_except", ["except:"] * 20))
    first, second = (learn(ngram_features, train, 3, TrainConfig()).answer(train) for _ in range(2))
    assert np.array_equal(first, second)


def test_a_baseline_is_kept_until_what_teaches_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, config = taught(("", ["x = 1", "y"] * 20), ("bare_except", ["except:"] * 20)), TrainConfig()
    first = learned(tmp_path, ngram_features, train, 3, config)
    learned(tmp_path, size_features, train, 3, config)
    with monkeypatch.context() as patched:
        patched.setattr("model.baselines.learn", None)  # would fail if it were asked
        again = learned(tmp_path, ngram_features, train, 3, config)
    assert np.array_equal(first.answer(train), again.answer(train))
    assert again.answer(dataset.only(train, np.arange(0))).shape == (0, 3)
    changed = taught(("", ["x = 1", "z"] * 20), ("bare_except", ["except:"] * 20))
    learned(tmp_path, ngram_features, changed, 3, config)
    assert len(list(tmp_path.iterdir())) == 2  # one of each kind
