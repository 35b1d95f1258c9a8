"""Replica counts that go over the settings', as files of the state folder. Standard library only.

scale.json holds an operator's (`sentinelctl scale`), autoscale.json the autoscaler's; the operator's goes first. Both
have one form, so that the command line, the supervisor and the autoscaler agree on when a count holds: as long as the
settings ask for the number that they asked for when it was written.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

OPERATOR: Final = "scale.json"
AUTOSCALER: Final = "autoscale.json"
DECISIONS: Final = "decisions.jsonl"
MAX_REPLICAS: Final = 64


def read_counts(path: Path, configured: Mapping[str, int]) -> dict[str, int]:
    """Those that hold, by service. Empty when there is no file, or one that makes no sense."""
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return {
            service: int(entry["replicas"])
            for service, entry in document.items()
            if entry["instead_of"] == configured.get(service) and 0 <= int(entry["replicas"]) <= MAX_REPLICAS
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def write_counts(path: Path, counts: Mapping[str, int], configured: Mapping[str, int]) -> None:
    """Replaces the file in one step."""
    entries = {name: {"replicas": count, "instead_of": configured[name]} for name, count in counts.items()}
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        json.dump(entries, file, indent=1)
    beside.replace(path)
