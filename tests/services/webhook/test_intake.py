import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from services.contract import Header, Topic
from services.errors import BusUnavailable
from services.settings import StreamSettings
from services.stream import open_admin, open_producer
from services.stream.types import Appended, NewRecord
from services.telemetry import Metrics
from services.webhook.intake import Intake
from services.webhook.writer import Writer, recall
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


class Slow(Memory):
    """Claims that remember when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()

    async def put_many(self, values: Mapping[str, bytes], *, keep_s: float) -> None:
        await self.gate.wait()
        await super().put_many(values, keep_s=keep_s)


def intake(log: Log, claims: Memory, *, timeout_s: float = 30.0, metrics: Metrics | None = None) -> Intake:
    return Intake(Writer(log, claims, keep_s=60.0), metrics or Metrics(), timeout_s=timeout_s)


def record(delivery_id: str) -> NewRecord:
    return NewRecord("push-events", b"1", delivery_id.encode())


async def let_it_run() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


async def test_what_comes_while_two_groups_are_under_way_makes_the_next_one() -> None:
    log, claims = Gated(), Memory()
    desk = intake(log, claims)
    async with asyncio.TaskGroup() as tasks:
        early = []
        for name in ("d-0", "d-1"):
            early.append(tasks.create_task(desk.take(name, record(name))))
            await let_it_run()
        rest = [tasks.create_task(desk.take(f"d-{n}", record(f"d-{n}"))) for n in range(2, 10)]
        await let_it_run()
        assert log.groups == [1, 1]
        log.gate.set()
    await desk.close()
    assert log.groups == [1, 1, 8]
    assert [each.result() for each in (*early, *rest)] == [("push-events", 0, offset) for offset in range(10)]
    assert len(claims.values) == 10


async def test_a_delivery_is_answered_before_it_is_remembered_and_is_known_all_the_same() -> None:
    log, claims = Log(), Slow()
    desk = intake(log, claims)
    assert await desk.take("d-1", record("d-1")) == ("push-events", 0, 0)
    assert claims.values == {}
    assert await desk.take("d-1", record("d-1")) is None
    claims.gate.set()
    await desk.close()
    assert list(claims.values) == ["delivery:d-1"]


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


async def test_the_last_deliveries_of_the_log_are_recalled(tmp_path: Path) -> None:
    settings, claims = StreamSettings(partitions=3), Memory()
    admin, producer = open_admin(settings, tmp_path / "log"), open_producer(settings, tmp_path / "log")
    await recall(admin, claims, keep_s=60.0)
    assert claims.values == {}, "there is no topic yet"
    await admin.create_topics({Topic.PUSH_EVENTS: 3})
    records = [NewRecord(Topic.PUSH_EVENTS, b"%d" % n, b"", {Header.DELIVERY_ID: b"d-%d" % n}) for n in range(50)]
    await producer.append(records)
    await recall(admin, claims, keep_s=60.0)
    assert (claims.values.keys(), claims.kept_s) == ({f"delivery:d-{n}" for n in range(50)}, 60.0)
    desk = Intake(Writer(producer, claims, keep_s=60.0), Metrics(), timeout_s=30.0)
    assert await desk.take("d-49", records[-1]) is None
    await producer.close()
    await admin.close()


@pytest.mark.parametrize("lost", ["log", "claims"])
async def test_a_receiver_starts_without_what_it_would_recall(tmp_path: Path, lost: str) -> None:
    settings, path = StreamSettings(), tmp_path / "log"
    admin = open_admin(settings, path)
    await admin.create_topics({Topic.PUSH_EVENTS: 3})
    await admin.close()
    if lost == "log":
        path.write_bytes(b"no database" * 1000)
    claims = Memory(is_lost=lost == "claims")
    with capture_logs() as lines:
        await recall(admin := open_admin(settings, path), claims, keep_s=60.0)
    await admin.close()
    assert [line["event"] for line in lines] == ["deliveries.not_recalled"]


async def test_without_the_claims_everything_is_new() -> None:
    log, claims = Log(), Memory(is_lost=True)
    desk = intake(log, claims)
    for offset in range(2):
        assert await desk.take("d-1", record("d-1")) == ("push-events", 0, offset)
        await desk.close()
