"""The log in Apache Kafka, by kafka-python: its consumer groups, its retention, its replication."""

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final

import kafka
from kafka import errors
from kafka.admin import MemberToRemove
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.errors import KafkaError
from kafka.protocol.consumer import OffsetSpec
from kafka.structs import MemberState

from services.errors import BusUnavailable, ConfigError, RecordTooLarge
from services.settings import StreamSettings
from services.stream.connection import settle
from services.stream.kafka_client import KafkaClient, open_client, timeout_ms
from services.stream.types import ENVELOPE_BYTES, Appended, Lag, NewRecord, Record, TopicPartition, check_sizes

_SLICE_S: Final = 0.05  # longest wait inside the client: a commit or a pause is due by then
_ASK_EVERY_S: Final = 2.0  # a consumer that gets nothing sees whether the cluster still answers
_HEARTBEAT_S: Final = 0.5  # how soon a member hears of a rebalance, too
_POLL_WITHIN_S: Final = 60.0  # a member that does not poll for longer, hung but alive, loses its partitions
_LOOK_FOR_TOPIC_EVERY_S: Final = 1.0
_SETTLE_WITHIN_S: Final = 30.0  # a rebalance that this member has not seen the end of by then is joined anew
_TOPIC_WITHIN_MS: Final = 2000  # a topic just made is known everywhere by then
_MIND_EVERY_S: Final = 1.0
_COORDINATOR_EVERY_S: Final = 0.1
_BATCH_BYTES: Final = 65_536
_READ_WITHIN_S: Final = 600.0  # a whole partition, for people and tools
_PEEK_BYTES: Final = 65_536  # fetched of each partition to see how old its oldest unread record is
_SEGMENTS: Final = 24  # a day's retention rolls hourly: Kafka drops whole segments, so none may outlive it by much


class _Append:
    """Records of one append(), and what became of them. Acknowledgements come on a thread of the client's."""

    def __init__(self, records: Sequence[NewRecord], done: "asyncio.Future[list[Appended]]") -> None:
        self.records = records
        self.done = done
        self.begun_at = time.monotonic()
        self._appended: dict[int, Appended] = {}
        self._failure: Exception | None = None
        self._left = len(records)

    def acknowledge(self, index: int, metadata: Any) -> None:
        self._appended[index] = Appended(self.records[index].topic, metadata.partition, metadata.offset)
        self._count()

    def fail(self, failure: Exception) -> None:
        self._failure = self._failure or failure
        self._count()

    def refuse(self, failure: Exception) -> None:
        """Nothing of it was sent."""
        settle(self.done, None, failure)

    def _count(self) -> None:
        self._left -= 1
        if not self._left:
            settle(self.done, [self._appended[index] for index in sorted(self._appended)], self._failure)


