import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinelctl.bench.arrivals import Spacing, Stage, fixed, ramp, schedule, stage_of, step


def test_an_even_minute_has_its_arrivals_at_equal_distances() -> None:
    at_s = schedule(fixed(50, 60), warm_up_s=0, spacing="even", seed=1)
    assert len(at_s) == 3000
    assert np.allclose(np.diff(at_s), 0.02)
    assert 0 <= at_s[0] < 0.02


def test_poisson_arrivals_are_drawn_by_the_seed_and_as_many_as_the_rate_says() -> None:
    one, same, other = (schedule(fixed(100, 100), warm_up_s=0, spacing="poisson", seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one[:10], other[:10])
    assert len(one) == pytest.approx(10_000, rel=0.05)
    assert np.std(np.diff(one)) == pytest.approx(0.01, rel=0.1)  # exponential distances: as wide as they are long


def test_the_warm_up_comes_before_zero_at_the_first_rate() -> None:
    stages = step(50, 10)
    at_s = schedule(stages, warm_up_s=3, spacing="even", seed=1)
    assert (at_s < 0).sum() == 30
    assert at_s[0] >= -3
    assert list(np.unique(stage_of(stages, at_s))) == [-1, 0, 1, 2, 3, 4]


def test_a_ramp_grows_evenly_and_ends_at_its_rate() -> None:
    stages = ramp(100, 10)
    at_s = schedule(stages, warm_up_s=0, spacing="even", seed=1)
    assert len(at_s) == 500
    counts = np.bincount(stage_of(stages, at_s))
    assert counts == pytest.approx([5, 15, 25, 35, 45, 55, 65, 75, 85, 95], abs=1)
    assert (stages[0].rate_from, stages[-1].rate_to) == (0, 100)


@given(
    parts=st.lists(
        st.tuples(st.floats(0.1, 20), st.floats(0, 200), st.floats(0, 200)).map(lambda each: Stage(*each)),
        min_size=1,
        max_size=5,
    ),
    warm_up_s=st.floats(0, 5),
    spacing=st.sampled_from(["even", "poisson"]),
)
def test_arrivals_ascend_within_the_load_and_each_stage_has_its_share(
    parts: list[Stage], warm_up_s: float, spacing: Spacing
) -> None:
    at_s = schedule(parts, warm_up_s=warm_up_s, spacing=spacing, seed=3)
    assert (np.diff(at_s) >= -1e-9).all()
    assert ((at_s >= -warm_up_s - 1e-6) & (at_s <= sum(part.seconds for part in parts) + 1e-6)).all()
    if spacing == "even":
        expected = sum(part.rate * part.seconds for part in parts) + parts[0].rate * warm_up_s
        assert len(at_s) == pytest.approx(expected, abs=1)
