"""One line of a service's log: its fields, and how people read it."""

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.text import Text

_LEVELS = {"error": "red", "critical": "bold red", "warning": "yellow", "debug": "dim"}


def fields(text: str) -> dict[str, Any]:
    """A line as its writer meant it; one that is no JSON object (a traceback) is an `event`."""
    try:
        found = json.loads(text)
    except ValueError:
        return {"event": text}
    return found if isinstance(found, dict) else {"event": text}


def readable(text: str) -> "Text":
    """`time level event key=value…`, an exception below it, nothing in it that a terminal would obey."""
    from datetime import datetime

    from rich.text import Text

    from sentinelctl.console import clean

    found = fields(text)
    event = clean(str(found.pop("event", "")))
    if not found:
        return Text(event)
    line = Text()
    stamp = found.pop("ts", None)
    if isinstance(stamp, int | float):
        moment = datetime.fromtimestamp(stamp).astimezone()
        line.append(f"{moment:%H:%M:%S}.{moment.microsecond // 1000:03} ", "dim")
    level = str(found.pop("level", "info"))
    found.pop("service", None)
    trace = found.pop("exception", None)
    line.append(f"{clean(level):<8} ", _LEVELS.get(level, ""))
    line.append(event, "bold")
    for key, value in found.items():
        line.append(f" {clean(key)}=", "dim")
        line.append(clean(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)))
    for row in trace.splitlines() if isinstance(trace, str) else ():
        line.append(f"\n{clean(row)}", "dim")
    return line
