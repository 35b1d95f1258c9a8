"""The account of a run: what the sender had acknowledged against what GitHub shows.

Shares nothing with the services: it knows the deliveries it sent and the reviews that became visible, and no more.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Literal


@dataclass(frozen=True, slots=True)
class Unit:
    """What one review is about: a head of a pull request, or (number None) the last commit of a push."""

    repository_id: int
    number: int | None
    sha: str


@dataclass(frozen=True, slots=True)
class Sent:
    """One delivery; times are Unix nanoseconds, `answer` is the receiver's own word, such as accepted."""

    delivery_id: str
    unit: Unit
    sent_at_ns: int
    status: int
    answer: str

    @property
    def is_acknowledged(self) -> bool:
        return self.status == 202


@dataclass(frozen=True, slots=True)
class Visible:
    """One review or commit comment as GitHub shows it."""

    unit: Unit
    at_ns: int


Ending = Literal["reviewed", "duplicate", "ignored", "lost", "refused"]


@dataclass(frozen=True, slots=True)
class Account:
    """Every delivery's ending, the reviews shown more than once, and the latencies of the reviewed ones."""

    endings: dict[str, Ending]
    duplicates: int
    e2e_ms: tuple[float, ...]

    def count(self, ending: Ending) -> int:
        return sum(one == ending for one in self.endings.values())


def account(sent: Sequence[Sent], visible: Iterable[Visible]) -> Account:
    """Pairs deliveries with reviews by unit; the earliest delivery of a unit is the one reviewed."""
    shown: dict[Unit, list[int]] = {}
    for one in visible:
        shown.setdefault(one.unit, []).append(one.at_ns)
    endings: dict[str, Ending] = {}
    latencies: list[float] = []
    first: set[Unit] = set()
    for delivery in sorted(sent, key=lambda one: one.sent_at_ns):
        if not delivery.is_acknowledged:
            endings[delivery.delivery_id] = "refused"
        elif delivery.answer == "ignored":
            endings[delivery.delivery_id] = "ignored"
        elif delivery.unit in first or delivery.answer == "duplicate":
            endings[delivery.delivery_id] = "duplicate"
        elif delivery.unit in shown:
            first.add(delivery.unit)
            endings[delivery.delivery_id] = "reviewed"
            latencies.append((min(shown[delivery.unit]) - delivery.sent_at_ns) / 1e6)
        else:
            first.add(delivery.unit)
            endings[delivery.delivery_id] = "lost"
    repeats = Counter({unit: len(times) - 1 for unit, times in shown.items()})
    return Account(endings, repeats.total(), tuple(sorted(latencies)))


def percentile(values: Sequence[float], q: float) -> float:
    """Nearest-rank percentile of `values`, 0 < q ≤ 100; 0.0 when there are none."""
    ordered = sorted(values)
    return ordered[max(0, ceil(q / 100 * len(ordered)) - 1)] if ordered else 0.0
