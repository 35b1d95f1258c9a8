"""A result as it is stored and read again: the runs, their figures, and what they were got from."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, Final

from sentinelctl.bench.run import Run
from sentinelctl.bench.search import Found
from sentinelctl.bench.shape import Shape
from sentinelctl.bench.threshold import Condition
from sentinelctl.errors import UsageError

VERSION: Final = 1


@dataclass
class Result:
    """kind: webhook, inference or pipeline. target: what was measured, in its own words."""

    kind: str
    words: Sequence[str]
    environment: Mapping[str, Any]
    shape: Shape
    target: Mapping[str, Any]
    slo: Sequence[Condition] = ()
    runs: list[Run] = field(default_factory=list)
    searches: list[Found] = field(default_factory=list)
    began_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def figures(self) -> dict[str, Any]:
        """Medians over the runs; counts of what went wrong are sums."""
        each = [run.figures for run in self.runs]
        found: dict[str, Any] = {
            "sent": sum(one["sent"] for one in each),
            "rate": middle([one["rate"] for one in each]),
        }
        for group in ("latency_ms", "service_ms"):
            found[group] = {name: middle([one[group][name] for one in each]) for name in each[0][group]}
        for name in ("errors", "dropped", "lost", "duplicates"):
            found[name] = sum(one.get(name, 0) for one in each)
        return found

    def faults(self, fail_if: Sequence[Condition] = ()) -> list[str]:
        """What keeps it from being good, and the conditions of `fail_if` that hold; empty where nothing does."""
        found = [fault for run in self.runs for fault in run.faults()]
        if not self.runs:
            return [f"no rate met the objective: {one.limited_by}" for one in self.searches] or ["nothing was measured"]
        figures = self.figures()
        return [*dict.fromkeys(found), *(one.told(figures) for one in fail_if if one.holds(figures))]

    def document(self, fail_if: Sequence[Condition] = ()) -> dict[str, Any]:
        found = envelope(self.kind, self.words, self.environment, self.shape.document(), self.target)
        found["began_at"] = self.began_at.isoformat(timespec="seconds")
        if self.searches:
            found["find_max"] = {
                "slo": [one.text for one in self.slo],
                "rate": [round(one.best.rate, 3) if one.best else None for one in self.searches],
                "limited_by": [one.limited_by for one in self.searches],
                "tries": [[each.document() for each in one.tries] for one in self.searches],
            }
        if self.runs:
            found["figures"] = self.figures()
        return found | {"runs": [run.document() for run in self.runs], "faults": self.faults(fail_if)}


def read(path: Path) -> dict[str, Any]:
    """A stored document. Raises UsageError for anything else."""
    try:
        found = json.loads(path.read_bytes())
    except OSError as exc:
        raise UsageError(f"{path} cannot be read: {exc.strerror}", remedy="name what `bench … --out` wrote") from exc
    except ValueError as exc:
        raise UsageError(f"{path} is no JSON: {exc}", remedy="name what `bench … --out` wrote") from exc
    if not isinstance(found, dict) or found.get("version") != VERSION or "kind" not in found:
        raise UsageError(f"{path} is no result of this version", remedy="measure again with this version")
    return found


def envelope(
    kind: str, words: Sequence[str], where: Mapping[str, Any], shape: Mapping[str, Any], target: Mapping[str, Any]
) -> dict[str, Any]:
    """What every stored result begins with."""
    return {
        "version": VERSION,
        "kind": kind,
        "command": shlex.join(["sentinelctl", "bench", *kind.split(), *words]),
        "began_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": dict(where),
        "shape": dict(shape),
        "target": dict(target),
    }


def middle(values: Sequence[float]) -> float:
    return round(median(values), 3)
