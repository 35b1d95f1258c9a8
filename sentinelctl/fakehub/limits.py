"""GitHub's limits as fakehub keeps them, per account. Pure: times come in.

Figures: docs.github.com, "Rate limits for the REST API": 5,000 requests an hour; 100 at once; 900 points a minute,
where a read is one and a write five; 80 content writes a minute and 500 an hour.
"""

import math
from collections import defaultdict, deque
from dataclasses import dataclass, field

PRIMARY = 5_000
PRIMARY_SPAN_S = 3600.0
CONCURRENT = 100
POINTS_PER_MIN = 900
WRITE_POINTS = 5
WRITES = ((80, 60.0), (500, 3600.0))

PRIMARY_MESSAGE = "API rate limit exceeded for user ID {}."
SECONDARY_MESSAGE = (
    "You have exceeded a secondary rate limit. Please wait a few minutes before you try again. "
    "If you reach out to GitHub Support for help, please include the request ID."
)


@dataclass(frozen=True)
class Verdict:
    """refusal: GitHub's message, None where the request may pass. retry_after_s: None for the primary limit."""

    used: int
    resets_at_s: int
    refusal: str | None = None
    retry_after_s: int | None = None

    @property
    def remaining(self) -> int:
        return max(0, PRIMARY - self.used)


@dataclass
class _Account:
    opened_at: float = -math.inf
    used: int = 0
    under_way: int = 0
    points: deque[tuple[float, int]] = field(default_factory=deque)
    writes: deque[float] = field(default_factory=lambda: deque(maxlen=max(limit for limit, _ in WRITES)))


class Limits:
    """Not safe across threads: the event loop alone asks. `is_enforced` False counts and refuses nothing."""

    def __init__(self, *, is_enforced: bool) -> None:
        self.is_enforced = is_enforced
        self._accounts: defaultdict[int, _Account] = defaultdict(_Account)

    def begin(self, account: int, now: float, *, is_write: bool, is_content: bool) -> Verdict:
        """Counts one request that comes in now (Unix seconds); `end` must follow, whatever the verdict."""
        of = self._accounts[account]
        of.under_way += 1
        if now >= of.opened_at + PRIMARY_SPAN_S:
            of.opened_at, of.used = now, 0
        resets_at_s = math.ceil(of.opened_at + PRIMARY_SPAN_S)
        if self.is_enforced and of.used >= PRIMARY:
            return Verdict(of.used, resets_at_s, PRIMARY_MESSAGE.format(account))
        of.used += 1
        wait_s = self._secondary_wait_s(of, now, is_write=is_write, is_content=is_content)
        if self.is_enforced and wait_s > 0:
            return Verdict(of.used, resets_at_s, SECONDARY_MESSAGE, math.ceil(wait_s))
        of.points.append((now, WRITE_POINTS if is_write else 1))
        if is_content:
            of.writes.append(now)
        return Verdict(of.used, resets_at_s)

    def end(self, account: int, *, was_unchanged: bool) -> None:
        """was_unchanged: a 304, which costs no primary quota."""
        of = self._accounts[account]
        of.under_way -= 1
        if was_unchanged:
            of.used -= 1

    def look(self, account: int, now: float) -> Verdict:
        """What GET /rate_limit says, which costs nothing."""
        of = self._accounts[account]
        is_open = now < of.opened_at + PRIMARY_SPAN_S
        return Verdict(of.used if is_open else 0, math.ceil((of.opened_at if is_open else now) + PRIMARY_SPAN_S))

    @staticmethod
    def _secondary_wait_s(of: _Account, now: float, *, is_write: bool, is_content: bool) -> float:
        while of.points and of.points[0][0] <= now - 60:
            of.points.popleft()
        wait_s = 1.0 if of.under_way > CONCURRENT else 0.0
        if sum(points for _, points in of.points) + (WRITE_POINTS if is_write else 1) > POINTS_PER_MIN:
            wait_s = max(wait_s, of.points[0][0] + 60 - now)
        if is_content:
            for limit, span_s in WRITES:
                if len(of.writes) >= limit and of.writes[-limit] > now - span_s:
                    wait_s = max(wait_s, of.writes[-limit] + span_s - now)
        return wait_s
