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
    """Doubles or halves the rate from `begin` until it turns, then closes in; the best one has to hold twice.

    A rate passes when every condition of `slo` holds and nothing is wrong with the run, a saturated generator included.
    One that failed once is above the limit, whatever it did before.
    """
    tries: list[Try] = []
    rate = begin
    while True:
        run = offer(fixed(rate, seconds))
        missed = [f"not {one.told(run.figures)}" for one in slo if not one.holds(run.figures)]
        tries.append(Try(rate, run, (*run.faults(), *missed)))
        tell(tries[-1])
        failed = min((one for one in tries if one.why), key=lambda one: one.rate, default=None)
        held = [one for one in tries if not one.why and (failed is None or one.rate < failed.rate)]
        best = max(reversed(held), key=lambda one: one.rate, default=None)
        is_over = len(tries) >= _MOST_TRIES
        if best is None:
            rate /= 2
            if is_over or rate * seconds < _LEAST_ARRIVALS:
                break
        elif sum(one.rate == best.rate for one in held) > 1:
            break
        elif is_over or (failed is not None and failed.rate / best.rate <= _CLOSE):
            rate = best.rate  # once could be luck
        else:
            rate = best.rate * 2 if failed is None else (best.rate * failed.rate) ** 0.5
    return Found(best, tuple(tries), failed.why[0] if failed is not None else "nothing: the search ended first")
