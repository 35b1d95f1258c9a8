"""sentinelctl bench: load on this machine, and what it took."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from sentinelctl.cli import bench_ratio, bench_stored
from sentinelctl.cli.bench_words import judge, store, words

if TYPE_CHECKING:
    from sentinelctl.bench.arrivals import Stage
    from sentinelctl.bench.result import Result
    from sentinelctl.bench.run import Run, Tell
    from sentinelctl.bench.shape import Shape
    from sentinelctl.bench.threshold import Condition
    from sentinelctl.console import Console

_HELP: Final = """Measure on this machine.

Every target is started for the measurement and stopped again; nothing else gets load. Arrivals are scheduled ahead,
and latency counts from the moment at which a request was due.
"""

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help=_HELP)
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

Repo = Annotated[Path | None, typer.Option(help="A git repository whose commits are pushed, instead of made ones.")]
Repositories = Annotated[int, typer.Option(min=1, max=1000, help="Repository ids that they are pushed to.")]
Files = Annotated[int, typer.Option(min=1, max=10_000, help="Files that each made commit changes.")]
GitHubMs = Annotated[float, typer.Option(min=0, max=10_000, help="Time the local GitHub takes to answer.")]
Limits = Annotated[bool, typer.Option(help="GitHub's rate limits: enforced, and kept to.")]
Replicas = Annotated[list[str] | None, typer.Option(help="SERVICE=N, such as extractor=4; repeatable.")]

_COMMITS: Final = 200
"""Of a made history; times the repositories, that many deliveries are there to send."""


@app.callback()
def _group() -> None:
    """Measure on this machine."""


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
    """Time the receiver under scheduled pushes.

    Each is signed, and acknowledged once it is on disk. The log lies on the disk of the state folder, and holds every
    acknowledged push afterwards or the result is a fault. Its SLO is 'p99<50ms' unless --slo says otherwise.
    """
    from sentinelctl.bench.shape import Shape
    from sentinelctl.bench.webhook import own_receiver, receiver_at

    settings, wanted = ctx.obj.settings(), Wanted.of(repeats, slo or ["p99<50ms"], fail_if, out)
    shape = Shape(profile, rate, duration, warm_up, users, seed, arrivals, timeout)
    if at is not None:
        target = receiver_at(at, settings, body_bytes=body_bytes, is_known=i_know)
        _measure(ctx, "webhook", shape, target.about, target.offer, wanted)
        return
    with own_receiver(settings, log=log, body_bytes=body_bytes) as target:
        _measure(ctx, "webhook", shape, target.about, target.offer, wanted)


@app.command("inference")
def inference(
    ctx: typer.Context,
    profile: ProfileOption = "fixed",
    rate: Annotated[
        float, typer.Option(min=0.01, max=100_000, help="Calls a second; find-max begins with them.")
    ] = 5.0,
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
    repo: Annotated[Path, typer.Option(help="The git repository whose last commits are read. Default: here.")] = Path(),
    chunks: Annotated[int, typer.Option(min=1, max=1000, help="Chunks of a call, or up to one hunk more.")] = 8,
    engine: Annotated[Literal["onnx", "torchscript"] | None, typer.Option(help="Default: inference.engine.")] = None,
    max_batch: Annotated[
        int | None, typer.Option(min=1, max=1000, help="Chunks in one forward pass. Default: inference.max_batch.")
    ] = None,
) -> None:
    """Time the inference server under calls.

    Each has some hunks of real commits, and its time. Its SLO is 'p99<1s' unless --slo says otherwise.
    """
    from sentinelctl.bench.inference import own_server
    from sentinelctl.bench.shape import Shape

    settings, wanted = ctx.obj.settings(), Wanted.of(repeats, slo or ["p99<1s"], fail_if, out)
    given = {"engine": engine, "max_batch": max_batch}
    own = settings.inference.model_copy(update={name: value for name, value in given.items() if value is not None})
    settings = settings.model_copy(update={"inference": own})
    shape = Shape(profile, rate, duration, warm_up, users, seed, arrivals, timeout)
    with own_server(settings, repo, chunks=chunks) as target:
        _measure(ctx, "inference", shape, target.about, target.offer, wanted)


@app.command("pipeline")
def pipeline(
    ctx: typer.Context,
    profile: ProfileOption = "fixed",
    rate: Annotated[
        float, typer.Option(min=0.01, max=1000, help="Deliveries a second; find-max begins with them.")
    ] = 1.0,
    duration: Duration = 60.0,
    users: Users = 50,
    seed: Seed = 1,
    warm_up: WarmUp = 5.0,
    arrivals: Arrivals = "even",
    timeout: Timeout = 10.0,
    repeats: Repeats = 1,
    slo: Slo = None,
    fail_if: FailIf = None,
    out: Out = None,
    repo: Repo = None,
    repositories: Repositories = 48,
    files: Files = 1,
    pulls: Annotated[bool, typer.Option("--pulls", help="Open pull requests instead of pushing.")] = False,
    github_ms: GitHubMs = 300.0,
    limits: Limits = True,
    log: Log = "sqlite",
    replicas: Replicas = None,
    wait: Annotated[float, typer.Option(min=1, max=3600, help="Longest wait for the last review, in seconds.")] = 120.0,
) -> None:
    """Time deliveries to their visible reviews.

    Every service as a process, over a fakehub; the commits are made for it, the same on every machine, unless --repo
    names others. Each delivery asks for a review of its own. Its SLO is 'p99<2s' unless --slo says otherwise.
    """
    from sentinelctl.bench.pipeline import own_pipeline
    from sentinelctl.bench.shape import Shape
    from sentinelctl.bench.stack import Layout, replicas_of

    counts, wanted = replicas_of(replicas or ()), Wanted.of(repeats, slo or ["p99<2s"], fail_if, out)
    # Twice what is expected of Poisson arrivals; a search may need more, and a commit of many files is large.
    needed = -(-int(rate * (duration + warm_up) * repeats + 1) // repositories) * 2
    commits = max(needed, _COMMITS // files)
    layout = Layout(repo, commits, repositories, files, pulls, github_ms, limits, log, counts)
    shape = Shape(profile, rate, duration, warm_up, users, seed, arrivals, timeout)
    with own_pipeline(ctx.obj.written(), layout, wait_s=wait) as target:
        _measure(ctx, "pipeline", shape, target.about, target.offer, wanted)


@app.command("drain")
def drain(
    ctx: typer.Context,
    queued: Annotated[int, typer.Option(min=1, max=1_000_000, help="Events that wait when the workers start.")] = 1000,
    duration: Annotated[float, typer.Option(min=1, max=86_400, help="Seconds after the first review, at most.")] = 30.0,
    fail_if: FailIf = None,
    out: Out = None,
    repo: Repo = None,
    repositories: Repositories = 48,
    files: Files = 1,
    github_ms: GitHubMs = 300.0,
    limits: Limits = False,
    log: Log = "sqlite",
    replicas: Replicas = None,
) -> None:
    """Time how fast a backlog is reviewed.

    Its events are in the log before the first worker starts. Without GitHub's limits, unless --limits asks for them:
    with them, no more than 80 reviews a minute can be posted.
    """
    from sentinelctl.bench import drain as bench
    from sentinelctl.bench.environment import environment
    from sentinelctl.bench.result import envelope
    from sentinelctl.bench.stack import Layout, replicas_of
    from sentinelctl.bench.threshold import parse
    from sentinelctl.errors import UsageError

    console, settings = ctx.obj.console, ctx.obj.written()
    conditions = [parse(text) for text in fail_if or ()]
    if wrong := [one.text for one in conditions if one.metric not in ("rate", "duplicates")]:
        raise UsageError(f"a backlog has no {wrong[0]!r}", remedy="--fail-if takes rate and duplicates here")
    commits = max(1, -(-queued // repositories))
    layout = Layout(repo, commits, repositories, files, False, github_ms, limits, log, replicas_of(replicas or ()))
    document = envelope(
        "drain", words("drain"), environment(settings), {"queued": queued, "duration_s": duration}, layout.document()
    )
    with _bar(console, "drain") as progress:
        found = bench.drain(settings, layout, queued=queued, seconds=duration, tell=progress)
    figures = found.document()
    faults = [*found.faults(), *(one.told(figures) for one in conditions if one.holds(figures))]
    document |= {"figures": figures, "faults": faults}
    store(out, document)
    if console.is_json:
        console.document(document)
    else:
        console.out.print(
            f"{found.rate:,.1f} reviews a second with {queued:,} events queued ({found.reviews:,} in "
            f"{found.seconds:.1f} s, {'all of them' if found.is_empty else 'not all'}); the first after "
            f"{found.first_s:.1f} s; asking for the lag took {found.lag_ms:.0f} ms",
            markup=False,
        )
    judge(ctx, faults)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Of a command's result: how many runs, the objective of a search, what fails it, and where it is stored."""

    repeats: int
    slo: "Sequence[Condition]"
    fail_if: "Sequence[Condition]"
    out: Path | None

    @classmethod
    def of(cls, repeats: int, slo: Sequence[str], fail_if: Sequence[str] | None, out: Path | None) -> "Wanted":
        """Raises UsageError for a condition that makes no sense."""
        from sentinelctl.bench.threshold import parse

        return cls(repeats, [parse(text) for text in slo], [parse(text) for text in fail_if or ()], out)


