import pytest

from model.labels import CATEGORIES
from model.triage.rule import _CATEGORIES, category_of, severity_of


@pytest.mark.parametrize(
    ("comment", "severity"),
    [
        ("This CRASHES on an empty list, and could be wrong.", "critical"),
        ("nit: this is a vulnerability", "critical"),
        ("That is incorrect. Maybe a typo?", "bug"),
        ("debug output", "bug"),  # a substring, as the rule has it
        ("Could you rename it?", "suggestion"),
        ("nit: two spaces", "nit"),
        ("The unit is missing", "nit"),  # a substring again
        ("vulnerabilities", "suggestion"),  # does not hold `vulnerability`
        ("Why?", "suggestion"),
        ("", "suggestion"),
    ],
)
def test_the_gravest_word_anywhere_decides_and_none_is_a_suggestion(comment: str, severity: str) -> None:
    assert severity_of(comment) == severity


@pytest.mark.parametrize(
    ("comment", "category"),
    [
        ("Sanitize this before the query", "security"),
        ("Please add a test", "testing"),
        ("I would rename this", "naming"),
        ("off-by-one at the end", "logic"),
        ("contest", "other"),  # `test` counts only where a word begins
        ("The docstring is out of date", "documentation"),
        ("", "other"),
    ],
)
def test_a_category_is_told_by_how_words_begin(comment: str, category: str) -> None:
    assert category_of(comment) == category


def test_the_table_has_every_category_but_other_once() -> None:
    assert set(_CATEGORIES) == set(CATEGORIES) - {"other"}
    words = [word for each in _CATEGORIES.values() for word in each.split()]
    assert len(words) == len(set(words))
