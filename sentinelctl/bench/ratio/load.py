"""What a load generator saw, and whether it may be believed. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

SATURATED: Final = 0.95
"""Share of its one core at which a generator measures itself rather than the server."""


@dataclass(frozen=True, slots=True)
class Load:
    """One run of a generator with one thread.

    answered: complete answers with a 2xx status; refused: those with another. broken: connections that failed.
    generator_cpu, server_cpu: shares of one core.
    """

    seconds: float
    answered: int
    refused: int
    broken: int
    p50_ms: float
    p99_ms: float
    generator_cpu: float
    server_cpu: float = 0.0

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.answered / self.seconds

    @property
    def errors(self) -> int:
        return self.refused + self.broken

    @property
    def is_saturated(self) -> bool:
        return self.generator_cpu >= SATURATED


@dataclass(frozen=True, slots=True)
class Spread:
    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        return cls(median(values), min(values), max(values))

    def document(self) -> dict[str, float]:
        return {"median": round(self.median, 4), "min": round(self.least, 4), "max": round(self.most, 4)}


@dataclass(frozen=True, slots=True)
class Pair:
    """Ours and the control one after the other, so that what else the machine does then weighs on both."""

    ours: Load
    control: Load

    @property
    def ratio(self) -> float:
        return self.ours.rate / self.control.rate


def side(loads: Sequence[Load]) -> dict[str, Any]:
    """One side of the pairs, for the document."""
    return {
        "requests_per_s": Spread.of([load.rate for load in loads]).document(),
        "p50_ms": Spread.of([load.p50_ms for load in loads]).document(),
        "p99_ms": Spread.of([load.p99_ms for load in loads]).document(),
        "answered": sum(load.answered for load in loads),
        "errors": sum(load.errors for load in loads),
        "server_cpu": Spread.of([load.server_cpu for load in loads]).document(),
        "generator_cpu": Spread.of([load.generator_cpu for load in loads]).document(),
    }
