"""The replicas that there are, what they say of themselves, and how another number of them is asked for."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urljoin

import httpx2

from services import counts
from services.autoscaler.policy import CRASH_LOOP

_QUEUE: Final = "sentinel_inference_queue_seconds"


@dataclass(frozen=True, slots=True)
class Replica:
    """One that runs, or is about to be started again. `probe`: the URL that answers 200 when it is ready."""

    name: str
    probe: str
    looping: str = ""
    """How it ends soon after each of its starts; empty when it does not."""


class Counts:
    """What is asked for, as files of the state folder.

    configured: what the settings ask for, by service; a count holds only as long as they do.
    """

    def __init__(self, state_dir: Path, configured: Mapping[str, int]) -> None:
        self._dir = state_dir
        self._configured = dict(configured)

    def wanted(self, service: str) -> int:
        """The count in force: what was asked for last, else what the settings ask for."""
        return self.asked().get(service, self._configured[service])

    def asked(self) -> dict[str, int]:
        """Counts of the autoscaler that hold, an operator's left out of account."""
        return self._read(counts.AUTOSCALER)

    def by_hand(self, service: str) -> str:
        """Who took over, in words; empty: nobody."""
        count = self._read(counts.OPERATOR).get(service)
        if count is None:
            return ""
        return f"{count} by hand; `sentinelctl autoscaler resume {service}` ends that"

    def ask(self, service: str, replicas: int) -> None:
        """Raises OSError when it cannot be written down."""
        asked = {**self.asked(), service: replicas}
        counts.write_counts(self._dir / counts.AUTOSCALER, asked, self._configured)

    def _read(self, name: str) -> dict[str, int]:
        return counts.read_counts(self._dir / name, self._configured)


class Actor(Protocol):
    """Where replicas run: what is there, and a life of its own that leads to the counts asked for."""

    async def replicas(self, service: str) -> Sequence[Replica]:
        """Without those that drain. Raises Unseen when nobody can say."""

    async def act(self) -> None:
        """One look at what differs from the counts asked for, and the steps towards them; never an operator's."""

    async def close(self) -> None:
        """After the steps that were begun."""


class Unseen(Exception):
    """It is not known which replicas there are; the message says why."""


class EmbeddedActor:
    """Reads what the supervisor writes into the state folder; that one acts on the counts by itself."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / counts.STATE

    async def replicas(self, service: str) -> Sequence[Replica]:
        try:
            document: dict[str, Any] = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return ()
        return [
            Replica(name, one["probe"], looping(name, one["failures"], one["last_exit"]))
            for one in document["replicas"]
            if one["service"] == service and one["status"] != "draining"
            for name in [f"{service}-{one['index']}"]
        ]

    async def act(self) -> None:
        """The supervisor does."""

    async def close(self) -> None: ...


def looping(name: str, failures: int, last_exit: str) -> str:
    return f"{name} ended {failures} times soon after its start ({last_exit})" * (failures >= CRASH_LOOP)


@dataclass(slots=True)
class Pages:
    """What replicas answer over HTTP: who is ready, and how long chunks waited since the look before."""

    client: httpx2.AsyncClient
    _queues: dict[str, tuple[float, float]] = field(default_factory=dict)
    """By replica: seconds waited and chunks, of all time."""

    async def ready(self, replicas: Sequence[Replica]) -> int:
        answers = await asyncio.gather(*(self._get(one.probe) for one in replicas))
        return sum(answer is not None for answer in answers)

    async def queue_wait_s(self, replicas: Sequence[Replica]) -> float | None:
        """Mean over all of them; None when none could be compared with the look before."""
        texts = await asyncio.gather(*(self._get(urljoin(one.probe, "/metrics")) for one in replicas))
        found = {one.name: _queue(text) for one, text in zip(replicas, texts, strict=True) if text is not None}
        before, self._queues = self._queues, found
        both = [(before[name], queue) for name, queue in found.items() if name in before]
        # a replica that was started anew counts from 0 again
        new = [(now[0] - was[0], now[1] - was[1]) if now[1] >= was[1] else now for was, now in both]
        chunks = sum(count for _, count in new)
        if not new:
            return None
        return sum(waited for waited, _ in new) / chunks if chunks else 0.0

    async def _get(self, url: str) -> str | None:
        try:
            answer = await self.client.get(url)
        except httpx2.HTTPError:
            return None
        return answer.text if answer.status_code == httpx2.codes.OK else None


def _queue(page: str) -> tuple[float, float]:
    values = {name: value for name, _, value in (line.partition(" ") for line in page.splitlines())}
    return float(values.get(f"{_QUEUE}_sum", 0)), float(values.get(f"{_QUEUE}_count", 0))
