"""Replica counts that go over the settings', as files of the state folder's `scaling`. Standard library only.

scale.json holds an operator's (`sentinelctl scale`), autoscale.json the autoscaler's; the operator's goes first. Both
have one form, so that the command line, the supervisor and the autoscaler agree on when a count holds: as long as the
settings ask for the number that they asked for when it was written.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

FOLDER: Final = "scaling"
"""In the state folder; the autoscaler's container sees this folder of it, and the lock."""
OPERATOR: Final = f"{FOLDER}/scale.json"
AUTOSCALER: Final = f"{FOLDER}/autoscale.json"
DECISIONS: Final = f"{FOLDER}/decisions.jsonl"
"""What the autoscaler decided, and why: one JSON object a line."""
STATE: Final = "state.json"
"""What the supervisor writes of itself and of each replica."""
LOCK: Final = "lock"
"""Held by whoever changes which replicas there are."""
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
    """Replaces the file in one step. Others may read it: in containers the autoscaler is another user than root."""
    entries = {name: {"replicas": count, "instead_of": configured[name]} for name, count in counts.items()}
    replace_text(path, json.dumps(entries, indent=1), mode=0o644)


def read_decisions(path: Path) -> list[dict[str, Any]]:
    """Oldest first; empty when there is no file, without the lines that make no sense."""
    found = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    for line in lines:
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def replace_text(path: Path, text: str, mode: int = 0o600) -> None:
    """Readers see the old text or the new one, never a part. Raises OSError."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), mode)
        file.write(text)
    beside.replace(path)
