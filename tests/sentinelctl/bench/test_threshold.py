import pytest

from sentinelctl.bench.threshold import parse
from sentinelctl.errors import UsageError

FIGURES = {
    "latency_ms": {"p50": 8.0, "p99": 1400.0, "p99.9": 1990.0, "max": 2000.0},
    "sent": 990,
    "dropped": 10,
    "errors": 5,
    "rate": 49.5,
}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("p99>2s", False),
        ("p99>1s", True),
        ("p99>1399ms", True),
        ("p99>=1400ms", True),
        ("p99<1400ms", False),
        ("p50<0.01s", True),
        ("p50<8000us", False),
        ("p99.9 > 1.9 s", True),
        ("max>1min", False),
        ("errors>0", True),
        ("errors>0.5%", False),
        ("errors>0.4%", True),
        ("dropped>=1%", True),
        ("lost>0", False),
        ("rate<50", True),
        ("rate<49/s", False),
    ],
)
def test_a_condition_is_held_against_the_figures(text: str, holds: bool) -> None:
    assert parse(text).holds(FIGURES) is holds


def test_what_was_seen_is_said_in_the_condition_s_own_unit() -> None:
    assert parse("p99>1s").told(FIGURES) == "p99>1s: it is 1,400 ms"
    assert parse("errors>0.1%").told(FIGURES) == "errors>0.1%: it is 0.500%"
    assert parse("rate<50").told(FIGURES) == "rate<50: it is 49.5/s"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("p98>2s", "no condition"),
        ("p99=2s", "no condition"),
        ("p99>two", "no condition"),
        ("", "no condition"),
        ("p99>2", "has no unit"),
        ("p99>2%", "has the unit '%'"),
        ("rate<5ms", "has the unit 'ms'"),
        ("errors>5s", "has the unit 's'"),
    ],
)
def test_what_makes_no_sense_is_refused(text: str, fault: str) -> None:
    with pytest.raises(UsageError, match=fault):
        parse(text)
