"""Latencies in HDR histograms: 1 µs to 1 h at three significant digits, whatever their number."""

from collections.abc import Iterable
from typing import Final

from hdrh.histogram import HdrHistogram

PERCENTILES: Final = (50.0, 75.0, 90.0, 95.0, 99.0, 99.9)
_MOST_US: Final = 3_600_000_000


class Histogram:
    """Of durations."""

    def __init__(self, encoded: str = "") -> None:
        """`encoded`: HdrHistogram's own V2 form in base64, which its tools in other languages read too."""
        self._of = HdrHistogram.decode(encoded) if encoded else HdrHistogram(1, _MOST_US, 3)

    def record(self, seconds: float) -> None:
        self._of.record_value(min(_MOST_US, max(1, round(seconds * 1e6))))

    def add(self, others: "Iterable[Histogram]") -> "Histogram":
        for other in others:
            self._of.add(other._of)  # noqa: SLF001 - of the same class
        return self

    @property
    def count(self) -> int:
        return int(self._of.get_total_count())

    def ms(self, percentile: float) -> float:
        """0.0 of nothing."""
        return self._of.get_value_at_percentile(percentile) / 1000 if self.count else 0.0

    @property
    def max_ms(self) -> float:
        return self._of.get_max_value() / 1000 if self.count else 0.0

    def document(self) -> dict[str, float]:
        """Milliseconds by name: p50 … p99.9 and max."""
        found = self._of.get_percentile_to_value_dict(PERCENTILES) if self.count else {}
        return {**{name(each): found.get(each, 0) / 1000 for each in PERCENTILES}, "max": self.max_ms}

    def curve(self) -> list[tuple[float, float]]:
        """(percentile, ms) from the median into the tail, as far as there are values to tell apart."""
        shares: list[float] = []
        while (share := 0.5 * 2 ** (-len(shares) / 4)) * self.count >= 1:
            shares.append(100 * (1 - share))
        found = self._of.get_percentile_to_value_dict(shares)  # in one pass: each is slow in Python
        return [(percentile, found[percentile] / 1000) for percentile in shares]

    def encode(self) -> str:
        return str(self._of.encode().decode())


def name(percentile: float) -> str:
    """p50, p99.9"""
    return f"p{percentile:g}"
