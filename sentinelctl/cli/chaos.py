"""sentinelctl chaos: faults under load, with an account of every delivery."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sentinelctl.chaos.run import Result
    from sentinelctl.chaos.smoke import Check

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Break things on purpose, and hold it to account.")

_STYLES = {"passed": "bold green", "deviated": "bold red", "failed": "bold red", "inconclusive": "bold yellow"}


@app.command("list")
def list_(ctx: typer.Context) -> None:
    """Show the experiments."""
    from rich.table import Table

    from sentinelctl.chaos.experiments import EXPERIMENTS

    console = ctx.obj.console
    if console.is_json:
        documents = [
            {
                "experiment": one.name,
                "fault": one.fault.what,
                "drain_s": one.hypothesis.drain_s,
                "dead_letters": one.hypothesis.dead_letters,
                "in_flight": one.hypothesis.in_flight,
            }
            for one in EXPERIMENTS
        ]
        console.document({"version": 1, "experiments": documents})
        return
    table = Table("experiment", "fault", box=None, header_style="dim", pad_edge=False)
    for one in EXPERIMENTS:
        table.add_row(one.name, one.fault.what)
    console.out.print(table)
    console.note(
        "each on a stack of its own and under load; what has to hold: everything acknowledged ends once, with a reason"
    )


@app.command("run")
def run(
    ctx: typer.Context,
    experiments: Annotated[list[str] | None, typer.Argument(metavar="[EXPERIMENT]...", help="By name.")] = None,
    is_all: Annotated[bool, typer.Option("--all", help="All of them, one after the other.")] = False,
    smoke: Annotated[bool, typer.Option("--smoke", help="Six checks of a stack in half a minute; no fault.")] = False,
    seed: Annotated[int, typer.Option(help="Of the moments and of what is sent.")] = 1,
    duration: Annotated[float, typer.Option(min=4, max=3600, help="Seconds of load.")] = 60.0,
    rate: Annotated[float, typer.Option(min=0.1, max=200, help="Deliveries a second.")] = 2.0,
    latency_ms: Annotated[float, typer.Option(min=0, max=10_000, help="Time the forge takes to answer.")] = 100.0,
    report: Annotated[Path | None, typer.Option(help="Folder for journal.json, summary.md and report.html.")] = None,
    here: Annotated[bool, typer.Option("--here", help="On what `up` started, whose forge is a fakehub.")] = False,
    i_know: Annotated[bool, typer.Option("--i-know", help="With --here, on any forge: no load, no account.")] = False,
) -> None:
    """Make a fault under load and account for every delivery.

    Starts a stack of its own (a fakehub, free ports, a state folder below the installation's), and ends it. A fault
    takes 15 % to 90 % of the load's time at most, and is undone whatever ends the run: Ctrl-C, kill -9, a crash. With
    --here it is done to what runs already, by those experiments that leave data alone. Exit code 99 unless every
    verdict is `passed`; of --all those do not count whose fault cannot be made here, such as a full disk where the log
    is in Kafka.
    """
    from sentinelctl.chaos import report as reports
    from sentinelctl.chaos.experiments import EXPERIMENTS, chosen
    from sentinelctl.chaos.run import Pace, Result, run_on_installed
    from sentinelctl.chaos.run import run as run_one
    from sentinelctl.chaos.smoke import check
    from sentinelctl.cli.progress import bars
    from sentinelctl.errors import Exit, SentinelError, UsageError

    console = ctx.obj.console
    picked = list(EXPERIMENTS) if is_all else chosen(experiments or [])
    if not picked and not smoke:
        raise UsageError("no experiment is named", remedy="name some, or say --all or --smoke; `chaos list` shows them")
    settings = ctx.obj.settings()
    home = settings.state_dir.absolute() / "chaos"
    pace = Pace(rate, duration, latency_ms, seed)
    results: list[Result] = []
    checks: list[Check] = []

    def tell(text: str) -> None:
        console.note(f"    {text}")

    with rolled_back(), bars(console) as progress:
        if smoke:
            checks = check(settings, home, lambda one: _tell_check(ctx, one), progress)
        for number, one in enumerate(picked, 1):
            console.note(f"[{number}/{len(picked)}] {one.name}, seed {seed}")
            try:
                result = (
                    run_on_installed(one, ctx.obj.project(), pace, home, i_know=i_know, tell=tell)
                    if here
                    else run_one(one, settings, pace, home, tell=tell, progress=progress)
                )
            except SentinelError as exc:
                if len(picked) == 1:
                    raise
                result = Result.without_a_stack(one, pace, settings.project.runtime, exc)
            results.append(result)
            _tell(ctx, result)
            if report is not None:
                reports.write(report, results)
    if console.is_json:
        console.document(
            {
                "version": 1,
                "checks": [one.document() for one in checks],
                "experiments": [one.summary() for one in results],
            }
        )
    if report is not None and results:
        console.note(f"report: {report / 'report.html'}")
    asked = [one for one in results if not (is_all and one.observed.cannot)]
    if any(one.fault for one in checks) or any(one.verdict.value != "passed" for one in asked):
        raise typer.Exit(Exit.THRESHOLD)


@app.command("heal")
def heal(ctx: typer.Context) -> None:
    """Undo what an interrupted run left.

    Harmless at any time: a run that goes on is left alone, and there is nothing to do the second time.
    """
    import shutil

    from sentinelctl.chaos.journal import interrupted

    console = ctx.obj.console
    home = ctx.obj.written().state_dir.absolute() / "chaos"
    healed = []
    for journal in interrupted(home):
        did = journal.heal()
        healed.append({"run": journal.folder.name, "undone": did})
        shutil.rmtree(journal.folder, ignore_errors=True)
    if console.is_json:
        console.document({"version": 1, "healed": healed})
    for one in healed:
        console.note(f"{one['run']}: {'; '.join(one['undone']) or 'nothing was left of it'}")
    if not healed:
        console.note("nothing to heal")


@contextmanager
def rolled_back() -> Iterator[None]:
    """The first Ctrl-C or SIGTERM ends the run by way of its rollback, which a second one does not cut short."""
    import signal

    def interrupt(_number: int, _frame: object) -> None:
        for number in watched:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    watched = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, interrupt) for number in watched]
    try:
        yield
    finally:
        for number, handler in zip(watched, before, strict=True):
            signal.signal(number, handler)


def _tell_check(ctx: typer.Context, check: "Check") -> None:
    from rich.text import Text

    console = ctx.obj.console
    verdict = "failed" if check.fault else "passed"
    line = Text.assemble((f"{verdict:<13}", _STYLES[verdict]), f"{check.name}: {check.fault or check.seen}")
    (console.err if console.is_json else console.out).print(line)


def _tell(ctx: typer.Context, result: "Result") -> None:
    from rich.text import Text

    console, about = ctx.obj.console, result.summary()
    endings = ", ".join(f"{count} {name}" for name, count in about["endings"].items())
    acknowledged = f"{about['acknowledged']} acknowledged" + (f" = {endings}" if endings else "")
    line = Text.assemble(
        (f"{about['verdict']:<13}", _STYLES[about["verdict"]]),
        (f"{about['experiment']:<24}", "bold"),
        f"{acknowledged}; lost {about['lost']}, duplicates {about['duplicates']}, stale {about['stale']}; recovered in "
        f"{about['recover_s']:.1f} s, drained in {about['drain_s']:.1f} s",
    )
    (console.err if console.is_json else console.out).print(line)
    for reason in about["reasons"]:
        console.note(f"    {reason}")
    if about["kept"]:
        console.note(f"    the services' logs are in {about['kept']}")
