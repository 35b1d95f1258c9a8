"""sentinelctl up: starts what should run, changes what should differ, and waits until it is ready."""

from typing import Annotated

import typer


def up(
    ctx: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan; exit 100 when it is not empty.")] = False,
    only: Annotated[str | None, typer.Option(help="Services, comma-separated; the others are left alone.")] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until everything is ready.")] = True,
    timeout: Annotated[float, typer.Option(min=0, help="Seconds to wait for readiness.")] = 60.0,
) -> None:
    """Start the services, or bring them to what the settings say."""
    from sentinelctl.catalog import SERVICES
    from sentinelctl.cli.progress import described, named_services, reporter
    from sentinelctl.errors import Exit
    from sentinelctl.lifecycle import Project
    from sentinelctl.overview import overview
    from sentinelctl.readiness import wait_ready

    console = ctx.obj.console
    names = named_services(only.split(",") if only is not None else None, SERVICES)
    project = Project(ctx.obj.settings())
    console.note(f"runtime: {project.runtime.name}, state in {project.state_dir.path}")
    if dry_run:
        found = project.plan_up(names)
        for line in described(found):
            console.note(line)
        if console.is_json:
            console.document(
                {"version": 1, "runtime": project.runtime.name, "is_dry_run": True, "operations": found.document()}
            )
        raise typer.Exit(Exit.CHANGES_PENDING if found.operations else Exit.DONE)
    with project.locked():
        project.prepare()
        found = project.plan_up(names)
        if not found.operations:
            console.note("nothing to change")
        project.apply(found, ready_s=timeout if wait else None, report=reporter(console))
        if wait:
            running = [replica.name for replica in project.runtime.observe().replicas if replica.service in names]
            wait_ready(project.runtime, running, timeout)
    seen = overview(project)
    if console.is_json:
        console.document({**seen.document(), "operations": found.document()})
        return
    console.out.print(seen.table())
    for line in seen.notes():
        console.note(line)
    webhook = project.settings.webhook
    port = next((row.replica.ports["http"] for row in seen.rows if row.replica.service == "webhook"), None)
    if port is not None:
        console.note(f"deliveries go to http://{webhook.bind}:{port}/webhook")
