"""sentinelctl bench ratio: ours beside a control, in pairs, with a closed loop at full speed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from sentinelctl.cli.bench_words import judge, store, words

if TYPE_CHECKING:
    from rich.table import Table

_HELP: Final = """Time ours beside a control, in pairs.

Each side has all the load it takes, in turn, so that what else the machine does weighs on both.
"""

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help=_HELP)


Out = Annotated[Path | None, typer.Option(help="Also write the JSON document to this file.")]


@app.callback()
def _group() -> None:
    """Time ours beside a control, in pairs."""


@app.command("detour")
def detour(
    ctx: typer.Context,
    repo: Annotated[Path, typer.Option(help="The git repository whose last commits are read. Default: here.")] = Path(),
    pairs: Annotated[int, typer.Option(min=2, max=10_000, help="Heads sent both ways.")] = 60,
    hunks: Annotated[int, typer.Option(min=0, help="Of each head, at most; 0: all, as a push has them.")] = 1,
    warmup: Annotated[int, typer.Option(min=0, help="Pairs before them that are not counted.")] = 5,
    out: Out = None,
) -> None:
    """Time the direct call against diff-chunks.

    Both ways in turn, on the same hunks. Starts one inference server over a log of its own and stops it again. Timed
    is the way from hunks in hand to the review at a consumer of the log; the ratio says how many times as long the
    detour takes.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.table import Table

    from sentinelctl.bench.ratio.detour import PATHS, measure
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
    document = _stored(ctx, "detour", result.document(), out)
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


@app.command("webhook")
def webhook(
    ctx: typer.Context,
    connections: Annotated[int, typer.Option(min=1, max=1000, help="Kept open, each with one request at a time.")] = 50,
    body_bytes: Annotated[
        int, typer.Option(min=1200, max=1_000_000, help="Size of a push; GitHub's with one commit have 6.5 to 7.7 KB.")
    ] = 7000,
    seconds: Annotated[int, typer.Option(min=1, max=3600, help="Length of each run.")] = 5,
    pairs: Annotated[int, typer.Option(min=1, max=1000, help="Runs of the receiver and of the control, in turn.")] = 5,
    generator: Annotated[
        Literal["auto", "wrk", "sockets"], typer.Option(help="Who makes the load; auto is wrk where it is installed.")
    ] = "auto",
    log: Annotated[
        Literal["sqlite", "kafka"], typer.Option(help="What is appended to: a file, or the Kafka of stream.bootstrap.")
    ] = "sqlite",
    thresholds: Annotated[
        bool,
        typer.Option("--thresholds", help="Exit 99 unless the ratio reaches 1 (3 on Kafka) and p99 stays below 50 ms."),
    ] = False,
    out: Out = None,
) -> None:
    """Time the receiver against a bare FastAPI handler that stores nothing, in pairs.

    Both get the same signed pushes, each with a delivery id of its own, on the same server, loop and number of workers.
    The receiver answers when its log has the event on disk; the log lies on the disk of the state folder. With
    --log kafka it lies in topics of its own there, and the control waits in its handler for one produce.
    """
    from sentinelctl.bench.ratio import webhook as bench
    from sentinelctl.bench.ratio.generator import find
    from sentinelctl.bench.ratio.load import Load

    console = ctx.obj.console

    def tell(server: bench.Server, load: Load) -> None:
        console.note(f"{server.name:<9} {load.rate:8,.0f}/s  p99 {load.p99_ms:6.1f} ms  errors {load.errors}")

    result = bench.measure(
        ctx.obj.settings(),
        find(generator),
        log=log,
        connections=connections,
        body_bytes=body_bytes,
        seconds=seconds,
        pairs=pairs,
        tell=tell,
    )
    document, ratio = _stored(ctx, "webhook", result.document(), out), result.ratio
    if console.is_json:
        console.document(document)
    else:
        form = {"requests_per_s": ",.0f", "p50_ms": ".1f", "p99_ms": ".1f", "server_cpu": ".2f"}
        rows = {
            name: [*(format(document[name][key]["median"], how) for key, how in form.items()), document[name]["errors"]]
            for name in ("receiver", "control")
        }
        console.out.print(_table(("requests/s", "p50 ms", "p99 ms", "cores", "errors"), rows))
        console.out.print(
            f"ratio {ratio.median:.2f} ({ratio.least:.2f} to {ratio.most:.2f} over {pairs} pairs); "
            f"{result.acknowledged:,} acknowledged, {result.records:,} in the log",
            markup=False,
        )
        busiest = max(load.generator_cpu for load in result.ours + result.control)
        console.note(
            f"control: {result.against.what}\n"
            f"load: {result.generator}, at most {busiest:.0%} of its core; {connections} connections, "
            f"pushes of {body_bytes:,} bytes, medians of {pairs} runs of {seconds} s each\n"
            f"both: {document['server']}; fsync p50 {result.fsync_ms:.2f} ms below the {result.log} log, "
            f"{document['cores']} cores"
        )
    judge(ctx, result.faults() if thresholds else [])


