"""sentinelctl up: starts what should run, changes what should differ, and waits until it is ready."""

from typing import Annotated

import typer


def up(
    ctx: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan; exit 100 when it is not empty.")] = False,
    only: Annotated[str | None, typer.Option(help="Services, comma-separated; the others are left alone.")] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until everything is ready.")] = True,
    timeout: Annotated[float, typer.Option(min=0, help="Seconds to wait for readiness; else exit 4.")] = 60.0,
) -> None:
    """Start the services, or bring them to what the settings say."""
    from sentinelctl.cli.progress import change, named_services
    from sentinelctl.overview import overview
    from sentinelctl.readiness import wait_ready

    console = ctx.obj.console
    project = ctx.obj.project()
    names = named_services(only.split(","), project.services) if only is not None else None
    ready_s = timeout if wait else None
    found = change(console, project, lambda: project.plan_up(names), is_dry_run=dry_run, ready_s=ready_s)
    running: list[str] = []
    if ready_s is not None:
        replicas = project.runtime.observe().replicas
        running = [replica.name for replica in replicas if names is None or replica.service in names]
        wait_ready(project.runtime, running, ready_s)
    seen = overview(project, ready=running)
    if console.is_json:
        console.document({**seen.document(), "operations": found.document()})
        return
    console.out.print(seen.table())
    for line in seen.notes():
        console.note(line)
    port = next((row.replica.ports["http"] for row in seen.rows if row.replica.service == "webhook"), None)
    if port is not None:
        console.note(f"deliveries go to http://{project.settings.webhook.bind}:{port}/webhook")
