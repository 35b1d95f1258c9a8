"""The open loop: each request goes out at its time, and its latency counts from that time, whenever it was sent.

What waits for a free user has already arrived, so its wait is part of its latency. Counting from the moment of sending
leaves that out and hides whatever stopped the target ("coordinated omission": Gil Tene; wrk2's README).
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import partial
from typing import Final, Protocol

from sentinelctl.bench.histogram import Histogram

LEAD_S: Final = 0.05
_SWEEP_S: Final = 0.05


class Ending(StrEnum):
    ANSWERED = "answered"
    REFUSED = "refused"
    """Answered, and not with a success."""
    BROKEN = "broken"
    """The connection ended before the answer did."""
    TIMED_OUT = "timed_out"
    DROPPED = "dropped"
    """Never sent: no user was free for as long as an answer may take."""


Done = Callable[[Ending], None]


class User(Protocol):
    """One sender, with one request at a time."""

    def send(self, number: int, done: Done) -> None:
        """`done` is called once, later: never from inside this call."""

    def abandon(self) -> None:
        """What is under way is not waited for any more, and its `done` is not called."""


class Tally:
    """What became of the arrivals of each stage; the warm-up is in none. What a refusal took is in no histogram."""

    def __init__(self, stages: int) -> None:
        self.latency = [Histogram() for _ in range(stages)]
        self.service = Histogram()
        """From the moment of sending: what a closed loop reports."""
        self.slip = Histogram()
        """From an arrival's time to the moment at which the generator had turned to it."""
        self.endings = [dict.fromkeys(Ending, 0) for _ in range(stages)]

    def add(self, stage: int, ending: Ending, latency_s: float, service_s: float | None) -> None:
        if stage < 0:
            return
        self.endings[stage][ending] += 1
        if ending in (Ending.ANSWERED, Ending.TIMED_OUT, Ending.DROPPED):  # the latter two took at least that long
            self.latency[stage].record(latency_s)
        if ending is Ending.ANSWERED and service_s is not None:
            self.service.record(service_s)


class Driver:
    """One run over some users. `begins_at`: of `clock`, the time that the schedule counts from."""

    def __init__(
        self,
        arrivals: Sequence[float],
        stages: Sequence[int],
        users: Sequence[User],
        tally: Tally,
        *,
        timeout_s: float,
        clock: Callable[[], float] = time.perf_counter,
        ended: Callable[[int, Ending], None] = lambda _number, _ending: None,
    ) -> None:
        """arrivals: seconds, ascending; stages: of each, -1 for the warm-up. ended: told of each arrival's end."""
        self._arrivals, self._stages, self._tally, self._clock = arrivals, stages, tally, clock
        self._timeout_s, self._ended = timeout_s, ended
        self._idle = deque(users)
        self._waiting: deque[int] = deque()
        self._under_way: dict[User, tuple[int, float]] = {}
        self._left = len(arrivals)
        self._all_ended = asyncio.Event()
        self.begins_at = 0.0

    async def run(self) -> None:
        """Until every arrival ended, each within the timeout of its time and of its sending."""
        if not self._arrivals:
            return
        sweeper = asyncio.create_task(self._sweep())
        self.begins_at = self._clock() + LEAD_S - min(0.0, self._arrivals[0])
        try:
            for number, offset in enumerate(self._arrivals):
                due = self.begins_at + offset
                if (wait_s := due - self._clock()) > 0:
                    await asyncio.sleep(wait_s)
                elif number % 64 == 0:
                    await asyncio.sleep(0)  # late: answers have their turn too
                if self._stages[number] >= 0:
                    self._tally.slip.record(self._clock() - due)
                self._waiting.append(number)
                self._send()
            await self._all_ended.wait()
        finally:
            sweeper.cancel()

    def _send(self) -> None:
        while self._waiting and self._idle:
            number, user = self._waiting.popleft(), self._idle.popleft()
            self._under_way[user] = (number, self._clock())
            user.send(number, partial(self._done, user))

    def _done(self, user: User, ending: Ending) -> None:
        number, sent_at = self._under_way.pop(user)
        self._end(number, ending, self._clock() - sent_at)
        self._idle.append(user)
        self._send()

    def _end(self, number: int, ending: Ending, service_s: float | None) -> None:
        latency_s = self._clock() - self.begins_at - self._arrivals[number]
        self._tally.add(self._stages[number], ending, latency_s, service_s)
        self._ended(number, ending)
        self._left -= 1
        if not self._left:
            self._all_ended.set()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_S)
            now = self._clock()
            while self._waiting and now - self.begins_at - self._arrivals[self._waiting[0]] >= self._timeout_s:
                self._end(self._waiting.popleft(), Ending.DROPPED, None)
            for user, (_, sent_at) in list(self._under_way.items()):
                if now - sent_at >= self._timeout_s:
                    user.abandon()
                    self._done(user, Ending.TIMED_OUT)
