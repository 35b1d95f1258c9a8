"""Runs of known figures."""

from collections.abc import Mapping, Sequence
from typing import Any

from sentinelctl.bench.arrivals import Stage, fixed
from sentinelctl.bench.driver import Ending
from sentinelctl.bench.histogram import Histogram
from sentinelctl.bench.run import Run


def histogram(ms: Sequence[float]) -> Histogram:
    made = Histogram()
    for each in ms:
        made.record(each / 1000)
    return made


def made_run(
    ms: Sequence[float] = (10.0,) * 100,
    *,
    stages: Sequence[Stage] | None = None,
    slip_ms: float = 0.1,
    cpu: float = 0.2,
    extra: Mapping[str, Any] | None = None,
    **endings: int,
) -> Run:
    """One stage, answered as often as there are latencies; `endings`: how often something else."""
    own = tuple(stages or fixed(len(ms) / 10, 10.0))
    counts = {**dict.fromkeys(Ending, 0), Ending.ANSWERED: len(ms), **{Ending(name): n for name, n in endings.items()}}
    return Run(own, (histogram(ms),), (counts,), histogram(ms), histogram([slip_ms] * 100), cpu, extra or {})
