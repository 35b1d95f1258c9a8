"""sentinelctl bench: load on this machine, and what it took."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from sentinelctl.cli import bench_ratio
from sentinelctl.cli.bench_words import judge, store, words
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

Repo = Annotated[Path | None, typer.Option(help="A git repository whose commits are pushed, instead of made ones.")]
Repositories = Annotated[int, typer.Option(min=1, max=1000, help="Repository ids that they are pushed to.")]
Files = Annotated[int, typer.Option(min=1, max=10_000, help="Files that each made commit changes.")]
GitHubMs = Annotated[float, typer.Option(min=0, max=10_000, help="Time the local GitHub takes to answer.")]
Limits = Annotated[bool, typer.Option(help="GitHub's rate limits: enforced, and kept to.")]
Replicas = Annotated[list[str] | None, typer.Option(help="SERVICE=N, such as extractor=4; repeatable.")]

STORED: Final = Path(".github/bench")
_COMMITS: Final = 200
"""Of a made history; times the repositories, that many deliveries are there to send."""


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
    """Time the inference server: calls of some hunks of real commits at scheduled times.

    Its SLO is 'p99<1s' unless --slo says otherwise.
    """
    from sentinelctl.bench.inference import own_server
    from sentinelctl.bench.shape import Shape

    settings = ctx.obj.settings()
    given = {"engine": engine, "max_batch": max_batch}
    own = settings.inference.model_copy(update={name: value for name, value in given.items() if value is not None})
    settings = settings.model_copy(update={"inference": own})
    shape = Shape(profile, rate, duration, warm_up, users, seed, arrivals, timeout)
    with own_server(settings, repo, chunks=chunks) as target:
        _measure(ctx, "inference", shape, target.about, target.offer, repeats, slo or ["p99<1s"], fail_if, out)


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
    """Time the pipeline: from the time of a delivery to its review, visible on a local GitHub.

    Every service as a process, over a fakehub; the commits are made for it, the same on every machine, unless --repo
    names others. Each delivery asks for a review of its own. Its SLO is 'p99<2s' unless --slo says otherwise.
    """
    from sentinelctl.bench.pipeline import own_pipeline
    from sentinelctl.bench.shape import Shape
    from sentinelctl.bench.stack import Layout, replicas_of

    counts = replicas_of(replicas or ())
    # A commit of many files is large, and only a search may need more of them.
    needed = -(-int(rate * (duration + warm_up) * repeats + 1) // repositories) * 2
    commits = needed if files > 1 and profile != "find-max" else max(needed, _COMMITS)
    layout = Layout(repo, commits, repositories, files, pulls, github_ms, limits, log, counts)
    shape = Shape(profile, rate, duration, warm_up, users, seed, arrivals, timeout)
    with own_pipeline(ctx.obj.written(), layout, wait_s=wait) as target:
        _measure(ctx, "pipeline", shape, target.about, target.offer, repeats, slo or ["p99<2s"], fail_if, out)


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
    """Time how fast a backlog of events is reviewed.

    They are in the log before the first worker starts. Without GitHub's limits, unless --limits asks for them: with
    them, no more than 80 reviews a minute can be posted.
    """
    from sentinelctl.bench import drain as bench
    from sentinelctl.bench.environment import environment
    from sentinelctl.bench.result import envelope
    from sentinelctl.bench.stack import Layout, replicas_of
    from sentinelctl.bench.threshold import parse

    console, settings = ctx.obj.console, ctx.obj.written()
    conditions = [parse(text) for text in fail_if or ()]
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


@app.command("compare")
def compare(
    ctx: typer.Context,
    a: Annotated[Path, typer.Argument(metavar="A.json", help="What `bench … --out` wrote before.")],
    b: Annotated[Path, typer.Argument(metavar="B.json", help="And after.")],
    fail_if_worse: Annotated[
        list[str] | None, typer.Option(help="Exit 99 where this figure got worse, such as p99; repeatable.")
    ] = None,
) -> None:
    """Compare two results of the same command.

    Each figure's ratio, B over A, with its 95 % confidence interval over the repeated runs of both (--repeats 3 or
    more). A figure has changed where that interval does not hold 1.
    """
    from rich.table import Table

    from sentinelctl.bench import compare as bench
    from sentinelctl.bench.result import read
    from sentinelctl.errors import UsageError

    console = ctx.obj.console
    if unknown := set(fail_if_worse or ()) - set(bench.METRICS):
        raise UsageError(f"no figure is named {sorted(unknown)[0]!r}", remedy=f"there are {', '.join(bench.METRICS)}")
    before, after = read(a), read(b)
    changes, differs = bench.compare(before, after), bench.differences(before, after)
    if console.is_json:
        found = [one.document() for one in changes]
        console.document({"version": 1, "a": str(a), "b": str(b), "changes": found, "differences": differs})
    else:
        table = Table("", box=None, header_style="dim", pad_edge=False)
        for column in ("A", "B", "B / A", "95 % interval", ""):
            table.add_column(column, justify="right")
        for one in changes:
            interval = "-" if one.document()["interval_95"] is None else f"{one.low:.3f} to {one.high:.3f}"
            table.add_row(one.metric, f"{one.a:,.2f}", f"{one.b:,.2f}", f"{one.ratio:.3f}", interval, one.verdict)
        console.out.print(table)
        console.note(f"{len(before['runs'])} runs of A, {len(after['runs'])} of B; latencies in ms, rates a second")
    for line in differs:
        console.note(f"not the same: {line}")
    judge(
        ctx,
        [
            f"{one.metric} got worse"
            for one in changes
            if one.metric in (fail_if_worse or ()) and one.verdict == "worse"
        ],
    )


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
    from sentinelctl.bench.search import Try, find_max
    from sentinelctl.bench.shape import repeated
    from sentinelctl.bench.threshold import parse

    console: Console = ctx.obj.console
    conditions, wanted = [parse(text) for text in fail_if or ()], [parse(text) for text in slo]
    result = Result(kind, words(kind), environment(ctx.obj.settings()), shape, about, wanted)

    def tell(one: Try) -> None:
        said = f"{one.rate:10,.1f}/s  p99 {one.run.figures['latency_ms']['p99']:8.1f} ms"
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
    store(out, document)
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


@app.command("all")
def run_all(
    ctx: typer.Context,
    out: Annotated[Path, typer.Option(help="Folder of the stored results.")] = STORED,
    only: Annotated[
        list[str] | None, typer.Option(help="Names, or their beginnings; repeatable. Default: all.")
    ] = None,
    kafka: Annotated[
        str, typer.Option(help="HOST:PORT of a broker for what needs one; without it, that is left out.")
    ] = "",
    scale: Annotated[float, typer.Option(min=0.01, max=1, help="Shortens each run, to try the commands out.")] = 1.0,
    listed: Annotated[bool, typer.Option("--list", help="Print the commands and about how long each takes.")] = False,
) -> None:
    """Measure everything that BENCHMARK.md shows.

    One command after the other, each with its result in a file of its own; `bench report` makes the page of them. On a
    quiet machine, please: about an hour on two cores.
    """
    from sentinelctl.bench.suite import MEASUREMENTS, Measurement
    from sentinelctl.bench.suite import run_all as run
    from sentinelctl.errors import UsageError

    console = ctx.obj.console
    chosen = [one for one in MEASUREMENTS if not only or any(one.name.startswith(name) for name in only)]
    if not chosen:
        raise UsageError(f"nothing is named {' or '.join(only or ())}", remedy="`sentinelctl bench all --list`")
    if listed:
        rows = [
            {"name": one.name, "command": " ".join(["sentinelctl bench", *one.command(scale)]), "about_s": one.about_s}
            for one in chosen
        ]
        if console.is_json:
            console.document({"version": 1, "measurements": rows})
            return
        for row in rows:
            console.out.print(f"{row['name']:<26} {row['about_s']:>5g} s  {row['command']}", markup=False)
        return
    found: list[dict[str, Any]] = []

    def tell(one: Measurement, said: str, seconds: float) -> None:
        found.append({"name": one.name, "seconds": round(seconds, 1), "said": said})
        console.note(f"{one.name:<26} {seconds:6.1f} s  {said or 'done'}")

    is_whole = run(chosen, out, kafka=kafka, scale=scale, globals_=ctx.obj.globals(), tell=tell)
    if console.is_json:
        console.document({"version": 1, "out": str(out), "measurements": found})
    if not is_whole:
        raise typer.Exit(Exit.ERROR)


@app.command("report")
def report(
    ctx: typer.Context,
    stored: Annotated[
        Path, typer.Option("--from", help="Folder of the stored results; pictures go there too.")
    ] = STORED,
    page: Annotated[Path, typer.Option(help="The page whose blocks are written.")] = Path("BENCHMARK.md"),
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit 100 where something would change.")
    ] = False,
) -> None:
    """Write BENCHMARK.md from stored results, tables and pictures.

    What stands between `<!-- bench: NAME -->` and `<!-- /bench -->` is made anew; the rest of the page stays as it is.
    """
    import os

    from sentinelctl.bench.pictures import pictures
    from sentinelctl.bench.report import Stored, load, written
    from sentinelctl.errors import UsageError

    console = ctx.obj.console
    documents = load(stored)
    folder = Path(os.path.relpath(stored, page.parent)).as_posix()
    try:
        before = page.read_text(encoding="utf-8")
    except OSError as exc:
        raise UsageError(f"{page} cannot be read: {exc.strerror}", remedy="name the page with --page") from exc
    text, blocks = written(before, Stored(documents, lambda name: f"{folder}/{name}"))
    files = {page: text, **{stored / f"{name}.svg": svg for name, svg in pictures(documents).items()}}
    changed = [path for path, new in files.items() if not path.exists() or path.read_text(encoding="utf-8") != new]
    for path in [] if check else changed:
        path.write_text(files[path], encoding="utf-8")
    if console.is_json:
        console.document(
            {"version": 1, "blocks": blocks, "results": len(documents), "changed": [str(path) for path in changed]}
        )
    else:
        verb = "would change" if check else "wrote"
        console.note(
            f"{len(documents)} results, {len(blocks)} blocks; {verb} {', '.join(map(str, changed)) or 'nothing'}"
        )
    if check and changed:
        raise typer.Exit(Exit.CHANGES_PENDING)
