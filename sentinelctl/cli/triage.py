"""sentinelctl triage: a team's review comments, sorted by how grave they are and what they are about."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from model.engine import Manifest
    from model.mining.comments import Comment
    from sentinelctl.console import Console

_SHOWN = 200
"""Characters of a comment that a line of the terminal is given."""

Counts = Mapping[tuple[str, str], int]


def triage(
    ctx: typer.Context,
    repo: Annotated[str | None, typer.Option(metavar="OWNER/NAME", help="Fetch its comments from GitHub.")] = None,
    file: Annotated[
        Path | None, typer.Option(help="Or read them: JSON lines as GitHub's REST API or `data mine-*` writes.")
    ] = None,
    picture: Annotated[Path | None, typer.Option(metavar="FILE.svg", help="Also draw the table.")] = None,
    limit: Annotated[int, typer.Option(min=0, help="Comments shown, the gravest first.")] = 10,
    out: Annotated[
        Path | None, typer.Option(help="With --repo: keep what was fetched here; a second run fetches the rest.")
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="Folder of triage weights; default the shipped ones.")] = None,
) -> None:
    """Sort review comments by severity and topic.

    Both are learned from keyword rules over the comment's own words: they say how it is worded, not how grave the
    matter is. --repo needs SENTINEL_GITHUB_TOKEN.
    """
    from model.dataset import DataError
    from model.engine import ModelError
    from model.labels import SEVERITIES
    from model.mining.comments import latest, read
    from model.triage.engine import load_triage
    from sentinelctl.errors import SentinelError, UsageError

    console = ctx.obj.console
    if (repo is None) == (file is None):
        raise UsageError("triage wants comments", remedy="give --repo OWNER/NAME or --file FILE")
    try:
        engine = load_triage(weights)
        comments = latest(read(file)) if file is not None else _fetched(ctx, str(repo), out)
    except (DataError, ModelError) as exc:
        raise SentinelError(str(exc)) from exc
    verdicts = engine.classify(comments)
    counts = Counter[tuple[str, str]]((each.severity, each.category) for each in verdicts)
    order = sorted(
        range(len(comments)), key=lambda at: (-SEVERITIES.index(verdicts[at].severity), -verdicts[at].confidence, at)
    )
    title = f"{len(comments):,} review comments of {repo or (file.name if file else '')}"
    if picture is not None:
        from model.triage.picture import picture as drawn

        picture.write_text(drawn(counts, title) + "\n", "utf-8")
        console.note(f"wrote {picture}")
    if console.is_json:
        gravest = [
            {
                "place": _place(comments[at]),
                "severity": verdicts[at].severity,
                "category": verdicts[at].category,
                "confidence": round(verdicts[at].confidence, 4),
                "body": comments[at].body,
            }
            for at in order[:limit]
        ]
        console.document(
            {
                "version": 1,
                "digest": engine.manifest.digest,
                "comments": len(comments),
                "counts": counts_document(counts),
                "gravest": gravest,
                "heldout": engine.manifest.document.get("heldout") or {},
            }
        )
        return
    console.out.print(counts_table(counts))
    for at in order[:limit]:
        _show(console, comments[at], verdicts[at].severity, verdicts[at].category)
    console.note(f"\n{title}. {_meaning(engine.manifest)}")


def counts_table(counts: Counts) -> "Table":
    """A category a row, the one with most comments first, and a severity a column."""
    from rich.table import Table

    from model.labels import CATEGORIES, SEVERITIES

    table = Table(box=None, header_style="dim", pad_edge=False)
    table.add_column("")
    worst_first = tuple(reversed(SEVERITIES))
    for name in (*worst_first, "all"):
        table.add_column(name, justify="right")
    rows = {each: [counts.get((severity, each), 0) for severity in worst_first] for each in CATEGORIES}
    for category, row in sorted(rows.items(), key=lambda item: -sum(item[1])):
        if sum(row):
            table.add_row(
                category.replace("_", " "), *(f"{count:,}" if count else "" for count in row), f"{sum(row):,}"
            )
    totals = [sum(column) for column in zip(*rows.values(), strict=True)]
    table.add_row("all", *(f"{count:,}" for count in totals), f"{sum(totals):,}", style="bold")
    return table


def counts_document(counts: Counts) -> dict[str, dict[str, int]]:
    from model.labels import CATEGORIES, SEVERITIES

    return {one: {each: counts[one, each] for each in CATEGORIES if counts.get((one, each))} for one in SEVERITIES}


def _fetched(ctx: typer.Context, repo: str, out: Path | None) -> "list[Comment]":
    from tempfile import TemporaryDirectory

    from model.mining.comments import latest, read
    from sentinelctl.cli.data_reviews import fetch_reviews

    with TemporaryDirectory() as scratch:
        folder = out or Path(scratch)
        fetch_reviews(ctx.obj.console, ctx.obj.settings(), repo, folder)
        return latest(read(folder / f"{repo.replace('/', '+')}.jsonl"))


def _place(comment: "Comment") -> str:
    pull = f"{comment.repository}#{comment.pull} " if comment.pull else ""
    return f"{pull}{comment.path}{f':{comment.line}' if comment.line else ''}"


def _show(console: "Console", comment: "Comment", severity: str, category: str) -> None:
    from sentinelctl.console import clean

    words = " ".join(comment.body[: 4 * _SHOWN].split())
    words = words if len(words) <= _SHOWN else f"{words[: _SHOWN - 1]}…"
    console.out.print(f"\n[bold]{severity}[/] {category.replace('_', ' ')}  ", end="")
    console.out.print(clean(_place(comment)), style="dim", markup=False)
    console.out.print(f"  {clean(words)}", markup=False)


def _meaning(manifest: "Manifest") -> str:
    from model.triage.rule import BY_CONSTRUCTION

    heldout: dict[str, Any] = manifest.document.get("heldout") or {}
    first = next(iter(heldout), None)
    judged = ""
    if first is not None:
        own = heldout[first]["model"]
        judged = f"Held out ({first}): accuracy {own['accuracy']:.3f}, balanced {own['balanced_accuracy']:.3f}; "
    return f"{judged}{BY_CONSTRUCTION}."
