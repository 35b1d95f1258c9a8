"""What every log promises. Another implementation joins as another parameter of `make_log`.

Kafka stands behind two of them: `mock`, librdkafka's mock broker in this process, and `kafka`, the broker that
SENTINEL_TEST_KAFKA=HOST:PORT names. What the mock cannot do is marked at the test that needs it.
"""

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from sentinel.v1.events_pb2 import DeadLetter

from services import codec
from services.errors import BusUnavailable, ConfigError, Poison, RecordTooLarge
from services.settings import StreamSettings
from services.stream import open_admin, open_consumer, open_producer
from services.stream.base import Admin, Consumer, Producer
from services.stream.runner import Runner
from services.stream.types import NewRecord, Record, TopicPartition
from services.telemetry import Metrics
from tests.contracts.mock_broker import API_VERSION, MockBroker

PARTITIONS = 4
TOPICS = {"topic": PARTITIONS, "reviews-dlq": PARTITIONS}
LEAST_LEASE_S = 6  # of a Kafka broker that nobody configured
MOCK_LEASE_S = 3  # a member that joins the mock after another left waits for all but a second of it
ONE_MEMBER = "the mock ends a rebalance of two members before the second has joined: a race, so it is not run"


def mock_cannot(reason: str, *, run: bool = True) -> pytest.MarkDecorator:
    """run=False: what happens instead is a matter of chance, or of waiting for a deadline."""
    return pytest.mark.mock_cannot(reason, run=run)


