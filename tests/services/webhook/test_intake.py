import asyncio
from collections.abc import Sequence

import pytest

from services.errors import BusUnavailable
from services.stream.types import Appended, NewRecord
from services.telemetry import Metrics
from services.webhook.intake import Intake
from tests.services.webhook.fakes import Log, Memory, unavailable


class Gated(Log):
    """A log that appends when told to, and keeps the size of each group."""

    def __init__(self) -> None:
        super().__init__()
        self.groups: list[int] = []
        self.gate = asyncio.Event()

    async def append(self, records: Sequence[NewRecord]) -> list[Appended]:
        self.groups.append(len(records))
        await self.gate.wait()
        return await super().append(records)


def intake(log: Log, claims: Memory, *, timeout_s: float = 30.0, metrics: Metrics | None = None) -> Intake:
    return Intake(log, claims, metrics or Metrics(), timeout_s=timeout_s, keep_s=60.0)


def record(delivery_id: str) -> NewRecord:
    return NewRecord("push-events", b"1", delivery_id.encode())


async def let_it_run() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


async def test_what_comes_while_a_group_is_under_way_makes_the_next_one() -> None:
    log, claims = Gated(), Memory()
    desk = intake(log, claims)
    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(desk.take("d-0", record("d-0")))
        await let_it_run()
        rest = [tasks.create_task(desk.take(f"d-{n}", record(f"d-{n}"))) for n in range(1, 9)]
        await let_it_run()
        assert log.groups == [1]
        log.gate.set()
    assert log.groups == [1, 8]
    assert first.result() == ("push-events", 0, 0)
    assert [each.result() for each in rest] == [("push-events", 0, offset) for offset in range(1, 9)]
    assert len(claims.values) == 9


@pytest.mark.parametrize("same_group", [True, False])
async def test_one_delivery_that_comes_many_times_at_once_is_appended_once(same_group: bool) -> None:
    log, claims = Gated(), Memory()
    desk = intake(log, claims)
    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(desk.take("d-1", record("d-1")))
        if not same_group:
            await let_it_run()
        again = [tasks.create_task(desk.take("d-1", record("d-1"))) for _ in range(3)]
        await let_it_run()
        log.gate.set()
    assert first.result() == ("push-events", 0, 0)
    assert [each.result() for each in again] == [None] * 3
    assert len(log.records) == 1


async def test_a_group_that_fails_is_answered_so_to_all_of_it_and_is_remembered_by_nobody() -> None:
    log, claims, metrics = Log(fault=unavailable()), Memory(), Metrics()
    desk = intake(log, claims, metrics=metrics)
    answers = await asyncio.gather(*(desk.take(f"d-{n % 2}", record("d")) for n in range(4)), return_exceptions=True)
    assert [type(each) for each in answers] == [BusUnavailable] * 4
    assert claims.values == {}
    log.fault = None
    assert await desk.take("d-0", record("d-0")) == ("push-events", 0, 0)


async def test_an_error_of_ours_reaches_whoever_waits_and_ends_nothing() -> None:
    log = Log(fault=ZeroDivisionError())
    desk = intake(log, Memory())
    with pytest.raises(ZeroDivisionError):
        await desk.take("d-1", record("d-1"))
    log.fault = None
    assert await desk.take("d-1", record("d-1")) == ("push-events", 0, 0)


async def test_nobody_waits_longer_than_the_limit_and_a_late_append_is_still_remembered() -> None:
    log, claims = Gated(), Memory()
    desk = intake(log, claims, timeout_s=0.05)
    with pytest.raises(TimeoutError):
        await desk.take("d-1", record("d-1"))
    log.gate.set()
    assert await desk.take("d-2", record("d-2")) == ("push-events", 0, 0)


async def test_a_sender_that_hangs_up_while_it_waits_takes_nobody_with_it() -> None:
    log, claims = Gated(), Memory()
    desk = intake(log, claims)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(desk.take("d-0", record("d-0")))
        await let_it_run()
        gone = tasks.create_task(desk.take("d-1", record("d-1")))
        last = tasks.create_task(desk.take("d-2", record("d-2")))
        await let_it_run()
        gone.cancel()
        await let_it_run()
        log.gate.set()
    assert last.result() == ("push-events", 0, 2)
    assert await desk.take("d-1", record("d-1")) is None, "it was on its way"


async def test_without_the_claims_everything_is_new() -> None:
    log, claims = Log(), Memory(is_lost=True)
    desk = intake(log, claims)
    assert await desk.take("d-1", record("d-1")) == ("push-events", 0, 0)
    assert await desk.take("d-1", record("d-1")) == ("push-events", 0, 1)
