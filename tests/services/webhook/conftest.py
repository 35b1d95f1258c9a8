from collections.abc import AsyncIterator

import httpx2
import pytest

from services.telemetry import Metrics
from services.webhook.app import Receiver, create_app
from services.webhook.writer import Writer
from tests.services.webhook.fakes import MAX_BODY_BYTES, PREVIOUS, RECEIVED_AT_NS, SECRET, Log, Memory, Site


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    log, claims, metrics = Log(), Memory(), Metrics()
    receiver = Receiver(
        Writer(log, claims, keep_s=60.0),
        metrics,
        [SECRET, PREVIOUS],
        max_body_bytes=MAX_BODY_BYTES,
        now_ns=lambda: RECEIVED_AT_NS,
    )

    async def is_ready() -> bool:
        return made.is_ready

    transport = httpx2.ASGITransport(create_app(receiver, metrics, is_ready))
    async with httpx2.AsyncClient(transport=transport, base_url="http://receiver") as client:
        made = Site(log, claims, metrics, receiver, client)
        yield made