class Process:
    """stream_process.py, and the answers it gave."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def tell(self, command: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(command.encode() + b"\n")
        await self._process.stdin.drain()

    async def answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        async with asyncio.timeout(30):
            line = await self._process.stdout.readline()
        assert line, "the process ended"
        return json.loads(line)

    async def ask(self, command: str) -> dict[str, Any]:
        await self.tell(command)
        return await self.answer()

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def killed(self) -> list[dict[str, Any]]:
        """Kills it, and returns what it had still said."""
        if self._process.returncode is None:
            self._process.kill()
        out, _ = await self._process.communicate()
        return [json.loads(line) for line in out.splitlines(keepends=True) if line.endswith(b"\n")]


class Log:
    """One log, in a folder or under a prefix of its own; closes whatever was opened on it."""

    def __init__(
        self, path: Path, settings: StreamSettings, broker: MockBroker | None = None, *, on_thread: bool = True
    ) -> None:
        self.path = path
        self._on_thread = on_thread
        self.settings = settings
        self.where = str(path) if settings.kind != "kafka" else settings.bootstrap
        self._broker = broker
        self._opened: list[Producer | Consumer | Admin] = []
        self._processes: list[Process] = []

    def producer(self) -> Producer:
        self._opened.append(producer := open_producer(self.settings, self.path, on_thread=self._on_thread))
        return producer

    def consumer(self, group: str = "group", member: str = "") -> Consumer:
        consumer = open_consumer(self.settings, self.path, group=group, topic="topic", member=member)
        self._opened.append(consumer)
        return consumer

    def admin(self) -> Admin:
        self._opened.append(admin := open_admin(self.settings, self.path))
        return admin

    async def process(self, member: str = "") -> Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(Path(__file__).with_name("stream_process.py")),
            self.settings.model_dump_json(),
            str(self.path),
            member,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        self._processes.append(Process(process))
        return self._processes[-1]

    async def values(self) -> list[str]:
        """Of all records, read without a group."""
        admin = self.admin()
        found = [await admin.read(TopicPartition("topic", partition), 0, 1_000_000) for partition in range(PARTITIONS)]
        return [record.value.decode() for records in found for record in records]

    def go_away(self) -> None:
        """Nobody can open it now."""
        if self._broker is not None:
            self._broker.go_down()
        else:
            self.path.rename(self.path.with_suffix(".away"))
            self.path.mkdir()

    def come_back(self) -> None:
        if self._broker is not None:
            self._broker.come_up()
        else:
            self.path.rmdir()
            self.path.with_suffix(".away").rename(self.path)

    async def close(self) -> None:
        for process in self._processes:
            await process.killed()
        for opened in self._opened:
            await opened.close()
        if self._broker is not None:
            self._broker.close()
        elif self.settings.kind == "kafka":
            from services.stream.kafka import KafkaAdmin

            admin = KafkaAdmin(self.settings)
            await admin.delete_topics(await admin.topics())
            await admin.close()


MakeLog = Callable[..., Awaitable[Log]]


@pytest.fixture(params=["sqlite", "sqlite_on_loop", "mock", "kafka"])
async def make_log(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[MakeLog]:
    bus = os.environ.get("SENTINEL_TEST_KAFKA", "")
    if request.param == "kafka" and not bus:
        pytest.skip("SENTINEL_TEST_KAFKA=HOST:PORT names no Kafka broker")
    if request.param == "mock" and (mark := request.node.get_closest_marker("mock_cannot")):
        request.applymarker(pytest.mark.xfail(reason=mark.args[0], strict=True, **mark.kwargs))
    logs: list[Log] = []

    async def make(**given: float) -> Log:
        settings: dict[str, Any] = {"lease_s": 30, "poll_ms": 2, "timeout_s": 3, **given}
        broker = None
        if "sqlite" not in request.param:
            prefix = f"test-{uuid.uuid4().hex[:12]}-"
            settings |= {"kind": "kafka", "bootstrap": bus, "prefix": prefix}
        if request.param == "kafka":
            settings["lease_s"] = max(settings["lease_s"], LEAST_LEASE_S)
        if request.param == "mock":
            broker = MockBroker()
            settings |= {"bootstrap": broker.bootstrap, "api_version": API_VERSION, "lease_s": MOCK_LEASE_S}
            for topic, partitions in TOPICS.items():
                broker.create_topic(prefix + topic, partitions)
        made = StreamSettings.model_validate(settings)
        logs.append(log := Log(tmp_path / "log.sqlite", made, broker, on_thread=request.param != "sqlite_on_loop"))
        if broker is None:
            await log.admin().create_topics(TOPICS)
        return log

    yield make
    for log in logs:
        await log.close()


def only_on(*logs: str) -> pytest.MarkDecorator:
    """For what the others have no way to show."""
    return pytest.mark.parametrize("make_log", logs, indirect=True)


@pytest.fixture
async def log(make_log: MakeLog) -> Log:
    return await make_log()


def records(values: Iterable[object], *, key: str | None = None) -> list[NewRecord]:
    return [NewRecord("topic", (key or str(value)).encode(), str(value).encode()) for value in values]


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """The deadline is generous: it is met only when something is broken."""
    deadline = time.monotonic() + 30
    while not await holds():
        assert time.monotonic() < deadline, "it did not come to hold"


async def take(consumer: Consumer, count: int) -> list[Record]:
    """Polls until `count` records came, and finds no more after them."""
    taken: list[Record] = []

    async def is_enough() -> bool:
        taken.extend(await consumer.poll(max_records=1000, timeout_s=0.05))
        return len(taken) >= count

    await until(is_enough)
    return taken + await consumer.poll(max_records=1000, timeout_s=0.01)


async def settle(consumers: list[Consumer], shares: list[int]) -> None:
    """Polls all until they own these many partitions, whoever has which."""

    async def is_settled() -> bool:
        for consumer in consumers:
            await consumer.poll(max_records=0, timeout_s=0.01)
        return sorted(len(consumer.assignment()) for consumer in consumers) == sorted(shares)

    await until(is_settled)


def offsets_after(taken: Iterable[Record]) -> dict[TopicPartition, int]:
    return {record.position: record.offset + 1 for record in taken}


async def test_records_of_a_key_come_in_the_order_of_their_appends(log: Log) -> None:
    producer = log.producer()
    for step in range(5):
        await producer.append([*records([f"a{step}"], key="a"), *records([f"b{step}"], key="b")])
    taken = await take(log.consumer(), 10)
    assert [record.value for record in taken if record.key == b"a"] == [b"a0", b"a1", b"a2", b"a3", b"a4"]
    assert [record.value for record in taken if record.key == b"b"] == [b"b0", b"b1", b"b2", b"b3", b"b4"]


async def test_a_record_comes_back_as_it_was_appended(log: Log) -> None:
    before_ms = int(time.time() * 1000)
    new = NewRecord("topic", b"\x00\xff", bytes(range(256)), {"traceparent": b"00-\xff", "empty": b""})
    (appended,) = await log.producer().append([new])
    (record,) = await take(log.consumer(), 1)
    assert (record.topic, record.key, record.value, record.headers) == (new.topic, new.key, new.value, new.headers)
    assert (record.topic, record.partition, record.offset) == appended
    assert before_ms <= record.timestamp_ms <= time.time() * 1000


@mock_cannot("the mock makes up every topic it is asked for")
async def test_an_append_takes_all_of_its_records_or_none(log: Log) -> None:
    producer = log.producer()
    good, bad = await asyncio.gather(
        producer.append(records(["kept"])),
        producer.append([*records(["dropped"]), NewRecord("nowhere", b"k", b"v")]),
        return_exceptions=True,
    )
    assert isinstance(good, list)
    assert isinstance(bad, BusUnavailable)
    assert "nowhere" in str(bad)
    assert await log.values() == ["kept"]


async def test_offsets_are_dense_whoever_appends(log: Log) -> None:
    producers = [log.producer(), log.producer()]
    appended = await asyncio.gather(
        *(producers[number % 2].append(records([number], key="one")) for number in range(60))
    )
    assert sorted(one.offset for (one,) in appended) == list(range(60))


@mock_cannot("the mock has no CreateTopics")
async def test_topics_are_created_once(log: Log) -> None:
    admin = log.admin()
    assert await admin.create_topics({"topic": 9, "more": 2}) == {"more"}
    assert await admin.topics() == {"more": 2, "reviews-dlq": PARTITIONS, "topic": PARTITIONS}


@mock_cannot("the mock makes up every topic it is asked for, with four partitions", run=False)
async def test_a_waiting_consumer_gets_partitions_of_a_topic_made_later(make_log: MakeLog) -> None:
    log = await make_log()
    consumer = open_consumer(log.settings, log.path, group="group", topic="later")
    assert await consumer.poll(max_records=1, timeout_s=0.01) == []
    await log.admin().create_topics({"later": 2})
    await settle([consumer], [2])
    await consumer.close()


async def test_a_poll_that_is_woken_and_cancelled_at_once_is_cancelled(log: Log) -> None:
    consumer = log.consumer()
    await settle([consumer], [PARTITIONS])
    consumer.pause(consumer.assignment())
    for _ in range(10):
        poll = asyncio.ensure_future(consumer.poll(max_records=1, timeout_s=5))
        await asyncio.sleep(0.05)  # it waits by now, most of the times
        consumer.resume(frozenset())
        poll.cancel()
        with pytest.raises(asyncio.CancelledError):
            await poll


async def test_groups_read_apart_from_each_other(log: Log) -> None:
    await log.producer().append(records(range(5)))
    assert len(await take(log.consumer("one"), 5)) == 5
    assert len(await take(log.consumer("two"), 5)) == 5


async def test_a_group_goes_on_where_it_committed(log: Log) -> None:
    await log.producer().append(records(range(6), key="one"))
    first = log.consumer()
    taken = await take(first, 6)
    await first.commit(offsets_after(taken[:4]))
    await first.close()
    assert [record.offset for record in await take(log.consumer(), 2)] == [4, 5]


async def test_max_records_bounds_a_poll(log: Log) -> None:
    await log.producer().append(records(range(20)))
    consumer = log.consumer()
    await settle([consumer], [PARTITIONS])
    seen: list[Record] = []

    async def is_all_seen() -> bool:
        polled = await consumer.poll(max_records=3, timeout_s=0.05)
        assert len(polled) <= 3
        seen.extend(polled)
        return len(seen) >= 20

    await until(is_all_seen)
    assert len(seen) == 20


async def test_a_paused_partition_is_left_alone_until_it_is_resumed(log: Log) -> None:
    consumer = log.consumer()
    await settle([consumer], [PARTITIONS])
    appended = await log.producer().append(records(range(20)))
    position = appended[0][:2]
    paused = TopicPartition(*position)
    consumer.pause(frozenset({paused}))
    others = [one for one in appended if one[:2] != position]
    assert {record.partition for record in await take(consumer, len(others))} == {one.partition for one in others}
    waiting = asyncio.create_task(consumer.poll(max_records=100, timeout_s=60))
    await asyncio.sleep(0)
    consumer.resume(frozenset({paused}))
    assert {record.position for record in await waiting} == {paused}


async def test_partitions_paused_amid_what_was_fetched_go_on_where_they_were(log: Log) -> None:
    """As a runner does that has its hands full: each partition rests after it gave something."""
    consumer = log.consumer()
    await settle([consumer], [PARTITIONS])
    await log.producer().append(records(range(80)))
    seen: list[Record] = []

    async def is_all_seen() -> bool:
        found = await consumer.poll(max_records=2, timeout_s=0.05)
        seen.extend(found)
        consumer.resume(consumer.assignment())
        consumer.pause(frozenset(record.position for record in found))
        return len(seen) >= 80

    await until(is_all_seen)
    assert sorted(int(record.value) for record in seen) == list(range(80))


async def test_a_cancelled_poll_loses_nothing(log: Log) -> None:
    consumer = log.consumer()
    await settle([consumer], [PARTITIONS])
    await log.producer().append(records(range(10)))
    seen: list[Record] = []

    async def is_all_seen() -> bool:
        poll = asyncio.ensure_future(consumer.poll(max_records=3, timeout_s=0.05))
        for _ in range(len(seen) % 4):
            await asyncio.sleep(0)
        poll.cancel()
        await asyncio.wait([poll])
        seen.extend([] if poll.cancelled() else poll.result())
        seen.extend(await consumer.poll(max_records=1, timeout_s=0.05))
        return len(seen) >= 10

    await until(is_all_seen)
    assert sorted(int(record.value) for record in seen) == list(range(10))


@mock_cannot(ONE_MEMBER, run=False)
async def test_partitions_move_from_one_member_to_four_and_back(log: Log) -> None:
    """Every record is handled once although members come and go, and no partition ever has two owners."""
    producer = log.producer()
    handled: Counter[bytes] = Counter()
    total = 0

    async def work(members: list[Consumer], shares: list[int]) -> None:
        nonlocal total

        async def is_balanced() -> bool:
            nonlocal total
            await producer.append(records(range(total, total + 8)))
            total += 8
            polled = await asyncio.gather(*(member.poll(max_records=5, timeout_s=0.02) for member in members))
            owned = [member.assignment() for member in members]
            assert len(frozenset().union(*owned)) == sum(map(len, owned))
            for member, taken in zip(members, polled, strict=True):
                handled.update(record.value for record in taken)
                await member.commit(offsets_after(taken))
            return sorted(map(len, owned)) == sorted(shares)

        await until(is_balanced)

    members = [log.consumer()]
    await work(members, [4])
    members += [log.consumer(), log.consumer(), log.consumer()]
    await work(members, [1, 1, 1, 1])
    for member in members[1:]:
        await member.close()
    await work(members[:1], [4])
    taken = await take(members[0], total - handled.total())
    handled.update(record.value for record in taken)
    await members[0].commit(offsets_after(taken))
    assert handled == Counter({str(number).encode(): 1 for number in range(total)})
    assert sum(lag.records for lag in await log.admin().lag("group", "topic")) == 0


@mock_cannot(ONE_MEMBER, run=False)
async def test_a_fifth_member_waits_without_a_partition(log: Log) -> None:
    await settle([log.consumer() for _ in range(5)], [1, 1, 1, 1, 0])


@mock_cannot(ONE_MEMBER, run=False)
async def test_a_newcomer_takes_no_more_than_its_share(log: Log) -> None:
    first, second, third = log.consumer(), log.consumer(), log.consumer()
    await settle([first, second], [2, 2])
    kept = first.assignment(), second.assignment()
    await settle([first, second, third], [2, 1, 1])
    assert first.assignment() <= kept[0]
    assert second.assignment() <= kept[1]


async def test_what_a_dead_process_had_not_committed_comes_again(make_log: MakeLog) -> None:
    log = await make_log(lease_s=0.5)
    await log.producer().append(records(range(8)))
    process = await log.process()
    seen: list[str] = []

    async def has_all() -> bool:
        seen.extend((await process.ask("poll"))["polled"])
        return len(seen) == 8

    await until(has_all)
    await process.ask("commit")
    await log.producer().append(records(range(8, 12)))
    while len(seen) < 12:
        seen += (await process.ask("poll"))["polled"]
    await process.killed()
    assert sorted(record.value for record in await take(log.consumer(), 4)) == [b"10", b"11", b"8", b"9"]


@mock_cannot(ONE_MEMBER, run=False)
async def test_a_member_back_from_a_long_sleep_commits_nothing_it_lost(make_log: MakeLog) -> None:
    log = await make_log(lease_s=0.5)
    await log.producer().append(records(range(8)))
    sleeper = await log.process()
    seen: list[str] = []
    while len(seen) < 8:
        seen += (await sleeper.ask("poll"))["polled"]
    sleeper.send(signal.SIGSTOP)
    heir = log.consumer()
    assert len(await take(heir, 8)) == 8
    sleeper.send(signal.SIGCONT)
    await sleeper.ask("commit")
    assert [lag.committed for lag in await log.admin().lag("group", "topic")] == [None] * PARTITIONS
    assert (await sleeper.ask("poll"))["owned"] == 0


@mock_cannot(ONE_MEMBER, run=False)
async def test_a_member_that_closes_hands_over_at_once(make_log: MakeLog) -> None:
    log = await make_log(lease_s=1200)
    first, second = log.consumer(), log.consumer()
    await settle([first, second], [2, 2])
    await first.close()
    await settle([second], [4])


@only_on("kafka")
async def test_a_named_member_that_dies_has_its_partitions_back_without_waiting(make_log: MakeLog) -> None:
    """Its lease is twenty minutes: nobody else would get them before."""
    log = await make_log(lease_s=1200)
    process = await log.process("host.extractor-1")

    async def owns_all() -> bool:
        return bool((await process.ask("poll"))["owned"] == PARTITIONS)

    await until(owns_all)
    await process.killed()
    await log.producer().append(records(range(8)))
    back = log.consumer(member="host.extractor-1")
    assert len(await take(back, 8)) == 8
    other = log.consumer(member="host.extractor-2")
    await settle([back, other], [2, 2])
    await back.close()
    await settle([other], [4])


@only_on("kafka")
async def test_a_member_whose_name_was_taken_commits_nothing_and_stops(make_log: MakeLog) -> None:
    log = await make_log()
    first, second = log.consumer(member="same"), log.consumer(member="same")
    await settle([first], [4])
    await settle([second], [4])
    await log.producer().append(records(range(4)))
    taken = await take(first, 4)
    with pytest.raises(ConfigError, match="by this replica's name"):
        await first.commit(offsets_after(taken))
    assert len(await take(second, 4)) == 4


@mock_cannot(ONE_MEMBER, run=False)
async def test_work_that_takes_longer_than_the_lease_keeps_its_partitions(make_log: MakeLog) -> None:
    log = await make_log(lease_s=1.5)
    slow, other = log.consumer(), log.consumer()
    await settle([slow, other], [2, 2])
    slow.pause(slow.assignment())
    deadline = time.monotonic() + 1.5 * log.settings.lease_s
    while time.monotonic() < deadline:
        await asyncio.gather(*(member.poll(max_records=1, timeout_s=0.05) for member in (slow, other)))
    assert (len(slow.assignment()), len(other.assignment())) == (2, 2)


@only_on("sqlite")
async def test_a_member_that_does_not_even_poll_keeps_its_partitions(make_log: MakeLog) -> None:
    log = await make_log(lease_s=1.5)
    idle, other = log.consumer(), log.consumer()
    await settle([idle, other], [2, 2])
    deadline = time.monotonic() + 1.5 * log.settings.lease_s
    while time.monotonic() < deadline:
        await other.poll(max_records=1, timeout_s=0.05)
    assert len(other.assignment()) == 2


@mock_cannot("the mock stamps all records with one time")
async def test_a_time_leads_to_the_first_record_since(log: Log) -> None:
    producer = log.producer()
    await producer.append(records(["old"], key="one"))
    (old,) = await take(log.consumer(), 1)

    async def is_later() -> bool:
        return time.time() * 1000 >= old.timestamp_ms + 2

    await until(is_later)
    await producer.append(records(["new", "newer"], key="one"))
    admin = log.admin()
    assert await admin.offset_at(old.position, old.timestamp_ms) == 0
    assert await admin.offset_at(old.position, old.timestamp_ms + 1) == 1
    assert await admin.offset_at(old.position, int(time.time() * 1000) + 3_600_000) == 3


async def test_a_seek_reads_again_from_there(log: Log) -> None:
    await log.producer().append(records(range(5), key="one"))
    consumer = log.consumer()
    taken = await take(consumer, 5)
    consumer.seek(taken[0].position, 3)
    assert [record.offset for record in await take(consumer, 2)] == [3, 4]


async def test_lag_counts_what_is_not_committed_and_how_old_it_is(log: Log) -> None:
    consumer = log.consumer()
    await log.producer().append(records(range(5), key="one"))
    taken = await take(consumer, 5)
    await consumer.commit(offsets_after(taken[:2]))
    (lag,) = [lag for lag in await log.admin().lag("group", "topic") if lag.end]
    assert (lag.position, lag.committed, lag.end, lag.records) == (taken[0].position, 2, 5, 3)
    assert 0 <= lag.age_s < 60
    assert sum(own.records for own in await consumer.lag()) == 3
    assert await log.consumer().lag() == []
    await consumer.commit(offsets_after(taken))
    assert {(lag.records, lag.age_s) for lag in await log.admin().lag("group", "topic")} == {(0, 0.0)}


@mock_cannot("the mock keeps records by size, not by age", run=False)
async def test_retention_drops_records_and_keeps_offsets(make_log: MakeLog) -> None:
    """A broker looks for what is too old every log.retention.check.interval.ms: five minutes unless it is set."""
    log = await make_log(retention_h=0.1 / 3600)
    producer, admin = log.producer(), log.admin()
    await producer.append(records(range(3), key="one"))

    async def is_gone() -> bool:
        await admin.expire()
        return sum(lag.records for lag in await admin.lag("group", "topic")) == 0

    await until(is_gone)
    assert sum(lag.end for lag in await admin.lag("group", "topic")) == 3
    (appended,) = await producer.append(records(["next"], key="one"))
    assert appended.offset == 3
    left = await admin.read(TopicPartition("topic", appended.partition), 0, 9)
    assert {record.offset for record in left} <= {3}


async def test_a_record_too_large_is_refused_alone(make_log: MakeLog) -> None:
    log = await make_log(max_record_bytes=65536)
    producer = log.producer()
    fitting = NewRecord("topic", b"k", b"v" * 65535)
    refused, taken = await asyncio.gather(
        producer.append([NewRecord("topic", b"k", b"small"), NewRecord("topic", b"k", b"v" * 65536)]),
        producer.append([fitting]),
        return_exceptions=True,
    )
    assert isinstance(refused, RecordTooLarge)
    assert "65537 bytes" in str(refused)
    assert "max_record_bytes = 65536" in str(refused)
    assert isinstance(taken, list)
    assert await log.values() == [fitting.value.decode()]


async def test_the_dead_letter_of_the_largest_record_fits(make_log: MakeLog) -> None:
    log = await make_log(max_record_bytes=65536)
    labels = {"h": b"h" * 16000}
    await log.producer().append([NewRecord("topic", b"k", b"v" * (65536 - 16002), labels)])
    (record,) = await take(log.consumer(), 1)
    letter = codec.dead_letter(
        record,
        reason="undecodable",
        message="m" * 1000,
        attempts=1,
        first_failed_at_ns=1,
        last_failed_at_ns=1,
        group="group",
        service_version="1",
    )
    (appended,) = await log.producer().append([letter])
    assert appended.topic == "reviews-dlq"


@only_on("sqlite", "mock")
async def test_a_log_that_is_away_is_named_and_served_once_it_is_back(make_log: MakeLog) -> None:
    """Without a deadline of their own: each refusal comes within the log's timeout, or the test never ends."""
    log = await make_log(timeout_s=1)
    await log.producer().append(records(["before"]))
    log.go_away()
    producer, consumer, admin = log.producer(), log.consumer(), log.admin()
    for refused in (producer.append(records(["lost"])), consumer.poll(max_records=1, timeout_s=60), admin.topics()):
        with pytest.raises(BusUnavailable, match=re.escape(log.where)):
            await refused
    log.come_back()
    await producer.append(records(["after"]))
    assert {record.value for record in await take(consumer, 2)} == {b"before", b"after"}


