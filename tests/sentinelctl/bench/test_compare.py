import random
from typing import Any

import pytest

from sentinelctl.bench.compare import Change, compare, differences
from sentinelctl.errors import UsageError


def document(p99: list[float], *, rate: float = 50.0, kind: str = "webhook") -> dict[str, Any]:
    latency = [dict.fromkeys(("p50", "p90", "p99", "p99.9", "max"), value) for value in p99]
    return {
        "version": 1,
        "kind": kind,
        "environment": {"host": "h", "cpu": "c", "cores": 2, "python": "3.11"},
        "shape": {"rate": 50.0, "seed": 1},
        "target": {"log": "sqlite"},
        "runs": [{"rate": rate, "latency_ms": each} for each in latency],
    }


def of(metric: str, changes: list[Change]) -> Change:
    return next(one for one in changes if one.metric == metric)


def test_the_interval_is_welch_s() -> None:
    """By hand: ln of 10, 11, 12 and of 20, 22, 24 differ by ln 2, each with a variance of 0.008319; 2 t's 4 degrees."""
    found = of("p99", compare(document([10, 11, 12]), document([20, 22, 24])))
    assert found.ratio == pytest.approx(2)
    assert found.low == pytest.approx(2 / 1.2297, rel=1e-3)
    assert found.high == pytest.approx(2 * 1.2297, rel=1e-3)
    assert found.verdict == "worse"


def test_noise_is_no_difference() -> None:
    found = of("p99", compare(document([10, 14, 9, 16]), document([12, 10, 15, 13])))
    assert found.low < 1 < found.high
    assert found.verdict == "no difference to see"


def test_more_is_better_for_a_rate_and_worse_for_a_latency() -> None:
    changes = compare(document([10, 10.1, 9.9], rate=50), document([5, 5.1, 4.9], rate=99))
    assert (of("p99", changes).verdict, of("rate", changes).verdict) == ("better", "better")
    changes = compare(document([5, 5.1, 4.9], rate=99), document([10, 10.1, 9.9], rate=50))
    assert (of("p99", changes).verdict, of("rate", changes).verdict) == ("worse", "worse")


def test_fewer_than_three_runs_have_no_interval() -> None:
    found = of("p99", compare(document([10, 11]), document([20, 22, 24])))
    assert found.verdict == "too few runs"
    assert found.document()["interval_95"] is None


def test_of_two_equal_sides_19_of_20_intervals_hold_the_truth() -> None:
    draw, held = random.Random(5), 0
    for _ in range(400):
        a, b = ([draw.lognormvariate(2.3, 0.2) for _ in range(5)] for _ in range(2))
        held += of("p99", compare(document(a), document(b))).verdict == "no difference to see"
    assert 370 <= held <= 394


def test_what_differed_beside_the_code_is_said() -> None:
    other = document([1, 1, 1]) | {"shape": {"rate": 60.0, "seed": 1}}
    assert differences(document([1, 1, 1]), other) == ["shape.rate: 50.0 and 60.0"]


@pytest.mark.parametrize(
    ("b", "fault"),
    [
        (document([1.0], kind="pipeline"), "A is of `bench webhook` and B of `bench pipeline`"),
        ({"version": 1, "kind": "drain"}, "B is no result with runs"),
    ],
)
def test_only_like_is_compared_with_like(b: dict[str, Any], fault: str) -> None:
    with pytest.raises(UsageError, match=fault):
        compare(document([1.0]), b)
