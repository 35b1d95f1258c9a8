"""sentinelctl scale: how many replicas of a service run, until `down`."""

from typing import Annotated

import typer

_MAX_REPLICAS = 64


def scale(
    ctx: typer.Context,
    replicas: Annotated[list[str], typer.Argument(metavar="SERVICE=N...", help="For example extractor=3.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan; exit 100 when it is not empty.")] = False,
    timeout: Annotated[float, typer.Option(min=0, help="Seconds to wait for readiness.")] = 60.0,
) -> None:
    """Set how many replicas of a service run.

    It holds until `down`, or until the settings ask for another number. What goes is drained: it finishes the records
    it has and commits them.
    """
    from sentinelctl.catalog import SCALED
    from sentinelctl.cli.progress import change, document, named_services
    from sentinelctl.errors import UsageError

    console = ctx.obj.console
    project = ctx.obj.project()
    counts: dict[str, int] = {}
    for word in replicas:
        name, _, number = word.partition("=")
        named_services([name], project.services)
        if not number.isdecimal() or int(number) > _MAX_REPLICAS:
            raise UsageError(f"{word!r} is no SERVICE=N with N from 0 to {_MAX_REPLICAS}", remedy="try extractor=3")
        counts[name] = int(number)
    found = change(
        console,
        project,
        lambda: project.plan_scale(counts),
        is_dry_run=dry_run,
        ready_s=timeout,
        before=lambda: project.remember_scale(counts),
    )
    if project.settings.autoscaler.is_on and (paused := [name for name in counts if name in SCALED]):
        console.note(
            f"the autoscaler leaves {' and '.join(paused)} alone from now on; "
            f"`sentinelctl autoscaler resume {' '.join(paused)}` hands back"
        )
    if console.is_json:
        console.document(document(project, found, is_dry_run=False))