@only_on("mock")
async def test_an_outage_refuses_and_then_goes_on_where_it_was(make_log: MakeLog) -> None:
    log = await make_log(timeout_s=1)
    producer, consumer = log.producer(), log.consumer()
    await producer.append(records(range(3)))
    await consumer.commit(offsets_after(await take(consumer, 3)))
    log.go_away()
    with pytest.raises(BusUnavailable, match="start it"):
        await producer.append(records(["lost"]))
    with pytest.raises(BusUnavailable, match="start it"):
        await consumer.poll(max_records=9, timeout_s=60)
    log.come_back()

    async def is_taken() -> bool:
        with contextlib.suppress(BusUnavailable):
            return bool(await producer.append(records(["after"])))
        return False

    await until(is_taken)
    seen: list[bytes] = []

    async def is_seen() -> bool:
        with contextlib.suppress(BusUnavailable):
            seen.extend(record.value for record in await consumer.poll(max_records=9, timeout_s=0.1))
        return b"after" in seen

    await until(is_seen)
    assert set(seen) <= {b"after", b"lost"}


async def test_a_closed_log_says_so(log: Log) -> None:
    producer, consumer, admin = log.producer(), log.consumer(), log.admin()
    for one in (producer, consumer, admin):
        await one.close()
    with pytest.raises(BusUnavailable, match="closed"):
        await producer.append(records(["x"]))
    with pytest.raises(BusUnavailable, match="closed"):
        await consumer.poll(max_records=1, timeout_s=0)
    with pytest.raises(BusUnavailable, match="closed"):
        await admin.topics()


