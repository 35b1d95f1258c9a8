"""Groups of deliveries into the log. The receiver's process has one lock for all of its Python and needs it for HTTP,
so this work lies in another one: `Writer` does it there, `serve` takes it from a socket, `Remote` is the other end.
"""

import asyncio
import contextlib
import itertools
import socket
import time
from collections.abc import Sequence
from typing import Any, Final, Protocol, TypeVar

import msgspec
import structlog

from services.claims.base import Claims
from services.contract import Header, Topic
from services.errors import BusUnavailable, ClaimsUnavailable
from services.stream.base import Admin, Producer
from services.stream.types import Appended, NewRecord, TopicPartition
from services.telemetry import log_each

T = TypeVar("T")

log = structlog.get_logger(__name__)

CLAIMS_TIMEOUT_S: Final = 1.0
_AHEAD_MS: Final = 86_400_000  # nothing is appended later than that: leads to the end of a partition
_RECALLED: Final = 1000  # records of each partition: more than the last groups before a crash held


class Delivery(msgspec.Struct, frozen=True, array_like=True):
    """said: for its line in our own log."""

    id: str
    record: NewRecord
    said: dict[str, Any]

    @property
    def key(self) -> str:
        return _key(self.id)


class Writes(Protocol):
    """Raises BusUnavailable, and TimeoutError; the log may have the group all the same then."""

    async def write(self, group: Sequence[Delivery], *, deadline: float) -> list[Appended | None]:
        """Where the log has each of them, durably; None for one that it had before. deadline: of time.monotonic().

        Groups go into the log in the order of the calls.
        """

    async def close(self) -> None: ...


class Writer:
    """A delivery is answered once the log has it, and remembered behind its answer: `recall` catches up on what a crash
    in between left out. keep_s: how long its id is remembered."""

    def __init__(self, producer: Producer, claims: Claims, *, keep_s: float) -> None:
        self._producer = producer
        self._claims = claims
        self._keep_s = keep_s
        self._order = asyncio.Lock()
        self._not_yet_remembered: set[str] = set()
        self._behind: set[asyncio.Task[None]] = set()

    async def write(self, group: Sequence[Delivery], *, deadline: float) -> list[Appended | None]:
        async with self._order:
            known = await self._look_up(group)
            new = [one for one in group if one.key not in known]
            # As a task it is in the producer's queue before the next group's, and yet the next one is looked up.
            append = asyncio.create_task(self._append(new, deadline))
            await asyncio.sleep(0)
        appended = await append
        if new:
            self._not_yet_remembered.update(appended)
            task = asyncio.create_task(self._remember(new, appended), name="remember")
            self._behind.add(task)
            task.add_done_callback(self._behind.discard)
        return [appended.get(one.key) for one in group]

    async def close(self) -> None:
        """Once nobody waits any more: what was answered is remembered."""
        await asyncio.gather(*self._behind)

    async def _look_up(self, group: Sequence[Delivery]) -> set[str]:
        """The keys appended before. Without the claims none: the review's own key prevents a second review."""
        keys = [one.key for one in group]
        known = self._not_yet_remembered.intersection(keys)
        try:
            async with asyncio.timeout(CLAIMS_TIMEOUT_S):
                values = await self._claims.get_many(keys)
        except (ClaimsUnavailable, TimeoutError) as exc:
            _warn("get", group, exc)
            return known
        return known.union(key for key, value in zip(keys, values, strict=True) if value is not None)

    async def _append(self, group: Sequence[Delivery], deadline: float) -> dict[str, Appended]:
        if not group:
            return {}
        async with asyncio.timeout(deadline - time.monotonic()):
            positions = await self._producer.append([one.record for one in group])
        return {one.key: at for one, at in zip(group, positions, strict=True)}

    async def _remember(self, group: Sequence[Delivery], appended: dict[str, Appended]) -> None:
        """Only after the append, or a redelivery after our failure would be swallowed."""
        try:
            async with asyncio.timeout(CLAIMS_TIMEOUT_S):
                await self._claims.put_many(dict.fromkeys(appended, b"1"), keep_s=self._keep_s)
        except (ClaimsUnavailable, TimeoutError) as exc:
            _warn("put", group, exc)
        finally:
            self._not_yet_remembered.difference_update(appended)
        log_each(
            "delivery.received",
            (
                {"delivery_id": one.id, **one.said, "partition": at.partition, "offset": at.offset}
                for one, at in zip(group, appended.values(), strict=True)
            ),
        )


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


class _Asked(msgspec.Struct, frozen=True, array_like=True):
    number: int
    deadline: float
    group: list[Delivery]


