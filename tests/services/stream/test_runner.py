"""The runner on a real log in a temporary folder, with a clock that only a test moves."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import pytest
import structlog
from sentinel.v1.events_pb2 import DeadLetter

from services import codec
from services.errors import BusUnavailable, Deferred, Poison, Retryable
from services.settings import StreamSettings
from services.stream import open_admin, open_consumer, open_producer
from services.stream.base import Consumer, Producer
from services.stream.runner import Limits, Runner
from services.stream.sqlite import partition_of
from services.stream.types import Appended, NewRecord, Record, TopicPartition
from services.telemetry import Metrics
from services.tracing import OFF, Tracing
from tests.services.spans import PARENT, TRACE, TRACEPARENT, Collected, id_of, parent_of

PARTITIONS = 4
Effect = Callable[[Record], Awaitable[Sequence[NewRecord]]]


class Clock:
    def __init__(self) -> None:
        self.now = 0.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, delay_s: float) -> None:
        self._sleepers.append((self.now + delay_s, asyncio.get_running_loop().create_future()))
        await self._sleepers[-1][1]

    def due(self) -> list[float]:
        return [due for due, future in self._sleepers if not future.done()]

    def advance(self, seconds: float) -> None:
        self.now += seconds
        for due, future in self._sleepers:
            if due <= self.now and not future.done():
                future.set_result(None)


class Handler:
    """Does as the test says, and remembers what was tried and what was done."""

    def __init__(self, effect: Effect) -> None:
        self._effect = effect
        self.tried: list[str] = []
        self.done: list[str] = []

    async def handle(self, record: Record) -> Sequence[NewRecord]:
        self.tried.append(record.value.decode())
        produced = await self._effect(record)
        self.done.append(record.value.decode())
        return produced


class Bench:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.settings = StreamSettings(lease_s=60, poll_ms=2)
        self.clock = Clock()
        self.metrics = Metrics()
        self.producer = open_producer(self.settings, path)
        self.admin = open_admin(self.settings, path)
        self.running: list[tuple[Runner, asyncio.Task[None]]] = []

    def consumer(self) -> Consumer:
        return open_consumer(self.settings, self.path, group="group", topic="topic")

    def start(
        self,
        effect: Effect,
        *,
        limits: Limits | None = None,
        producer: Producer | None = None,
        consumer: Consumer | None = None,
        tracing: Tracing = OFF,
    ) -> tuple[Runner, Handler]:
        runner = Runner(
            consumer or self.consumer(),
            producer or self.producer,
            handler := Handler(effect),
            topic="topic",
            group="group",
            metrics=self.metrics,
            tracing=tracing,
            limits=limits or Limits(),
            clock=self.clock,
            wall_ns=lambda: int(self.clock.now * 1e9) + 1,
            sleep=self.clock.sleep,
            chance=lambda: 1.0,
        )
        self.running.append((runner, asyncio.create_task(runner.run())))
        return runner, handler

    async def append(self, *values: str, key: str = "", headers: dict[str, bytes] | None = None) -> None:
        await self.producer.append(
            [NewRecord("topic", (key or value).encode(), value.encode(), headers or {}) for value in values]
        )

    async def committed(self) -> int:
        return sum(lag.committed or 0 for lag in await self.admin.lag("group", "topic"))

    async def committed_is(self, count: int) -> bool:
        return await self.committed() == count

    def sleeps(self, delay_s: float) -> bool:
        """Somebody waits for the clock to move exactly this far."""
        return self.clock.now + delay_s in self.clock.due()

    async def read(self, topic: str) -> list[Record]:
        return [
            record
            for partition in range(PARTITIONS)
            for record in await self.admin.read(TopicPartition(topic, partition), 0, 10_000)
        ]

    async def letters(self) -> list[DeadLetter]:
        return [codec.decode(DeadLetter, record.value) for record in await self.read("reviews-dlq")]

    async def stop(self) -> None:
        for runner, task in self.running:
            runner.stop()
            await asyncio.wait([task])
        self.running.clear()

    def metric(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path / "log.sqlite")
    await bench.admin.create_topics({"topic": PARTITIONS, "out": PARTITIONS, "reviews-dlq": PARTITIONS})
    yield bench
    await bench.stop()
    await bench.producer.close()
    await bench.admin.close()


async def until(holds: Callable[[], bool | Awaitable[bool]]) -> None:
    """The deadline is generous: it is met only when something is broken."""
    deadline = time.monotonic() + 30
    while True:
        answer = holds()
        if answer if isinstance(answer, bool) else await answer:
            return
        assert time.monotonic() < deadline, "it did not come to hold"
        await asyncio.sleep(0.001)


def keys_of(partition: int, count: int) -> list[str]:
    """Different keys of one partition."""
    found = (str(number) for number in range(10_000) if partition_of(str(number).encode(), PARTITIONS) == partition)
    return [next(found) for _ in range(count)]


async def nothing(record: Record) -> Sequence[NewRecord]:
    return ()


async def test_every_record_is_handled_once_and_committed(bench: Bench) -> None:
    await bench.append(*map(str, range(200)))
    _, handler = bench.start(nothing)
    await until(lambda: bench.committed_is(200))
    assert sorted(map(int, handler.done)) == list(range(200))


async def test_keys_run_side_by_side_and_records_of_a_key_in_turn(bench: Bench) -> None:
    one, other = keys_of(0, 2)
    gates = {"a1": asyncio.Event(), "b1": asyncio.Event()}

    async def wait(record: Record) -> Sequence[NewRecord]:
        if gate := gates.get(record.value.decode()):
            await gate.wait()
        return ()

    await bench.append("a1", "a2", key=one)
    await bench.append("b1", key=other)
    _, handler = bench.start(wait)
    await until(lambda: handler.tried == ["a1", "b1"])
    assert bench.metric("sentinel_active_workers") == 2
    gates["a1"].set()
    await until(lambda: handler.tried == ["a1", "b1", "a2"])
    gates["b1"].set()
    await until(lambda: bench.committed_is(3))


async def test_no_more_than_max_in_flight_are_handled_at_once(bench: Bench) -> None:
    gate = asyncio.Event()

    async def wait(record: Record) -> Sequence[NewRecord]:
        await gate.wait()
        return ()

    await bench.append(*map(str, range(30)))
    _, handler = bench.start(wait, limits=Limits(max_in_flight=3))
    await until(lambda: len(handler.tried) == 3)
    gate.set()
    await until(lambda: bench.committed_is(30))


async def test_a_later_record_that_finishes_first_is_not_committed_over_an_earlier_one(bench: Bench) -> None:
    first, second, third = keys_of(0, 3)
    gate = asyncio.Event()

    async def wait(record: Record) -> Sequence[NewRecord]:
        if record.key == second.encode():
            await gate.wait()
        return ()

    await bench.append(first, second, third)
    _, handler = bench.start(wait)
    await until(lambda: len(handler.done) == 2)
    await until(lambda: bench.committed_is(1))
    gate.set()
    await until(lambda: bench.committed_is(3))


async def test_what_a_handler_returns_is_appended_with_the_trace_of_its_record(bench: Bench) -> None:
    async def pass_on(record: Record) -> Sequence[NewRecord]:
        context = structlog.contextvars.get_contextvars()
        seen = f"{context['delivery_id']} {context['traceparent']}"
        return [NewRecord("out", record.key, seen.encode(), {"attempt": b"0"})]

    await bench.append("x", headers={"delivery-id": b"d-1", "traceparent": b"00-aa", "private": b"stays"})
    bench.start(pass_on)
    await until(lambda: bench.committed_is(1))
    (out,) = await bench.read("out")
    assert out.value == b"d-1 00-aa"
    assert out.headers == {"delivery-id": b"d-1", "traceparent": b"00-aa", "attempt": b"0"}


async def test_with_a_collector_what_follows_lies_below_the_span_of_its_record(bench: Bench) -> None:
    async def pass_on(record: Record) -> Sequence[NewRecord]:
        assert structlog.contextvars.get_contextvars()["traceparent"] == record.headers["traceparent"].decode()
        return [NewRecord("out", record.key, record.headers["traceparent"])]

    collected = Collected()
    await bench.append("x", headers={"delivery-id": b"d-1", "traceparent": TRACEPARENT.encode()})
    bench.start(pass_on, tracing=collected.tracing)
    await until(lambda: bench.committed_is(1))
    (out,) = await bench.read("out")
    span = collected.spans()["topic process"]
    assert parent_of(span) == PARENT
    assert out.value == out.headers["traceparent"]
    assert out.value.decode().split("-")[1:3] == [TRACE, id_of(span)]
    about = dict(span.attributes or {})
    assert (about["sentinel.delivery_id"], about["sentinel.topic"], about["sentinel.offset"]) == ("d-1", "topic", 0)


async def test_a_dead_letter_fails_its_span_and_keeps_the_headers_it_came_with(bench: Bench) -> None:
    async def refuse(_: Record) -> Sequence[NewRecord]:
        raise Poison("no_sense", "it makes none")

    collected = Collected()
    await bench.append("x", headers={"traceparent": TRACEPARENT.encode()})
    bench.start(refuse, tracing=collected.tracing)
    await until(lambda: bench.committed_is(1))
    (letter,) = await bench.read("reviews-dlq")
    kept = {one.name: one.value for one in DeadLetter.FromString(letter.value).headers}
    assert kept["traceparent"] == TRACEPARENT.encode()
    assert collected.spans()["topic process"].status.description == "no_sense"


async def test_the_counters_that_alerts_watch_begin_at_0(bench: Bench) -> None:
    Runner(bench.consumer(), bench.producer, Handler(nothing), topic="topic", group="group", metrics=bench.metrics)
    value = bench.metrics.registry.get_sample_value
    for operation in ("poll", "append", "commit"):
        assert value("sentinel_bus_errors_total", {"topic": "topic", "operation": operation}) == 0
    assert value("sentinel_delivery_ended_total", {"outcome": "dead-lettered"}) == 0
    assert value("sentinel_deferred_total", {"topic": "topic"}) == 0


async def test_a_deferred_record_pauses_its_partition_alone_and_uses_no_retries(bench: Bench) -> None:
    is_down = True

    async def ask(record: Record) -> Sequence[NewRecord]:
        if is_down and record.value == b"down":
            raise Deferred("rate limit", retry_after_s=30)
        return ()

    here, beside = keys_of(0, 2)
    (elsewhere,) = keys_of(1, 1)
    await bench.append("down", key=here)
    _, handler = bench.start(ask)
    for times in range(1, 9):
        await until(lambda: bench.metric("sentinel_deferred_total", topic="topic") == times)  # noqa: B023
        if times < 8:
            bench.clock.advance(30)
    bench.clock.advance(29)
    await bench.append("beside", key=beside)
    await bench.append("elsewhere", key=elsewhere)
    await until(lambda: bench.committed_is(1))
    assert handler.done == ["elsewhere"]
    is_down = False
    bench.clock.advance(1)
    await until(lambda: bench.committed_is(3))
    assert sorted(handler.done) == ["beside", "down", "elsewhere"]
    assert await bench.letters() == []


async def test_a_record_that_fails_is_retried_with_growing_pauses_then_set_aside(bench: Bench) -> None:
    async def fail(record: Record) -> Sequence[NewRecord]:
        raise Retryable("422 from GitHub")

    await bench.append("x", headers={"delivery-id": b"d-1", "attempt": b"2"})
    _, handler = bench.start(fail, limits=Limits(retry_base_s=10))
    for tried, delay_s in enumerate((10, 20, 40), start=1):
        await until(lambda: bench.sleeps(delay_s))  # noqa: B023
        assert len(handler.tried) == tried
        bench.clock.advance(delay_s)
    await until(lambda: bench.committed_is(1))
    (letter,) = await bench.letters()
    (original,) = await bench.read("topic")
    assert (letter.topic, letter.partition, letter.offset) == ("topic", original.partition, original.offset)
    assert (letter.key, letter.value, letter.group) == (b"x", b"x", "group")
    assert {header.name: header.value for header in letter.headers} == original.headers
    assert (letter.reason, letter.message) == ("attempts_exhausted", "422 from GitHub")
    assert letter.attempts == 2 + 4
    assert (letter.first_failed_at_ns, letter.last_failed_at_ns) == (1, 70_000_000_001)
    assert bench.metric("sentinel_dead_letters_total", topic="topic", reason="attempts_exhausted") == 1


async def test_a_dead_letter_ends_its_delivery_in_the_log(bench: Bench) -> None:
    async def refuse(record: Record) -> Sequence[NewRecord]:
        raise Poison("undecodable", "2 bytes are no Event")

    await bench.append("x", headers={"delivery-id": b"d-1"})
    with structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        bench.start(refuse)
        await until(lambda: bench.committed_is(1))
    (line,) = [line for line in lines if line["event"] == "delivery.ended"]
    assert (line["outcome"], line["reason"], line["delivery_id"]) == ("dead-lettered", "undecodable", "d-1")
    assert bench.metric("sentinel_delivery_ended_total", outcome="dead-lettered") == 1


async def test_a_consumer_halts_when_everything_fails(bench: Bench) -> None:
    async def refuse(record: Record) -> Sequence[NewRecord]:
        raise Poison("broken_deploy", "nothing works")

    await bench.append(*map(str, range(100)))
    runner, _ = bench.start(refuse, limits=Limits(halt_after=10))
    await until(lambda: bench.metric("sentinel_consumer_halted") == 1)
    assert not runner.is_ready()
    assert not runner.is_working()
    await bench.append("later")
    await bench.stop()
    assert len(await bench.letters()) == 10
    assert await bench.committed() <= 10
    _, mended = bench.start(nothing)
    await until(lambda: bench.committed_is(101))
    assert len(set(mended.done)) >= 91


async def test_a_halted_consumer_stays_in_its_group(bench: Bench) -> None:
    async def refuse(record: Record) -> Sequence[NewRecord]:
        raise Poison("broken_deploy", "nothing works")

    await bench.append(*map(str, range(30)))
    bench.start(refuse, limits=Limits(halt_after=1))
    await until(lambda: bench.metric("sentinel_consumer_halted") == 1)
    newcomer = bench.consumer()

    async def has_its_share() -> bool:
        await newcomer.poll(max_records=0, timeout_s=0.01)
        return len(newcomer.assignment()) == PARTITIONS // 2

    await until(has_its_share)
    await newcomer.close()


async def test_failures_between_successes_never_halt(bench: Bench) -> None:
    async def refuse_odd(record: Record) -> Sequence[NewRecord]:
        if int(record.value) % 2:
            raise Poison("odd", "it is odd")
        return ()

    await bench.append(*map(str, range(40)), key="one")
    runner, _ = bench.start(refuse_odd, limits=Limits(halt_after=2))
    await until(lambda: bench.committed_is(40))
    assert runner.is_ready()
    assert len(await bench.letters()) == 20


async def test_an_undeclared_error_stops_the_replica_and_commits_nothing_of_its_record(bench: Bench) -> None:
    async def stumble(record: Record) -> Sequence[NewRecord]:
        if record.value == b"bad":
            raise ZeroDivisionError("a bug")
        return ()

    await bench.append("good", "bad", key="one")
    bench.start(stumble)
    ((_, task),) = bench.running
    with pytest.raises(ZeroDivisionError, match="a bug"):
        await task
    assert await bench.committed() == 1
    _, mended = bench.start(nothing)
    await until(lambda: bench.committed_is(2))
    assert mended.done == ["bad"]


async def test_stopping_finishes_what_is_in_work_and_leaves_the_rest(bench: Bench) -> None:
    gate = asyncio.Event()

    async def wait(record: Record) -> Sequence[NewRecord]:
        await gate.wait()
        return [NewRecord("out", record.key, record.value)]

    await bench.append("1", "2", "3", key="one")
    runner, handler = bench.start(wait)
    await until(lambda: handler.tried == ["1"])
    runner.stop()
    assert not runner.is_ready()
    gate.set()
    await bench.stop()
    assert handler.done == ["1"]
    assert [record.value for record in await bench.read("out")] == [b"1"]
    assert await bench.committed() == 1
    successor = bench.consumer()
    assert await successor.poll(max_records=0, timeout_s=60) == []
    assert len(successor.assignment()) == PARTITIONS, "it left the group at once"
    await successor.close()


async def test_stopping_waits_for_no_pause_and_no_longer_than_drain_s(bench: Bench) -> None:
    async def wait(record: Record) -> Sequence[NewRecord]:
        if record.value == b"deferred":
            raise Deferred("down", retry_after_s=3600)
        await asyncio.Event().wait()
        return ()

    await bench.append("deferred", key=keys_of(0, 1)[0])
    await bench.append("stuck", key=keys_of(1, 1)[0])
    _, handler = bench.start(wait, limits=Limits(drain_s=0.01))
    await until(lambda: len(handler.tried) == 2)
    await bench.stop()
    assert await bench.committed() == 0


async def test_a_partition_that_moves_takes_its_unfinished_records_along(bench: Bench) -> None:
    keys = [keys_of(partition, 1)[0] for partition in range(PARTITIONS)]
    gate = asyncio.Event()

    async def wait(record: Record) -> Sequence[NewRecord]:
        await gate.wait()
        return ()

    await bench.append(*keys)
    _, first = bench.start(wait)
    await until(lambda: len(first.tried) == 4)
    _, second = bench.start(nothing)
    await until(lambda: len(second.done) == 2)
    gate.set()
    await until(lambda: bench.committed_is(4))
    assert sorted(first.done + second.done) == sorted(keys)


class Flaky:
    """A producer that refuses the first appends, or dies after one."""

    def __init__(self, producer: Producer, *, refusals: int = 0, crash: Exception | None = None) -> None:
        self._producer = producer
        self._refusals = refusals
        self._crash = crash

    async def append(self, records: Sequence[NewRecord]) -> list[Appended]:
        if self._refusals:
            self._refusals -= 1
            raise BusUnavailable("the disk is full")
        appended = await self._producer.append(records)
        if self._crash:
            raise self._crash
        return appended

    async def close(self) -> None: ...


async def echo(record: Record) -> Sequence[NewRecord]:
    return [NewRecord("out", record.key, record.value)]


async def test_a_crash_between_effect_and_commit_repeats_the_effect_and_loses_none(bench: Bench) -> None:
    await bench.append("x")
    bench.start(echo, producer=Flaky(bench.producer, crash=SystemError("power cut")))
    ((_, task),) = bench.running
    with pytest.raises(SystemError):
        await task
    assert await bench.committed() == 0
    bench.start(echo)
    await until(lambda: bench.committed_is(1))
    assert [record.value for record in await bench.read("out")] == [b"x", b"x"]


async def test_a_refused_append_is_tried_again_without_handling_again(bench: Bench) -> None:
    await bench.append("x")
    _, handler = bench.start(echo, producer=Flaky(bench.producer, refusals=2))
    for refusals in (1, 2):
        await until(lambda: bench.metric("sentinel_bus_errors_total", topic="topic", operation="append") == refusals)  # noqa: B023
        bench.clock.advance(1)
    await until(lambda: bench.committed_is(1))
    assert handler.tried == ["x"]
    assert [record.value for record in await bench.read("out")] == [b"x"]


async def test_a_record_whose_outcome_is_too_large_is_set_aside_and_the_next_goes_on(bench: Bench) -> None:
    async def effect(record: Record) -> Sequence[NewRecord]:
        size = bench.settings.max_record_bytes if record.value == b"wide" else 1
        return [NewRecord("out", record.key, b"x" * size)]

    bench.start(effect)
    await bench.append("wide", "narrow", key="one")
    await until(lambda: bench.committed_is(2))
    (letter,) = await bench.letters()
    assert (letter.value, letter.reason, letter.attempts) == (b"wide", "too_large", 1)
    assert "max_record_bytes" in letter.message
    assert [record.value for record in await bench.read("out")] == [b"x"]


async def test_a_lost_log_is_waited_for(bench: Bench, tmp_path: Path) -> None:
    broken = tmp_path / "broken" / "log.sqlite"
    broken.parent.write_text("a file where the folder should be")
    consumer = open_consumer(bench.settings, broken, group="group", topic="topic")
    runner, _ = bench.start(nothing, consumer=consumer)
    await until(lambda: bench.metric("sentinel_bus_errors_total", topic="topic", operation="poll") == 1)
    assert not runner.is_ready()
    assert runner.is_working(), "what does not need the log goes on"
    broken.parent.unlink()
    await until(lambda: bench.sleeps(0.2))
    bench.clock.advance(0.2)
    await until(runner.is_ready)


async def test_lag_of_the_owned_partitions_is_a_metric(bench: Bench) -> None:
    async def wait(record: Record) -> Sequence[NewRecord]:
        await asyncio.Event().wait()
        return ()

    await bench.append(*map(str, range(7)))
    _, handler = bench.start(wait, limits=Limits(drain_s=0.01))
    await until(lambda: len(handler.tried) == 7)
    bench.clock.advance(1)
    await until(lambda: bench.metric("sentinel_kafka_lag", topic="topic") == 7)
