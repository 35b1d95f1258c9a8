"""sentinelctl review: the model on a local change, without a server.

It reads no sentinel.toml: the one in the folder may belong to the change under review, and could choose the weights.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sentinelctl.errors import Exit, SentinelError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from model.inputs.chunk import Chunk
    from sentinelctl.console import Console
    from sentinelctl.review.change import Change
    from sentinelctl.review.findings import Reviewed
    from sentinelctl.review.imports import Imported

Format = Literal["text", "json", "github", "sarif"]
Severity = Literal["nit", "suggestion", "bug", "critical"]


def review(
    ctx: typer.Context,
    range_: Annotated[
        str | None,
        typer.Argument(
            metavar="[RANGE]",
            help="A..B, A...B, or one commit. Default: what differs from HEAD, else the last commit.",
        ),
    ] = None,
    staged: Annotated[bool, typer.Option("--staged", help="What is staged for the next commit.")] = False,
    diff: Annotated[str | None, typer.Option(metavar="FILE|-", help="A diff from a file or standard input.")] = None,
    format: Annotated[Format | None, typer.Option(help="How findings are written; default text.")] = None,
    min_severity: Annotated[
        Severity | None, typer.Option(help="Least severity shown; default suggestion, or --fail-on if that is less.")
    ] = None,
    fail_on: Annotated[
        Severity | None, typer.Option(help="Exit with 99 when a finding this severe or worse is shown.")
    ] = None,
    imports: Annotated[
        list[str] | None,
        typer.Option("--import", metavar="FILE|-", help="SARIF or rdjson of another analyzer, to merge. Repeatable."),
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="Folder of other weights than the shipped ones.")] = None,
    min_precision: Annotated[
        float,
        typer.Option(
            min=0, max=0.9, help="How often a concept was right on validation, for it to be shown; a bug at least .7."
        ),
    ] = 0.6,
    min_confidence: Annotated[float, typer.Option(min=0, max=1, help="Least confidence of a finding shown.")] = 0.6,
    explain: Annotated[
        str | None, typer.Option(metavar="CONCEPT", help="Say what a concept means instead of reviewing.")
    ] = None,
) -> None:
    """Review a change of the repository around you: no server, no network."""
    if explain is not None:
        if range_ is not None or staged or diff is not None:
            raise UsageError(
                "--explain shows a concept and reviews no change", remedy="leave RANGE, --staged, --diff out"
            )
        _explain(ctx.obj.console, explain, weights)
        return
    if sum((range_ is not None, staged, diff is not None)) > 1:
        raise UsageError("RANGE, --staged and --diff each name a change", remedy="give one of them")
    console: Console = ctx.obj.console
    if console.is_json and format not in (None, "json"):
        raise UsageError(f"--json and --format {format} ask for two formats", remedy="give one of them")
    least: Severity = min_severity or ("nit" if fail_on == "nit" else "suggestion")
    if [*(imports or []), diff].count("-") > 1:
        raise UsageError("standard input can be read once", remedy="give the other one as a file")
    imported = _imported(imports or [])
    change = _change(range_, staged, diff)
    if range_ is None and diff is None and not staged:
        console.note(f"reviewing {change.label}")
    if change.note:
        console.note(change.note)
    if not change.diff.strip():
        console.note(f"{change.label} is empty: nothing was reviewed")
    reviewed = _review(console, change, least, weights, min_precision, min_confidence, imported)
    _write(console, "json" if console.is_json else format or "text", change, reviewed)
    if fail_on is not None and reviewed.reaches(fail_on):
        raise typer.Exit(Exit.THRESHOLD)


def _explain(console: "Console", name: str, weights: Path | None) -> None:
    from model.engine import ModelError, read_manifest
    from sentinelctl.review.explain import lines, named, plain

    concept = named(name)
    if console.is_json:
        console.document({"version": 1, **plain(concept)})
        return
    try:
        for line in lines(concept, read_manifest(weights)):
            console.out.print(line)
    except ModelError as exc:
        raise SentinelError(str(exc)) from exc


def _change(range_: str | None, staged: bool, diff: str | None) -> "Change":
    from sentinelctl.review.change import read_file, read_present, read_range, read_staged

    if diff is not None:
        return read_file(diff)
    if staged:
        return read_staged(Path.cwd())
    return read_present(Path.cwd()) if range_ is None else read_range(Path.cwd(), range_)


def _imported(names: list[str]) -> "list[Imported]":
    if not names:
        return []
    from sentinelctl.review.imports import read

    return [each for name in names for each in read(name)]


def _review(
    console: "Console",
    change: "Change",
    least: Severity,
    weights: Path | None,
    min_precision: float,
    min_confidence: float,
    imported: "list[Imported]",
) -> "Reviewed":
    from model.engine import ModelError, load_engine
    from model.inputs.diff import DiffError, parse_diff
    from sentinelctl.review.findings import review_files

    try:
        files = parse_diff(change.diff)
    except DiffError as exc:
        raise UsageError(
            f"{change.label} is no diff that can be read: {exc}",
            remedy="give a unified one, as `git diff` and `diff -u` write it",
        ) from exc

    def watched(parts: "Sequence[Sequence[Chunk]]") -> "Iterable[Sequence[Chunk]]":
        if len(parts) < 2 or not console.err.is_terminal:
            return parts
        from rich.progress import track

        return track(parts, "reviewing", console=console.err, transient=True)

    try:
        engine = load_engine(weights=weights, min_precision=min_precision)
        return review_files(engine, files, least, watched, imported, Path.cwd(), min_confidence)
    except ModelError as exc:
        raise SentinelError(str(exc)) from exc


def _write(console: "Console", format: Format, change: "Change", reviewed: "Reviewed") -> None:
    import json

    from sentinelctl.review.formats import annotations, document, sarif
    from sentinelctl.review.text import lines, summary

    if format == "text":
        for line in lines(reviewed):
            console.out.print(line)
        return
    console.note(summary(reviewed))
    if format == "json":
        console.document(document(reviewed, change.label))
    elif format == "github":
        console.text(annotations(reviewed))
    else:
        from model.labels import load_concepts
        from services import __version__

        console.text(json.dumps(sarif(reviewed, load_concepts(), __version__), indent=2) + "\n")