async def test_processes_append_and_consume_at_once(log: Log) -> None:
    first, second = await log.process(), await log.process()
    await first.tell("append 200 first")
    await second.tell("append 200 second")
    seen = [record.value.decode() for record in await take(log.consumer(), 400)]
    expected = [f"{name}-{number}" for name in ("first", "second") for number in range(200)]
    assert sorted(seen) == sorted(expected)


@mock_cannot(ONE_MEMBER, run=False)
async def test_two_processes_share_the_work(log: Log) -> None:
    first, second = await log.process(), await log.process()
    for process in (first, second):
        await process.tell("consume-forever")
    shares: dict[Process, int] = {}
    while sorted(shares.values()) != [2, 2]:
        for process in (first, second):
            shares[process] = (await process.answer())["owned"]
    await log.producer().append(records(range(50)))
    admin = log.admin()

    async def is_done() -> bool:
        lags = await admin.lag("group", "topic")
        return sum(lag.committed or 0 for lag in lags) == 50

    await until(is_done)
    seen = [value for process in (first, second) for said in await process.killed() for value in said["polled"]]
    assert sorted(map(int, seen)) == list(range(50))


async def test_no_acknowledged_append_dies_with_its_process(log: Log) -> None:
    process = await log.process()
    await process.tell("append-forever")
    said = [await process.answer() for _ in range(100)]
    said += await process.killed()
    acknowledged = {answer["appended"] for answer in said}
    assert acknowledged <= set(await log.values())