class _Answered(msgspec.Struct, frozen=True, array_like=True):
    """fault: why there are no positions; retry_after_s: where the log was at fault, and not we."""

    number: int
    positions: list[Appended | None] = []
    fault: str = ""
    is_late: bool = False
    retry_after_s: float | None = None


class Remote:
    """The Writer behind `connection`, in another process."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._answers: dict[int, asyncio.Future[list[Appended | None]]] = {}
        self._numbers = itertools.count()
        self._sender: asyncio.StreamWriter | None = None
        self._listening: asyncio.Task[None] | None = None

    async def open(self) -> "asyncio.Task[None]":
        """To be called once; what it returns ends with the other process."""
        reader, self._sender = await asyncio.open_connection(sock=self._connection)
        self._listening = asyncio.create_task(self._listen(reader), name="writer")
        return self._listening

    async def write(self, group: Sequence[Delivery], *, deadline: float) -> list[Appended | None]:
        assert self._sender is not None, "open() comes first"
        assert self._listening is not None
        if self._listening.done() or self._sender.is_closing():
            raise _ended()
        number = next(self._numbers)
        answer: asyncio.Future[list[Appended | None]] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        self._sender.write(_frame(_Asked(number, deadline, list(group))))
        try:
            return await answer
        finally:
            del self._answers[number]

    async def close(self) -> None:
        """Returns once the other process has finished and ended."""
        if self._sender is not None and self._listening is not None:
            if not self._sender.is_closing() and not self._listening.done():
                self._sender.write_eof()
            await self._listening
            await _close(self._sender)

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        decoder = msgspec.msgpack.Decoder(_Answered)
        while (frame := await _read(reader)) is not None:
            answered = decoder.decode(frame)
            waiting = self._answers.get(answered.number)
            if waiting is None or waiting.done():  # who asked had no more time
                continue
            if answered.is_late:
                waiting.set_exception(TimeoutError())
            elif answered.retry_after_s is not None:
                waiting.set_exception(BusUnavailable(answered.fault, retry_after_s=answered.retry_after_s))
            elif answered.fault:
                waiting.set_exception(RuntimeError(answered.fault))
            else:
                waiting.set_result(answered.positions)
        for waiting in self._answers.values():
            if not waiting.done():
                waiting.set_exception(_ended())


async def serve(connection: socket.socket, writer: Writes) -> None:
    """Writes what comes over `connection` until its other end closes, by itself or with its process."""
    reader, sender = await asyncio.open_connection(sock=connection)
    decoder = msgspec.msgpack.Decoder(_Asked)

    async def answer(asked: _Asked) -> None:
        try:
            answered = _Answered(asked.number, await writer.write(asked.group, deadline=asked.deadline))
        except BusUnavailable as exc:
            answered = _Answered(asked.number, fault=str(exc), retry_after_s=exc.retry_after_s)
        except TimeoutError:
            answered = _Answered(asked.number, is_late=True)
        except Exception as exc:
            log.exception("deliveries.not_written", delivery_ids=[one.id for one in asked.group])
            answered = _Answered(asked.number, fault=f"{type(exc).__name__}: {exc}")
        if not sender.is_closing():  # a receiver that was killed waits for no answer
            sender.write(_frame(answered))

    try:
        async with asyncio.TaskGroup() as tasks:
            while (frame := await _read(reader)) is not None:
                tasks.create_task(answer(decoder.decode(frame)))
        await writer.close()
    finally:
        await _close(sender)


_LENGTH_BYTES: Final = 4


def _frame(message: msgspec.Struct) -> bytes:
    body = msgspec.msgpack.encode(message)
    return len(body).to_bytes(_LENGTH_BYTES) + body


async def _read(reader: asyncio.StreamReader) -> bytes | None:
    """The next message; None once the other end has closed, in the middle of one too."""
    try:
        return await reader.readexactly(int.from_bytes(await reader.readexactly(_LENGTH_BYTES)))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


async def _close(sender: asyncio.StreamWriter) -> None:
    sender.close()
    with contextlib.suppress(ConnectionError):
        await sender.wait_closed()


def _ended() -> BusUnavailable:
    return BusUnavailable("the receiver's writing process has ended; the receiver ends too and is started again")


def _key(delivery_id: str) -> str:
    return f"delivery:{delivery_id}"


def _warn(operation: str, group: Sequence[Delivery], exc: Exception) -> None:
    ids = [one.id for one in group]
    log.warning("claims.unavailable", operation=operation, delivery_ids=ids, error=str(exc))
