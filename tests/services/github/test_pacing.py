import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.github.pacing import MAX_WAIT_S, Pace, limit_wait_s


def send(pace: Pace, now: float) -> float:
    now += pace.wait_s(now)
    pace.take(now)
    return now


def test_a_burst_goes_out_at_once_and_then_one_write_a_second() -> None:
    pace = Pace(per_min=80, per_h=500, burst=20)
    sent: list[float] = []
    for _ in range(22):
        sent.append(send(pace, sent[-1] if sent else 0.0))
    assert sent[:20] == [0.0] * 20
    assert sent[20:] == [pytest.approx(1.0), pytest.approx(2.0)]


def test_a_rate_below_one_a_second_holds() -> None:
    pace = Pace(per_min=30, per_h=500, burst=1)
    assert [send(pace, 0.0), send(pace, 0.0)] == [0.0, pytest.approx(2.0)]


def test_after_a_limit_there_is_no_burst_until_a_quiet_time() -> None:
    pace = Pace(per_min=80, per_h=500, burst=20)
    pace.take(0.0)
    pace.rest(60.0)
    sent = [60.0]
    for _ in range(3):
        sent.append(send(pace, sent[-1]))
    assert sent == [60.0, pytest.approx(61.0), pytest.approx(62.0), pytest.approx(63.0)]
    assert [send(pace, 90.0) for _ in range(20)] == [90.0] * 20


def test_one_write_a_second_never_waits_for_the_first_minute() -> None:
    pace = Pace(per_min=80, per_h=500, burst=20)
    for second in range(60):
        assert pace.wait_s(float(second)) == 0
        pace.take(float(second))


@given(gaps=st.lists(st.floats(0, 30), min_size=1, max_size=700), burst=st.integers(1, 100))
def test_no_minute_and_no_hour_holds_more_writes_than_allowed(gaps: list[float], burst: int) -> None:
    pace = Pace(per_min=8, per_h=50, burst=burst)
    sent: list[float] = []
    for gap in gaps[:120]:
        sent.append(send(pace, (sent[-1] if sent else 0.0) + gap))
    for limit, span_s in ((8, 60.0), (50, 3600.0)):
        assert all(late - early > span_s - 1e-6 for early, late in zip(sent, sent[limit:], strict=False))


@pytest.mark.parametrize(
    ("status", "headers", "message", "wait_s"),
    [
        (429, {"retry-after": "7"}, "", 7),
        (403, {"retry-after": "7", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "1900"}, "", 7),
        (403, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1900"}, "", 900),
        (403, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "10"}, "", 1),
        (403, {"x-ratelimit-remaining": "0"}, "", 60),
        (403, {}, "You have exceeded a secondary rate limit.", 60),
        (429, {}, "", 60),
        (429, {"retry-after": "soon"}, "", 60),
        (429, {"retry-after": "0"}, "", 1),
        (429, {"retry-after": "99999999"}, "", MAX_WAIT_S),
        (403, {"x-ratelimit-remaining": "4999"}, "Resource not accessible by integration", None),
        (404, {"x-ratelimit-remaining": "0"}, "Not Found", None),
        (500, {}, "", None),
    ],
)
def test_the_wait_comes_from_the_headers(
    status: int, headers: dict[str, str], message: str, wait_s: float | None
) -> None:
    assert limit_wait_s(status, headers, message, now=1000) == wait_s


def test_limits_in_a_row_that_name_no_time_double_the_wait_up_to_an_hour() -> None:
    waits = [limit_wait_s(429, {}, "", now=0, strikes=strikes) for strikes in range(8)]
    assert waits == [60, 120, 240, 480, 960, 1920, 3600, 3600]
