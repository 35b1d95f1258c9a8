"""Findings as people read them in a terminal."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from rich.text import Text

from model.labels import SEVERITIES
from sentinelctl.console import clean
from sentinelctl.review.findings import Reviewed, Shown

_STYLES: Final = {"critical": "bold red", "bug": "red", "suggestion": "yellow", "nit": "cyan"}
_MAX_COLUMNS: Final = 160


def lines(reviewed: Reviewed) -> Iterator[Text]:
    """Everything, a paragraph for each finding and the summary last. All text of the diff is harmless."""
    for shown in reviewed.findings:
        yield from _finding(shown)
        yield Text()
    yield Text(summary(reviewed), "bold")


def summary(reviewed: Reviewed) -> str:
    """`2 findings (1 bug, 1 nit) in 14 of 15 hunks; skipped: 1 binary; not shown: 3 nit`."""
    severities = Counter[str](shown.finding.severity for shown in reviewed.findings)
    count = len(reviewed.findings)
    text = f"{count or 'no'} finding{'' if count == 1 else 's'}"
    if count:
        text += f" ({_listed(severities, reversed(SEVERITIES))})"
    text += f" in {reviewed.hunks_reviewed} of {reviewed.hunks} hunk{'' if reviewed.hunks == 1 else 's'}"
    if reviewed.skipped:
        text += f"; skipped: {_listed(reviewed.skipped, sorted(reviewed.skipped))}"
    if reviewed.imported or reviewed.outside:
        text += f"; imported: {reviewed.imported} on the diff, {reviewed.outside} elsewhere"
    if reviewed.hidden:
        text += f"; not shown: {_listed(reviewed.hidden, reversed(SEVERITIES))} (--min-severity nit shows all)"
    return text


def _finding(shown: Shown) -> Iterator[Text]:
    finding = shown.finding
    style = _STYLES[finding.severity]
    yield Text.assemble(
        (f"{clean(finding.path)}:{finding.line}", "bold"),
        " ",
        (f"{finding.severity}[{clean(finding.concept)}]", style),
        f" {clean(finding.title)} ({shown.said})",
    )
    width = max((len(str(line.new)) for line in shown.source), default=1)
    for line in shown.source:
        is_it = line.new == finding.line
        source = clean(line.text.removesuffix("\r"))
        source = source if len(source) <= _MAX_COLUMNS else source[:_MAX_COLUMNS] + "…"
        mark = "+" if line.kind == "add" else " "
        yield Text.assemble(
            (f"{'>' if is_it else ' '} {line.new:>{width}} | ", style if is_it else "dim"),
            (f"{mark} {source}".rstrip(), "" if is_it else "dim"),
        )
    yield Text.assemble((f"  {'':>{width}} = ", "dim"), clean(" ".join(finding.text.split())))


def _listed(counts: Mapping[str, int], order: Iterable[str]) -> str:
    return ", ".join(f"{counts[name]} {name}" for name in order if counts.get(name))
