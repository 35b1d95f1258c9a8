"""The receiver against a control, in pairs: the same load, server, loop and number of workers for both, in turn."""

import asyncio
import contextlib
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, Literal

from sentinelctl.bench.pushes import Request, signed_pushes
from sentinelctl.bench.ratio.generator import Generator
from sentinelctl.bench.ratio.load import Load, Pair, Spread, side
from sentinelctl.bench.receiver import alone, fsync_p50_ms, own_topics, records, running_receiver
from sentinelctl.errors import SentinelError, UnhealthyError, UsageError
from sentinelctl.lifecycle import Project
from sentinelctl.runtime.process import cpu_and_memory, free_ports
from services.settings import Settings, variable

MAX_P99_MS: Final = 50.0
_CONTROLS: Final = Path(__file__).parent / "controls"
_WARM_UP_S: Final = 1.0
_START_S: Final = 30.0
_CONTROL_TOPIC: Final = "control"


@dataclass(frozen=True, slots=True)
class Control:
    """What the receiver is held against, and how many times its requests per second are asked for."""

    what: str
    module: str
    min_ratio: float


BY_LOG: Final = {
    "sqlite": Control(
        "bare FastAPI handler that checks the HMAC, parses the body and stores nothing", "bare_fastapi", 1.0
    ),
    "kafka": Control(
        "FastAPI handler that checks the HMAC, parses the body and waits in it for one produce to the same broker",
        "blocking_produce",
        3.0,
    ),
}


@dataclass
class Result:
    """fsync_ms: median time until the disk below the log has a page. records: what the log holds afterwards."""

    generator: str
    connections: int
    body_bytes: int
    log: str
    fsync_ms: float
    pairs: list[Pair] = field(default_factory=list)
    warm_up: int = 0
    records: int = 0

    @property
    def against(self) -> Control:
        return BY_LOG[self.log]

    @property
    def ratio(self) -> Spread:
        return Spread.of([pair.ratio for pair in self.pairs])

    @property
    def ours(self) -> list[Load]:
        return [pair.ours for pair in self.pairs]

    @property
    def control(self) -> list[Load]:
        return [pair.control for pair in self.pairs]

    @property
    def acknowledged(self) -> int:
        return self.warm_up + sum(load.answered for load in self.ours)

    def faults(self) -> list[str]:
        """What keeps the result from being good; empty when it is."""
        p99_ms = Spread.of([load.p99_ms for load in self.ours]).median
        found = []
        if self.ratio.median < self.against.min_ratio:
            found.append(f"the ratio is {self.ratio.median:.2f}, below {self.against.min_ratio:g}")
        if p99_ms >= MAX_P99_MS:
            found.append(f"p99 is {p99_ms:.1f} ms, not below {MAX_P99_MS:g}")
        if errors := sum(load.errors for load in self.ours):
            found.append(f"{errors} requests were not acknowledged")
        if self.records < self.acknowledged:
            found.append(f"{self.acknowledged} deliveries were acknowledged and the log holds {self.records}")
        return found

    def document(self) -> dict[str, Any]:
        return {
            "version": 1,
            "generator": self.generator,
            "connections": self.connections,
            "body_bytes": self.body_bytes,
            "log": self.log,
            "fsync_p50_ms": round(self.fsync_ms, 3),
            "cores": os.cpu_count(),
            "server": f"uvicorn {version('uvicorn')}, uvloop, 1 worker",
            "receiver": side(self.ours),
            "control": {"is": self.against.what, **side(self.control)},
            "pairs": [round(pair.ratio, 4) for pair in self.pairs],
            "ratio": self.ratio.document(),
            "acknowledged": self.acknowledged,
            "records_in_log": self.records,
            "faults": self.faults(),
        }


@dataclass(frozen=True, slots=True)
class Server:
    """A process that takes the load."""

    name: str
    pid: int
    port: int


