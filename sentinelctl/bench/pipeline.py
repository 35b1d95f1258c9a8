"""Webhook in, review visible: the whole pipeline under an open loop, from a delivery's time to its review."""

import secrets
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

from sentinelctl.bench.arrivals import Stage, schedule, stage_of
from sentinelctl.bench.changes import Change
from sentinelctl.bench.driver import Ending
from sentinelctl.bench.histogram import Histogram
from sentinelctl.bench.memory import watched
from sentinelctl.bench.run import Job, Run, Tell, make_load, run_of
from sentinelctl.bench.shape import Shape
from sentinelctl.bench.stack import Layout, Stack, own_stack
from sentinelctl.bench.worker import endings_of
from sentinelctl.demo.run import read_log
from sentinelctl.fakehub.hub import FakeHub
from sentinelctl.ledger import Unit
from sentinelctl.state import Replica
from services.settings import Settings

_LOOK_EVERY_S: Final = 0.25
_REPEAT_S: Final = 0.5
"""Waited at the end: a repeated review would show."""


@dataclass
class Pipeline:
    """A running stack. wait_s: for the last review, after the last delivery."""

    stack: Stack
    replicas: Sequence[Replica]
    wait_s: float
    about: Mapping[str, Any]

    def offer(self, stages: Sequence[Stage], shape: Shape, tell: Tell) -> Run:
        at_s = schedule(stages, warm_up_s=shape.warm_up_s, spacing=shape.spacing, seed=shape.seed)
        changes = self.stack.changes.take(len(at_s))
        name = secrets.token_hex(4)
        port = next(one for one in self.replicas if one.service == "webhook").ports["http"]
        requests = [change.request for change in changes]
        where = {"target": "webhook", "host": "127.0.0.1", "port": port, "requests": requests, "name": name}
        job = Job.of(stages, shape, where, is_told=True)
        with watched(self.replicas, job.seconds) as memory:
            seen = make_load(job, tell)
            taken = [ending is Ending.ANSWERED for ending in endings_of(seen["endings"])]
            self._await({change.unit for change, is_taken in zip(changes, taken, strict=True) if is_taken})
        shown = visible(self.stack.hub)
        index = stage_of(stages, at_s)
        latency = [Histogram() for _ in stages]
        lost = duplicates = 0
        for number, change in enumerate(changes):
            if index[number] < 0 or not taken[number]:
                continue
            times = shown.get(change.unit, [])
            lost += not times
            duplicates += max(0, len(times) - 1)
            if times:
                due_ns = seen["begins_at_ns"] + at_s[number] * 1e9
                latency[index[number]].record((min(times) - due_ns) / 1e9)
        run = run_of(job, seen)
        extra = {
            "lost": lost,
            "duplicates": duplicates,
            "acknowledged_ms": run.whole.document(),
            **self._logged(name, index.tolist(), changes),
            "memory": memory.document(),
        }
        faults = [f"{lost} acknowledged deliveries had no review after {self.wait_s:g} s"] if lost else []
        faults += [f"{duplicates} reviews were posted twice"] if duplicates else []
        return replace(run, latency=tuple(latency)).with_more(extra, faults)

    def _await(self, units: set[Unit]) -> None:
        deadline = time.monotonic() + self.wait_s
        while time.monotonic() < deadline and not units <= visible(self.stack.hub).keys():
            time.sleep(_LOOK_EVERY_S)
        time.sleep(_REPEAT_S)

    def _logged(self, name: str, index: Sequence[int], changes: Sequence[Change]) -> dict[str, Any]:
        """What the services' own log lines say of the deliveries that count."""
        counted = {f"{name}-{number}" for number in range(len(changes)) if index[number] >= 0}
        stages: dict[str, Histogram] = {}
        outcomes: Counter[str] = Counter()
        for line in read_log(self.stack.project):
            if line.get("delivery_id") not in counted:
                continue
            if "outcome" in line:
                outcomes[line["outcome"]] += 1
            if line.get("event") == "review.published":
                for stage, seconds in line["stages"].items():
                    stages.setdefault(stage.removesuffix("_s"), Histogram()).record(max(0.0, seconds))
        return {
            "outcomes": dict(outcomes),
            "stages_ms": {stage: histogram.document() for stage, histogram in stages.items()},
        }


def visible(hub: FakeHub) -> dict[Unit, list[int]]:
    """Unix nanoseconds at which each unit's reviews became visible."""
    found: dict[Unit, list[int]] = {}
    for one in hub.visible():
        unit = Unit(one["repository"]["id"], one["pull_number"], one["commit_id"])
        found.setdefault(unit, []).append(one["visible_at_ns"])
    return found


@contextmanager
def own_pipeline(settings: Settings, layout: Layout, *, wait_s: float) -> Iterator[Pipeline]:
    with own_stack(settings, layout) as stack:
        replicas = stack.project.bring_up().replicas
        yield Pipeline(stack, replicas, wait_s, layout.document())
