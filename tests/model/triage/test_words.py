import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.triage.words import MAX_WORDS, batch_of, grams_of, words_of

BUCKETS = 4096


def test_a_row_is_the_language_the_comment_and_the_end_of_the_hunk() -> None:
    words = words_of("parseHTTPHeader is wrong, wrong, see #123", "src/a.py", "@@ -1 +1 @@\n+return total")
    assert words[:9] == ["\1python", "parse", "http", "header", "is", "wrong", ",", "see", "#"]
    assert words[9:] == [
        "0",
        *(f"\2{word}" for word in ["0", "+", "0", "@", "@", "+", "return", "total"]),
    ]


def test_a_word_shares_the_parts_it_has_in_common_with_another() -> None:
    inner, outer = set(grams_of("nit", BUCKETS)), set(grams_of("initialize", BUCKETS))
    assert inner & outer  # the three letters, but not the whole word
    assert not inner <= outer
    assert not inner & set(grams_of("\2nit", BUCKETS))  # a word of the hunk is another


def test_equal_words_of_a_batch_are_read_once_and_zero_is_padding() -> None:
    batch = batch_of([["a", "b", "a"], ["b"]], BUCKETS)
    assert batch.words.tolist() == [[1, 2, 1], [2, 0, 0]]
    assert len(batch.grams) == 3
    assert not batch.grams[0].any()
    assert batch.grams[1, 0] > 0


def test_addresses_and_secrets_are_not_read() -> None:
    words = words_of("ask ada@example.com about ghp_abcdefghijklmnopqrstuvwx", "a.c", "")
    assert "ada" not in words
    assert not any("abcdef" in word for word in words)


@pytest.mark.parametrize("body", ["x" * 50_000, "word " * 50_000, "\0\1\2\ud800" * 9_000, "ẞ" * 30_000])
def test_a_row_is_bounded_whatever_the_comment(body: str) -> None:
    words = words_of(body, "a.py", body)
    assert len(words) <= MAX_WORDS
    assert batch_of([words], BUCKETS).grams.shape[1] < 64


@given(st.text(max_size=80), st.text(max_size=80))
def test_any_text_makes_rows_of_the_table(body: str, hunk: str) -> None:
    batch = batch_of([words_of(body, "a.py", hunk), []], BUCKETS)
    assert batch.grams.min() == 0
    assert batch.grams.max() < BUCKETS
    assert (np.diff((batch.words[0] == 0).astype(int)) >= 0).all()
