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
        """Milliseconds by name: p50 … p99.9, max, mean."""
        mean = self._of.get_mean_value() / 1000 if self.count else 0.0
        found = {name(each): self.ms(each) for each in PERCENTILES} | {"max": self.max_ms, "mean": mean}
        return {key: round(value, 3) for key, value in found.items()}

    def curve(self) -> list[tuple[float, float]]:
        """(percentile, ms) from the median into the tail, as far as there are values to tell apart."""
        points, share = [], 0.5
        while share * self.count >= 1:
            points.append((100 * (1 - share), self.ms(100 * (1 - share))))
            share /= 2**0.25
        return points

    def encode(self) -> str:
        return str(self._of.encode().decode())


def name(percentile: float) -> str:
    """p50, p99.9"""
    return f"p{percentile:g}"
