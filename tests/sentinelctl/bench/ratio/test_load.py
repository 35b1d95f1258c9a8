import pytest

from sentinelctl.bench.ratio.load import Load, Pair, Spread, side


def made(answered: int, *, seconds: float = 2.0, p99_ms: float = 9.0, cpu: float = 0.3, refused: int = 0) -> Load:
    return Load(seconds, answered, refused, broken=1, p50_ms=1.0, p99_ms=p99_ms, generator_cpu=cpu)


def test_a_rate_counts_only_what_was_acknowledged() -> None:
    load = made(300, refused=100)
    assert (load.rate, load.errors) == (150.0, 101)


def test_the_ratio_of_a_pair_is_that_of_its_rates_and_not_of_its_counts() -> None:
    assert Pair(ours=made(300, seconds=1.0), control=made(300, seconds=2.0)).ratio == 2.0


@pytest.mark.parametrize(("cpu", "is_saturated"), [(0.5, False), (0.949, False), (0.95, True), (1.2, True)])
def test_a_generator_that_needs_its_whole_core_measures_itself(cpu: float, is_saturated: bool) -> None:
    assert made(1, cpu=cpu).is_saturated is is_saturated


def test_a_spread_keeps_its_outliers_and_is_not_moved_by_them() -> None:
    assert Spread.of([1.0, 1.2, 9.0]) == Spread(median=1.2, least=1.0, most=9.0)
    assert Spread.of([1.0, 2.0]).median == 1.5


def test_a_side_sums_counts_and_takes_medians_of_the_rest() -> None:
    found = side([made(100, p99_ms=5.0), made(200, p99_ms=6.0), made(600, p99_ms=70.0, refused=2)])
    assert (found["answered"], found["errors"]) == (900, 5)
    assert found["requests_per_s"] == {"median": 100.0, "min": 50.0, "max": 300.0}
    assert found["p99_ms"]["median"] == 6.0
