"""sentinelctl bench: timings on this machine, each with what it was got from."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Measure on this machine.")


@app.callback()
def _group() -> None:
    """Measure on this machine."""


@app.command("detour")
def detour(
    ctx: typer.Context,
    repo: Annotated[Path, typer.Option(help="The git repository whose last commits are read. Default: here.")] = Path(),
    pairs: Annotated[int, typer.Option(min=2, max=10_000, help="Heads sent both ways.")] = 60,
    hunks: Annotated[int, typer.Option(min=0, help="Of each head, at most; 0: all, as a push has them.")] = 1,
    warmup: Annotated[int, typer.Option(min=0, help="Pairs before them that are not counted.")] = 5,
) -> None:
    """Time the direct call against diff-chunks.

    Both ways in turn, on the same hunks. Starts one inference server over a log of its own and stops it again. Timed
    is the way from hunks in hand to the review at a consumer of the log; the ratio says how many times as long the
    detour takes.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.table import Table

    from sentinelctl.bench.detour import PATHS, measure
    from sentinelctl.log.headline import plural

    console = ctx.obj.console
    with Progress(
        TextColumn("pairs"), BarColumn(), MofNCompleteColumn(), console=console.err, transient=True
    ) as progress:
        task = progress.add_task("pairs", total=pairs)
        result = measure(
            ctx.obj.settings(),
            repo,
            pairs=pairs,
            warmup=warmup,
            max_hunks=hunks,
            tell=lambda done: progress.update(task, completed=done),
        )
    document = result.document()
    if console.is_json:
        console.document(document)
        return
    table = Table("path", box=None, header_style="dim", pad_edge=False)
    for name in ("p50 ms", "p95 ms", "of it forward pass", "the rest"):
        table.add_column(name, justify="right")
    for path in PATHS:
        figures = (document[path][name] for name in ("p50_ms", "p95_ms", "forward_p50_ms", "own_p50_ms"))
        table.add_row(path, *(f"{figure:.1f}" for figure in figures))
    console.out.print(table)
    console.out.print(
        f"the detour takes {result.ratio:.2f} times as long as the direct call, and {result.own_ratio:.2f} times "
        "without the forward pass that both have in common (medians)",
        markup=False,
    )
    console.note(
        f"{pairs} pairs over {result.heads} heads, median {plural(result.hunks, 'hunk')}, the {result.kind} log, "
        f"{result.model['name']} {result.model['version']}"
    )
