"""A log and claims in memory, each of which can fail, and the receiver between them."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx2

from services.claims.base import Claim
from services.errors import BusUnavailable, ClaimsUnavailable
from services.stream.types import Appended, NewRecord
from services.telemetry import Metrics
from services.webhook.app import Receiver
from services.webhook.signature import sign

SECRET = b"present"
PREVIOUS = b"the one before"
RECEIVED_AT_NS = 1_700_000_000_123_456_789
MAX_BODY_BYTES = 100_000


@dataclass
class Log:
    """A producer that keeps what it is given."""

    records: list[NewRecord] = field(default_factory=list)
    fault: Exception | None = None

    async def append(self, records: Sequence[NewRecord]) -> list[Appended]:
        if self.fault is not None:
            raise self.fault
        start = len(self.records)
        self.records.extend(records)
        return [Appended(record.topic, 0, offset) for offset, record in enumerate(records, start)]

    async def close(self) -> None: ...


@dataclass
class Memory:
    """The part of the claims the receiver uses. `at_put`: called first, to see what had happened by then."""

    values: dict[str, bytes] = field(default_factory=dict)
    kept_s: float = 0.0
    is_lost: bool = False
    at_put: Callable[[], None] = lambda: None

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        if self.is_lost:
            raise ClaimsUnavailable("no claims")
        return [self.values.get(key) for key in keys]

    async def put_many(self, values: Mapping[str, bytes], *, keep_s: float) -> None:
        self.at_put()
        if self.is_lost:
            raise ClaimsUnavailable("no claims")
        self.values.update(values)
        self.kept_s = keep_s

    async def get(self, key: str) -> bytes | None:
        raise AssertionError("the receiver asks for groups")

    async def put(self, key: str, value: bytes, *, keep_s: float) -> None:
        raise AssertionError("the receiver remembers groups")

    async def known_since(self) -> float:
        raise AssertionError("the receiver claims nothing")

    async def claim(self, key: str, *, lease_s: float) -> Claim:
        raise AssertionError("the receiver claims nothing")

    async def confirm(self, key: str, token: int, *, result: str, keep_s: float) -> bool:
        raise AssertionError("the receiver claims nothing")

    async def release(self, key: str, token: int) -> None:
        raise AssertionError("the receiver claims nothing")

    async def close(self) -> None: ...


@dataclass
class Site:
    """The receiver and what stands around it."""

    log: Log
    claims: Memory
    metrics: Metrics
    receiver: Receiver
    client: httpx2.AsyncClient
    is_ready: bool = True

    async def deliver(
        self,
        event: str,
        payload: Any,
        *,
        delivery_id: str = "d-1",
        secret: bytes = SECRET,
        headers: dict[str, str] | None = None,
    ) -> httpx2.Response:
        """One signed delivery; `payload` is bytes as they are, or anything JSON can say."""
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        return await self.client.post(
            "/webhook",
            content=body,
            headers={
                "content-type": "application/json",
                "x-github-event": event,
                "x-github-delivery": delivery_id,
                "x-hub-signature-256": sign(body, secret).decode(),
                **(headers or {}),
            },
        )

    def count(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


def unavailable() -> BusUnavailable:
    return BusUnavailable("the disk is full", retry_after_s=2.5)
