"""Deliveries in groups: while one is written the next waits for the writer, and a third gathers."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from services.contract import Topic
from services.errors import BusUnavailable
from services.stream.types import Appended, NewRecord
from services.telemetry import Metrics
from services.webhook.writer import Delivery, Writes

# Turns of the event loop without a new delivery after which a group is closed. An idle loop turns in microseconds;
# under load the answers to one group bring the next deliveries of the same senders, and those belong together.
_QUIET_TURNS: Final = 20
_MOST: Final = 25  # deliveries of a group; all of them in one would leave the receiver idle while they are written
_GROUPS: Final = 2  # under way at once, so that the writer need not wait for the receiver, nor the receiver for it


@dataclass(slots=True, eq=False)
class _Waiting:
    """since: when it came, of time.monotonic()."""

    delivery: Delivery
    since: float
    done: "asyncio.Future[Appended | None]"


class Intake:
    """timeout_s: longest wait of a delivery for the log."""

    def __init__(self, writer: Writes, metrics: Metrics, *, timeout_s: float) -> None:
        self._writer = writer
        self._errors = metrics.bus_errors.labels(Topic.PUSH_EVENTS, "append")
        self._timeout_s = timeout_s
        self._under_way: dict[str, _Waiting] = {}
        self._waiting: list[_Waiting] = []
        self._worker: asyncio.Task[None] | None = None
        self._room = asyncio.Semaphore(_GROUPS)
        self._groups: set[asyncio.Task[None]] = set()

    async def take(self, delivery_id: str, record: NewRecord, **said: Any) -> Appended | None:
        """Where the log has it, durably; None when it has had it already. `said`: for its line in our own log.

        Raises BusUnavailable, and TimeoutError; the log may have it all the same then.
        """
        if first := self._under_way.get(delivery_id):
            await asyncio.shield(first.done)
            return None
        loop = asyncio.get_running_loop()
        waiting = _Waiting(Delivery(delivery_id, record, said), time.monotonic(), loop.create_future())
        self._under_way[delivery_id] = waiting
        self._waiting.append(waiting)
        if self._worker is None:
            self._worker = loop.create_task(self._work(), name="intake")
        try:
            return await waiting.done
        except asyncio.CancelledError:  # the sender hung up; who sends it again meanwhile waits for what becomes of it
            waiting.done = loop.create_future()
            waiting.done.add_done_callback(asyncio.Future.exception)
            raise

    async def close(self) -> None:
        """Once nobody waits any more."""
        await asyncio.gather(*self._groups)

    async def _work(self) -> None:
        """One group after the other, so that the log has deliveries in the order they came."""
        try:
            while self._waiting:
                await self._room.acquire()
                await self._gather()
                group, self._waiting = self._waiting[:_MOST], self._waiting[_MOST:]
                task = asyncio.create_task(self._take(group), name="intake-group")
                self._groups.add(task)
                task.add_done_callback(self._groups.discard)
        finally:
            self._worker = None

    async def _gather(self) -> None:
        size = quiet = 0
        while quiet < _QUIET_TURNS and len(self._waiting) < _MOST:
            quiet = quiet + 1 if size == len(self._waiting) else 0
            size = len(self._waiting)
            await asyncio.sleep(0)

    async def _take(self, group: Sequence[_Waiting]) -> None:
        deadline = group[0].since + self._timeout_s
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                written = await self._writer.write([one.delivery for one in group], deadline=deadline)
        except Exception as exc:  # noqa: BLE001 - it belongs to those who wait
            if isinstance(exc, BusUnavailable | TimeoutError):
                self._errors.inc()
            for one in group:
                if not one.done.done():
                    one.done.set_exception(exc)
        else:
            for one, at in zip(group, written, strict=True):
                if not one.done.done():
                    one.done.set_result(at)
        finally:
            for one in group:
                self._under_way.pop(one.delivery.id, None)
            self._room.release()
