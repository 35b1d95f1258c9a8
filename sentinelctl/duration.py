"""Spans of time as people write and read them."""

import re
from typing import Final

from sentinelctl.errors import UsageError

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_WRITTEN: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)([smhd])")


def seconds(text: str) -> float:
    """Of `90s`, `15m`, `2h` or `1.5d`. Raises UsageError."""
    found = _WRITTEN.fullmatch(text.strip())
    if found is None:
        raise UsageError(f"{text!r} is no span of time", remedy="write a number and s, m, h or d, such as 2h")
    return float(found[1]) * _UNITS[found[2]]


def age(seconds: float) -> str:
    """The largest unit that fits, such as `3 h`."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
