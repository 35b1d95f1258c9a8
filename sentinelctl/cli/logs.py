"""sentinelctl logs: what the replicas wrote, merged by time, each line with its replica."""

from typing import Annotated

import typer

_COLOURS = ("cyan", "magenta", "green", "blue", "yellow")


def logs(
    ctx: typer.Context,
    services: Annotated[
        list[str] | None, typer.Argument(metavar="[SERVICE]...", help="Or a replica, as extractor-2. Default: all.")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what comes, from new replicas too, until Ctrl-C.")
    ] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="Last lines of each replica.")] = 100,
) -> None:
    """Show what services wrote.

    With --json one JSON object a line, as it was written, with its replica.
    """
    from rich.text import Text

    from sentinelctl.cli.progress import named_services
    from sentinelctl.logline import fields, readable

    console = ctx.obj.console
    project = ctx.obj.project()
    logged = project.runtime.logged()
    names = named_services(services, project.services, replicas=logged)
    if not any(name in names or name.rpartition("-")[0] in names for name in logged):
        console.note("nothing has written a log yet" + ("; waiting for it" if follow else ""))
    width = max(len(f"{service}-1") for service in project.services)
    colours: dict[str, str] = {}
    for line in project.runtime.logs(names, lines=lines, follow=follow):
        if console.is_json:
            console.document({"replica": line.replica, **fields(line.text)})
            continue
        colour = colours.setdefault(line.replica, _COLOURS[len(colours) % len(_COLOURS)])
        for row in readable(line.text).split("\n"):
            console.out.print(Text.assemble((f"{line.replica:<{width}} | ", colour), row))
