"""Deliveries into the log, in groups: while one is on its way to the disk, the next is looked up and a third gathers.

A delivery is answered once the log has it, and remembered behind its answer: `recall` catches up on what a crash in
between left out.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import structlog

from services.claims.base import Claims
from services.contract import Header, Topic
from services.errors import BusUnavailable, ClaimsUnavailable
from services.stream.base import Admin, Producer
from services.stream.types import Appended, NewRecord, TopicPartition
from services.telemetry import Metrics, log_each

log = structlog.get_logger(__name__)

CLAIMS_TIMEOUT_S: Final = 1.0
_AHEAD_MS: Final = 86_400_000  # nothing is appended later than that: leads to the end of a partition
# Turns of the event loop without a new delivery after which a group is closed. An idle loop turns in microseconds;
# under load the answers to one group bring the next deliveries of the same senders, and those belong together.
_QUIET_TURNS: Final = 20
_GROUPS: Final = 2  # under way at once: while one is on its way to the disk, the next one is looked up, or remembered
_RECALLED: Final = 1000  # records of each partition: more than the last groups before a crash held


@dataclass(slots=True, eq=False)
class _Delivery:
    """since: when it came, on the loop's clock. at: where the log has it, once it does."""

    id: str
    record: NewRecord
    said: Mapping[str, Any]
    since: float
    done: "asyncio.Future[Appended | None]"
    at: Appended | None = None

    @property
    def key(self) -> str:
        return _key(self.id)


class Intake:
    """timeout_s: longest wait of a delivery for the log. keep_s: how long its id is remembered."""

    def __init__(
        self, producer: Producer, claims: Claims, metrics: Metrics, *, timeout_s: float, keep_s: float
    ) -> None:
        self._producer = producer
        self._claims = claims
        self._metrics = metrics
        metrics.bus_errors.labels(Topic.PUSH_EVENTS, "append")  # from 0 on, so that a first error is an increase
        self._timeout_s = timeout_s
        self._keep_s = keep_s
        self._under_way: dict[str, _Delivery] = {}
        self._waiting: list[_Delivery] = []
        self._worker: asyncio.Task[None] | None = None
        self._room = asyncio.Semaphore(_GROUPS)
        self._behind: set[asyncio.Task[None]] = set()

    async def take(self, delivery_id: str, record: NewRecord, **said: Any) -> Appended | None:
        """Where the log has it, durably; None when it has had it already. `said`: for its line in our own log.

        Raises BusUnavailable, and TimeoutError; the log may have it all the same then.
        """
        if first := self._under_way.get(delivery_id):
            await asyncio.shield(first.done)
            return None
        loop = asyncio.get_running_loop()
        delivery = _Delivery(delivery_id, record, said, loop.time(), loop.create_future())
        self._under_way[delivery_id] = delivery
        self._waiting.append(delivery)
        if self._worker is None:
            self._worker = loop.create_task(self._work(), name="intake")
        try:
            return await delivery.done
        except asyncio.CancelledError:  # the sender hung up; who sends it again meanwhile waits for what becomes of it
            delivery.done = loop.create_future()
            delivery.done.add_done_callback(asyncio.Future.exception)
            raise

    async def close(self) -> None:
        """Once nobody waits any more: what was answered is remembered."""
        await asyncio.gather(*self._behind)

    async def _work(self) -> None:
        """One group after the other, so that the log has deliveries in the order they came."""
        try:
            while self._waiting:
                await self._room.acquire()
                await self._gather()
                group, self._waiting = self._waiting, []
                try:
                    new = await self._look_up(group)
                except Exception as exc:  # noqa: BLE001 - it belongs to those who wait
                    new = []
                    self._settle(group, exc)
                task = asyncio.create_task(self._take(group, new), name="intake-group")
                self._behind.add(task)
                task.add_done_callback(self._behind.discard)
        finally:
            self._worker = None

    async def _gather(self) -> None:
        size = quiet = 0
        while quiet < _QUIET_TURNS:
            quiet = quiet + 1 if size == len(self._waiting) else 0
            size = len(self._waiting)
            await asyncio.sleep(0)

    async def _take(self, group: list[_Delivery], new: list[_Delivery]) -> None:
        try:
            if new:
                await self._append(new)
            self._settle(group)
            if new:
                await asyncio.gather(self._remember(new), _tell(new))
        except Exception as exc:  # noqa: BLE001 - it belongs to those who wait
            self._settle(group, exc)
        finally:
            for one in group:
                self._under_way.pop(one.id, None)
            self._room.release()

    async def _look_up(self, group: list[_Delivery]) -> list[_Delivery]:
        """Those not appended before. Without the claims that is each: the review's own key prevents a second review."""
        try:
            async with asyncio.timeout(CLAIMS_TIMEOUT_S):
                known = await self._claims.get_many([one.key for one in group])
        except (ClaimsUnavailable, TimeoutError) as exc:
            _warn("get", group, exc)
            return group
        return [one for one, value in zip(group, known, strict=True) if value is None]

    async def _append(self, group: list[_Delivery]) -> None:
        try:
            async with asyncio.timeout_at(group[0].since + self._timeout_s):
                positions = await self._producer.append([one.record for one in group])
        except (BusUnavailable, TimeoutError):
            self._metrics.bus_errors.labels(Topic.PUSH_EVENTS, "append").inc()
            raise
        for one, at in zip(group, positions, strict=True):
            one.at = at

    async def _remember(self, group: list[_Delivery]) -> None:
        """Only after the append, or a redelivery after our failure would be swallowed."""
        try:
            async with asyncio.timeout(CLAIMS_TIMEOUT_S):
                await self._claims.put_many({one.key: b"1" for one in group}, keep_s=self._keep_s)
        except (ClaimsUnavailable, TimeoutError) as exc:
            _warn("put", group, exc)

    def _settle(self, group: Iterable[_Delivery], exc: Exception | None = None) -> None:
        for one in group:
            if one.done.done():
                continue
            if exc is None:
                one.done.set_result(one.at)
            else:
                one.done.set_exception(exc)


async def recall(admin: Admin, claims: Claims, *, keep_s: float) -> None:
    """Remembers the last deliveries of the log, before the first new one is taken. Without log or claims, none."""
    try:
        for partition in range((await admin.topics()).get(Topic.PUSH_EVENTS, 0)):
            position = TopicPartition(Topic.PUSH_EVENTS, partition)
            end = await admin.offset_at(position, time.time_ns() // 1_000_000 + _AHEAD_MS)
            records = await admin.read(position, max(0, end - _RECALLED), _RECALLED)
            ids = [
                record.headers[Header.DELIVERY_ID].decode()
                for record in records
                if Header.DELIVERY_ID in record.headers
            ]
            await claims.put_many({_key(each): b"1" for each in ids}, keep_s=keep_s)
    except (BusUnavailable, ClaimsUnavailable) as exc:
        log.warning("deliveries.not_recalled", error=str(exc))


def _key(delivery_id: str) -> str:
    return f"delivery:{delivery_id}"


async def _tell(group: list[_Delivery]) -> None:
    """A coroutine, so that the lines are written while the claims are."""
    positions = ((one, one.at) for one in group if one.at is not None)
    log_each(
        "delivery.received",
        ({"delivery_id": one.id, **one.said, "partition": at.partition, "offset": at.offset} for one, at in positions),
    )


def _warn(operation: str, group: list[_Delivery], exc: Exception) -> None:
    ids = [one.id for one in group]
    log.warning("claims.unavailable", operation=operation, delivery_ids=ids, error=str(exc))
