"""One run of the load and what it saw: figures, and whether they may be believed."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from tempfile import TemporaryFile
from typing import Any, Final

from sentinelctl.bench.arrivals import Spacing, Stage
from sentinelctl.bench.driver import Ending
from sentinelctl.bench.histogram import Histogram
from sentinelctl.bench.shape import Shape
from sentinelctl.errors import SentinelError, UnhealthyError

SATURATED_CPU: Final = 0.95
"""Share of its one core at which the generator measures itself rather than the target."""
SLIP_MS: Final = 5.0
"""Slip that is forgiven however short the latencies are: the timers of a shared machine."""

Tell = Callable[[float, float], None]
"""Told the seconds that went by, and those that there will be about."""


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker is told; `target` are its own words: where, and which requests."""

    stages: tuple[Stage, ...]
    users: int
    seed: int
    target: Mapping[str, Any]
    warm_up_s: float = 2.0
    spacing: Spacing = "even"
    timeout_s: float = 10.0
    is_told: bool = False
    """Whether each arrival's time and end come back."""

    @classmethod
    def of(cls, stages: Sequence[Stage], shape: Shape, target: Mapping[str, Any], *, is_told: bool = False) -> "Job":
        own = (shape.warm_up_s, shape.spacing, shape.timeout_s)
        return cls(tuple(stages), shape.users, shape.seed, target, *own, is_told)

    @property
    def seconds(self) -> float:
        """Those that count."""
        return sum(stage.seconds for stage in self.stages)


@dataclass(frozen=True)
class Run:
    """`latency` counts from an arrival's time, `service` from the moment of sending, `slip` between the two.

    cpu: the generator's, of one core. extra: what a target adds, such as its stages. faults: what is wrong beside that.
    """

    stages: tuple[Stage, ...]
    latency: tuple[Histogram, ...]
    counts: tuple[Mapping[str, int], ...]
    service: Histogram
    slip: Histogram
    cpu: float
    extra: Mapping[str, Any] = field(default_factory=dict)
    own_faults: tuple[str, ...] = ()

    @cached_property
    def whole(self) -> Histogram:
        return Histogram().add(self.latency)

    def with_more(self, extra: Mapping[str, Any], faults: Sequence[str]) -> "Run":
        return replace(self, extra={**self.extra, **extra}, own_faults=(*self.own_faults, *faults))

    def count(self, *endings: Ending) -> int:
        return sum(counts[ending] for counts in self.counts for ending in endings or tuple(Ending))

    @property
    def errors(self) -> int:
        return self.count(Ending.REFUSED, Ending.BROKEN, Ending.TIMED_OUT)

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.count(Ending.ANSWERED) / sum(stage.seconds for stage in self.stages)

    @cached_property
    def saturated_by(self) -> str:
        """Why these figures are the generator's rather than the target's; empty where they are not."""
        if self.cpu >= SATURATED_CPU:
            return f"the generator used {self.cpu:.0%} of its one core"
        slip_ms, p99_ms = self.slip.ms(99), self.figures["latency_ms"]["p99"]
        if slip_ms > max(SLIP_MS, p99_ms / 2):
            return f"the generator was {slip_ms:.1f} ms behind its schedule (p99), beside a p99 of {p99_ms:.1f} ms"
        return ""

    def faults(self) -> list[str]:
        """What keeps it from being a result; empty where nothing does."""
        named = [(self.count(Ending.DROPPED), "were dropped: no user was free for them in time")]
        named += [(self.count(one), f"were {one.replace('_', ' ')}") for one in _FAULTS]
        found = [f"{count} of {self.count()} arrivals {what}" for count, what in named if count]
        if not self.count(Ending.ANSWERED):
            found.append("nothing was answered")
        return [*found, *([f"saturated: {self.saturated_by}"] if self.saturated_by else []), *self.own_faults]

    @cached_property
    def figures(self) -> Mapping[str, Any]:
        return {
            "sent": self.count() - self.count(Ending.DROPPED),
            **{ending.value: self.count(ending) for ending in Ending},
            "errors": self.errors,
            **{name: self.extra[name] for name in ("lost", "duplicates") if name in self.extra},
            "rate": round(self.rate, 3),
            "latency_ms": self.whole.document(),
            "service_ms": self.service.document(),
        }

    def document(self) -> dict[str, Any]:
        return {
            **self.figures,
            "segments": [
                {
                    "rate": round(stage.rate, 3),
                    "seconds": stage.seconds,
                    **counts,
                    "achieved": round(counts[Ending.ANSWERED] / stage.seconds, 3),
                    "latency_ms": histogram.document(),
                }
                for stage, counts, histogram in zip(self.stages, self.counts, self.latency, strict=True)
            ],
            "generator": {
                "cpu": round(self.cpu, 3),
                "slip_p99_ms": round(self.slip.ms(99), 3),
                "slip_max_ms": round(self.slip.max_ms, 3),
                "saturated_by": self.saturated_by,
            },
            "histogram": self.whole.encode(),
            **self.extra,
            "faults": self.faults(),
        }


_FAULTS: Final = (Ending.REFUSED, Ending.BROKEN, Ending.TIMED_OUT)


def make_load(job: Job, tell: Tell) -> dict[str, Any]:
    """What the worker saw. Raises UnhealthyError where nobody takes the load, SentinelError where the worker failed."""
    words = asdict(job)
    words |= words.pop("target")
    with TemporaryFile("w+") as told:  # a pipe would have to be filled while we look at the clock
        json.dump(words, told)
        told.seek(0)
        worker = subprocess.Popen(
            [sys.executable, "-P", "-m", "sentinelctl.bench.worker"],
            stdin=told,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    began, total_s = time.monotonic(), job.seconds + job.warm_up_s
    try:
        while True:
            try:
                said, complaints = worker.communicate(timeout=0.5)
                break
            except subprocess.TimeoutExpired:
                tell(min(total_s, time.monotonic() - began), total_s)
    finally:
        worker.kill()
        worker.wait()
    tell(total_s, total_s)
    if worker.returncode:
        last = (complaints.strip().splitlines() or ["it said nothing"])[-1]
        if last.startswith("nobody takes the load"):
            raise UnhealthyError(last)
        raise SentinelError(f"the load generator failed: {last}")
    seen: dict[str, Any] = json.loads(said)
    return seen


def run_of(job: Job, seen: Mapping[str, Any]) -> Run:
    return Run(
        job.stages,
        tuple(map(Histogram, seen["latency"])),
        tuple(seen["counts"]),
        Histogram(seen["service"]),
        Histogram(seen["slip"]),
        seen["cpu"],
    )
