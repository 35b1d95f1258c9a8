"""The search for the highest rate that still meets an objective. Pure but for `offer`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sentinelctl.bench.arrivals import Stage, fixed
from sentinelctl.bench.run import Run
from sentinelctl.bench.threshold import Condition

Offer = Callable[[Sequence[Stage]], Run]

_CLOSE: Final = 1.05
"""The search ends when the least rate that failed is no more than this many times the highest that passed."""
_MOST_TRIES: Final = 16
_LEAST_ARRIVALS: Final = 5
"""In a try; fewer tell nothing of a rate."""


@dataclass(frozen=True, slots=True)
class Try:
    """One rate of a search: why it failed, empty where it did not."""

    rate: float
    run: Run
    why: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        figures = self.run.figures
        return {
            "rate": round(self.rate, 3),
            "p99_ms": figures["latency_ms"]["p99"],
            "achieved": figures["rate"],
            "errors": figures["errors"],
            "dropped": figures["dropped"],
            "why": list(self.why),
        }


@dataclass(frozen=True, slots=True)
class Found:
    """best: the highest rate that met the objective, None where none did. limited_by: what failed just above it."""

    best: Try | None
    tries: tuple[Try, ...]
    limited_by: str


def find_max(
    offer: Offer, begin: float, seconds: float, slo: Sequence[Condition], tell: Callable[[Try], None]
) -> Found:
    """Doubles or halves the rate from `begin` until it turns, then closes in, then holds the best one once more.

    A rate passes when every condition of `slo` holds and nothing is wrong with the run, a saturated generator included.
    """
    tries: list[Try] = []

    def attempt(rate: float) -> Try:
        run = offer(fixed(rate, seconds))
        missed = [f"not {one.told(run.figures)}" for one in slo if not one.holds(run.figures)]
        tries.append(Try(rate, run, (*run.faults(), *missed)))
        tell(tries[-1])
        return tries[-1]

    good, bad = None, None
    rate = begin
    while len(tries) < _MOST_TRIES and (not tries or rate * seconds >= _LEAST_ARRIVALS):
        one = attempt(rate)
        if one.why:
            bad = one if bad is None or one.rate < bad.rate else bad
        else:
            good = one if good is None or one.rate > good.rate else good
        if good is None:
            rate /= 2
        elif bad is None:
            rate *= 2
        elif bad.rate / good.rate <= _CLOSE:
            break
        else:
            rate = (good.rate * bad.rate) ** 0.5
    while good is not None:  # once could be luck
        again = attempt(good.rate)
        if not again.why:
            good = again
            break
        bad = again
        lower = [one for one in tries if not one.why and one.rate < good.rate]
        good = max(lower, key=lambda one: one.rate, default=None)
    return Found(good, tuple(tries), bad.why[0] if bad is not None else "nothing: the search ended first")
