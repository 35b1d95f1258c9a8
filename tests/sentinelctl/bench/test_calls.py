from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from model.inputs.chunk import Chunk
from model.inputs.diff import Hunk, number_lines
from sentinelctl.bench.calls import mean_batch, pack


class Windows:
    """An engine that cuts every hunk into as many windows of 3 tokens as its path says."""

    info = SimpleNamespace()

    def encode(self, hunk: Hunk) -> tuple[Chunk, ...]:
        row = np.arange(3, dtype=np.int32)
        return tuple(Chunk(index, (row,), (0,)) for index in range(int(hunk.path)))


def hunks(*windows: int) -> list[Hunk]:
    return [number_lines(str(each), (0, 0), (1, 1), "", [("add", "x")]) for each in windows]


def packed(*windows: int, batch: int) -> list[tuple[int, int]]:
    """(hunks, chunks) of each call."""
    engine: Any = Windows()
    calls = pack(engine, hunks(*windows), batch)
    assert all(call.tokens == 3 * call.chunks for call in calls)
    return [(len(call.hunks), call.chunks) for call in calls]


def test_a_call_is_about_one_batch() -> None:
    assert packed(1, 1, 2, 1, 3, 5, batch=4) == [(3, 4), (2, 4), (1, 5)]


def test_what_the_model_does_not_read_is_in_no_call() -> None:
    assert packed(0, 2, 0, 2, batch=4) == [(2, 4)]
    assert packed(0, 0, batch=4) == []


def test_the_last_call_is_left_out_unless_it_is_the_only_one() -> None:
    assert packed(4, 1, batch=4) == [(1, 4)]
    assert packed(1, 2, batch=4) == [(2, 3)]


def test_the_mean_batch_is_that_of_the_passes_between_two_looks() -> None:
    assert mean_batch((300.0, 10.0), (100.0, 5.0)) == pytest.approx(40.0)
    assert mean_batch((100.0, 5.0), (100.0, 5.0)) == 0.0
