"""sentinelctl logs: what the replicas wrote, merged by time, each line with its replica."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.text import Text

    from sentinelctl.runtime.base import LogLine

_COLOURS = ("cyan", "magenta", "green", "blue", "yellow")
_LEVELS = {"error": "red", "critical": "bold red", "warning": "yellow", "debug": "dim"}


def logs(
    ctx: typer.Context,
    services: Annotated[list[str] | None, typer.Argument(metavar="[SERVICE]...", help="Default: all.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="Last lines of each replica.")] = 100,
) -> None:
    """Show the logs of services; with --json one JSON object a line, with its replica."""
    from sentinelctl.catalog import SERVICES
    from sentinelctl.cli.progress import named_services
    from sentinelctl.lifecycle import Project

    console = ctx.obj.console
    names = named_services(services, SERVICES)
    project = Project(ctx.obj.settings())
    replicas = [name for name in project.state_dir.logged() if name.rpartition("-")[0] in names]
    if not replicas:
        console.note(f"no logs in {project.state_dir.logs}; nothing was started yet")
    width = max((len(name) for name in replicas), default=0)
    for line in project.runtime.logs(replicas, lines=lines, follow=follow):
        if console.is_json:
            console.document({"replica": line.replica, **fields(line.text)})
        else:
            console.out.print(readable(line, width, _COLOURS[replicas.index(line.replica) % len(_COLOURS)]))


def fields(text: str) -> dict[str, Any]:
    """A line as its writer meant it; one that is no JSON object (a traceback) is an `event`."""
    try:
        found = json.loads(text)
    except ValueError:
        return {"event": text}
    return found if isinstance(found, dict) else {"event": text}


def readable(line: "LogLine", width: int, colour: str) -> "Text":
    """`replica | time level event key=value…`, nothing in it that a terminal would obey."""
    from datetime import datetime

    from rich.text import Text

    from sentinelctl.console import clean

    text = Text.assemble((f"{line.replica:<{width}} | ", colour))
    found = fields(line.text)
    event = clean(str(found.pop("event", "")))
    if not found:
        return text.append(event)
    stamp = found.pop("ts", None)
    if isinstance(stamp, int | float):
        moment = datetime.fromtimestamp(stamp).astimezone()
        text.append(f"{moment:%H:%M:%S}.{moment.microsecond // 1000:03} ", "dim")
    level = str(found.pop("level", "info"))
    found.pop("service", None)
    trace = found.pop("exception", None)
    text.append(f"{clean(level):<7} ", _LEVELS.get(level, ""))
    text.append(event, "bold")
    for key, value in found.items():
        text.append(f" {clean(key)}=", "dim")
        text.append(clean(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)))
    if isinstance(trace, str):
        for row in trace.splitlines():
            text.append(f"\n{'':<{width}} | ", colour).append(clean(row), "dim")
    return text
