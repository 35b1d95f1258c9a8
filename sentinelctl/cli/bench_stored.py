"""sentinelctl bench compare, all and report: results that are stored."""

from pathlib import Path
from typing import Annotated, Any

import typer

from sentinelctl.bench import STORED
from sentinelctl.cli.bench_words import judge
from sentinelctl.errors import Exit


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
    """Measure all that BENCHMARK.md shows.

    One command after the other, each with its result in a file of its own; `bench report` makes the page of them. On a
    quiet machine, please: about an hour on two cores.
    """
    from sentinelctl.bench.suite import MEASUREMENTS, Measurement
    from sentinelctl.bench.suite import run_all as run
    from sentinelctl.errors import UsageError

    console = ctx.obj.console
    names = {one.name for one in MEASUREMENTS}
    wanted = [name for word in only or [""] for name in ({word} & names or names) if name.startswith(word)]
    chosen = [one for one in MEASUREMENTS if one.name in wanted]
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
    """Write BENCHMARK.md from stored results.

    Tables and pictures: what stands between `<!-- bench: NAME -->` and `<!-- /bench -->` is made anew; the rest of
    the page stays as it is.
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