class KafkaProducer:
    """Idempotent, acks=all. What is appended while the client is busy goes to it together."""

    def __init__(self, settings: StreamSettings) -> None:
        self._settings = settings
        self._client = KafkaClient(settings, self._connect, self._disconnect, name="producer")
        self._topics: set[str] = set()
        self._waiting: list[_Append] = []
        self._sender: asyncio.Task[None] | None = None
        self._under_way: set[_Append] = set()
        self._minder: asyncio.Task[None] | None = None

    async def append(self, records: Sequence[NewRecord]) -> list[Appended]:
        check_sizes(records, self._settings.max_record_bytes)
        if not records:
            return []
        done: asyncio.Future[list[Appended]] = asyncio.get_running_loop().create_future()
        one = _Append(tuple(records), done)
        self._under_way.add(one)
        done.add_done_callback(lambda _: self._under_way.discard(one))
        self._waiting.append(one)
        if self._sender is None or self._sender.done():
            self._sender = asyncio.create_task(self._send_waiting(), name="log-send")
        if self._minder is None or self._minder.done():
            self._minder = asyncio.create_task(self._mind(), name="log-mind")
        return await done

    async def close(self) -> None:
        """Waits for what is under way, no longer than it takes to fail."""
        if self._sender is not None:
            await self._sender
        await self._client.close()
        if self._minder is not None:
            self._minder.cancel()

    async def _mind(self) -> None:
        """Nothing waits for ever: what a broken client still holds fails as soon as that is closed."""
        limit_s = 3 * self._settings.timeout_s
        while self._under_way:
            await asyncio.sleep(_MIND_EVERY_S)
            if self._client.is_broken:
                with contextlib.suppress(BusUnavailable, ConfigError):
                    await self._client.run(lambda _: None)
            now = time.monotonic()
            for one in [one for one in self._under_way if now - one.begun_at > limit_s]:
                one.refuse(self._client.give_up(limit_s))

    async def _send_waiting(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                await self._client.run(partial(self._send, batch))
            except (BusUnavailable, ConfigError) as exc:
                for one in batch:
                    one.refuse(exc)

    def _connect(self) -> Any:
        self._topics.clear()
        limit = self._settings.max_record_bytes + 2 * ENVELOPE_BYTES
        return open_client(
            kafka.KafkaProducer,
            self._settings,
            acks="all",
            enable_idempotence=True,
            delivery_timeout_ms=timeout_ms(self._settings),
            max_block_ms=_TOPIC_WITHIN_MS,
            max_request_size=limit,
            batch_size=_BATCH_BYTES,
            allow_auto_create_topics=False,
        )

    def _disconnect(self, client: Any, is_broken: bool) -> None:
        try:
            client.close(timeout=0 if is_broken else 2 * self._settings.timeout_s)
        except errors.KafkaTimeoutError:
            # Its close() ends at the first record that it cannot flush. This fails the rest and ends its thread.
            client._sender.force_close()  # noqa: SLF001

    def _send(self, batch: Sequence[_Append], client: Any) -> None:
        topics = {record.topic for one in batch for record in one.records}
        refusals = {topic: refusal for topic in topics if (refusal := self._look_up(topic, client))}
        for one in batch:
            if refused := next((refusals[record.topic] for record in one.records if record.topic in refusals), None):
                one.refuse(refused)
                continue
            try:
                sent = [
                    client.send(
                        self._settings.prefix + record.topic,
                        key=record.key,
                        value=record.value,
                        headers=list(record.headers.items()),
                    )
                    for record in one.records
                ]
            except KafkaError as exc:
                one.refuse(self._client.refusal(exc))
                continue
            for index, future in enumerate(sent):
                future.add_callback(partial(one.acknowledge, index))
                future.add_errback(partial(self._fail, one, one.records[index]))

    def _look_up(self, topic: str, client: Any) -> BusUnavailable | None:
        """Why nothing can be sent to it. An append that names an unknown topic sends none of its records."""
        if topic in self._topics:
            return None
        name = self._settings.prefix + topic
        try:
            client.partitions_for(name)
        except errors.KafkaTimeoutError as exc:
            refusal = BusUnavailable(
                f"Kafka at {self._settings.bootstrap} gave no topic {name} within {_TOPIC_WITHIN_MS / 1000:g} s: it is "
                "not there yet (`sentinelctl up` creates it), or no broker answers"
            )
            refusal.__cause__ = exc
            return refusal
        self._topics.add(topic)
        return None

    def _fail(self, one: _Append, record: NewRecord, exc: KafkaError) -> None:
        if isinstance(exc, errors.MessageSizeTooLargeError):
            one.fail(
                RecordTooLarge(
                    f"Kafka at {self._settings.bootstrap} refused {len(record.value)} bytes as too large for "
                    f"{self._settings.prefix + record.topic}; raise its max.message.bytes to stream.max_record_bytes = "
                    f"{self._settings.max_record_bytes} and {2 * ENVELOPE_BYTES} more"
                )
            )
        else:
            # kafka-python's idempotent producer never sends again once a record expired that it had tried to send.
            one.fail(self._client.refusal(exc, is_final=True))


class KafkaConsumer:
    """One member of a consumer group on one topic; cooperative-sticky, and static where it has a name.

    A named member that dies and comes back by that name within its lease has its partitions at once.
    The client's thread and the event loop meet in the fields under `_lock`.
    """

    def __init__(self, settings: StreamSettings, *, group: str, topic: str, member: str = "") -> None:
        self._settings = settings
        self._group = group
        self._topic = topic
        self._member = "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in member)[:249]
        self._client = KafkaClient(settings, self._connect, self._disconnect, name="consumer")
        self._admin: KafkaAdmin | None = None
        self._is_there = False
        self._resumed = asyncio.Event()
        self._heard_at = 0.0
        self._stable_at = 0.0
        self._visible: frozenset[TopicPartition] = frozenset()
        self._lock = threading.Lock()
        self._owned: frozenset[TopicPartition] = frozenset()
        self._lost: frozenset[TopicPartition] = frozenset()  # since the last poll, back again or not
        self._paused: frozenset[TopicPartition] = frozenset()
        self._seeks: dict[TopicPartition, int] = {}
        self._owed: dict[TopicPartition, int] = {}  # commits that a rebalance held up
        self._fetched: deque[Record] = deque()  # through here, so that an abandoned poll loses nothing

    async def poll(self, *, max_records: int, timeout_s: float) -> list[Record]:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        self._heard_at = self._heard_at or loop.time()
        while not self._is_there:
            # kafka-python never takes what it is given by a rebalance that news of a topic began: so none before it.
            self._is_there = bool(await self._as_admin().partitions(self._topic))
            if not self._is_there:
                if (left_s := deadline - loop.time()) <= 0:
                    return []
                await asyncio.sleep(min(left_s, _LOOK_FOR_TOPIC_EVERY_S))
        while True:
            wait_s = max(0.0, min(_SLICE_S, deadline - loop.time()))
            if not (records := self._hand_out(max_records)):
                self._resumed.clear()
                is_paused = bool(self._visible) and self._visible <= self._paused
                await self._client.run(partial(self._look, max_records, 0.0 if is_paused else wait_s))
                has_changed = self._take_assignment()
                if is_paused and not has_changed:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(wait_s):  # never wait_for(): see sqlite.py
                            await self._resumed.wait()
                records = self._hand_out(max_records)
                if has_changed and not records:
                    return []
            if records:
                self._heard_at = loop.time()
                return records
            if loop.time() - self._heard_at >= _ASK_EVERY_S:
                await self._as_admin().partitions(self._topic)  # the client itself never says that nobody answers
                self._heard_at = loop.time()
            if loop.time() >= deadline:
                return []

    def assignment(self) -> frozenset[TopicPartition]:
        return self._visible

    def pause(self, positions: frozenset[TopicPartition]) -> None:
        with self._lock:
            self._paused |= positions

    def resume(self, positions: frozenset[TopicPartition]) -> None:
        with self._lock:
            self._paused -= positions
        self._resumed.set()

    def seek(self, position: TopicPartition, offset: int) -> None:
        with self._lock:
            self._seeks[position] = offset
            self._forget(frozenset({position}))

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        with self._lock:
            mine = {position: offset for position, offset in offsets.items() if position in self._visible - self._lost}
            self._owed |= mine
        if mine:
            await self._client.run(self._commit_owed)

    async def lag(self) -> list[Lag]:
        if not self._visible:
            return []
        return [one for one in await self._as_admin().lag(self._group, self._topic) if one.position in self._visible]

    async def close(self) -> None:
        has_joined = self._client.is_open
        await self._client.close()
        self._visible = frozenset()
        if has_joined and self._member:  # a static member's client closes without leaving
            with contextlib.suppress(BusUnavailable):  # its lease ends by itself
                await self._as_admin().remove_member(self._group, self._member)
        if self._admin is not None:
            await self._admin.close()

    def _as_admin(self) -> "KafkaAdmin":
        if self._admin is None:
            self._admin = KafkaAdmin(self._settings)
        return self._admin

    def _connect(self) -> Any:
        self._lose(self._owned)
        client = open_client(
            kafka.KafkaConsumer,
            self._settings,
            group_id=self._settings.prefix + self._group,
            group_instance_id=self._settings.prefix + self._member if self._member else None,
            partition_assignment_strategy=[CooperativeStickyAssignor],
            session_timeout_ms=int(self._settings.lease_s * 1000),
            heartbeat_interval_ms=int(min(_HEARTBEAT_S, self._settings.lease_s / 3) * 1000),
            max_poll_interval_ms=int(max(_POLL_WITHIN_S, self._settings.lease_s) * 1000),
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            allow_auto_create_topics=False,
            enable_incremental_fetch_sessions=False,  # saves bytes on thousands of partitions, and outlives no broker
        )
        name = self._settings.prefix + self._topic
        try:
            client.subscribe([name], listener=_Listener(client, self._owe, self._lose))
            client.beginning_offsets([kafka.TopicPartition(name, 0)], timeout_ms=timeout_ms(self._settings))
        except BaseException:
            self._disconnect(client)
            raise
        self._stable_at = time.monotonic()
        return client

    def _disconnect(self, client: Any, is_broken: bool = True) -> None:  # noqa: ARG002
        client.close(autocommit=False, timeout_ms=timeout_ms(self._settings))

    def _look(self, max_records: int, wait_s: float, client: Any) -> None:
        self._apply(client, is_paused=max_records == 0)
        found = client.poll(timeout_ms=int(wait_s * 1000), max_records=max(1, max_records))
        with self._lock:
            self._owned = frozenset(_ours(self._settings, one) for one in client.assignment())
            for fetched in found.values():
                records = [_record(self._settings, one) for one in fetched]
                self._fetched += [
                    one for one in records if one.position in self._owned and one.position not in self._seeks
                ]
        self._commit_owed(client)
        within_s = max(_SETTLE_WITHIN_S, 2 * self._settings.lease_s)
        if client.group_metadata().state == MemberState.STABLE:
            self._stable_at = time.monotonic()
        elif time.monotonic() - self._stable_at > within_s:
            raise KafkaError(f"group {self._group} did not settle within {within_s:g} s; it is joined anew")

    def _apply(self, client: Any, *, is_paused: bool) -> None:
        owned = client.assignment()
        with self._lock:
            paused = {one for one in owned if is_paused or _ours(self._settings, one) in self._paused}
            seeks, self._seeks = self._seeks, {}
        client.resume(*(client.paused() - paused))
        client.pause(*paused)
        _unpark(client)
        for position, offset in seeks.items():
            if (theirs := _theirs(self._settings, position)) in owned:
                client.seek(theirs, offset)

    def _commit_owed(self, client: Any) -> None:
        with self._lock:
            owed = {position: offset for position, offset in self._owed.items() if position in self._owned}
        if not owed:
            return
        try:
            client.commit(_offsets(self._settings, owed), timeout_ms=timeout_ms(self._settings))
        except (errors.RebalanceInProgressError, errors.CommitFailedError):
            return  # the next look commits what stays, the listener what leaves
        with self._lock:
            self._owed = {one: offset for one, offset in self._owed.items() if owed.get(one) != offset}

    def _owe(self, positions: Iterable[Any]) -> dict[Any, Any]:
        """Commits still owed on partitions that are about to leave."""
        leaving = {_ours(self._settings, one) for one in positions}
        with self._lock:
            return _offsets(self._settings, {one: self._owed[one] for one in leaving & self._owed.keys()})

    def _lose(self, positions: Iterable[Any]) -> None:
        lost = frozenset(_ours(self._settings, one) for one in positions)
        with self._lock:
            self._lost |= lost
            self._owned -= lost
            self._paused -= lost
            self._owed = {one: offset for one, offset in self._owed.items() if one not in lost}
            self._forget(lost)

    def _forget(self, positions: frozenset[TopicPartition]) -> None:
        self._fetched = deque(record for record in self._fetched if record.position not in positions)

    def _take_assignment(self) -> bool:
        """Whether it changed. What was lost and came back is shown as lost first."""
        with self._lock:
            before, lost = self._visible, self._lost
            self._visible, self._lost = self._owned - lost, frozenset()
            return self._visible != before or bool(lost & before)

    def _hand_out(self, max_records: int) -> list[Record]:
        found: list[Record] = []
        with self._lock:
            kept: deque[Record] = deque()
            for record in self._fetched:
                is_due = record.position in self._visible - self._lost - self._paused
                (found if is_due and len(found) < max_records else kept).append(record)
            self._fetched = kept
        return found


def _unpark(client: Any) -> None:
    """What was fetched of a partition that is paused before it is handed out waits apart until its turn comes again.

    kafka-python 3.0.12 looks there only where nothing else is in line, and takes what is used up for something: once
    all that is left waits there, nothing is handed out or fetched again (Fetcher.fetched_records; its pull 2981).
    """
    fetcher = client._fetcher  # noqa: SLF001
    if not fetcher._next_partition_records:  # noqa: SLF001
        fetcher._next_partition_records = None  # noqa: SLF001


class _Listener(kafka.AsyncConsumerRebalanceListener):  # type: ignore[misc]
    """Runs while the group rebalances: the last moment at which this member may commit what it gives up."""

    def __init__(
        self, client: Any, owe: Callable[[Iterable[Any]], dict[Any, Any]], lose: Callable[[Iterable[Any]], None]
    ) -> None:
        self._client = client
        self._owe = owe
        self._lose = lose

    async def on_partitions_revoked(self, revoked: Iterable[Any]) -> None:
        if owed := self._owe(revoked):
            with contextlib.suppress(KafkaError):  # repeated work for whoever is next
                await self._client.commit_async(owed)
        self._lose(revoked)

    async def on_partitions_assigned(self, assigned: Iterable[Any]) -> None:
        """The next look sees them."""

    async def on_partitions_lost(self, lost: Iterable[Any]) -> None:
        self._lose(lost)


class KafkaAdmin:
    """Topics, offsets and single records, without a group."""

    def __init__(self, settings: StreamSettings) -> None:
        self._settings = settings
        self._client = KafkaClient(
            settings,
            lambda: open_client(kafka.KafkaAdminClient, settings),
            lambda client, _: client.close(),
            name="admin",
        )
        self._reader = KafkaClient(
            settings,
            lambda: open_client(
                kafka.KafkaConsumer,
                settings,
                max_partition_fetch_bytes=_PEEK_BYTES,
                auto_offset_reset="earliest",
                enable_auto_commit=False,
                allow_auto_create_topics=False,
            ),
            lambda client, _: client.close(autocommit=False, timeout_ms=timeout_ms(settings)),
            name="reader",
        )

    async def create_topics(self, topics: Mapping[str, int]) -> frozenset[str]:
        missing = {topic: topics[topic] for topic in topics.keys() - (await self.topics()).keys()}
        return await self._client.run(partial(self._create, missing)) if missing else frozenset()

    async def delete_topics(self, topics: Iterable[str]) -> None:
        """With all records: for whoever made them for a while."""
        names = [self._settings.prefix + topic for topic in topics]
        await self._client.run(lambda client: client.delete_topics(names, timeout_ms=timeout_ms(self._settings)))

    async def partitions(self, topic: str) -> list[int]:
        """Empty where there is no such topic."""
        return await self._client.run(partial(self._partitions, topic))

    async def topics(self) -> dict[str, int]:
        return await self._client.run(self._topics)

    async def brokers(self) -> list[str]:
        cluster = await self._client.run(lambda client: client.describe_cluster())
        return sorted({broker["host"] for broker in cluster["brokers"]})

    async def lag(self, group: str, topic: str) -> list[Lag]:
        lags = await self._client.run(partial(self._lag, group, topic))
        behind = {one.position: one.start for one in lags if one.records}
        first = await self._reader.run(partial(self._peek, behind)) if behind else {}
        now_s = time.time()
        return [
            Lag(
                one.position,
                one.committed,
                one.end,
                age_s=max(0.0, now_s - first[one.position] / 1000) if one.position in first else 0.0,
                start=one.start,
            )
            for one in lags
        ]

    async def offset_at(self, position: TopicPartition, timestamp_ms: int) -> int:
        return await self._client.run(partial(self._offset_at, position, timestamp_ms))

    async def read(self, position: TopicPartition, offset: int, max_records: int) -> list[Record]:
        return await self._reader.run(partial(self._read, position, offset, max_records), within_s=_READ_WITHIN_S)

    async def expire(self) -> int:
        return 0

    async def remove_member(self, group: str, member: str) -> None:
        """Its partitions move at once, without waiting for the lease."""
        name, member = self._settings.prefix + group, self._settings.prefix + member
        await self._client.run(
            lambda client: client.remove_group_members(name, [MemberToRemove(group_instance_id=member)])
        )

    async def close(self) -> None:
        await self._client.close()
        await self._reader.close()

    def _create(self, wanted: Mapping[str, int], client: Any) -> frozenset[str]:
        retention_ms = int(self._settings.retention_h * 3_600_000)
        configs = {
            "cleanup.policy": "delete",
            "retention.ms": str(retention_ms),
            "segment.ms": str(max(1000, retention_ms // _SEGMENTS)),
            "max.message.bytes": str(self._settings.max_record_bytes + 2 * ENVELOPE_BYTES),
            "message.timestamp.type": "LogAppendTime",  # seek by time then needs no clock but the brokers'
        }
        copies = self._settings.replication
        if copies >= 3:
            configs["min.insync.replicas"] = "2"  # an append outlives the loss of the broker that took it
        names = {
            self._settings.prefix + topic: {
                "num_partitions": partitions,
                "replication_factor": copies or -1,
                "configs": configs,
            }
            for topic, partitions in wanted.items()
        }
        answers = client.create_topics(names, timeout_ms=timeout_ms(self._settings), raise_errors=False)["topics"]
        created = set()
        for answer in answers:
            failure = errors.for_code(answer["error_code"])
            if failure is errors.NoError:
                created.add(answer["name"])
            elif failure is not errors.TopicAlreadyExistsError:  # another `up` was faster
                raise failure(f"{answer['name']}: {answer.get('error_message') or failure.description}")
        if created:
            client.wait_for_topics(sorted(created))
        return frozenset(name.removeprefix(self._settings.prefix) for name in created)

    def _topics(self, client: Any) -> dict[str, int]:
        prefix = self._settings.prefix
        return {
            topic["name"].removeprefix(prefix): len(topic["partitions"])
            for topic in sorted(client.describe_topics(), key=lambda topic: topic["name"])
            if topic["name"].startswith(prefix) and not topic["is_internal"] and not topic["error_code"]
        }

    def _lag(self, group: str, topic: str, client: Any) -> list[Lag]:
        theirs = [
            kafka.TopicPartition(self._settings.prefix + topic, number) for number in self._partitions(topic, client)
        ]
        if not theirs:
            return []
        name = self._settings.prefix + group
        committed = self._once_there_is_a_coordinator(lambda: client.list_group_offsets({name: theirs}))[name]
        starts = client.list_partition_offsets(dict.fromkeys(theirs, OffsetSpec.EARLIEST))
        ends = client.list_partition_offsets(dict.fromkeys(theirs, OffsetSpec.LATEST))
        found = []
        for one in theirs:
            offset = committed[one].offset if one in committed and committed[one].offset >= 0 else None
            end = ends[one].offset
            start = min(end, max(offset or 0, starts[one].offset))
            found.append(Lag(_ours(self._settings, one), offset, end, 0.0, start))
        return found

    def _once_there_is_a_coordinator(self, ask: Callable[[], Any]) -> Any:
        """A cluster that is asked for a group for the first time makes a topic first, and says this meanwhile."""
        deadline = time.monotonic() + self._settings.timeout_s
        while True:
            try:
                return ask()
            except errors.CoordinatorNotAvailableError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_COORDINATOR_EVERY_S)

    def _partitions(self, topic: str, client: Any) -> list[int]:
        (found,) = client.describe_topics([self._settings.prefix + topic])
        return sorted(partition["partition_index"] for partition in found["partitions"])

    def _offset_at(self, position: TopicPartition, timestamp_ms: int, client: Any) -> int:
        theirs = _theirs(self._settings, position)
        found = client.list_partition_offsets({theirs: timestamp_ms})[theirs].offset
        if found < 0:
            found = client.list_partition_offsets({theirs: OffsetSpec.LATEST})[theirs].offset
        return int(found)

    def _peek(self, offsets: Mapping[TopicPartition, int], client: Any) -> dict[TopicPartition, int]:
        """When the record at each offset was appended, Unix time in ms; without those that did not come in time."""
        self._point(client, offsets)
        found: dict[TopicPartition, int] = {}
        deadline = time.monotonic() + self._settings.timeout_s
        while len(found) < len(offsets) and time.monotonic() < deadline:
            for theirs, records in client.poll(timeout_ms=100, max_records=len(offsets)).items():
                found[_ours(self._settings, theirs)] = records[0].timestamp
                client.pause(theirs)
        return found

    def _read(self, position: TopicPartition, offset: int, max_records: int, client: Any) -> list[Record]:
        theirs = _theirs(self._settings, position)
        start = client.beginning_offsets([theirs], timeout_ms=timeout_ms(self._settings))[theirs]
        end = client.end_offsets([theirs], timeout_ms=timeout_ms(self._settings))[theirs]
        reached = max(offset, start)
        self._point(client, {position: reached})
        found: list[Record] = []
        deadline = time.monotonic() + self._settings.timeout_s
        while reached < end and len(found) < max_records:
            if time.monotonic() > deadline:
                raise errors.KafkaTimeoutError(f"offset {reached} of {theirs.topic}-{theirs.partition} did not come")
            for record in client.poll(timeout_ms=100, max_records=max_records - len(found)).get(theirs, ()):
                found.append(_record(self._settings, record))
                reached = record.offset + 1
                deadline = time.monotonic() + self._settings.timeout_s
        return found

    def _point(self, client: Any, offsets: Mapping[TopicPartition, int]) -> None:
        client.assign([_theirs(self._settings, position) for position in offsets])
        client.resume(*client.paused())
        for position, offset in offsets.items():
            client.seek(_theirs(self._settings, position), offset)


def _theirs(settings: StreamSettings, position: TopicPartition) -> Any:
    return kafka.TopicPartition(settings.prefix + position.topic, position.partition)


def _ours(settings: StreamSettings, theirs: Any) -> TopicPartition:
    return TopicPartition(theirs.topic.removeprefix(settings.prefix), theirs.partition)


def _offsets(settings: StreamSettings, offsets: Mapping[TopicPartition, int]) -> dict[Any, Any]:
    return {_theirs(settings, one): kafka.OffsetAndMetadata(offset, "", -1) for one, offset in offsets.items()}


def _record(settings: StreamSettings, theirs: Any) -> Record:
    return Record(
        topic=theirs.topic.removeprefix(settings.prefix),
        partition=theirs.partition,
        offset=theirs.offset,
        key=bytes(theirs.key or b""),
        value=bytes(theirs.value or b""),
        headers={name: bytes(value or b"") for name, value in theirs.headers},
        timestamp_ms=theirs.timestamp,
    )
