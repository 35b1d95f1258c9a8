"""Hashed n-grams of a text, which the linear baselines read. No torch."""

import re
import zlib
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

BUCKETS: Final = 2**18
WORD: Final = re.compile(r"\w+|[^\w\s]")


def characters(text: str) -> list[npt.NDArray[np.int64]]:
    """Buckets of runs of 2 to 5 bytes, an array for each length."""
    codes = np.frombuffer(f" {text} ".encode("utf-8", "replace"), np.uint8).astype(np.uint64)
    parts = []
    for n in (2, 3, 4, 5):
        total = np.full(max(0, len(codes) - n + 1), n, np.uint64)
        for at in range(n):
            total = total * np.uint64(1_000_003) + codes[at : at + len(total)]
        parts.append(((total ^ (total >> np.uint64(17))) % np.uint64(BUCKETS)).astype(np.int64))
    return parts


def words(text: str, beside: Sequence[str] = ()) -> npt.NDArray[np.int64]:
    """Buckets of runs of 1 to 3 words, and of the keys `beside` them."""
    found = WORD.findall(text)
    grams = [" ".join(found[at : at + n]) for n in (1, 2, 3) for at in range(len(found) - n + 1)]
    return np.asarray([zlib.crc32(each.encode("utf-8", "replace")) % BUCKETS for each in [*grams, *beside]], np.int64)
