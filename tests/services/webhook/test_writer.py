"""The writer in another process is the one in this: what it says and what it raises comes over the socket."""

import asyncio
import select
import socket
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import msgspec
import pytest
import uvloop
from structlog.testing import capture_logs

from services.errors import BusUnavailable
from services.stream.types import Appended, NewRecord
from services.webhook.writer import Delivery, Remote, Writer, serve
from tests.services.webhook.fakes import Log, Memory, unavailable


class Held(Log):
    """A log that appends when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()

    async def append(self, records: Sequence[NewRecord]) -> list[Appended]:
        await self.gate.wait()
        return await super().append(records)


@asynccontextmanager
async def remote(log: Log, claims: Memory) -> AsyncIterator[tuple[Remote, "asyncio.Task[None]"]]:
    """A Remote, and the other end of its socket."""
    ours, theirs = socket.socketpair()
    serving = asyncio.create_task(serve(theirs, Writer(log, claims, keep_s=60.0)))
    made = Remote(ours)
    await made.open()
    try:
        yield made, serving
    finally:
        await made.close()
        await asyncio.wait([serving])


def delivery(number: int) -> Delivery:
    record = NewRecord("push-events", b"%d" % number, b"\x00\xff" * number, {"traceparent": b"\xfe"})
    return Delivery(f"d-{number}", record, {"repo": "o/r"})


def soon() -> float:
    return time.monotonic() + 30.0


async def test_a_group_is_appended_as_it_was_and_a_delivery_that_comes_again_is_known() -> None:
    log, claims = Log(), Memory()
    async with remote(log, claims) as (writer, _):
        first = await writer.write([delivery(1), delivery(2)], deadline=soon())
        again = await writer.write([delivery(3), delivery(1)], deadline=soon())
    assert first == [("push-events", 0, 0), ("push-events", 0, 1)]
    assert again == [("push-events", 0, 2), None]
    assert log.records == [delivery(number).record for number in (1, 2, 3)]
    assert claims.values.keys() == {"delivery:d-1", "delivery:d-2", "delivery:d-3"}


async def test_groups_go_into_the_log_in_the_order_they_were_sent() -> None:
    log = Log()
    async with remote(log, Memory()) as (writer, _):
        groups = [[delivery(10 * group + number) for number in range(3)] for group in range(20)]
        await asyncio.gather(*(writer.write(group, deadline=soon()) for group in groups))
    assert log.records == [one.record for group in groups for one in group]


async def test_a_log_that_does_not_take_them_says_so_with_the_time_to_wait() -> None:
    async with remote(Log(fault=unavailable()), Memory()) as (writer, _):
        with pytest.raises(BusUnavailable, match="the disk is full") as caught:
            await writer.write([delivery(1)], deadline=soon())
    assert caught.value.retry_after_s == 2.5


async def test_a_log_that_takes_too_long_is_not_waited_for() -> None:
    async with remote(Held(), Memory()) as (writer, _):
        with pytest.raises(TimeoutError):
            await writer.write([delivery(1)], deadline=time.monotonic() + 0.05)


async def test_an_error_of_ours_is_logged_where_it_happened_and_ends_nothing() -> None:
    log = Log(fault=ZeroDivisionError("by hand"))
    async with remote(log, Memory()) as (writer, _):
        with capture_logs() as lines, pytest.raises(RuntimeError, match="ZeroDivisionError: by hand"):
            await writer.write([delivery(1)], deadline=soon())
        log.fault = None
        assert await writer.write([delivery(1)], deadline=soon()) == [("push-events", 0, 0)]
    assert [(line["event"], line["delivery_ids"]) for line in lines] == [("deliveries.not_written", ["d-1"])]


async def test_who_waits_for_a_process_that_ends_is_told_and_so_is_who_comes_later() -> None:
    async with remote(Held(), Memory()) as (writer, serving):
        waiting = asyncio.create_task(writer.write([delivery(1)], deadline=soon()))
        await asyncio.sleep(0.05)
        serving.cancel()
        await asyncio.wait([serving])
        for answer in (waiting, asyncio.create_task(writer.write([delivery(2)], deadline=soon()))):
            with pytest.raises(BusUnavailable, match="has ended"):
                await answer


async def test_what_came_before_the_end_is_written_and_remembered() -> None:
    log, claims = Held(), Memory()
    async with remote(log, claims) as (writer, serving):
        waiting = asyncio.create_task(writer.write([delivery(1)], deadline=soon()))
        await asyncio.sleep(0.05)
        closing = asyncio.create_task(writer.close())
        await asyncio.sleep(0.05)
        assert not closing.done()
        log.gate.set()
        await closing
        assert await waiting == [("push-events", 0, 0)]
        await serving
    assert claims.values.keys() == {"delivery:d-1"}


def test_what_a_killed_receiver_had_sent_is_written_and_remembered() -> None:
    """On uvloop, which raises where asyncio forgives a write to nobody; an answer unread breaks the connection."""
    log, claims = Held(), Memory()

    def asked(number: int) -> bytes:
        body = msgspec.msgpack.encode((number, soon(), [delivery(number)]))
        return len(body).to_bytes(4) + body

    async def run() -> None:
        ours, theirs = socket.socketpair()
        serving = asyncio.create_task(serve(theirs, Writer(log, claims, keep_s=60.0)))
        log.gate.set()
        ours.sendall(asked(0))
        while not select.select([ours], [], [], 0)[0]:  # noqa: ASYNC110 - nothing in this loop says so
            await asyncio.sleep(0)
        log.gate.clear()
        ours.sendall(b"".join(map(asked, range(1, 9))))
        await asyncio.sleep(0.05)
        ours.close()
        await asyncio.sleep(0.05)
        log.gate.set()
        await serving

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())
    assert log.records == [delivery(number).record for number in range(9)]
    assert claims.values.keys() == {f"delivery:d-{number}" for number in range(9)}