@only_on("sqlite")
async def test_a_full_disk_refuses_and_keeps_what_was_acknowledged(log: Log) -> None:
    process = await log.process()
    assert await process.ask("append 1 before") == {"appended": "before-0"}
    await process.ask("limit 200000")
    await process.tell("append-forever")
    acknowledged = {"before-0"}
    while "refused" not in (said := await process.answer()):
        acknowledged.add(said["appended"])
    assert str(log.path) in said["refused"]
    assert "space" in said["refused"]
    await process.killed()
    assert acknowledged <= set(await log.values())


async def test_a_poison_record_is_set_aside_and_the_next_one_goes_on(log: Log) -> None:
    await log.producer().append(records(["good", "bad", "also good"], key="one"))
    handled: list[bytes] = []

    class Handler:
        async def handle(self, record: Record) -> list[NewRecord]:
            if record.value == b"bad":
                raise Poison("undecodable", "not one of ours")
            handled.append(record.value)
            if len(handled) == 2:
                runner.stop()
            return []

    runner = Runner(log.consumer(), log.producer(), Handler(), topic="topic", group="group", metrics=Metrics())
    await runner.run()
    assert handled == [b"good", b"also good"]
    letters = [
        codec.decode(DeadLetter, record.value)
        for partition in range(PARTITIONS)
        for record in await log.admin().read(TopicPartition("reviews-dlq", partition), 0, 10)
    ]
    assert [(letter.value, letter.reason, letter.offset) for letter in letters] == [(b"bad", "undecodable", 1)]
    assert sum(lag.records for lag in await log.admin().lag("group", "topic")) == 0
