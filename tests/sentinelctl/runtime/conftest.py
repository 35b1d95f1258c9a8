"""A small service and a runtime in a temporary folder, of which nothing runs after the test."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sentinelctl.plan import plan, plan_down
from sentinelctl.readiness import wait_ready
from sentinelctl.runtime.embedded import EmbeddedRuntime
from sentinelctl.runtime.process import free_ports, is_same
from sentinelctl.state import ObservedState, Port, Probe, Replica, ServiceSpec

SERVICE = """
import json, os, signal, sys, time
from http.server import BaseHTTPRequestHandler, HTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({k: v for k, v in os.environ.items() if k.startswith("SENTINEL_")}).encode())
    def log_message(self, *args): pass
def end(*_):
    if os.environ.get("SENTINEL_STUBBORN"): return
    sys.stderr.write(json.dumps({"event": "fake.stopped", "ts": time.time()}) + "\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
sys.stderr.write(json.dumps({"event": "fake.started", "ts": time.time()}) + "\\n")
HTTPServer(("127.0.0.1", int(os.environ["SENTINEL_FAKE_PORT"])), Handler).serve_forever()
"""


def fake(name: str = "fake", *, replicas: int = 1, port: int = 0, grace_s: float = 15.0, **env: str) -> ServiceSpec:
    return ServiceSpec(
        name=name,
        command=(sys.executable, "-S", "-c", SERVICE),
        env=env,
        secrets={"SENTINEL_TOKEN": "hunter2"},
        digests={"SENTINEL_TOKEN": "digest"},
        ports=(Port("http", "SENTINEL_FAKE_PORT", port),),
        probe=Probe("http"),
        publishes="http",
        replicas=replicas,
        grace_s=grace_s,
    )


def eventually(holds: Callable[[], bool], *, within_s: float = 30.0) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.02)


class Bench(EmbeddedRuntime):
    """The runtime, and a note of every process it ever showed."""

    def __init__(self, state_dir: Path) -> None:
        super().__init__(state_dir)
        self.seen: set[tuple[int, str]] = set()

    def observe(self) -> ObservedState:
        observed = super().observe()
        self.seen |= {(one.pid, one.started) for one in observed.replicas if one.pid is not None}
        return observed

    def converge(self, *desired: ServiceSpec) -> list[str]:
        found = plan(desired, self.observe())
        self.check(found)
        for operation in found.operations:
            self.apply(operation)
        wait_ready(self, [f"{one.name}-{index}" for one in desired for index in range(1, one.replicas + 1)], 60)
        return [f"{one.kind} {one.replica}" for one in found.operations]

    def replica(self, name: str) -> Replica:
        return next(one for one in self.observe().replicas if one.name == name)

    def alive(self) -> set[int]:
        return {pid for pid, started in self.seen if is_same(pid, started)}

    def kill_supervisor(self) -> None:
        pid = self.observe().supervisor_pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: self.observe().supervisor_pid is None)

    def clear(self) -> None:
        for operation in plan_down([], self.observe()).operations:
            self.apply(operation)


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path / "state")
    try:
        yield bench
    finally:
        bench.clear()
        left = bench.alive()
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        assert not left
        assert bench.observe().supervisor_pid is None


@pytest.fixture
def free_port() -> int:
    return free_ports({"http": "127.0.0.1"}, but=[])["http"]
