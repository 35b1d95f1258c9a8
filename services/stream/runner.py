"""The one consumer loop: poll, handle, append what follows, commit. At least once, nothing lost, nothing silent."""

import asyncio
import contextlib
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final, Protocol, TypeVar

import structlog

from services import __version__, codec
from services.contract import Header, Outcome
from services.errors import BusUnavailable, Deferred, Poison, RecordTooLarge, Retryable
from services.stream.base import Consumer, Producer
from services.stream.types import NewRecord, Record, TopicPartition
from services.telemetry import Metrics
from services.tracing import OFF, Tracing

T = TypeVar("T")

_POLL_S: Final = 0.5  # longest wait of a poll: what else is due is looked at in between
_LAG_EVERY_S: Final = 1.0
_BUS_RETRY_MAX_S: Final = 5.0

log = structlog.get_logger(__name__)


class Handler(Protocol):
    async def handle(self, record: Record) -> Sequence[NewRecord]:
        """The effect of one record, and what to append before its offset is committed. It may come twice.

        Raises Deferred, Retryable or Poison; anything else stops the replica. Cancelled when its partition leaves.
        """


@dataclass(frozen=True, slots=True)
class Limits:
    max_in_flight: int = 32  # records handled at once, and the most that wait per partition
    max_retries: int = 3  # after the first attempt, for Retryable
    retry_base_s: float = 0.5  # doubles with each retry, times a random 0.5 to 1
    halt_after: int = 10  # dead letters in a row, none succeeding between, before the consumer refuses to go on
    drain_s: float = 10.0  # longest wait for records in work when stopping


@dataclass(slots=True, eq=False)
class _Partition:
    """Records taken from one owned partition and not yet committed."""

    position: TopicPartition
    fetched: deque[int] = field(default_factory=deque)
    finished: set[int] = field(default_factory=set)
    next_offset: int | None = None
    committed: int | None = None
    paused_until: float = 0.0
    waiting: dict[bytes, deque[Record]] = field(default_factory=dict)
    tasks: dict[bytes, asyncio.Task[None]] = field(default_factory=dict)

    def finish(self, offset: int) -> None:
        """The committable offset follows the unbroken run of finished records."""
        self.finished.add(offset)
        while self.fetched and self.fetched[0] in self.finished:
            self.finished.remove(self.fetched[0])
            self.next_offset = self.fetched.popleft() + 1


class _Abandoned(Exception):
    """The record stays uncommitted, for whoever reads it next."""


