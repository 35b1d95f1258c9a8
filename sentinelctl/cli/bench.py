"""sentinelctl bench: load on this machine, and what it took."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from sentinelctl.cli import bench_ratio
from sentinelctl.errors import Exit

if TYPE_CHECKING:
    from sentinelctl.bench.arrivals import Stage
    from sentinelctl.bench.result import Result
    from sentinelctl.bench.run import Run, Tell
    from sentinelctl.bench.shape import Shape
    from sentinelctl.console import Console

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Measure on this machine.")
app.add_typer(bench_ratio.app, name="ratio")

ProfileOption = Annotated[
    Literal["fixed", "ramp", "step", "find-max"],
    typer.Option(
        help="fixed: one rate; ramp: from nothing to it; step: in five steps; find-max: the highest that meets --slo."
    ),
]
Duration = Annotated[float, typer.Option(min=0.5, max=86_400, help="Seconds that count; of each try of find-max.")]
Users = Annotated[int, typer.Option(min=1, max=1000, help="Requests under way at most; what arrives meanwhile waits.")]
Seed = Annotated[int, typer.Option(min=0, help="Draws the order of the requests, and Poisson arrivals.")]
WarmUp = Annotated[
    float, typer.Option("--warm-up", min=0, max=3600, help="Seconds before, at the first rate, left out.")
]
Arrivals = Annotated[
    Literal["even", "poisson"], typer.Option(help="At equal distances, or as independent senders would.")
]
Timeout = Annotated[float, typer.Option(min=0.1, max=600, help="Seconds until an answer counts as lost.")]
Repeats = Annotated[int, typer.Option(min=1, max=100, help="Runs, one after the other; `compare` needs three.")]
Slo = Annotated[
    list[str] | None, typer.Option(help="What a rate of find-max has to meet, such as 'p99<50ms'; repeatable.")
]
FailIf = Annotated[
    list[str] | None, typer.Option(help="Exit 99 where this holds of the result: 'p99>2s', 'errors>0.1%', 'rate<500'.")
]
Out = Annotated[Path | None, typer.Option(help="Also write the JSON document to this file.")]
Log = Annotated[
    Literal["sqlite", "kafka"], typer.Option(help="What is appended to: a file, or the Kafka of stream.bootstrap.")
]


@app.callback()
def _group() -> None:
    """Measure on this machine.

    Every target is started for the measurement and stopped again; nothing else gets load. Arrivals are scheduled ahead,
    and latency counts from the moment at which a request was due.
    """


@app.command("webhook")
def webhook(
    ctx: typer.Context,
    profile: ProfileOption = "fixed",
    rate: Annotated[
        float, typer.Option(min=0.01, max=100_000, help="Pushes a second; find-max begins with them.")
    ] = 150.0,
    duration: Duration = 60.0,
    users: Users = 50,
    seed: Seed = 1,
    warm_up: WarmUp = 2.0,
    arrivals: Arrivals = "even",
    timeout: Timeout = 10.0,
    repeats: Repeats = 1,
    slo: Slo = None,
    fail_if: FailIf = None,
    out: Out = None,
    log: Log = "sqlite",
    body_bytes: Annotated[
        int, typer.Option(min=1200, max=1_000_000, help="Size of a push; GitHub's with one commit have 6.5 to 7.7 KB.")
    ] = 7000,
    at: Annotated[str | None, typer.Option(help="A receiver that this command did not start; needs --i-know.")] = None,
    i_know: Annotated[bool, typer.Option("--i-know", help="What stands at --at may have every push.")] = False,
) -> None:
    """Time the receiver: signed pushes at scheduled times, each acknowledged once it is on disk.

    The log lies on the disk of the state folder, and holds every acknowledged push afterwards or the result is a fault.
    Its SLO is 'p99<50ms' unless --slo says otherwise.
    """
    from sentinelctl.bench.shape import Shape
    from sentinelctl.bench.webhook import own_receiver, receiver_at

    settings = ctx.obj.settings()
    shape = Shape(profile, rate, duration, warm_up, users, seed, arrivals, timeout)
    if at is not None:
        target = receiver_at(at, settings, body_bytes=body_bytes, is_known=i_know)
        _measure(ctx, "webhook", shape, target.about, target.offer, repeats, slo or ["p99<50ms"], fail_if, out)
        return
    with own_receiver(settings, log=log, body_bytes=body_bytes) as target:
        _measure(ctx, "webhook", shape, target.about, target.offer, repeats, slo or ["p99<50ms"], fail_if, out)


def _measure(
    ctx: typer.Context,
    kind: str,
    shape: "Shape",
    about: Any,
    offer: "Callable[[Sequence[Stage], Shape, Tell], Run]",
    repeats: int,
    slo: Sequence[str],
    fail_if: Sequence[str] | None,
    out: Path | None,
) -> None:
    """All runs, their document, and exit 99 where something is wrong with them."""
    from sentinelctl.bench.environment import environment
    from sentinelctl.bench.result import Result
    from sentinelctl.bench.shape import Try, find_max, repeated
    from sentinelctl.bench.threshold import parse

    console: Console = ctx.obj.console
    conditions, wanted = [parse(text) for text in fail_if or ()], [parse(text) for text in slo]
    result = Result(kind, _words(kind), environment(ctx.obj.settings()), shape, about, wanted)

    def tell(one: Try) -> None:
        said = f"{one.rate:10,.1f}/s  p99 {one.run.whole.ms(99):8.1f} ms"
        console.note(f"{said}  {'not met: ' + '; '.join(one.why) if one.why else 'met'}")

    for number in range(repeats):
        own = repeated(shape, number)
        with _bar(console, f"run {number + 1} of {repeats}") as progress:

            def offered(stages: "Sequence[Stage]", own: "Shape" = own, progress: "Tell" = progress) -> "Run":
                return offer(stages, own, progress)

            if shape.profile != "find-max":
                result.runs.append(offered(own.stages))
                continue
            found = find_max(offered, own.rate, own.duration_s, wanted, tell)
        result.searches.append(found)
        if found.best is not None:
            result.runs.append(found.best.run)
    document = result.document(conditions)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if console.is_json:
        console.document(document)
    else:
        _show(console, result, document)
    judge(ctx, document["faults"])


def _words(kind: str) -> list[str]:
    """The words of this command as they were typed, without those that say where the document goes."""
    typed = sys.argv[sys.argv.index(kind) + 1 :] if kind in sys.argv else []
    kept: list[str] = []
    skip = False
    for word in typed:
        if skip or word in ("--json", "--out") or word.startswith("--out="):
            skip = word == "--out"
            continue
        kept.append(word)
    return kept


def _show(console: "Console", result: "Result", document: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table("run", box=None, header_style="dim", pad_edge=False)
    names = ("p50", "p90", "p99", "p99.9", "max")
    for column in ("wanted/s", "answered/s", *(f"{name} ms" for name in names), "errors", "dropped"):
        table.add_column(column, justify="right")
    for number, run in enumerate(document["runs"], 1):
        parts = run["segments"] if len(run["segments"]) > 1 else []
        whole = sum(part["rate"] * part["seconds"] for part in run["segments"]) / sum(
            part["seconds"] for part in run["segments"]
        )
        rows = [(str(number), whole, run["rate"], run)]
        rows += [(f"  {place}", part["rate"], part["achieved"], part) for place, part in enumerate(parts, 1)]
        for label, wanted, achieved, of in rows:
            errors = sum(of[name] for name in ("refused", "broken", "timed_out"))
            figures = (f"{of['latency_ms'][name]:,.1f}" for name in names)
            table.add_row(label, f"{wanted:,.1f}", f"{achieved:,.1f}", *figures, str(errors), str(of["dropped"]))
    console.out.print(table)
    for found in result.searches:
        objective = " and ".join(one.text for one in result.slo)
        best = f"{found.best.rate:,.1f}/s" if found.best else "no rate"
        console.out.print(f"highest rate that meets {objective}: {best}; above it {found.limited_by}", markup=False)
    for run in document["runs"]:
        for stage, figures in run.get("stages_ms", {}).items():
            console.out.print(f"  {stage:<10} p50 {figures['p50']:8.1f} ms  p99 {figures['p99']:8.1f} ms", markup=False)
    where, model = document["environment"], document["environment"]["model"]
    said = ", ".join(f"{name} {value}" for name, value in document["target"].items() if not isinstance(value, dict))
    console.note(
        f"{said}\n{where['cores']} cores ({where['cpu']}), load {where['load_1m']}, "
        f"revision {where['revision'] or where['sentinel']}, model {model.get('digest', '')[:12]}, "
        f"seed {result.shape.seed}, latency from the time at which each was due"
    )


@contextmanager
def _bar(console: "Console", label: str) -> "Iterator[Tell]":
    """Seconds that went by, on a terminal."""
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (TextColumn(label), BarColumn(), TextColumn("{task.completed:.0f} of {task.total:.0f} s"))
    with Progress(*columns, console=console.err, transient=True, disable=not console.err.is_terminal) as progress:
        task = progress.add_task(label, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def judge(ctx: typer.Context, faults: Sequence[str]) -> None:
    """Exit 99 where there are any."""
    if faults:
        ctx.obj.console.note(f"threshold failed: {'; '.join(faults)}")
        raise typer.Exit(Exit.THRESHOLD)
