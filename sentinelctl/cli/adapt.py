"""sentinelctl model adapt: weights that learn on from one repository's own history."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.table import Table

_ROWS: Final = {
    "line_ap": "suggestion or worse, line AP",
    "any_ap": "any finding, AP",
    "precision": "of what is shown, right",
    "recall": "of all findings, shown and right",
}


def adapt(
    ctx: typer.Context,
    repo: Annotated[Path, typer.Option("--repo", metavar="PATH", help="A git repository, cloned or bare.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the report and, if better, the weights.")],
    name: Annotated[
        str | None, typer.Option(metavar="OWNER/NAME", help="Default its origin's, or its folder's.")
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="Weights to learn on from; default the shipped ones.")] = None,
    dismissed: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Findings that were dismissed, one JSON object a line.")
    ] = None,
    minutes: Annotated[float, typer.Option(min=0.1, help="Of training, at most; it ends when nothing improves.")] = 10,
    modules: Annotated[Path, typer.Option(help="The node_modules that holds eslint.")] = Path("node_modules"),
) -> None:
    """Learn on from a repository's own history; keep the weights only if they are better on its newest part.

    The analyzers on this machine label what its commits added and what its fixes took away. The newest fifth of the
    lines judges, what came just before calibrates, the rest teaches. A dismissed finding has path, concept, and either
    source (the line's text) or line and commit.
    """
    from model.engine import WEIGHTS
    from model.labels import load_concepts
    from model.mining.dismissed import read_dismissed
    from sentinelctl.cli.data import _called, _git, _teachers
    from sentinelctl.cli.model import _needs_torch, _refusals
    from sentinelctl.errors import PreflightError, UsageError

    _needs_torch()
    from model import adapt as adapting

    console = ctx.obj.console
    if not _git(repo, "rev-parse", "--verify", "HEAD"):
        raise UsageError(f"{repo} is no git repository with a commit in it", remedy="clone it first, whole or bare")
    if name is not None and name.count("/") != 1:
        raise UsageError(f"--name {name} is not OWNER/NAME", remedy="give both parts")
    teachers, absent = _teachers(modules)
    for sentence in absent:
        console.note(f"learning goes without one analyzer: {sentence}")
    if not teachers:
        raise PreflightError("no analyzer is on this machine", remedy="pip install 'sentinel-review[teachers]'")
    with _refusals():
        waved = read_dismissed(dismissed, repo, {each.id for each in load_concepts()}) if dismissed else ()
        request = adapting.Request(repo, name or _called(repo), weights or WEIGHTS, out, waved, minutes)
        report = adapting.adapt(request, teachers, console.note)
    if console.is_json:
        console.document({"version": 1, **report})
    else:
        told(report, console.out)
    if report["is_kept"]:
        console.note(
            f"kept: {report['reason']}; try them with `sentinelctl review --weights {out}`, see what changes with "
            f"`sentinelctl replay --since 1d --model {out}`, serve them with inference.weights"
        )
    else:
        console.note(f"not kept: {report['reason']}; the present weights stay, and {out} holds the report alone")


def told(adapted: "Mapping[str, Any]", out: Any) -> None:
    """Prints what `adapted` of a manifest, or of a report, says: the parts, and the figures of both sides."""
    dates, old = adapted["dates"], adapted["from"]
    for label, text in (
        ("adapted to", f"{adapted['repository']} at {adapted['head'][:12]}, from {old['name']} {old['digest'][:12]}"),
        ("taught by", f"{_part(adapted['taught'])} before {dates['taught_until']},"),
        ("", f"{adapted['fixes']['findings']:,} lines with a finding that fixes took away, {_dismissed(adapted)}"),
        ("calibrated", f"on {_part(adapted['held_back'])} before {dates['judged_from']}"),
        ("judged", f"on {_part(adapted['judged'])} from {dates['judged_from']} to {dates['judged_until']}"),
    ):
        out.print(f"{label:<10} {text}", markup=False)
    out.print()
    out.print(_figures(adapted))
    before, after = adapted["figures"]["shown"]
    out.print(
        f"\nshown: {before:,} lines before, {after:,} after; "
        "in brackets, the middle 95 % when the commits are drawn anew",
        markup=False,
    )


def _part(part: "Mapping[str, int]") -> str:
    return f"{part['lines']:,} added lines of {part['commits']:,} commits, {part['findings']:,} with a finding,"


def _dismissed(adapted: "Mapping[str, Any]") -> str:
    found = adapted["dismissed"]
    if not found["given"]:
        return "no dismissed finding"
    said = (
        f"{found['taught']:,} dismissed findings (shown {found['shown_before']:,} before, {found['shown_after']:,} now)"
    )
    for number, why in (
        (found["too_new"], "are too new to teach"),
        (found["not_of_these_weights"], "are none of the model's"),
    ):
        said += f", {number:,} {why}" if number else ""
    return said


def _figures(adapted: "Mapping[str, Any]") -> "Table":
    from rich.table import Table

    table = Table(box=None, header_style="dim", pad_edge=False)
    table.add_column("")
    for title in ("before", "after", "difference"):
        table.add_column(title, justify="right")
    for key, title in _ROWS.items():
        row = [adapted["figures"][side][key] for side in ("before", "after", "difference")]
        table.add_row(title, *(_figure(each, "+.3f" if at == 2 else ".3f") for at, each in enumerate(row)))
    return table


def _figure(value_low_high: "list[float | None]", form: str) -> str:
    from model.report import number

    value, low, high = (number(each, form) for each in value_low_high)
    return f"{value} ({low} to {high})"
