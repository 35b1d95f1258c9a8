import pytest

from sentinelctl.duration import age, seconds
from sentinelctl.errors import UsageError


@pytest.mark.parametrize(("text", "expected"), [("90s", 90), ("15m", 900), ("2h", 7200), ("1.5d", 129600), (" 1s ", 1)])
def test_spans_are_read(text: str, expected: float) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "2", "h", "2x", "-1h", "2h30m", "1e3s", "٣h"])
def test_what_is_no_span_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        seconds(text)
    assert "2h" in caught.value.remedy


@pytest.mark.parametrize(
    ("given", "expected"), [(-3, "0 s"), (59.4, "59 s"), (60, "1 min"), (7199, "1 h"), (200_000, "2 d")]
)
def test_an_age_has_the_largest_unit_that_fits(given: float, expected: str) -> None:
    assert age(given) == expected
