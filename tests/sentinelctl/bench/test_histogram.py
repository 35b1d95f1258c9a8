import pytest

from sentinelctl.bench.histogram import Histogram


def of(*seconds: float) -> Histogram:
    made = Histogram()
    for each in seconds:
        made.record(each)
    return made


def test_percentiles_hold_to_three_digits_from_microseconds_to_an_hour() -> None:
    for value in (0.000_005, 0.0123, 1.4, 3599.0):
        assert of(value).ms(50) == pytest.approx(value * 1000, rel=0.001)
    assert of(0.0).max_ms == 0.001
    assert of(90_000.0).max_ms == pytest.approx(3_600_000, rel=0.001)


def test_a_rank_is_the_nearest_one() -> None:
    made = of(*(each / 1000 for each in range(1, 101)))
    found = made.document()
    assert (found["p50"], found["p99"], found["max"]) == pytest.approx((50, 99, 100), rel=0.001)
    assert found["p99.9"] == found["max"]


def test_it_survives_being_stored_and_adds_up() -> None:
    both = Histogram().add([Histogram(of(0.001, 0.002).encode()), of(0.1)])
    assert both.count == 3
    assert both.max_ms == pytest.approx(100, rel=0.001)
    assert Histogram(both.encode()).document() == both.document()


def test_nothing_has_no_latency() -> None:
    assert set(Histogram().document().values()) == {0.0}
    assert Histogram().curve() == []


def test_a_curve_ends_where_single_values_begin() -> None:
    points = of(*(each / 1000 for each in range(1, 1001))).curve()
    assert points[0] == (50.0, pytest.approx(500, rel=0.001))
    assert 99.8 < points[-1][0] < 99.91
    assert [ms for _, ms in points] == sorted(ms for _, ms in points)
