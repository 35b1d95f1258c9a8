"""sentinelctl autoscaler: what it decided and why, and who decides how many replicas of a service run."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from sentinelctl.console import Console
    from sentinelctl.lifecycle import Project
    from sentinelctl.state import ObservedState

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="See why replicas come and go; take over, and hand back."
)

Services = Annotated[
    list[str] | None, typer.Argument(metavar="[SERVICE...]", help="Default: all that are scaled by it.")
]


@app.command("status")
def status(
    ctx: typer.Context,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="Newest decisions.")] = 20,
) -> None:
    """Show who decides how many replicas of each service run, and the decisions with their reasons."""
    from sentinelctl.catalog import SCALED
    from services.counts import read_decisions

    console, project = ctx.obj.console, ctx.obj.project()
    rows, is_running = _rows(project, SCALED)
    decisions = read_decisions(project.state_dir.decisions)[-lines:] if lines else []
    if console.is_json:
        document = {"version": 1, "is_enabled": project.settings.autoscaler.is_on, "is_running": is_running}
        console.document({**document, "services": rows, "decisions": decisions})
        return
    _print(console, rows, decisions)
    if not project.settings.autoscaler.is_on:
        console.note("autoscaler.enabled is false: nobody decides; set it, and `sentinelctl up` starts the autoscaler")
    elif not is_running:
        console.note("the autoscaler does not run; `sentinelctl up` starts it")


@app.command("pause")
def pause(ctx: typer.Context, services: Services = None) -> None:
    """Keep the replicas there are: the autoscaler leaves the services alone until `resume`, or `down`."""
    from sentinelctl.catalog import SCALED
    from sentinelctl.cli.progress import named_services

    project = ctx.obj.project()
    names = named_services(services, SCALED)
    with project.locked():
        rows = [row for row in _rows(project, names)[0] if not row["is_paused"]]
        project.remember_scale({row["service"]: row["running"] or row["replicas"] for row in rows})
    _tell(ctx.obj.console, project, names, "the autoscaler leaves it alone until `sentinelctl autoscaler resume`")


@app.command("resume")
def resume(ctx: typer.Context, services: Services = None) -> None:
    """Hand services that were paused, or scaled by hand, back to the autoscaler."""
    from sentinelctl.catalog import SCALED
    from sentinelctl.cli.progress import named_services

    project = ctx.obj.project()
    names = named_services(services, SCALED)
    with project.locked():
        project.hand_back(names)
    decides = "the autoscaler decides again"
    if not project.settings.autoscaler.is_on:
        decides = "as many as the settings say at the next `sentinelctl up`: autoscaler.enabled is false"
    _tell(ctx.obj.console, project, names, decides)


def _rows(project: "Project", services: "list[str] | tuple[str, ...]") -> tuple[list[dict[str, Any]], bool]:
    """One a service, and whether the autoscaler runs."""
    observed, by_hand = project.runtime.observe(), project.scaled_by_hand()
    wanted = {spec.name: spec.replicas for spec in project.desired()}
    rows = [
        {
            "service": str(name),
            "running": _running(observed, name, wanted[name]),
            "replicas": wanted[name],
            "is_paused": name in by_hand,
        }
        for name in services
    ]
    return rows, bool(observed.of("autoscaler"))


def _running(observed: "ObservedState", service: str, wanted: int) -> int:
    """Those above the count drain, also where an engine still calls them running."""
    from sentinelctl.state import Status

    return sum(one.status is not Status.DRAINING and one.index <= wanted for one in observed.of(service))


def _tell(console: "Console", project: "Project", names: list[str], what: str) -> None:
    rows, is_running = _rows(project, names)
    if console.is_json:
        enabled = project.settings.autoscaler.is_on
        console.document({"version": 1, "is_enabled": enabled, "is_running": is_running, "services": rows})
        return
    for row in rows:
        console.note(f"{row['service']}: {row['running']} running; {what}")


def _print(console: "Console", rows: list[dict[str, Any]], decisions: list[dict[str, Any]]) -> None:
    from datetime import datetime

    from rich.table import Table

    table = Table("service", box=None, header_style="dim", pad_edge=False)
    for name in ("running", "asked for"):
        table.add_column(name, justify="right")
    table.add_column("decided by")
    for row in rows:
        table.add_row(row["service"], str(row["running"]), str(row["replicas"]), _by(row))
    console.out.print(table)
    for one in decisions:
        moment = datetime.fromtimestamp(one["at_s"]).astimezone()
        change = f"{one['was']} → {one['replicas']}" if one["was"] != one["replicas"] else f"stays {one['replicas']}"
        what = f"{one['service']:<9}  {change:<8}  {one['why']:<11}  {one['reason']}"
        console.out.print(f"{moment:%m-%d %H:%M:%S}  {what}", markup=False)


def _by(row: dict[str, Any]) -> str:
    return "hand: the autoscaler is paused" if row["is_paused"] else "the autoscaler, else the settings"
