"""Two results held against each other: the ratio of each figure, and the interval it is in with 95 % confidence. Pure.

Of repeated runs. Latencies and rates differ by factors, so their logarithms are compared: Welch's interval for the
difference of two means with unlike variances, taken back to a ratio.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, variance
from typing import Any, Final, Literal

from sentinelctl.errors import UsageError

LEAST_RUNS: Final = 3
_MACHINE: Final = ("host", "cpu", "cores", "python")
METRICS: Final = ("p50", "p90", "p99", "p99.9", "max", "rate")
# 97.5 % quantiles of Student's t by degrees of freedom, 1 to 30; the normal distribution's after that.
_T: Final = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131),
    *(2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)
_T_FROM_31: Final = 1.96


@dataclass(frozen=True, slots=True)
class Change:
    """ratio: B's (geometric) mean over A's. low, high: of the interval; nan with too few runs for one."""

    metric: str
    a: float
    b: float
    ratio: float
    low: float
    high: float

    @property
    def verdict(self) -> Literal["better", "worse", "no difference to see", "too few runs"]:
        if math.isnan(self.low):
            return "too few runs"
        if self.low <= 1 <= self.high:
            return "no difference to see"
        return "better" if (self.ratio > 1) == (self.metric == "rate") else "worse"

    def document(self) -> dict[str, Any]:
        interval = None if math.isnan(self.low) else [round(self.low, 4), round(self.high, 4)]
        own = {"metric": self.metric, "a": round(self.a, 3), "b": round(self.b, 3), "ratio": round(self.ratio, 4)}
        return {**own, "interval_95": interval, "verdict": self.verdict}


def compare(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Change]:
    """Of two documents of the same kind. Raises UsageError where they are not."""
    for name, one in (("A", a), ("B", b)):
        if one.get("version") != 1 or not one.get("runs"):
            raise UsageError(f"{name} is no result with runs", remedy="give what `sentinelctl bench … --out` wrote")
    if a["kind"] != b["kind"]:
        raise UsageError(f"A is of `bench {a['kind']}` and B of `bench {b['kind']}`", remedy="compare like with like")
    return [_change(metric, _values(a, metric), _values(b, metric)) for metric in METRICS]


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """What was not the same beside the code, so that a change may come from it."""
    pairs = [
        (f"{section}.{name}", a[section].get(name), b[section].get(name))
        for section in ("shape", "target")
        for name in sorted({*a[section], *b[section]} - {"fsync_p50_ms"})
    ]
    pairs += [(name, a["environment"].get(name), b["environment"].get(name)) for name in _MACHINE]
    return [f"{name}: {before} and {after}" for name, before, after in pairs if before != after]


def _values(document: Mapping[str, Any], metric: str) -> list[float]:
    runs = document["runs"]
    return [float(run["rate"] if metric == "rate" else run["latency_ms"][metric]) for run in runs]


def _change(metric: str, a: Sequence[float], b: Sequence[float]) -> Change:
    logs_a, logs_b = ([math.log(max(value, 1e-9)) for value in values] for values in (a, b))
    mean_a, mean_b = fmean(logs_a), fmean(logs_b)
    low = high = math.nan
    if min(len(a), len(b)) >= LEAST_RUNS:
        half = _half_width(logs_a, logs_b)
        low, high = math.exp(mean_b - mean_a - half), math.exp(mean_b - mean_a + half)
    return Change(metric, math.exp(mean_a), math.exp(mean_b), math.exp(mean_b - mean_a), low, high)


def _half_width(a: Sequence[float], b: Sequence[float]) -> float:
    parts = [variance(each) / len(each) for each in (a, b)]
    if not sum(parts):
        return 0.0
    freedom = sum(parts) ** 2 / sum(part**2 / (len(each) - 1) for part, each in zip(parts, (a, b), strict=True))
    t = _T[int(freedom) - 1] if freedom < len(_T) + 1 else _T_FROM_31  # rounded down: the wider interval
    return t * math.sqrt(sum(parts))
