"""sentinelctl restart: every replica anew, one at a time, each ready before the next goes."""

from typing import Annotated

import typer


def restart(
    ctx: typer.Context,
    services: Annotated[list[str] | None, typer.Argument(metavar="[SERVICE]...", help="Default: all.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan; exit 100 when it is not empty.")] = False,
    timeout: Annotated[float, typer.Option(min=0, help="Seconds each replica has to become ready.")] = 60.0,
) -> None:
    """Restart what runs, one after the other.

    Each replica starts with the present settings and is ready before the next one ends.
    """
    from sentinelctl.cli.progress import change, document, named_services

    console = ctx.obj.console
    project = ctx.obj.project()
    names = named_services(services, project.services)
    found = change(
        console,
        project,
        lambda: project.plan_restart(names),
        is_dry_run=dry_run,
        ready_s=timeout,
        unchanged="none of it runs; `sentinelctl up` starts it",
    )
    if console.is_json:
        console.document(document(project, found, is_dry_run=False))
