"""How the demo looks: one block per review as it arrives, then the account. Also the --json document."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from sentinelctl.console import clean
from sentinelctl.ledger import Account, percentile

SEVERITY_STYLE = {"critical": "bold red", "bug": "red", "suggestion": "yellow", "nit": "dim"}
_SHOWN_FINDINGS = 4


@dataclass(frozen=True, slots=True)
class Arrival:
    """One review that became visible; `findings` as the log's `reviews` topic holds them, in JSON names."""

    number: int | None
    sha: str
    subject: str
    ms: float
    hunks: int
    hunks_reviewed: int
    skipped: Mapping[str, int]
    findings: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Result:
    """Everything the last lines and the JSON document say."""

    repository: str
    pushes: int
    pull_requests: int
    account: Account
    arrivals: Sequence[Arrival]
    stages_ms: Mapping[str, Sequence[float]]
    github_latency_ms: float
    model: Mapping[str, str]
    outcomes: Mapping[str, int]

    @property
    def lost(self) -> int:
        return self.account.count("lost")

    @property
    def is_whole(self) -> bool:
        return self.lost == 0 and self.account.duplicates == 0 and self.account.count("refused") == 0

    def document(self) -> dict[str, Any]:
        return {
            "version": 1,
            "repository": self.repository,
            "pushes": self.pushes,
            "pull_requests": self.pull_requests,
            "reviews": len(self.arrivals),
            "findings": sum(len(shown(one.findings)) for one in self.arrivals),
            "hunks_reviewed": sum(one.hunks_reviewed for one in self.arrivals),
            "hunks_skipped": sum(one.hunks - one.hunks_reviewed for one in self.arrivals),
            "lost": self.lost,
            "duplicates": self.account.duplicates,
            "refused": self.account.count("refused"),
            "outcomes": dict(self.outcomes),
            "e2e_ms": _percentiles(self.account.e2e_ms),
            "stages_ms": {name: _percentiles(values) for name, values in self.stages_ms.items()},
            "github_latency_ms": self.github_latency_ms,
            "model": dict(self.model),
        }


def shown(findings: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Findings that a review shows, gravest first."""
    order = list(SEVERITY_STYLE)
    kept = [one for one in findings if one.get("is_shown")]
    return sorted(kept, key=lambda one: (order.index(one["severity"]), -one["confidence"]))


def arrival(one: Arrival) -> RenderableType:
    """A header line, then the gravest findings with file, line, severity, category and confidence."""
    head = Text.assemble(
        (f"{'pull #' + str(one.number) if one.number else 'push':<8}", "bold cyan"),
        (f"{one.sha[:10]}  ", "cyan"),
        (f"{one.ms:>5.0f} ms  ", "bold green" if one.ms < 2000 else "bold red"),
        _coverage(one),
        "  ",
        (clean(one.subject)[:48], "dim"),
    )
    findings = shown(one.findings)
    if not findings:
        return head
    return Group(head, listed(findings))


def listed(findings: Sequence[Mapping[str, Any]]) -> RenderableType:
    """The gravest findings, below the header line of their review."""
    table = Table.grid(padding=(0, 2))
    for finding in findings[:_SHOWN_FINDINGS]:
        table.add_row(
            Text(f"{clean(finding['path'])}:{finding['line']}", overflow="fold"),
            Text(finding["severity"], SEVERITY_STYLE[finding["severity"]]),
            Text(finding["category"], "dim"),
            f"{finding['confidence']:.0%}",
            Text(finding["title"]),
        )
    more = len(findings) - _SHOWN_FINDINGS
    rest = [Text(f"… and {more} more", "dim")] if more > 0 else []
    return Padding(Group(table, *rest), (0, 0, 0, 8), expand=False)


def summary(console: Console, result: Result) -> None:
    latency = _percentiles(result.account.e2e_ms)
    verdict = "bold green" if result.is_whole else "bold red"
    console.print()
    console.print(
        Text.assemble(
            f"{result.pushes} pushes and {result.pull_requests} pull request sent: ",
            (f"{len(result.arrivals)} reviews", "bold"),
            f", {sum(len(shown(one.findings)) for one in result.arrivals)} findings, ",
            (f"lost {result.lost}, duplicates {result.account.duplicates}", verdict),
        )
    )
    console.print(
        Text.assemble(
            "webhook to visible review: ",
            (f"p50 {latency['p50']:.0f} ms, p95 {latency['p95']:.0f} ms, p99 {latency['p99']:.0f} ms", "bold"),
            f", with GitHub answering in {result.github_latency_ms:.0f} ms",
        )
    )
    if result.stages_ms:
        parts = ", ".join(f"{name} {percentile(values, 50):.0f}" for name, values in result.stages_ms.items())
        console.print(Text(f"of it, p50 in ms: {parts}", "dim"))


def _coverage(one: Arrival) -> str:
    skipped = one.hunks - one.hunks_reviewed
    return f"{one.hunks_reviewed}/{one.hunks} hunks" + (f" ({skipped} skipped)" if skipped else "")


def _percentiles(values: Sequence[float]) -> dict[str, float]:
    return {f"p{q}": round(percentile(values, q), 1) for q in (50, 95, 99)}
