"""Everything that BENCHMARK.md shows, as data: which command gives which stored result, and what that needs."""

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Literal

from sentinelctl.bench.result import VERSION

Need = Literal["", "kafka", "torch"]
LEAST_S: Final = 1.0
_LEAST_ARRIVALS: Final = 2
"""Of a shortened load."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """name: of the stored result. words: after `sentinelctl bench`; duration_s: its --duration, None for none."""

    name: str
    words: str
    duration_s: float | None = None
    needs: Need = ""
    about_s: float = 60.0
    """Roughly how long all of it takes, for people who wait."""

    def command(self, scale: float = 1.0) -> list[str]:
        """`scale` shortens a trial; what it gives is worth nothing."""
        words = shlex.split(self.words)
        if self.duration_s is None:
            return words
        rate = float(words[words.index("--rate") + 1]) if "--rate" in words else 1.0
        least_s = min(self.duration_s, max(LEAST_S, _LEAST_ARRIVALS / rate))
        return [*words, "--duration", f"{max(least_s, self.duration_s * scale):g}"]


def _inference() -> list[Measurement]:
    return [
        Measurement(
            f"inference-{engine}-{chunks}",
            f"inference --engine {engine} --chunks {chunks} --profile find-max --rate {rate}",
            8,
            "torch" if engine == "torchscript" else "",
            180,
        )
        for engine in ("onnx", "torchscript")
        for chunks, rate in ((1, 20), (8, 5), (32, 1))
    ]


def _growth() -> list[Measurement]:
    files = ((10, 0.2, 15), (100, 0.2, 15), (1000, 0.04, 75), (3000, 0.02, 150))
    return [
        *(Measurement(f"drain-repositories-{n}", f"drain --repositories {n}", 20, about_s=45) for n in (1, 12, 48)),
        *(Measurement(f"drain-replicas-{n}", f"drain --replicas extractor={n}", 20, about_s=50) for n in (1, 2, 4, 8)),
        *(Measurement(f"drain-queued-{n}", f"drain --queued {n}", 30, about_s=60) for n in (1_000, 10_000, 100_000)),
        *(
            Measurement(
                f"pipeline-files-{n}",
                f"pipeline --pulls --files {n} --rate {rate} --warm-up 0",
                seconds,
                about_s=seconds + 40,
            )
            for n, rate, seconds in files
        ),
    ]


MEASUREMENTS: Final = (
    Measurement("webhook-5-users", "webhook --users 5 --rate 15", 60, about_s=70),
    Measurement("webhook-50-users", "webhook --users 50 --rate 150", 60, about_s=70),
    Measurement("webhook-steps", "webhook --profile step --rate 5000", 50, about_s=60),
    Measurement("webhook-max", "webhook --profile find-max --rate 500", 8, about_s=180),
    Measurement("webhook-max-kafka", "webhook --log kafka --profile find-max --rate 500", 8, "kafka", 180),
    *_inference(),
    Measurement("pipeline-limits-on", "pipeline", 60, about_s=85),
    Measurement("pipeline-limits-off", "pipeline --no-limits", 60, about_s=85),
    Measurement("pipeline-limits-off-5", "pipeline --no-limits --rate 5", 60, about_s=85),
    Measurement("pipeline-max", "pipeline --no-limits --profile find-max --rate 5", 10, about_s=400),
    Measurement(
        "pipeline-max-scaled",
        "pipeline --no-limits --profile find-max --rate 10 --replicas extractor=4 --replicas publisher=2",
        10,
        about_s=250,
    ),
    Measurement("pipeline-max-kafka", "pipeline --no-limits --log kafka --profile find-max --rate 5", 10, "kafka", 400),
    *_growth(),
    Measurement("pipeline-soak", "pipeline --no-limits --rate 5 --warm-up 30 --repositories 96", 600, about_s=660),
    Measurement("ratio-webhook", "ratio webhook", about_s=75),
    Measurement("ratio-webhook-1600", "ratio webhook --body-bytes 1600", about_s=75),
    Measurement("ratio-webhook-kafka", "ratio webhook --log kafka", needs="kafka", about_s=90),
    Measurement("ratio-inference", "ratio inference", about_s=75),
    Measurement("ratio-detour", "ratio detour", about_s=30),
)


def lacks(measurement: Measurement, kafka: str) -> str:
    """Why it cannot be measured here; empty where it can. `kafka`: the broker's address, if there is one."""
    if measurement.needs == "kafka" and not kafka:
        return "no Kafka was given (--kafka HOST:PORT)"
    if measurement.needs == "torch" and find_spec("torch") is None:
        return "torch is not installed ([train])"
    return ""


def run_all(
    chosen: Sequence[Measurement],
    out: Path,
    *,
    kafka: str,
    scale: float,
    globals_: Sequence[str],
    tell: Callable[[Measurement, str, float], None],
) -> bool:
    """Each command in turn, its document in `out`; True where none failed. `tell` is given what came of each.

    What cannot be measured leaves a document that says why, so that the report can.
    """
    out.mkdir(parents=True, exist_ok=True)
    environ = {**os.environ, **({"SENTINEL_STREAM_BOOTSTRAP": kafka} if kafka else {})}
    is_whole = True
    for one in chosen:
        path, began = out / f"{one.name}.json", time.monotonic()
        path.unlink(missing_ok=True)
        why = lacks(one, kafka)
        if not why:
            words = [*one.command(scale), "--out", str(path)]
            done = subprocess.run(
                [sys.executable, "-m", "sentinelctl", *globals_, "--json", "bench", *words],
                env=environ,
                capture_output=True,
                text=True,
                check=False,
            )
            why = "" if path.exists() else _said(done.stdout, done.stderr)
            is_whole = is_whole and not why
        if why:
            command = shlex.join(["sentinelctl", "bench", *one.command()])
            missing = {"version": VERSION, "kind": "missing", "command": command, "why": why}
            path.write_text(json.dumps(missing, indent=1) + "\n", encoding="utf-8")
        found: dict[str, Any] = json.loads(path.read_bytes())
        tell(one, why or "; ".join(found.get("faults", [])), time.monotonic() - began)
    return is_whole


def _said(out: str, err: str) -> str:
    """Why a command failed, in its own words."""
    try:
        return str(json.loads(out)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return (err.strip().splitlines() or ["it said nothing"])[-1]
