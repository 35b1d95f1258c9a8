"""The processes that make load: wrk where it is installed, else our own (sockets.py). Both say the same things."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, Literal

from sentinelctl.bench.pushes import Request
from sentinelctl.bench.ratio.load import Load
from sentinelctl.errors import PreflightError, SentinelError

Kind = Literal["auto", "wrk", "sockets"]

# wrk sends what request() returns, byte for byte.
_SCRIPT: Final = """
local heads, tails = {%s}, {%s}
local sent = 0
function request()
  sent = sent + 1
  local at = sent %% #heads + 1
  return heads[at] .. %s .. sent .. tails[at]
end
function done(summary, latency)
  local errors = summary.errors
  local broken = errors.connect + errors.read + errors.write + errors.timeout
  local form = '\\n{"microseconds": %%d, "requests": %%d, "refused": %%d, "broken": %%d, "p50": %%f, "p99": %%f}\\n'
  io.write(string.format(form, summary.duration, summary.requests, errors.status, broken,
    latency:percentile(50), latency:percentile(99)))
end
"""


@dataclass(frozen=True, slots=True)
class Generator:
    """`pour(port, requests, name, connections, seconds)`: one run with one thread; `name` begins every delivery id."""

    name: str
    pour: Callable[[int, Sequence[Request], str, int, float], Load]


def find(kind: Kind) -> Generator:
    """Raises PreflightError where wrk was asked for and is not installed."""
    wrk = shutil.which("wrk")
    if kind == "sockets" or (kind == "auto" and wrk is None):
        return Generator("raw keep-alive sockets of our own", _sockets)
    if wrk is None:
        raise PreflightError("wrk is not installed", remedy="apt-get install wrk, or use another --generator")
    said = subprocess.run([wrk, "-v"], capture_output=True, text=True, check=False).stdout.split()
    return Generator(" ".join(said[:2]), _wrk)  # its name and version


def _sockets(port: int, requests: Sequence[Request], name: str, connections: int, seconds: float) -> Load:
    job = {"port": port, "requests": requests, "name": name, "connections": connections, "seconds": seconds}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "sentinelctl.bench.ratio.sockets"],
        input=json.dumps(job),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["it said nothing"]
        raise SentinelError(f"the load generator failed: {said[-1]}")
    return Load(**json.loads(done.stdout))


def _wrk(port: int, requests: Sequence[Request], name: str, connections: int, seconds: float) -> Load:
    heads, tails = (", ".join(json.dumps(part) for part in parts) for parts in zip(*requests, strict=True))
    with TemporaryDirectory(prefix="sentinel-bench-") as folder:
        script = Path(folder) / "pushes.lua"
        script.write_text(_SCRIPT % (heads, tails, json.dumps(f"{name}-")), encoding="ascii")
        url = f"http://127.0.0.1:{port}/webhook"
        words = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "-s", str(script), url]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert process.stdout is not None
        began, said = time.perf_counter(), process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        elapsed_s = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
    try:
        seen: dict[str, Any] = json.loads(said.strip().splitlines()[-1])
    except (IndexError, ValueError) as exc:
        raise SentinelError(f"wrk failed: {said.strip() or 'it said nothing'}") from exc
    return Load(
        seconds=seen["microseconds"] / 1e6,
        answered=seen["requests"] - seen["refused"],
        refused=seen["refused"],
        broken=seen["broken"],
        p50_ms=seen["p50"] / 1000,
        p99_ms=seen["p99"] / 1000,
        generator_cpu=(usage.ru_utime + usage.ru_stime) / elapsed_s,
    )