def measure(
    settings: Settings,
    generator: Generator,
    *,
    log: Literal["sqlite", "kafka"],
    connections: int,
    body_bytes: int,
    seconds: float,
    pairs: int,
    tell: Callable[[Server, Load], None],
) -> Result:
    """`tell` is given each run as it ends. Raises SentinelError where the generator was the bottleneck.

    The receiver's log lies in a folder of its own beside the installation's, on the same disk, and is deleted; in the
    Kafka of stream.bootstrap it has topics of its own, which are deleted too.
    """
    secret = secrets.token_hex(32)
    requests = signed_pushes(secret, body_bytes)
    settings.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="bench-", dir=settings.state_dir) as folder:
        project = Project(alone(settings, Path(folder), secret, log))
        result = Result(generator.name, connections, body_bytes, log, fsync_p50_ms(Path(folder)))
        with own_topics(project.settings, {_CONTROL_TOPIC: settings.stream.partitions}):
            with running_receiver(project) as replica, _control(project.settings) as control:
                assert replica.pid is not None
                receiver = Server("receiver", replica.pid, replica.ports["http"])

                def run(server: Server, run_s: float) -> Load:
                    return _run(server, generator, requests, connections, run_s)

                result.warm_up = run(receiver, _WARM_UP_S).answered
                run(control, _WARM_UP_S)
                for number in range(pairs):
                    seen: dict[str, Load] = {}
                    for server in (receiver, control) if number % 2 == 0 else (control, receiver):
                        seen[server.name] = run(server, seconds)
                        tell(server, seen[server.name])
                    result.pairs.append(Pair(seen[receiver.name], seen[control.name]))
            result.records = asyncio.run(records(project.settings))
    return result


def _run(server: Server, generator: Generator, requests: Sequence[Request], connections: int, seconds: float) -> Load:
    before = cpu_and_memory(server.pid)
    load = generator.pour(server.port, requests, secrets.token_hex(4), connections, seconds)
    after = cpu_and_memory(server.pid)
    if before is None or after is None:
        raise UnhealthyError(f"the {server.name} ended under the load", remedy="see whether memory or the disk ran out")
    if not load.answered:
        raise UnhealthyError(
            f"the {server.name} acknowledged nothing: {load.refused} requests refused, {load.broken} connections broken"
        )
    if load.is_saturated:
        raise SentinelError(
            f"no result: the load generator used {load.generator_cpu:.0%} of its one core against the {server.name}, "
            "so it was what set the pace",
            remedy="use --generator wrk, which can do more, or a machine with faster cores",
        )
    return replace(load, server_cpu=(after[0] - before[0]) / load.seconds)


@contextlib.contextmanager
def _control(settings: Settings) -> Iterator[Server]:
    stream = settings.stream
    if stream.kind == "kafka" and stream.security_protocol != "PLAINTEXT":
        raise UsageError(
            f"stream.security_protocol is {stream.security_protocol}, and the control speaks PLAINTEXT only",
            remedy="name a broker without a login for this measurement",
        )
    port = free_ports({"http": "127.0.0.1"}, but=())["http"]
    words = ["--port", str(port), "--loop", "uvloop", "--http", "httptools", "--ws", "none", "--lifespan", "off"]
    words += ["--no-access-log", "--no-server-header", "--no-proxy-headers", "--log-level", "warning"]
    words += ["--app-dir", str(_CONTROLS), f"{BY_LOG[stream.kind].module}:app"]
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "uvicorn", *words],
        env={
            **os.environ,
            variable("webhook", "secret"): settings.webhook.secret.get_secret_value(),
            "BOOTSTRAP": stream.bootstrap,
            "TOPIC": stream.prefix + _CONTROL_TOPIC,
        },
        stderr=subprocess.PIPE,
    )
    try:
        _wait_until_it_listens(process, port)
        yield Server("control", process.pid, port)
    finally:
        process.kill()
        process.communicate()


def _wait_until_it_listens(process: "subprocess.Popen[bytes]", port: int) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        if process.poll() is not None:
            assert process.stderr is not None
            said = process.stderr.read().decode(errors="replace").strip()
            raise UnhealthyError(f"the control ended with code {process.returncode}: {said or 'it said nothing'}")
        time.sleep(0.05)
    raise UnhealthyError(f"the control does not listen on port {port} after {_START_S:g} s")
