"""How fast a backlog is worked off: events that wait in the log before the first worker starts."""

import asyncio
import time
import uuid
from dataclasses import dataclass
from itertools import islice, product
from typing import Any, Final

from sentinel.v1.events_pb2 import Event, PushEvent, Repository

from sentinelctl.bench.memory import watched
from sentinelctl.bench.run import Tell
from sentinelctl.bench.stack import Layout, Stack, own_stack
from sentinelctl.demo.history import Push
from sentinelctl.errors import UnhealthyError, UsageError
from sentinelctl.fakehub.hub import Repository as Served
from services import codec
from services.claims import open_claims
from services.contract import Group, Header, Topic
from services.settings import Settings
from services.stream import open_admin, open_producer
from services.stream.types import NewRecord

_AT_ONCE: Final = 1000
_LOOK_EVERY_S: Final = 0.25
_FIRST_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class Drained:
    """append_s: to put them into the log. lag_ms: to ask the log for its lag with all of them in it.

    reviews, seconds: of the window in which reviews came; is_empty: the last one is among them. first_s: from the start
    of the workers to the first review.
    """

    queued: int
    append_s: float
    lag_ms: float
    log_mb: float
    first_s: float
    reviews: int
    seconds: float
    is_empty: bool
    duplicates: int
    memory: dict[str, Any]

    @property
    def rate(self) -> float:
        return self.reviews / self.seconds

    def document(self) -> dict[str, Any]:
        named = {name: getattr(self, name) for name in self.__slots__}
        rounded = {name: round(value, 3) if isinstance(value, float) else value for name, value in named.items()}
        return {"rate": round(self.rate, 3), **rounded, "faults": self.faults()}

    def faults(self) -> list[str]:
        return [f"{self.duplicates} reviews were posted twice"] if self.duplicates else []


def drain(settings: Settings, layout: Layout, *, queued: int, seconds: float, tell: Tell) -> Drained:
    """Until nothing is left, or that many seconds after the first review. Raises UnhealthyError where none comes."""
    with own_stack(settings, layout) as stack:
        project = stack.project
        if len(stack.pushes) * len(stack.hub.repositories) < queued:
            raise UsageError(
                f"{len(stack.pushes)} commits over {len(stack.hub.repositories)} repositories are no {queued} events",
                remedy="more --repositories, or a repository with a longer history",
            )
        project.prepare()
        asyncio.run(_begin_claims(project.settings))
        began = time.perf_counter()
        asyncio.run(_append(stack, queued))
        append_s, began = time.perf_counter() - began, time.perf_counter()
        waiting = asyncio.run(_lag(project.settings))
        lag_ms = (time.perf_counter() - began) * 1000
        assert waiting == queued, (waiting, queued)
        log = project.settings.stream_path
        log_mb = sum(path.stat().st_size for path in log.parent.glob(f"{log.name}*")) / 1e6 if log.exists() else 0.0
        started = time.monotonic()
        replicas = project.bring_up().replicas
        first_s, at_first = _first(stack, started)
        with watched(replicas, seconds) as memory:
            began = time.monotonic()
            while (elapsed_s := time.monotonic() - began) < seconds and len(stack.hub.visible()) < queued:
                tell(elapsed_s, seconds)
                time.sleep(_LOOK_EVERY_S)
            elapsed_s = time.monotonic() - began
            shown = stack.hub.visible()
        units = {(one["repository"]["id"], one["commit_id"]) for one in shown}
        return Drained(
            queued,
            append_s,
            lag_ms,
            log_mb,
            first_s,
            len(shown) - at_first,
            elapsed_s,
            len(units) >= queued,
            len(shown) - len(units),
            memory.document(),
        )


def _first(stack: Stack, started: float) -> tuple[float, int]:
    """(seconds until the first review, how many there are then)."""
    while time.monotonic() - started < _FIRST_S:
        if found := len(stack.hub.visible()):
            return time.monotonic() - started, found
        time.sleep(_LOOK_EVERY_S / 10)
    raise UnhealthyError(
        f"no review came within {_FIRST_S:g} s",
        remedy="`sentinelctl doctor`; or the machine is too busy to time anything",
    )


async def _begin_claims(settings: Settings) -> None:
    """Before the events: a store that is younger than they are makes the publisher wait, and look twice."""
    claims = open_claims(settings)
    try:
        await claims.known_since()
    finally:
        await claims.close()


async def _append(stack: Stack, queued: int) -> None:
    settings = stack.project.settings
    producer = open_producer(settings.stream, settings.stream_path)
    events = (_event(push, one) for push, one in product(stack.pushes, stack.hub.repositories))
    left = islice(events, queued)
    try:
        while some := list(islice(left, _AT_ONCE)):
            await producer.append(some)
    finally:
        await producer.close()


def _event(push: Push, repository: Served) -> NewRecord:
    """As the receiver appends it."""
    delivery_id = str(uuid.uuid4())
    event = Event(
        delivery_id=delivery_id,
        received_at_ns=time.time_ns(),
        repository=Repository(
            id=repository.id, full_name=repository.full_name, default_branch=repository.git.default_branch
        ),
        push=PushEvent(ref=f"refs/heads/{repository.git.default_branch}", before=push.before, after=push.after),
    )
    headers = {Header.DELIVERY_ID: delivery_id.encode()}
    return NewRecord(Topic.PUSH_EVENTS, str(repository.id).encode(), codec.encode(event), headers)


async def _lag(settings: Settings) -> int:
    admin = open_admin(settings.stream, settings.stream_path)
    try:
        return sum(one.records for one in await admin.lag(Group.EXTRACTOR, Topic.PUSH_EVENTS))
    finally:
        await admin.close()
