"""What two models say of the same past events: what each alone shows, and how sure both are of the rest. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from sentinelctl.console import clean
from sentinelctl.demo.show import SEVERITY_STYLE
from sentinelctl.log.headline import about, plural
from sentinelctl.log.rehearsal import Said
from services.contract import Outcome

MOVED: Final = 0.05  # of a confidence, to be worth a line for people
_LISTED: Final = 12  # lines of one event

Finding = Mapping[str, Any]
Place = tuple[str, int, str, str]


@dataclass(frozen=True, slots=True)
class Compared:
    """One event. Findings as the topic `reviews` names them; each pair is (a's, b's) of one place and concept.

    `only_a` and `only_b` are shown by one side alone: the other's finding there is one it does not show, or None.
    """

    a: Said
    b: Said
    only_a: tuple[tuple[Finding, Finding | None], ...] = ()
    only_b: tuple[tuple[Finding | None, Finding], ...] = ()
    both: tuple[tuple[Finding, Finding], ...] = ()

    @property
    def is_compared(self) -> bool:
        """Whether both sides reviewed it; else an outcome says why one did not."""
        return self.a.outcome == self.b.outcome == Outcome.REVIEWED

    @property
    def moved(self) -> list[tuple[Finding, Finding]]:
        """Of those that both show, the ones whose confidence changed, the largest change first."""
        changed = [(a, b) for a, b in self.both if abs(a["confidence"] - b["confidence"]) >= MOVED]
        return sorted(changed, key=lambda pair: -abs(pair[0]["confidence"] - pair[1]["confidence"]))

    def document(self) -> dict[str, Any]:
        told = self.a.document()
        return {
            **{name: told[name] for name in ("delivery_id", "repository", "pull", "sha")},
            "outcomes": {side: {"outcome": said.outcome, "reason": said.reason} for side, said in self._sides()},
            "only_a": [_plain(a, a, b) for a, b in self.only_a],
            "only_b": [_plain(b, a, b) for a, b in self.only_b],
            "both": [_plain(a, a, b) for a, b in self.both],
        }

    def _sides(self) -> Iterable[tuple[str, Said]]:
        return ("a", self.a), ("b", self.b)


def compare(a: Said, b: Said) -> Compared:
    """Both are of one event."""
    if not a.review or not b.review:
        return Compared(a, b)
    here, there = ({_place(one): one for one in said.document()["findings"]} for said in (a, b))
    shown_a, shown_b = ({place for place, one in side.items() if one["is_shown"]} for side in (here, there))
    return Compared(
        a,
        b,
        tuple((here[place], there.get(place)) for place in sorted(shown_a - shown_b)),
        tuple((here.get(place), there[place]) for place in sorted(shown_b - shown_a)),
        tuple((here[place], there[place]) for place in sorted(shown_a & shown_b)),
    )


def totals(compared: Sequence[Compared]) -> dict[str, Any]:
    pairs = [pair for one in compared for pair in one.both]
    moves = [abs(a["confidence"] - b["confidence"]) for a, b in pairs]
    return {
        "events": len(compared),
        "events_compared": sum(one.is_compared for one in compared),
        "only_a": sum(len(one.only_a) for one in compared),
        "only_b": sum(len(one.only_b) for one in compared),
        "both": len(pairs),
        "mean_change": round(sum(moves) / len(moves), 4) if moves else None,
        "largest_change": round(max(moves), 4) if moves else None,
    }


def shown(one: Compared) -> RenderableType:
    """A header line, and below it what differs."""
    head = Text(about(one.a.past.event), "cyan")
    if not one.is_compared:
        for side, said in (("A", one.a), ("B", one.b)):
            head.append(f"  {side} {said.outcome}{': ' + clean(said.reason) if said.reason else ''}", "yellow")
        return head
    head.append(f"  {len(one.only_a)} only A, {len(one.only_b)} only B, {len(one.both)} both", "default")
    rows = [
        *(("A", "green", a, _percent(a), _hidden(b)) for a, b in one.only_a),
        *(("B", "magenta", b, _hidden(a), _percent(b)) for a, b in one.only_b),
        *(("both", "dim", a, _percent(a), _percent(b)) for a, b in one.moved),
    ]
    if not rows:
        return head
    table = Table.grid(padding=(0, 2))
    for side, style, finding, confidence_a, confidence_b in rows[:_LISTED]:
        table.add_row(
            Text(side, style),
            Text(f"{clean(finding['path'])}:{finding['line']}", overflow="fold"),
            Text(finding["severity"], SEVERITY_STYLE[finding["severity"]]),
            f"A {confidence_a}",
            f"B {confidence_b}",
            Text(finding["title"]),
        )
    more = len(rows) - _LISTED
    rest = [Text(f"… and {more} more; --json has all", "dim")] if more > 0 else []
    return Group(head, Padding(Group(table, *rest), (0, 0, 0, 8), expand=False))


def summary(found: Mapping[str, Any]) -> str:
    """`in 4 of 5 events: 3 findings only A, 1 only B, 12 both; …`"""
    text = (
        f"in {found['events_compared']} of {plural(found['events'], 'event')}: {plural(found['only_a'], 'finding')} "
        f"only A, {found['only_b']} only B, {found['both']} both"
    )
    if found["mean_change"] is None:
        return text
    mean, largest = found["mean_change"], found["largest_change"]
    return f"{text}, whose confidence differs by {mean:.1%} on average and {largest:.1%} at most"


def _place(finding: Finding) -> Place:
    return finding["path"], finding["line"], finding["side"], finding["concept"]


def _plain(finding: Finding, a: Finding | None, b: Finding | None) -> dict[str, Any]:
    names = ("path", "line", "side", "concept", "title", "category", "severity")
    return {
        **{name: finding[name] for name in names},
        "confidence_a": None if a is None else a["confidence"],
        "confidence_b": None if b is None else b["confidence"],
    }


def _percent(finding: Finding) -> str:
    return f"{finding['confidence']:.0%}"


def _hidden(finding: Finding | None) -> str:
    return "silent" if finding is None else f"{_percent(finding)}, not shown"