def _measure(
    ctx: typer.Context,
    kind: str,
    shape: "Shape",
    about: Mapping[str, Any],
    offer: "Callable[[Sequence[Stage], Shape, Tell], Run]",
    wanted: Wanted,
) -> None:
    """All runs, their document, and exit 99 where something is wrong with them."""
    from sentinelctl.bench.environment import environment
    from sentinelctl.bench.result import Result
    from sentinelctl.bench.search import Try, find_max
    from sentinelctl.bench.shape import repeated

    console: Console = ctx.obj.console
    result = Result(kind, words(kind), environment(ctx.obj.written()), shape, about, wanted.slo)

    def tell(one: Try) -> None:
        said = f"{one.rate:10,.1f}/s  p99 {one.run.figures['latency_ms']['p99']:8.1f} ms"
        console.note(f"{said}  {'not met: ' + '; '.join(one.why) if one.why else 'met'}")

    for number in range(wanted.repeats):
        own = repeated(shape, number)
        with _bar(console, f"run {number + 1} of {wanted.repeats}") as progress:

            def offered(stages: "Sequence[Stage]", own: "Shape" = own, progress: "Tell" = progress) -> "Run":
                return offer(stages, own, progress)

            if shape.profile != "find-max":
                result.runs.append(offered(own.stages))
                continue
            found = find_max(offered, own.rate, own.duration_s, wanted.slo, tell)
        result.searches.append(found)
        if found.best is not None:
            result.runs.append(found.best.run)
    document = result.document(wanted.fail_if)
    store(wanted.out, document)
    if console.is_json:
        console.document(document)
    else:
        _show(console, result, document)
    judge(ctx, document["faults"])


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


app.command("compare")(bench_stored.compare)
app.command("all")(bench_stored.run_all)
app.command("report")(bench_stored.report)
