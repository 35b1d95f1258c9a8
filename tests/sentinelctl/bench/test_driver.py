"""The open loop in virtual time, against targets whose every answer is known."""

import asyncio
from collections.abc import Callable

import pytest

from sentinelctl.bench.arrivals import fixed, schedule, stage_of
from sentinelctl.bench.driver import Done, Driver, Ending, Tally

from .virtual_time import run

Answer = Callable[[float], tuple[float, Ending] | None]
"""What a request sent at that second gets: (after how many seconds, what), or None for no answer at all."""


class User:
    def __init__(self, answer: Answer, clock: Callable[[], float]) -> None:
        self._answer, self._clock = answer, clock
        self._timer: asyncio.TimerHandle | None = None
        self.abandoned = 0

    def send(self, _number: int, done: Done) -> None:
        answer = self._answer(self._clock())
        if answer is not None:
            self._timer = asyncio.get_running_loop().call_later(answer[0], done, answer[1])

    def abandon(self) -> None:
        self.abandoned += 1
        if self._timer is not None:
            self._timer.cancel()


def driven(
    answer: Answer, *, rate: float, seconds: float, users: int, timeout_s: float = 10.0, warm_up_s: float = 0.0
) -> Tally:
    """`answer` is given seconds since the schedule began."""
    stages = fixed(rate, seconds)
    at_s = schedule(stages, warm_up_s=warm_up_s, spacing="even", seed=1)
    tally = Tally(1)

    async def main() -> None:
        clock = asyncio.get_running_loop().time
        made = [User(lambda now: answer(now - driver.begins_at), clock) for _ in range(users)]
        driver = Driver(at_s.tolist(), stage_of(stages, at_s).tolist(), made, tally, timeout_s=timeout_s, clock=clock)
        await driver.run()

    run(main())
    return tally


def stopped(at_s: float, until_s: float, answer_s: float = 0.001) -> Answer:
    """A target that stands still from one second to the other, and then answers all that waits."""

    def answer(now: float) -> tuple[float, Ending]:
        waits = until_s - now if at_s <= now < until_s else 0.0
        return (waits + answer_s, Ending.ANSWERED)

    return answer


@pytest.mark.parametrize("users", [1, 5, 50, 500])
def test_two_seconds_of_standstill_in_a_minute_are_a_p99_of_1_4_s_however_few_users_saw_them(users: int) -> None:
    """50/s for 60 s are 3,000 arrivals; 100 fall into the 2 s and wait from 2 s down to 0; the 30th longest is p99."""
    tally = driven(stopped(20.0, 22.0), rate=50, seconds=60, users=users)
    assert tally.latency[0].count == 3000
    assert 1380 < tally.latency[0].ms(99) < 1500
    assert tally.latency[0].ms(95) < 150
    assert tally.latency[0].max_ms == pytest.approx(2000, rel=0.02)


def test_a_closed_loop_of_few_users_would_have_said_milliseconds() -> None:
    tally = driven(stopped(20.0, 22.0), rate=50, seconds=60, users=5)
    assert tally.service.ms(99) < 2 < 1000 < tally.service.max_ms


def test_what_waits_for_a_free_user_waits_from_its_own_time() -> None:
    """One user, 100 ms an answer, 20 arrivals a second for a second: the last has waited for ten of them."""
    tally = driven(lambda _now: (0.1, Ending.ANSWERED), rate=20, seconds=1, users=1)
    assert tally.latency[0].max_ms == pytest.approx(1050, rel=0.01)
    assert tally.service.max_ms == pytest.approx(100, rel=0.01)


def test_arrivals_without_a_free_user_are_dropped_and_counted_with_the_time_they_waited() -> None:
    tally = driven(lambda _now: None, rate=10, seconds=1, users=2, timeout_s=1.0)
    assert tally.endings[0][Ending.TIMED_OUT] == 4  # the users give up once, and meet nothing better
    assert tally.endings[0][Ending.DROPPED] == 6
    assert tally.latency[0].count == 10
    assert tally.latency[0].ms(50) >= 1000


def test_a_refusal_counts_as_one_and_its_haste_is_no_latency() -> None:
    tally = driven(lambda now: (0.001, Ending.REFUSED if now > 0.5 else Ending.ANSWERED), rate=10, seconds=1, users=2)
    assert (tally.endings[0][Ending.ANSWERED], tally.endings[0][Ending.REFUSED]) == (5, 5)
    assert tally.latency[0].count == 5


def test_the_warm_up_is_sent_and_left_out() -> None:
    sent: list[float] = []

    def answer(now: float) -> tuple[float, Ending]:
        sent.append(now)
        return (0.5 if now < 0 else 0.01, Ending.ANSWERED)

    tally = driven(answer, rate=10, seconds=1, users=50, warm_up_s=2.0)
    assert len([now for now in sent if now < 0]) == 20
    assert tally.latency[0].count == 10
    assert tally.latency[0].max_ms < 20
    assert tally.slip.count == 10
