"""The receiver under an open loop of signed pushes; each acknowledged one has to be in the log."""

import asyncio
import ipaddress
import random
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal
from urllib.parse import urlsplit

from sentinelctl.bench.arrivals import Stage
from sentinelctl.bench.driver import Ending
from sentinelctl.bench.pushes import signed_pushes
from sentinelctl.bench.receiver import alone, fsync_p50_ms, own_topics, records, running_receiver
from sentinelctl.bench.run import Job, Run, Tell, make_load, run_of
from sentinelctl.bench.shape import Shape
from sentinelctl.errors import UsageError
from sentinelctl.lifecycle import Project
from services.settings import Settings


@dataclass
class Receiver:
    """A receiver that takes load. `stored` counts the events in its log, where that is ours to look at."""

    host: str
    port: int
    secret: str
    body_bytes: int
    about: Mapping[str, Any]
    stored: Callable[[], int] | None = None

    def offer(self, stages: Sequence[Stage], shape: Shape, tell: Tell) -> Run:
        requests = signed_pushes(self.secret, self.body_bytes)
        random.Random(shape.seed).shuffle(requests)  # noqa: S311 - an order, not a secret
        where = {"target": "webhook", "host": self.host, "port": self.port}
        job = Job.of(stages, shape, {**where, "requests": requests, "name": secrets.token_hex(4)})
        before = self.stored() if self.stored else 0
        run = run_of(job, make_load(job, tell))
        if self.stored is None:
            return run
        stored, acknowledged = self.stored() - before, run.count(Ending.ANSWERED)
        lost = max(0, acknowledged - stored)
        faults = (f"{acknowledged} deliveries were acknowledged and the log has {stored} more",) if lost else ()
        return run.with_more({"events_in_log": stored, "lost": lost}, faults)


@contextmanager
def own_receiver(settings: Settings, *, log: Literal["sqlite", "kafka"], body_bytes: int) -> Iterator[Receiver]:
    """One that is started for this, over a log that is deleted afterwards."""
    secret = secrets.token_hex(32)
    settings.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="bench-", dir=settings.state_dir) as folder:
        project = Project(alone(settings, Path(folder), secret, log))
        about = {"log": log, "body_bytes": body_bytes, "fsync_p50_ms": round(fsync_p50_ms(Path(folder)), 3)}

        def stored() -> int:
            return asyncio.run(records(project.settings))

        with own_topics(project.settings), running_receiver(project) as replica:
            yield Receiver("127.0.0.1", replica.ports["http"], secret, body_bytes, about, stored)


def receiver_at(url: str, settings: Settings, *, body_bytes: int, is_known: bool) -> Receiver:
    """One that the bench did not start. Raises UsageError unless its operator says that load may go there."""
    parts = urlsplit(url)
    try:
        port = parts.port or 80
    except ValueError:
        port = 0
    if parts.scheme != "http" or not parts.hostname or not port:
        raise UsageError(f"--at is {url!r}, no address of a receiver", remedy="give http://HOST:PORT")
    if not is_known:
        where = "" if _is_loopback(parts.hostname) else ", and on another machine"
        raise UsageError(
            f"the receiver at {url} is none that this command started{where}: its log would get every push as a real "
            "one, and whatever stands behind it would act on them",
            remedy="leave --at out; or add --i-know where that does no harm",
        )
    secret = settings.webhook.secret.get_secret_value()
    if not secret:
        raise UsageError("no webhook secret is set to sign with", remedy="export SENTINEL_WEBHOOK_SECRET=…")
    return Receiver(parts.hostname, port, secret, body_bytes, {"at": url, "body_bytes": body_bytes})


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