@app.command("inference")
def inference(
    ctx: typer.Context,
    repo: Annotated[Path, typer.Option(help="The git repository whose last commits are read. Default: here.")] = Path(),
    pairs: Annotated[int, typer.Option(min=1, max=1000, help="Runs of the server and of the engine, in turn.")] = 5,
    seconds: Annotated[float, typer.Option(min=0.1, max=3600, help="About the length of each run.")] = 5.0,
    in_flight: Annotated[int, typer.Option(min=1, max=64, help="Calls the server has at a time.")] = 4,
    thresholds: Annotated[
        bool, typer.Option("--thresholds", help="Exit 99 unless the server reaches 85 % of the direct throughput.")
    ] = False,
    out: Out = None,
) -> None:
    """Time the inference server against the engine called directly, in pairs.

    Both get the same hunks in the same calls, each about one batch of chunks, with the same weights and threads.
    """
    from sentinelctl.bench.ratio import inference as bench

    console = ctx.obj.console

    def tell(pair: bench.Pair) -> None:
        console.note(f"server {pair.server_s:6.2f} s  direct {pair.direct_s:6.2f} s  ratio {pair.ratio:.2f}")

    result = bench.measure(ctx.obj.settings(), repo, pairs=pairs, seconds=seconds, in_flight=in_flight, tell=tell)
    document, ratio = _stored(ctx, "inference", result.document(), out), result.ratio
    if console.is_json:
        console.document(document)
    else:
        rows = {
            name: [
                f"{document[name]['chunks_per_s']['median']:,.1f}",
                f"{document[name]['tokens_per_s']['median']:,.0f}",
                f"{document[name]['lone_p50_ms']:.1f}",
                f"{document[name]['lone_p99_ms']:.1f}",
            ]
            for name in ("server", "direct")
        }
        console.out.print(_table(("chunks/s", "tokens/s", "lone call p50 ms", "p99 ms"), rows))
        console.out.print(
            f"ratio {ratio.median:.2f} ({ratio.least:.2f} to {ratio.most:.2f} over {pairs} pairs)", markup=False
        )
        console.note(
            f"{result.model}, {result.engine} engine, {document['cores']} cores\n"
            f"a run: {result.calls} calls of {result.chunks:,} chunks and {result.tokens:,} tokens; at the server "
            f"{in_flight} in flight, and {result.batch:.1f} chunks in each forward pass"
        )
    judge(ctx, result.faults() if thresholds else [])


def _table(columns: Sequence[str], rows: Mapping[str, Sequence[object]]) -> "Table":
    """One row for each of what is compared."""
    from rich.table import Table

    table = Table("", box=None, header_style="dim", pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right")
    for name, figures in rows.items():
        table.add_row(name, *map(str, figures))
    return table


def _stored(ctx: typer.Context, kind: str, found: dict[str, Any], out: Path | None) -> dict[str, Any]:
    """The document with what every result begins with; also in `out`, where that is given."""
    from sentinelctl.bench.environment import environment
    from sentinelctl.bench.result import envelope

    began = envelope(f"ratio {kind}", words(kind), environment(ctx.obj.settings()), {}, {})
    document = {**began, **found}
    store(out, document)
    return document
