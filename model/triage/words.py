"""A comment and its hunk as words, each word as the hashes of its n-grams. No vocabulary: nothing of a text is kept.

A word's vector is the sum of those of its n-grams and of the word itself (fastText: Bojanowski et al., 2017), so a
word never seen is read by its parts. Words of the hunk hash apart from those of the comment.
"""

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from model.inputs.files import language
from model.mining.private import drop_secrets

MAX_WORDS: Final = 256  # of a row
_HUNK_WORDS: Final = 8  # the last of the hunk: GitHub's diff_hunk ends at the line commented on
_CHARS: Final = 20_000  # of a comment that are read
_HUNK_CHARS: Final = 400
_LONGEST: Final = 16  # characters of a word; a longer one is cut into several
_GRAMS: Final = (3, 4, 5, 6)
_WORD: Final = re.compile(r"[^\W\d_]{1,16}|\d+|[^\w\s]")
_BORDER: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Batch:
    """What the network reads: `grams` (different words, most n-grams), 0 is padding; `words` (rows, length) into it.

    Word 0 is padding.
    """

    grams: Ints
    words: Ints


def words_of(body: str, path: str, hunk: str) -> list[str]:
    """The keys of a row: the file's language, the words of the comment, each once, and the end of the hunk."""
    comment = list(dict.fromkeys(_split(drop_secrets(body[:_CHARS]))))[: MAX_WORDS - 1 - _HUNK_WORDS]
    shown = _split(drop_secrets(hunk[-_HUNK_CHARS:]))[-_HUNK_WORDS:]
    return [f"\1{language(path)}", *comment, *(f"\2{word}" for word in shown)]


def _split(text: str) -> list[str]:
    return [word if not word.isdigit() else "0" for word in _WORD.findall(_BORDER.sub(" ", text).lower())]


@lru_cache(maxsize=100_000)
def grams_of(word: str, buckets: int) -> tuple[int, ...]:
    """Rows of the hashed table, from 1, that make up a word."""
    place, text = (word[0], word[1:]) if word[0] in "\1\2" else ("", word)
    parts = {f"={text}"}
    if place != "\1":
        parts |= {text[at : at + n] for n in _GRAMS for at in range(len(text) - n + 1)}
    return tuple(sorted(1 + zlib.crc32(f"{place}{part}".encode("utf-8", "replace")) % (buckets - 1) for part in parts))


def batch_of(rows: Sequence[Sequence[str]], buckets: int) -> Batch:
    index: dict[str, int] = {}
    words = np.zeros((len(rows), max(map(len, rows), default=1)), np.int64)
    for at, row in enumerate(rows):
        words[at, : len(row)] = [index.setdefault(word, len(index) + 1) for word in row]
    known = [grams_of(word, buckets) for word in index]
    grams = np.zeros((1 + len(known), max(map(len, known), default=1)), np.int64)
    for at, each in enumerate(known, start=1):
        grams[at, : len(each)] = each
    return Batch(grams, words)
