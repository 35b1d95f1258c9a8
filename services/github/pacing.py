"""When a request may go out: our own pace of writes, and how long GitHub asks to wait. Pure decisions, no clock."""

from collections import deque
from collections.abc import Mapping

SECONDARY_WAIT_S = 60.0
"""GitHub's own advice when a limit names no time: at least a minute, then longer each time."""
MAX_WAIT_S = 3600.0
WRITE_GAP_S = 1.0
"""GitHub's own advice for many writes in a row."""


class Pace:
    """Content writes of one account: `burst` at once after a quiet time, then WRITE_GAP_S apart.

    Never more than the two windows allow.
    """

    def __init__(self, *, per_min: float, per_h: float, burst: int) -> None:
        self._rate_per_s = min(per_min / 60, 1 / WRITE_GAP_S)
        self._burst = burst
        self._tokens = float(burst)
        self._refilled_at: float | None = None
        self._windows = tuple(
            (deque[float](maxlen=max(1, int(limit))), span_s) for limit, span_s in ((per_min, 60.0), (per_h, 3600.0))
        )

    def wait_s(self, now: float) -> float:
        """Seconds until the next write may go out; `now` never runs backwards."""
        wait = (1 - self._tokens_at(now)) / self._rate_per_s
        for sent, span_s in self._windows:
            if len(sent) == sent.maxlen:
                wait = max(wait, sent[0] + span_s - now)
        return max(0.0, wait)

    def take(self, now: float) -> None:
        """Counts a write that goes out now."""
        self._tokens, self._refilled_at = self._tokens_at(now) - 1, now
        for sent, _ in self._windows:
            sent.append(now)

    def rest(self, now: float) -> None:
        """After GitHub limited us: no burst until there was a quiet time again."""
        self._tokens, self._refilled_at = min(0.0, self._tokens_at(now)), now

    def _tokens_at(self, now: float) -> float:
        quiet_s = now - (now if self._refilled_at is None else self._refilled_at)
        return min(float(self._burst), self._tokens + quiet_s * self._rate_per_s)


def limit_wait_s(
    status: int, headers: Mapping[str, str], message: str, *, now: float, strikes: int = 0
) -> float | None:
    """Seconds GitHub asks to wait, None when the answer is no limit.

    now: Unix time. strikes: limits in a row that named no time; each doubles the wait.
    Source: docs.github.com, "Rate limits for the REST API", "Exceeding the rate limit".
    """
    if status not in (403, 429):
        return None
    retry_after, reset = _seconds(headers.get("retry-after")), _seconds(headers.get("x-ratelimit-reset"))
    exhausted = headers.get("x-ratelimit-remaining") == "0"
    if status == 403 and retry_after is None and not exhausted and "rate limit" not in message.lower():
        return None
    if retry_after is not None:
        return min(max(retry_after, 1.0), MAX_WAIT_S)
    if exhausted and reset is not None:
        return min(max(reset - now, 1.0), MAX_WAIT_S)
    return min(SECONDARY_WAIT_S * 2.0**strikes, MAX_WAIT_S)


def _seconds(value: str | None) -> float | None:
    return float(value) if value is not None and value.isascii() and value.isdigit() else None
