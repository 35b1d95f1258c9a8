"""Deliveries into the log, in groups: while one group is on its way to the disk, the next one gathers."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from services.claims.base import Claims
from services.contract import Topic
from services.errors import BusUnavailable, ClaimsUnavailable
from services.stream.base import Producer
from services.stream.types import Appended, NewRecord
from services.telemetry import Metrics

log = structlog.get_logger(__name__)

CLAIMS_TIMEOUT_S: Final = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class _Delivery:
    id: str
    record: NewRecord
    done: "asyncio.Future[Appended | None]"


class Intake:
    """timeout_s: longest wait of a delivery. keep_s: how long its id is remembered."""

    def __init__(
        self, producer: Producer, claims: Claims, metrics: Metrics, *, timeout_s: float, keep_s: float
    ) -> None:
        self._producer = producer
        self._claims = claims
        self._metrics = metrics
        self._timeout_s = timeout_s
        self._keep_s = keep_s
        self._waiting: list[_Delivery] = []
        self._worker: asyncio.Task[None] | None = None

    async def take(self, delivery_id: str, record: NewRecord) -> Appended | None:
        """Where the log has it, durably; None when it has had it already.

        Raises BusUnavailable, and TimeoutError; the log may have it all the same then.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Appended | None] = loop.create_future()
        self._waiting.append(_Delivery(delivery_id, record, done))
        if self._worker is None:
            self._worker = loop.create_task(self._work(), name="intake")
        timer = loop.call_later(self._timeout_s, _expire, done)
        try:
            return await done
        finally:
            timer.cancel()

    async def _work(self) -> None:
        try:
            while self._waiting:
                group = [one for one in self._waiting if not one.done.done()]
                self._waiting.clear()
                try:
                    await self._append(group)
                except Exception as exc:  # noqa: BLE001 - it belongs to those who wait
                    for one in group:
                        if not one.done.done():
                            one.done.set_exception(exc)
        finally:
            self._worker = None

    async def _append(self, group: Sequence[_Delivery]) -> None:
        """Of a delivery that stands in the group twice, the first counts."""
        known = await self._known(list({one.id for one in group}))
        new: dict[str, _Delivery] = {}
        for one in group:
            if one.id not in known:
                new.setdefault(one.id, one)
        offsets: dict[_Delivery, Appended] = {}
        if new:
            try:
                async with asyncio.timeout(self._timeout_s):
                    appended = await self._producer.append([one.record for one in new.values()])
            except (BusUnavailable, TimeoutError):
                self._metrics.bus_errors.labels(Topic.PUSH_EVENTS, "append").inc()
                raise
            offsets = dict(zip(new.values(), appended, strict=True))
            await self._remember(list(new))
        for one in group:
            if not one.done.done():
                one.done.set_result(offsets.get(one))

    async def _known(self, ids: Sequence[str]) -> set[str]:
        """Those appended before. Without the claims none is: the review's own key still prevents a second one."""
        try:
            async with asyncio.timeout(CLAIMS_TIMEOUT_S):
                values = await self._claims.get_many([_key(each) for each in ids])
        except (ClaimsUnavailable, TimeoutError) as exc:
            log.warning("claims.unavailable", delivery_ids=list(ids), operation="get", error=str(exc))
            return set()
        return {each for each, value in zip(ids, values, strict=True) if value is not None}

    async def _remember(self, ids: Sequence[str]) -> None:
        """Only after the append, or a redelivery after our failure would be swallowed."""
        try:
            async with asyncio.timeout(CLAIMS_TIMEOUT_S):
                await self._claims.put_many({_key(each): b"1" for each in ids}, keep_s=self._keep_s)
        except (ClaimsUnavailable, TimeoutError) as exc:
            log.warning("claims.unavailable", delivery_ids=list(ids), operation="put", error=str(exc))


def _key(delivery_id: str) -> str:
    return f"delivery:{delivery_id}"


def _expire(done: "asyncio.Future[Appended | None]") -> None:
    if not done.done():
        done.set_exception(TimeoutError("no answer in time"))