class Runner:
    """Parallel across keys, serial within a key; offsets are committed in order, after their effects.

    Owns and closes `consumer`; `producer` stays the caller's.
    """

    def __init__(
        self,
        consumer: Consumer,
        producer: Producer,
        handler: Handler,
        *,
        topic: str,
        group: str,
        metrics: Metrics,
        tracing: Tracing = OFF,
        limits: Limits = Limits(),
        clock: Callable[[], float] = time.monotonic,
        wall_ns: Callable[[], int] = time.time_ns,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._consumer = consumer
        self._producer = producer
        self._handler = handler
        self._topic = topic
        self._group = group
        self._metrics = metrics
        self._tracing = tracing
        self._limits = limits
        self._clock = clock
        self._wall_ns = wall_ns
        self._sleep = sleep
        self._chance = chance
        self._partitions: dict[TopicPartition, _Partition] = {}
        self._slots = asyncio.Semaphore(limits.max_in_flight)
        self._pausing: set[asyncio.Task[None]] = set()
        self._progress = asyncio.Event()
        self._poll: asyncio.Future[list[Record]] | None = None
        self._poll_failures = 0
        self._failed_in_row = 0
        self._is_halted = False
        self._is_stopping = False
        self._is_bus_up = False
        # A counter that first appears as 1 hides its first event: what asks for an increase needs the 0 before.
        for operation in ("poll", "append", "commit"):
            metrics.bus_errors.labels(topic, operation)
        metrics.deferred.labels(topic)
        metrics.delivery_ended.labels(Outcome.DEAD_LETTERED)

    def is_ready(self) -> bool:
        """The log answers, and the consumer neither halted nor stops."""
        return self._is_bus_up and self.is_working()

    def is_working(self) -> bool:
        """It neither halted nor stops; the log may be out of reach for now."""
        return not self._is_halted and not self._is_stopping

    def stop(self) -> None:
        """Takes no more records; run() returns once those in work are finished, or after `drain_s`."""
        self._is_stopping = True
        if self._poll is not None:
            self._poll.cancel()

    async def run(self) -> None:
        """Until stop(). Raises what a handler raised undeclared, after leaving the group."""
        self._metrics.halted.set(0)
        try:
            async with asyncio.TaskGroup() as tasks:
                others = [tasks.create_task(self._commit_forever()), tasks.create_task(self._measure_forever())]
                await self._poll_until_stopped(tasks)
                await self._drain()
                for task in others:
                    task.cancel()
        except ExceptionGroup as group:
            crash = group.exceptions[0]
            log.exception("consumer.crashed", topic=self._topic, error=str(crash), exc_info=crash)
            raise crash from None
        finally:
            with contextlib.suppress(BusUnavailable):  # uncommitted work comes again
                await self._commit()
            await self._consumer.close()

    async def _poll_until_stopped(self, tasks: asyncio.TaskGroup) -> None:
        while not self._is_stopping:
            self._poll = asyncio.ensure_future(self._poll_once())
            try:
                records = await self._poll
            except asyncio.CancelledError:
                if not self._is_stopping:
                    raise
                return
            self._take_assignment()
            for record in records:
                self._take(record, tasks)

    async def _poll_once(self) -> list[Record]:
        try:
            records = await self._consumer.poll(max_records=self._limits.max_in_flight, timeout_s=self._set_pauses())
        except BusUnavailable as exc:
            self._is_bus_up = False
            self._count_bus_error("poll", exc)
            self._poll_failures += 1
            await self._sleep(min(_BUS_RETRY_MAX_S, self._backoff_s(self._poll_failures, base_s=0.1)))
            return []
        self._poll_failures, self._is_bus_up = 0, True
        return records

    async def _measure_forever(self) -> None:
        while True:
            with contextlib.suppress(BusUnavailable):  # poll meets the same failure and reports it
                lag = sum(lag.records for lag in await self._consumer.lag())
                self._metrics.kafka_lag.labels(self._topic).set(lag)
            await self._sleep(_LAG_EVERY_S)

    def _set_pauses(self) -> float:
        """Pauses what is put off or full, resumes the rest; returns how long the next poll may wait."""
        now = self._clock()
        paused = {position for position, part in self._partitions.items() if self._is_paused(part, now)}
        self._consumer.pause(frozenset(paused))
        self._consumer.resume(frozenset(self._partitions.keys() - paused))
        due = [part.paused_until - now for part in self._partitions.values() if part.paused_until > now]
        return min(_POLL_S, *due) if due else _POLL_S

    def _is_paused(self, part: _Partition, now: float) -> bool:
        return self._is_halted or part.paused_until > now or len(part.fetched) >= self._limits.max_in_flight

    def _take_assignment(self) -> None:
        owned = self._consumer.assignment()
        for position in self._partitions.keys() - owned:
            for task in self._partitions.pop(position).tasks.values():
                task.cancel()
        for position in owned - self._partitions.keys():
            self._partitions[position] = _Partition(position)

    def _take(self, record: Record, tasks: asyncio.TaskGroup) -> None:
        part = self._partitions[record.position]
        part.fetched.append(record.offset)
        part.waiting.setdefault(record.key, deque()).append(record)
        if record.key not in part.tasks:
            part.tasks[record.key] = tasks.create_task(self._work(part, record.key))

    async def _work(self, part: _Partition, key: bytes) -> None:
        """The records of one key, one after the other."""
        waiting = part.waiting[key]
        try:
            while waiting:
                await self._finish(part, waiting[0])
                offset = waiting.popleft().offset
                was_full = len(part.fetched) >= self._limits.max_in_flight
                part.finish(offset)
                self._progress.set()
                if was_full and not self._is_paused(part, self._clock()):
                    self._consumer.resume(frozenset({part.position}))
        except _Abandoned:
            return
        finally:
            del part.waiting[key], part.tasks[key]

    async def _finish(self, part: _Partition, record: Record) -> None:
        """The record's effect and what follows from it is done when this returns."""
        names = {Header.DELIVERY_ID: "delivery_id", Header.TRACEPARENT: "traceparent"}
        carried = {name: record.headers[name] for name in names if name in record.headers}
        with self._span(record) as trace:
            if trace:
                carried[Header.TRACEPARENT] = trace.encode()
            context = {names[name]: value.decode(errors="replace") for name, value in carried.items()}
            with structlog.contextvars.bound_contextvars(**context):
                try:
                    produced = await self._handle(part, record, replace(record, headers={**record.headers, **carried}))
                except Exception as exc:
                    if not isinstance(exc, _Abandoned):  # it stops the replica: which record it was says this line
                        log.error("record.crashed", topic=record.topic, offset=record.offset, error=repr(exc))
                    raise
                if produced:
                    follow = [replace(new, headers={**carried, **new.headers}) for new in produced]
                    try:
                        await self._patiently(part, partial(self._producer.append, follow))
                    except RecordTooLarge as exc:
                        await self._set_aside(part, record, exc, 1, self._wall_ns())

    def _span(self, record: Record) -> AbstractContextManager[str]:
        return self._tracing.span(
            f"{record.topic} process",
            record.headers.get(Header.TRACEPARENT, b"").decode(errors="replace"),
            "consumer",
            delivery_id=record.headers.get(Header.DELIVERY_ID, b"").decode(errors="replace"),
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
        )

    async def _handle(self, part: _Partition, record: Record, traced: Record) -> Sequence[NewRecord]:
        """`traced`: the record below our own span, for the handler; a dead letter holds it as it came."""
        attempts, first_failed_at_ns = 0, 0
        while True:
            try:
                produced = await self._patiently(part, partial(self._begin, part, traced))
            except (Retryable, Poison) as exc:
                attempts += 1
                first_failed_at_ns = first_failed_at_ns or self._wall_ns()
                if isinstance(exc, Retryable) and attempts <= self._limits.max_retries:
                    delay_s = self._backoff_s(attempts - 1, base_s=self._limits.retry_base_s)
                    log.warning(
                        "record.retried", topic=record.topic, attempts=attempts, error=str(exc), delay_s=delay_s
                    )
                    await self._pause(delay_s)
                    continue
                await self._set_aside(part, record, exc, attempts, first_failed_at_ns)
                return ()
            self._failed_in_row = 0
            return produced

    async def _set_aside(
        self, part: _Partition, record: Record, exc: Retryable | Poison, attempts: int, first_failed_at_ns: int
    ) -> None:
        if self._is_halted or self._failed_in_row >= self._limits.halt_after:
            self._halt(exc)
            raise _Abandoned
        self._failed_in_row += 1
        reason = exc.reason if isinstance(exc, Poison) else "attempts_exhausted"
        letter = codec.dead_letter(
            record,
            reason=reason,
            message=str(exc),
            attempts=_earlier_attempts(record) + attempts,
            first_failed_at_ns=first_failed_at_ns,
            last_failed_at_ns=self._wall_ns(),
            group=self._group,
            service_version=__version__,
        )
        await self._patiently(part, partial(self._producer.append, [letter]))
        self._tracing.failed(reason)
        self._metrics.dead_letters.labels(record.topic, reason).inc()
        self._metrics.delivery_ended.labels(Outcome.DEAD_LETTERED).inc()
        log.error(
            "delivery.ended",
            outcome=Outcome.DEAD_LETTERED,
            reason=reason,
            error=str(exc),
            attempts=attempts,
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
        )

    async def _begin(self, part: _Partition, record: Record) -> Sequence[NewRecord]:
        while True:
            await self._wait_out(part)
            async with self._slots:
                if self._is_halted or self._is_stopping:
                    raise _Abandoned
                if part.paused_until > self._clock():
                    continue  # paused while this waited for its slot
                with self._metrics.active_workers.track_inprogress():
                    return await self._handler.handle(record)

    async def _patiently(self, part: _Partition, act: Callable[[], Awaitable[T]]) -> T:
        """`act()`, again and again while the outside is at fault; its partition pauses in between."""
        while True:
            try:
                return await act()
            except Deferred as exc:
                if isinstance(exc, BusUnavailable):
                    self._count_bus_error("append", exc)
                self._metrics.deferred.labels(self._topic).inc()
                now = self._clock()
                if part.paused_until <= now:  # once a pause, not once for each record in flight
                    log.warning("record.deferred", topic=self._topic, error=str(exc), retry_after_s=exc.retry_after_s)
                part.paused_until = max(part.paused_until, now + exc.retry_after_s)
                self._consumer.pause(frozenset({part.position}))
            await self._wait_out(part)

    async def _wait_out(self, part: _Partition) -> None:
        while (delay_s := part.paused_until - self._clock()) > 0:
            await self._pause(delay_s)

    async def _pause(self, delay_s: float) -> None:
        if self._is_halted or self._is_stopping:
            raise _Abandoned
        task = asyncio.current_task()
        assert task is not None
        self._pausing.add(task)
        try:
            await self._sleep(delay_s)
        finally:
            self._pausing.discard(task)

    def _halt(self, exc: Exception) -> None:
        if self._is_halted:
            return
        self._is_halted = True
        self._metrics.halted.set(1)
        log.error(
            "consumer.halted",
            topic=self._topic,
            group=self._group,
            dead_letters_in_row=self._failed_in_row,
            error=str(exc),
            remedy="everything fails, so the fault is here rather than in the records, which wait in the log: mend the "
            "cause and restart this service",
        )

    async def _drain(self) -> None:
        """Records in work are finished; those that wait are left to the next reader."""
        for task in self._pausing:
            task.cancel()
        left = {task for part in self._partitions.values() for task in part.tasks.values()}
        if left:
            await asyncio.wait(left, timeout=self._limits.drain_s)
        for task in left:
            task.cancel()

    async def _commit_forever(self) -> None:
        while True:
            await self._progress.wait()
            self._progress.clear()
            try:
                await self._commit()
            except BusUnavailable as exc:
                self._count_bus_error("commit", exc)
                await self._sleep(exc.retry_after_s)
                self._progress.set()

    async def _commit(self) -> None:
        ahead = {
            part: part.next_offset
            for part in self._partitions.values()
            if part.next_offset is not None and part.next_offset != part.committed
        }
        if ahead:
            await self._consumer.commit({part.position: offset for part, offset in ahead.items()})
            for part, offset in ahead.items():
                part.committed = offset

    def _count_bus_error(self, operation: str, exc: BusUnavailable) -> None:
        self._metrics.bus_errors.labels(self._topic, operation).inc()
        log.warning("bus.failed", topic=self._topic, operation=operation, error=str(exc))

    def _backoff_s(self, failures: int, *, base_s: float) -> float:
        """Exponential, times a random 0.5 to 1."""
        return float(base_s * 2 ** min(failures, 16) * (0.5 + self._chance() / 2))


def _earlier_attempts(record: Record) -> int:
    """Attempts of a record that was put back from the dead letters."""
    text = record.headers.get(Header.ATTEMPT, b"")
    return int(text) if text.isdigit() else 0
