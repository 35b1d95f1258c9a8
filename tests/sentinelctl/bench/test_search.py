from collections.abc import Callable, Sequence

import pytest

from sentinelctl.bench.arrivals import Stage
from sentinelctl.bench.run import Run
from sentinelctl.bench.search import Found, find_max
from sentinelctl.bench.threshold import parse

from .made import made_run


def searched(limit: float, *, begin: float, offer: Callable[[float], Run] | None = None) -> Found:
    """A target whose p99 leaves the objective above `limit` a second."""

    def offered(stages: Sequence[Stage]) -> Run:
        rate = stages[0].rate
        return offer(rate) if offer else made_run([10.0 if rate <= limit else 900.0] * 100)

    return find_max(offered, begin, 5.0, [parse("p99<50ms")], lambda _one: None)


@pytest.mark.parametrize("limit", [3.0, 47.0, 100.0, 1234.0])
@pytest.mark.parametrize("begin", [1.0, 100.0, 3000.0])
def test_the_search_ends_within_five_percent_below_the_limit(limit: float, begin: float) -> None:
    found = searched(limit, begin=begin)
    assert found.best is not None
    assert limit / 1.05 <= found.best.rate <= limit
    assert "p99<50ms" in found.limited_by
    assert len(found.tries) <= 20


def test_a_rate_at_which_anything_fails_is_above_the_limit() -> None:
    found = searched(0, begin=10, offer=lambda rate: made_run(dropped=int(rate > 70)))
    assert found.best is not None
    assert 66 < found.best.rate <= 70
    assert "dropped" in found.limited_by


def test_a_saturated_generator_ends_the_search_and_is_named() -> None:
    found = searched(0, begin=10, offer=lambda rate: made_run(cpu=0.99 if rate > 500 else 0.5))
    assert found.best is not None
    assert found.best.rate <= 500
    assert "the generator used 99% of its one core" in found.limited_by


def test_the_best_rate_has_to_hold_twice_and_the_search_goes_on_below_one_that_does_not() -> None:
    asked: set[float] = set()

    def offer(rate: float) -> Run:
        """130/s holds always; more than that, up to 150/s, holds once."""
        holds = rate <= 130 or (rate <= 150 and rate not in asked)
        asked.add(rate)
        return made_run([10.0 if holds else 900.0] * 100)

    found = searched(0, begin=100, offer=offer)
    assert found.best is not None
    assert 130 / 1.05 <= found.best.rate <= 130
    assert sum(one.rate == found.best.rate for one in found.tries) == 2


def test_a_target_that_meets_it_at_no_rate_has_none() -> None:
    found = searched(0, begin=16)
    assert found.best is None
    assert "p99<50ms" in found.limited_by
    assert found.tries[-1].rate * 5 >= 5, "with fewer arrivals in a try there is nothing to see"
