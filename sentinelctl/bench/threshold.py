"""Conditions on a result's figures, as `--fail-if` and `--slo` read them: p99>2s, errors>0.1%, rate<500. Pure."""

import operator
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sentinelctl.errors import UsageError

_FORM = re.compile(r"\s*([a-z][a-z0-9._]*)\s*(<=|>=|<|>)\s*([0-9]+(?:\.[0-9]+)?)\s*(us|ms|s|min|%|/s|)\s*")
_COMPARE: Final = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_MS: Final = {"us": 0.001, "ms": 1.0, "s": 1000.0, "min": 60_000.0}
_LATENCIES: Final = ("p50", "p75", "p90", "p95", "p99", "p99.9", "max")
_COUNTS: Final = ("errors", "dropped", "lost", "duplicates")
METRICS: Final = (*_LATENCIES, *_COUNTS, "rate")


@dataclass(frozen=True, slots=True)
class Condition:
    """value: milliseconds of a latency, a count, a share of what arrived (is_share), or a rate."""

    text: str
    metric: str
    sign: str
    value: float
    is_share: bool = False

    def seen(self, figures: Mapping[str, Any]) -> float:
        if self.metric in _LATENCIES:
            return float(figures["latency_ms"][self.metric])
        found = float(figures.get(self.metric, 0))
        return found / max(1, figures["sent"] + figures["dropped"]) if self.is_share else found

    def holds(self, figures: Mapping[str, Any]) -> bool:
        return bool(_COMPARE[self.sign](self.seen(figures), self.value))

    def told(self, figures: Mapping[str, Any]) -> str:
        """The condition, and what was seen."""
        seen = self.seen(figures)
        unit = " ms" if self.metric in _LATENCIES else "/s" if self.metric == "rate" else ""
        return f"{self.text}: it is {seen:.3%}" if self.is_share else f"{self.text}: it is {seen:,.6g}{unit}"


def parse(text: str) -> Condition:
    """Raises UsageError saying what a condition looks like."""
    found = _FORM.fullmatch(text)
    if found is None or found[1] not in METRICS:
        raise UsageError(
            f"{text!r} is no condition",
            remedy=f"write one as p99>2s or errors>0.1%, of {', '.join(METRICS)}",
        )
    metric, sign, number, unit = found.groups()
    is_latency, is_count = metric in _LATENCIES, metric in _COUNTS
    allowed = tuple(_MS) if is_latency else ("", "%") if is_count else ("", "/s")
    if unit not in allowed:
        has = f"has the unit {unit!r}" if unit else "has no unit"
        raise UsageError(f"{text!r} {has}", remedy=f"{metric} takes {' or '.join(filter(None, allowed))}")
    value = float(number) * (_MS[unit] if is_latency else 0.01 if unit == "%" else 1.0)
    return Condition(text.strip(), metric, sign, value, unit == "%")
