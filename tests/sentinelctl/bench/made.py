"""Runs and results of known figures."""

from collections.abc import Mapping, Sequence
from typing import Any

from sentinelctl.bench.arrivals import Stage, fixed
from sentinelctl.bench.driver import Ending
from sentinelctl.bench.histogram import Histogram
from sentinelctl.bench.result import Result, envelope
from sentinelctl.bench.run import Run
from sentinelctl.bench.search import Found, Try
from sentinelctl.bench.shape import Shape
from sentinelctl.bench.suite import MEASUREMENTS
from sentinelctl.bench.threshold import parse


def histogram(ms: Sequence[float]) -> Histogram:
    made = Histogram()
    for each in ms:
        made.record(each / 1000)
    return made


def made_run(
    ms: Sequence[float] = (10.0,) * 100,
    *,
    stages: Sequence[Stage] | None = None,
    slip_ms: float = 0.1,
    cpu: float = 0.2,
    extra: Mapping[str, Any] | None = None,
    **endings: int,
) -> Run:
    """One stage, answered as often as there are latencies; `endings`: how often something else."""
    own = tuple(stages or fixed(len(ms) / 10, 10.0))
    counts = {**dict.fromkeys(Ending, 0), Ending.ANSWERED: len(ms), **{Ending(name): n for name, n in endings.items()}}
    return Run(own, (histogram(ms),), (counts,), histogram(ms), histogram([slip_ms] * 100), cpu, extra or {})


ENVIRONMENT: Mapping[str, Any] = {
    "host": "h",
    "system": "Linux 6",
    "cpu": "a CPU",
    "cores": 2,
    "memory_gb": 24.0,
    "python": "3.11.9",
    "sentinel": "0.1.0",
    "revision": "0123456789ab",
    "model": {"name": "small", "version": "0.1.0", "digest": "d" * 64, "engine": "onnx"},
    "load_1m": 0.4,
}
STAGES = {"github": {"p50": 610.0, "p99": 650.0, "max": 660.0}, "own": {"p50": 15.0, "p99": 40.0, "max": 60.0}}
MEMORY = {"at_s": [0.0, 60.0], "mb": {"webhook": [50.0, 55.0]}, "growth_mb_per_h": {"webhook": 1.5}}


def made_result(name: str, **target: Any) -> dict[str, Any]:
    """A document as the suite's measurement of that name would have stored it."""
    (measurement,) = (one for one in MEASUREMENTS if one.name == name)
    kind, *words = measurement.command()
    if kind == "drain":
        figures = {"queued": 1000, "rate": 12.5, "lag_ms": 4.0, "log_mb": 3.0, "memory": MEMORY}
        about = {"repositories": 48, "replicas": {"extractor": 1}}
        return {**envelope(kind, words, ENVIRONMENT, {}, {**about, **target}), "figures": figures, "faults": []}
    if kind == "ratio":
        spread = {"median": 1.41, "min": 1.35, "max": 1.6}
        side = {"requests_per_s": {"median": 9705.0}, "p99_ms": {"median": 12.0}}
        return {**envelope("ratio webhook", words[1:], ENVIRONMENT, {}, {}), "ratio": spread, "receiver": side}
    extra = {"lost": 0, "duplicates": 0, "stages_ms": STAGES, "memory": MEMORY, "mean_batch": 7.5}
    shape = Shape(rate=10, duration_s=10, users=int(words[words.index("--users") + 1]) if "--users" in words else 50)
    about = {"forge_limits": "on", "files": 10, "log": "sqlite", "engine": "onnx", "chunks_per_call": 8.0}
    result = Result(kind, words, ENVIRONMENT, shape, {**about, **target})
    run = made_run([float(each) for each in range(1, 101)], extra=extra)
    if "find-max" in words:
        result.slo = [parse("p99<1s")]
        result.searches = [Found(Try(10.0, run, ()), (Try(10.0, run, ()),), "not p99<1s: it is 1,200 ms")]
    result.runs = [run]
    return result.document()
