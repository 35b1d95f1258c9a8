from collections import Counter

import pytest

from sentinelctl.chaos.load import MIXED, planned
from sentinelctl.errors import UsageError

UNITS = [(commit, repository) for commit in range(60) for repository in range(8)]


def test_arrivals_stand_at_their_own_times_whatever_comes_of_them() -> None:
    arrivals = planned(MIXED, UNITS, rate=4, duration_s=5, seed=1)
    assert [one.at_s for one in arrivals] == [number / 4 for number in range(20)]


def test_a_seed_draws_the_same_again_and_another_one_something_else() -> None:
    def draw(seed: int) -> list[str]:
        return [one.kind for one in planned(MIXED, UNITS, rate=4, duration_s=50, seed=seed)]

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


def test_every_kind_comes_at_least_once_and_each_push_is_a_unit_of_its_own() -> None:
    arrivals = planned({**MIXED, "wide": 0}, UNITS, rate=2, duration_s=20, seed=3)
    kinds = Counter(one.kind for one in arrivals)
    assert kinds.keys() == {*MIXED, "wide"}
    assert kinds["wide"] == 1
    units = [(one.commit, one.repository) for one in arrivals]
    assert len(set(units)) == len(units)


def test_a_history_that_is_too_short_is_refused() -> None:
    with pytest.raises(UsageError, match="100 deliveries are more than 34 changes"):
        planned(MIXED, UNITS[:34], rate=10, duration_s=10, seed=1)
