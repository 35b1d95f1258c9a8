"""The account of a run: what the sender had acknowledged against what GitHub shows.

What is reviewed, and how often, the forge alone says. A service's word counts only for what leaves nothing to see
there, and only where it fits what the sender did: a head that was moved, a push to an open pull request's branch.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Final, Literal

_LOOK_TO_POST_S: Final = 5.0
"""A publisher looks at the head, then posts: a head that moves in between is seen by nobody. Two slow answers' time."""


@dataclass(frozen=True, slots=True)
class Unit:
    """What one review is about: a head of a pull request, or (number None) the last commit of a push."""

    repository_id: int
    number: int | None
    sha: str


@dataclass(frozen=True, slots=True)
class Sent:
    """One delivery; times are Unix nanoseconds, `answer` is the receiver's own word, such as accepted.

    acknowledged_at_ns: 0 where it was not, or nobody noted when. attempts: under the same delivery id, as GitHub's
    redelivery makes them.
    """

    delivery_id: str
    unit: Unit
    sent_at_ns: int
    status: int
    answer: str
    reason: str = ""
    acknowledged_at_ns: int = 0
    attempts: int = 1

    @property
    def is_acknowledged(self) -> bool:
        return self.status == 202


@dataclass(frozen=True, slots=True)
class Visible:
    """One review or commit comment as GitHub shows it."""

    unit: Unit
    at_ns: int


@dataclass(frozen=True, slots=True)
class Word:
    """How a service says that a delivery ended: a line of its log, or a dead letter."""

    outcome: str
    reason: str
    at_ns: int


@dataclass(frozen=True, slots=True)
class Facts:
    """What the sender did beside sending, by which a service's word is judged.

    moved_at_ns: when the head of a unit was overtaken. covered: pushes to the branch of an open pull request.
    poisoned: deliveries that cannot succeed.
    """

    moved_at_ns: Mapping[Unit, int] = field(default_factory=dict)
    covered: frozenset[str] = frozenset()
    poisoned: frozenset[str] = frozenset()


Ending = Literal["reviewed", "superseded", "covered", "dead-lettered", "ignored", "duplicate", "lost", "refused"]
ENDINGS: Final[tuple[Ending, ...]] = ("reviewed", "superseded", "covered", "dead-lettered", "ignored", "duplicate")
"""Of an acknowledged delivery, each with a reason; lost is none of them."""


@dataclass(frozen=True, slots=True)
class Account:
    """Every delivery's ending and why, and what should not be there. A delivery id that comes again is `id+1`.

    duplicates: reviews shown more than once. stale: reviews posted of a head that was overtaken before.
    unexplained: dead letters of deliveries that nobody poisoned. ended_at_ns: where something tells when.
    """

    endings: dict[str, Ending]
    duplicates: int
    e2e_ms: tuple[float, ...]
    reasons: dict[str, str] = field(default_factory=dict)
    ended_at_ns: dict[str, int] = field(default_factory=dict)
    stale: tuple[Unit, ...] = ()
    unexplained: tuple[str, ...] = ()

    def count(self, ending: Ending) -> int:
        return sum(one == ending for one in self.endings.values())


def account(
    sent: Sequence[Sent],
    visible: Iterable[Visible],
    words: Mapping[str, Word] | None = None,
    facts: Facts | None = None,
) -> Account:
    """Pairs deliveries with reviews by unit; the earliest delivery of a unit is the one reviewed."""
    words, facts = words or {}, facts or Facts()
    shown: dict[Unit, list[int]] = {}
    for one in visible:
        shown.setdefault(one.unit, []).append(one.at_ns)
    found = Account({}, Counter({unit: len(times) - 1 for unit, times in shown.items()}).total(), ())
    latencies: list[float] = []
    first: dict[Unit, str] = {}
    for delivery in sorted(sent, key=lambda one: one.sent_at_ns):
        name = _unused(delivery.delivery_id, found.endings)
        word = words.get(delivery.delivery_id) if name == delivery.delivery_id else None
        ending, reason, at_ns = _ending(delivery, first, shown, word, facts)
        if ending not in ("refused", "ignored"):
            first.setdefault(delivery.unit, delivery.delivery_id)
        if ending == "reviewed":
            latencies.append((at_ns - delivery.sent_at_ns) / 1e6)
        found.endings[name], found.reasons[name] = ending, reason
        if at_ns:
            found.ended_at_ns[name] = at_ns
    late = [
        unit
        for unit, moved_at_ns in facts.moved_at_ns.items()
        if max(shown.get(unit, [0])) > moved_at_ns + _LOOK_TO_POST_S * 1e9
    ]
    unexplained = [
        name for name, word in words.items() if word.outcome == "dead-lettered" and name not in facts.poisoned
    ]
    return Account(
        found.endings,
        found.duplicates,
        tuple(sorted(latencies)),
        found.reasons,
        found.ended_at_ns,
        tuple(late),
        tuple(unexplained),
    )


def _ending(
    delivery: Sent, first: Mapping[Unit, str], shown: Mapping[Unit, Sequence[int]], word: Word | None, facts: Facts
) -> tuple[Ending, str, int]:
    """The ending, why, and when as Unix nanoseconds, 0 where nothing tells."""
    if not delivery.is_acknowledged:
        return "refused", delivery.reason or f"answered {delivery.status}", 0
    if delivery.answer == "ignored":
        return "ignored", delivery.reason, delivery.acknowledged_at_ns
    if earlier := first.get(delivery.unit):
        return "duplicate", f"of the same head as {earlier}", delivery.acknowledged_at_ns
    if times := shown.get(delivery.unit):
        return "reviewed", "visible on the forge", min(times)
    match word.outcome if word else "":
        case "superseded" if delivery.unit in facts.moved_at_ns:
            pass
        case "covered" if delivery.delivery_id in facts.covered:
            pass
        case "dead-lettered":
            pass
        case "":
            return "lost", "no review, and no service says why", 0
        case said:
            return "lost", f"no review, and said to be {said}, which nothing bears out", 0
    assert word is not None
    return word.outcome, word.reason, word.at_ns  # type: ignore[return-value]


def _unused(delivery_id: str, taken: Mapping[str, object]) -> str:
    names = (delivery_id, *(f"{delivery_id}+{number}" for number in range(1, len(taken) + 1)))
    return next(name for name in names if name not in taken)


def percentile(values: Sequence[float], q: float) -> float:
    """Nearest-rank percentile of `values`, 0 < q ≤ 100; 0.0 when there are none."""
    ordered = sorted(values)
    return ordered[max(0, ceil(q / 100 * len(ordered)) - 1)] if ordered else 0.0
