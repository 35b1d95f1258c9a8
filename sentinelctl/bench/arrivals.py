"""When requests arrive, decided before the first is sent: an open loop, which no slow answer holds up. Pure.

Source for the open model and its profiles: k6's arrival-rate executors; for the schedule, wrk2.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

Spacing = Literal["even", "poisson"]

RAMP_PARTS: Final = 10
STEPS: Final = 5


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of the load that is reported by itself; its rate (arrivals a second) goes evenly from one to the other."""

    seconds: float
    rate_from: float
    rate_to: float

    @property
    def rate(self) -> float:
        return (self.rate_from + self.rate_to) / 2


def fixed(rate: float, seconds: float) -> tuple[Stage, ...]:
    return (Stage(seconds, rate, rate),)


def ramp(rate: float, seconds: float) -> tuple[Stage, ...]:
    """From nothing to `rate`, in parts of equal length."""
    return tuple(
        Stage(seconds / RAMP_PARTS, rate * part / RAMP_PARTS, rate * (part + 1) / RAMP_PARTS)
        for part in range(RAMP_PARTS)
    )


def step(rate: float, seconds: float) -> tuple[Stage, ...]:
    """`rate` in steps of equal height and length."""
    return tuple(Stage(seconds / STEPS, rate * part / STEPS, rate * part / STEPS) for part in range(1, STEPS + 1))


def schedule(stages: Sequence[Stage], *, warm_up_s: float, spacing: Spacing, seed: int) -> NDArray[np.float64]:
    """Seconds of each arrival, ascending; those of the warm-up, at the first stage's rate, are below 0.

    even: one at a time at equal distances. poisson: as independent senders send, drawn by `seed`.
    """
    first = stages[0].rate
    parts = (Stage(warm_up_s, first, first), *stages)
    random = np.random.default_rng(seed)
    total = sum(part.rate * part.seconds for part in parts)
    if spacing == "even":
        counts = np.arange(int(total) + 1, dtype=np.float64) + 0.5
    else:
        # Twice the spread of a Poisson count and some, so that the draws always last.
        draws = int(total + 10 * total**0.5) + 20
        counts = np.cumsum(random.exponential(size=draws))
    found, at, done = [], -warm_up_s, 0.0
    for part in parts:
        expected = part.rate * part.seconds
        inside = counts[(counts >= done) & (counts < done + expected)] - done
        found.append(at + _reached(part, inside))
        at, done = at + part.seconds, done + expected
    return np.concatenate(found)


def stage_of(stages: Sequence[Stage], at_s: NDArray[np.float64]) -> NDArray[np.int64]:
    """The index of the stage that each arrival is in; -1 for the warm-up."""
    ends = np.cumsum([stage.seconds for stage in stages])
    index = np.minimum(np.searchsorted(ends, at_s, side="right"), len(stages) - 1)
    return np.where(at_s < 0, -1, index)


def _reached(part: Stage, counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Seconds into `part` at which that many arrived: rate_from·t + slope·t²/2 = count, solved without cancellation."""
    slope = (part.rate_to - part.rate_from) / part.seconds if part.seconds else 0.0
    root = np.sqrt(part.rate_from**2 + 2 * slope * counts)
    return 2 * counts / (part.rate_from + root)
