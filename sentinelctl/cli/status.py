"""sentinelctl status: what runs, how it fares, how far behind it is, and where its state lies."""

from typing import Annotated

import typer

_EVERY_S = 1.0
_GLANCE_S = 0.5


def status(
    ctx: typer.Context,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Again every second, until Ctrl-C.")] = False,
) -> None:
    """Show what runs, and how it fares.

    Each replica's pid, health, age, restarts, use and ports, and how far behind the consumers are. Exit 4 when a
    replica is not ready, or lost its supervisor.
    """
    from sentinelctl.errors import Exit
    from sentinelctl.overview import overview

    console = ctx.obj.console
    project = ctx.obj.project()
    while True:
        seen = overview(project, over_s=_EVERY_S if watch else _GLANCE_S)
        if console.is_json:
            console.document(seen.document())
        else:
            if watch:
                console.out.clear()
            console.out.print(seen.table() if seen.rows else "nothing runs; `sentinelctl up` starts it")
            for line in seen.notes():
                console.note(line)
        if not watch:
            raise typer.Exit(Exit.DONE if seen.is_healthy else Exit.UNHEALTHY)
