"""The log in one SQLite file: partitions, offsets, groups with leased partitions; many processes on one machine."""

import asyncio
import contextlib
import json
import sqlite3
import time
import uuid
import zlib
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from services.disk import sync_wal
from services.errors import BusUnavailable
from services.settings import StreamSettings
from services.stream.connection import Connection, data_version, transaction
from services.stream.types import Appended, Lag, NewRecord, Record, TopicPartition, check_sizes

_EXPIRE_EVERY_S: Final = 60.0
_EXPIRE_AT_ONCE: Final = 2000  # records dropped under one write lock: a few milliseconds
_ROWS_AT_ONCE: Final = 64  # of one INSERT: sqlite3 keeps the last 128 statements prepared, one for each length


def partition_of(key: bytes, partitions: int) -> int:
    """The same for every process and version: records of a key never change their partition."""
    return zlib.crc32(key) % partitions


def quotas(owned: Mapping[str, int], partitions: int) -> dict[str, int]:
    """How many partitions each member should own, from how many it owns: even, the odd ones where most are already."""
    ranked = sorted(owned, key=lambda member: (-owned[member], member))
    each, odd = divmod(partitions, len(ranked))
    return {member: each + (rank < odd) for rank, member in enumerate(ranked)}


@dataclass(slots=True, eq=False)
class _Append:
    records: Sequence[NewRecord]
    is_withdrawn: bool = False
    answer: list[Appended] | Exception | None = None


class SqliteProducer:
    """Group commit: everything appended while one commit runs goes into the next one together.

    Readers see a record before the disk has it: what a slow disk holds up is the answer to append(), not the log. With
    `can_redo` not even that waits (see open_producer, for `on_thread` too).

    It also drops expired records now and then, since only an append can make the log grow.
    """

    def __init__(
        self,
        path: Path,
        settings: StreamSettings,
        *,
        can_redo: bool = False,
        on_thread: bool = True,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._path = path
        self._retention_s = settings.retention_h * 3600
        self._can_redo = can_redo
        self._max_record_bytes = settings.max_record_bytes
        self._now = now
        self._db = Connection(path, has_syncs=not can_redo, on_thread=on_thread)
        self._waiting: deque[_Append] = deque()
        self._expiry: asyncio.Task[None] | None = None
        self._expired_at = 0.0

    async def append(self, records: Sequence[NewRecord]) -> list[Appended]:
        check_sizes(records, self._max_record_bytes)
        if not records:
            return []
        append = _Append(tuple(records))
        self._waiting.append(append)
        try:
            appended = await self._db.run(partial(self._commit, append))
        finally:
            append.is_withdrawn = True
        if self._expiry is None and self._is_expiry_due():
            self._expiry = asyncio.create_task(self._expire(), name="log-expiry")
        return appended

    async def close(self) -> None:
        if self._expiry is not None:
            await self._expiry
        await self._db.close()

    def _is_expiry_due(self) -> bool:
        return self._now() - self._expired_at >= _EXPIRE_EVERY_S

    async def _expire(self) -> None:
        with contextlib.suppress(BusUnavailable):  # the next append meets it, and tries again
            while self._is_expiry_due():
                now = self._now()
                if await self._db.run(partial(_expire, before_s=now - self._retention_s)) < _EXPIRE_AT_ONCE:
                    self._expired_at = now
        self._expiry = None

    def _commit(self, asked: _Append, db: sqlite3.Connection) -> list[Appended]:
        """What was asked for, and with it all else that waits; an earlier call may have done it."""
        if asked.answer is None:
            group = [self._waiting.popleft() for _ in range(len(self._waiting))]
            try:
                self._write([one for one in group if not one.is_withdrawn], db)
            except Exception as exc:
                for one in group:
                    one.answer = exc
                raise
        if isinstance(asked.answer, Exception):
            raise asked.answer
        assert asked.answer is not None
        return asked.answer

    def _write(self, group: list[_Append], db: sqlite3.Connection) -> None:
        timestamp_ms = int(self._now() * 1000)
        rows: list[tuple[Any, ...]] = []
        answers: list[list[Appended] | Exception] = []
        with transaction(db):
            ends = _ends(db, {record.topic for one in group for record in one.records})
            for one in group:
                if unknown := sorted({record.topic for record in one.records} - ends.keys()):
                    answers.append(
                        BusUnavailable(
                            f"the log at {self._path} has no topic {', '.join(unknown)}; `sentinelctl up` creates it"
                        )
                    )
                    continue
                appended = [_place(ends[record.topic], record) for record in one.records]
                rows += [_row(record, at, timestamp_ms) for record, at in zip(one.records, appended, strict=True)]
                answers.append(appended)
            _insert(db, rows, ends)
        if not self._can_redo:
            sync_wal(self._path)
        for one, answer in zip(group, answers, strict=True):
            one.answer = answer


class _Held(NamedTuple):
    """A partition this member owns: since which generation, and the next offset to hand out."""

    epoch: int
    position: int


class _Look(NamedTuple):
    version: int
    generation: int | None
    held: dict[int, _Held]
    records: list[Record]


class SqliteConsumer:
    """One member of a group on one topic.

    A partition has one row in `owners`; taking it, giving it up and committing on it are transactions on that row, so
    no two members own one at a time. A member gives up what exceeds its share in its own poll. Rows of a member whose
    last heartbeat is older than its lease are deleted by whoever notices first.
    """

    def __init__(
        self, path: Path, settings: StreamSettings, *, group: str, topic: str, now: Callable[[], float] = time.time
    ) -> None:
        self._group = group
        self._topic = topic
        self._lease_s = settings.lease_s
        self._now = now
        self._member = uuid.uuid4().hex
        # Lost on power failure, a commit is repeated work, never lost work: nothing here waits for the disk.
        self._db = Connection(path, interval_s=settings.poll_ms / 1000)
        self._generation: int | None = None
        self._held: dict[int, _Held] = {}
        self._paused: frozenset[TopicPartition] = frozenset()
        self._turn = 0
        self._wake: asyncio.Future[None] | None = None
        self._heart: asyncio.Task[None] | None = None

    async def poll(self, *, max_records: int, timeout_s: float) -> list[Record]:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        if self._heart is None:
            self._heart = asyncio.create_task(self._beat_forever(), name="log-heartbeat")
        while True:
            self._wake = loop.create_future()
            before = self.assignment()
            look = await self._db.run(
                partial(self._look, dict(self._held), self._generation, self._paused, max_records, self._turn)
            )
            self._turn += 1
            self._generation, self._held = look.generation, look.held
            self._paused &= self.assignment()
            remaining_s = deadline - loop.time()
            if look.records or self.assignment() != before or remaining_s <= 0:
                return look.records
            if look.generation is None:
                continue
            self._db.watch(look.version, self._wake)
            with contextlib.suppress(TimeoutError):
                # Not wait_for(): that of Python 3.11 loses a cancellation that comes together with the wake.
                async with asyncio.timeout(remaining_s):
                    await self._wake

    def assignment(self) -> frozenset[TopicPartition]:
        return frozenset(TopicPartition(self._topic, partition) for partition in self._held)

    def pause(self, positions: frozenset[TopicPartition]) -> None:
        self._paused |= positions

    def resume(self, positions: frozenset[TopicPartition]) -> None:
        self._paused -= positions
        self._wake_up()

    def seek(self, position: TopicPartition, offset: int) -> None:
        if position in self.assignment():
            self._held[position.partition] = self._held[position.partition]._replace(position=offset)
            self._wake_up()

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        rows = [
            (self._group, *position, offset, self._group, *position, self._member, self._held[position.partition].epoch)
            for position, offset in offsets.items()
            if position in self.assignment()
        ]
        if rows:
            await self._db.run(partial(_commit, rows=rows))

    async def lag(self) -> list[Lag]:
        mine = self.assignment()
        return [
            lag
            for lag in await self._db.run(partial(_lag, group=self._group, topic=self._topic, now_s=self._now()))
            if lag.position in mine
        ]

    async def close(self) -> None:
        if self._heart is not None:
            self._heart.cancel()
            await asyncio.wait([self._heart])
            with contextlib.suppress(BusUnavailable):  # the lease ends by itself
                await self._db.run(self._leave)
        self._generation, self._held = None, {}
        await self._db.close()

    def _wake_up(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def _beat_forever(self) -> None:
        while True:
            await asyncio.sleep(self._lease_s / 3)
            with contextlib.suppress(BusUnavailable):  # poll meets the same failure and reports it
                if await self._db.run(self._beat):
                    self._wake_up()

    def _beat(self, db: sqlite3.Connection) -> bool:
        """Renews the lease and removes the dead; True when somebody was."""
        with transaction(db):
            db.execute(
                'UPDATE members SET beat_at = ? WHERE "group" = ? AND topic = ? AND member = ?',
                (self._now(), self._group, self._topic, self._member),
            )
            has_buried = self._bury(db)
            if has_buried:
                self._advance(db)
        return has_buried

    def _look(
        self,
        held: dict[int, _Held],
        generation: int | None,
        paused: frozenset[TopicPartition],
        max_records: int,
        turn: int,
        db: sqlite3.Connection,
    ) -> _Look:
        """What changed and what is new. Knows nothing but its arguments, so an abandoned poll leaves no trace."""
        version = data_version(db)
        if generation is None or generation != self._read_generation(db):
            generation, held = self._rebalance(db, held)
        records: list[Record] = []
        ends = dict(db.execute("SELECT partition, next_offset FROM partitions WHERE topic = ?", (self._topic,)))
        start = turn % max(1, len(held))
        for partition in (sorted(held) * 2)[start : start + len(held)]:
            position, room = held[partition].position, max_records - len(records)
            if room <= 0 or position >= ends[partition] or TopicPartition(self._topic, partition) in paused:
                continue
            found = _read(db, TopicPartition(self._topic, partition), position, room)
            records += found
            reached = found[-1].offset + 1 if found else ends[partition]
            held[partition] = held[partition]._replace(position=reached)
        return _Look(version, generation, held, records)

    def _rebalance(self, db: sqlite3.Connection, held: dict[int, _Held]) -> tuple[int | None, dict[int, _Held]]:
        """Gives up what exceeds this member's share, or takes what is free up to it.

        Returns the generation seen, None to look again at once: a partition that was lost and came back is reported
        as lost first.
        """
        me = (self._group, self._topic, self._member)
        with transaction(db):
            db.execute("INSERT INTO groups VALUES (?, ?, 0) ON CONFLICT DO NOTHING", me[:2])
            joined = db.execute(
                "INSERT INTO members VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING", (*me, self._now(), self._lease_s)
            )
            has_changed = joined.rowcount > 0
            has_changed |= self._bury(db)
            owners: dict[int, str] = dict(
                db.execute('SELECT partition, member FROM owners WHERE "group" = ? AND topic = ?', me[:2])
            )
            owned = {
                member: sum(owner == member for owner in owners.values())
                for (member,) in db.execute('SELECT member FROM members WHERE "group" = ? AND topic = ?', me[:2])
            }
            partitions = _topics(db).get(self._topic, 0)
            quota = quotas(owned, partitions)[self._member]
            mine = sorted(partition for partition, owner in owners.items() if owner == self._member)
            surplus = mine[quota:]
            free = [partition for partition in range(partitions) if partition not in owners][
                : max(0, quota - len(mine))
            ]
            generation = self._advance(db) if has_changed or surplus or free else self._read_generation(db)
            db.executemany(
                'DELETE FROM owners WHERE "group" = ? AND topic = ? AND member = ? AND partition = ?',
                [(*me, partition) for partition in surplus],
            )
            db.executemany(
                "INSERT INTO owners VALUES (?, ?, ?, ?, ?)",
                [(*me[:2], partition, self._member, generation) for partition in free],
            )
            rows = db.execute(
                """SELECT partition, epoch, coalesce(next_offset, 0)
                   FROM owners LEFT JOIN offsets USING ("group", topic, partition)
                   WHERE "group" = ? AND topic = ? AND member = ?""",
                me,
            ).fetchall()
        now_held = {
            partition: held.get(partition, _Held(epoch, position))
            for partition, epoch, position in rows
            if partition not in held or held[partition].epoch == epoch
        }
        return generation if len(now_held) == len(rows) else None, now_held

    def _bury(self, db: sqlite3.Connection) -> bool:
        """Removes members whose lease ended. A heartbeat from the far future is a clock set back: ended, too."""
        dead = db.execute(
            """DELETE FROM members WHERE "group" = ? AND topic = ? AND member != ? AND abs(? - beat_at) >= lease_s
               RETURNING member""",
            (self._group, self._topic, self._member, self._now()),
        ).fetchall()
        for (member,) in dead:
            self._disown(db, member)
        return bool(dead)

    def _leave(self, db: sqlite3.Connection) -> None:
        with transaction(db):
            db.execute(
                'DELETE FROM members WHERE "group" = ? AND topic = ? AND member = ?',
                (self._group, self._topic, self._member),
            )
            self._disown(db, self._member)
            self._advance(db)

    def _disown(self, db: sqlite3.Connection, member: str) -> None:
        db.execute(
            'DELETE FROM owners WHERE "group" = ? AND topic = ? AND member = ?', (self._group, self._topic, member)
        )

    def _read_generation(self, db: sqlite3.Connection) -> int:
        row = db.execute(
            'SELECT generation FROM groups WHERE "group" = ? AND topic = ?', (self._group, self._topic)
        ).fetchone()
        return row[0] if row else 0

    def _advance(self, db: sqlite3.Connection) -> int:
        db.execute(
            'UPDATE groups SET generation = generation + 1 WHERE "group" = ? AND topic = ?', (self._group, self._topic)
        )
        return self._read_generation(db)


class SqliteAdmin:
    def __init__(self, path: Path, settings: StreamSettings, *, now: Callable[[], float] = time.time) -> None:
        self._retention_s = settings.retention_h * 3600
        self._now = now
        self._db = Connection(path)

    async def create_topics(self, topics: Mapping[str, int]) -> frozenset[str]:
        return await self._db.run(partial(_create, wanted=dict(topics)))

    async def topics(self) -> dict[str, int]:
        return await self._db.run(_topics)

    async def brokers(self) -> list[str]:
        return []

    async def lag(self, group: str, topic: str) -> list[Lag]:
        return await self._db.run(partial(_lag, group=group, topic=topic, now_s=self._now()))

    async def offset_at(self, position: TopicPartition, timestamp_ms: int) -> int:
        return await self._db.run(partial(_offset_at, position=position, timestamp_ms=timestamp_ms))

    async def read(self, position: TopicPartition, offset: int, max_records: int) -> list[Record]:
        return await self._db.run(partial(_read, position=position, offset=offset, max_records=max_records))

    async def expire(self) -> int:
        total = 0
        while dropped := await self._db.run(partial(_expire, before_s=self._now() - self._retention_s)):
            total += dropped
        return total

    async def close(self) -> None:
        await self._db.close()


def _topics(db: sqlite3.Connection) -> dict[str, int]:
    return dict(db.execute("SELECT name, partitions FROM topics ORDER BY name"))


def _create(db: sqlite3.Connection, wanted: Mapping[str, int]) -> frozenset[str]:
    with transaction(db):
        created = wanted.keys() - _topics(db).keys()
        for topic in created:
            db.execute("INSERT INTO topics VALUES (?, ?)", (topic, wanted[topic]))
            db.executemany(
                "INSERT INTO partitions VALUES (?, ?, 0)",
                [(topic, partition) for partition in range(wanted[topic])],
            )
            db.execute("UPDATE groups SET generation = generation + 1 WHERE topic = ?", (topic,))
    return frozenset(created)


# A statement gives up Python's lock, and while the event loop is busy takes up to a switch interval to get it back. So
# an append has few statements, however many records it has.


def _ends(db: sqlite3.Connection, topics: Collection[str]) -> dict[str, list[int]]:
    """The next offset of each partition of those topics that exist."""
    (found,) = db.execute(
        """SELECT json_group_array(json_array(topic, partition, next_offset)) FROM partitions
           WHERE topic IN (SELECT value FROM json_each(?))""",
        (json.dumps(list(topics)),),
    ).fetchone()
    ends: dict[str, list[int]] = {}
    for topic, _, end in sorted(json.loads(found)):
        ends.setdefault(topic, []).append(end)
    return ends


def _place(ends: list[int], record: NewRecord) -> Appended:
    """Takes the next offset of the record's partition."""
    partition = partition_of(record.key, len(ends))
    offset = ends[partition]
    ends[partition] += 1
    return Appended(record.topic, partition, offset)


def _row(record: NewRecord, at: Appended, timestamp_ms: int) -> tuple[Any, ...]:
    # latin-1 maps every byte to one character and back.
    headers = msgspec.json.encode({name: value.decode("latin-1") for name, value in record.headers.items()}).decode()
    return (*at, record.key, record.value, headers, timestamp_ms)


def _insert(db: sqlite3.Connection, rows: Sequence[tuple[Any, ...]], ends: Mapping[str, Sequence[int]]) -> None:
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        part = rows[start : start + _ROWS_AT_ONCE]
        values = ", ".join(["(?, ?, ?, ?, ?, ?, ?)"] * len(part))
        db.execute(f"INSERT INTO records VALUES {values}", [value for row in part for value in row])  # noqa: S608
    touched = {(topic, partition): ends[topic][partition] for topic, partition, *_ in rows}
    db.execute(
        """INSERT INTO partitions
           SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]')
           FROM json_each(?) WHERE true
           ON CONFLICT (topic, partition) DO UPDATE SET next_offset = excluded.next_offset""",
        (json.dumps([(*position, end) for position, end in touched.items()]),),
    )


def _read(db: sqlite3.Connection, position: TopicPartition, offset: int, max_records: int) -> list[Record]:
    rows = db.execute(
        """SELECT "offset", key, value, headers, timestamp_ms FROM records
           WHERE topic = ? AND partition = ? AND "offset" >= ? ORDER BY "offset" LIMIT ?""",
        (*position, offset, max_records),
    )
    return [
        Record(
            position.topic,
            position.partition,
            found,
            key,
            value,
            {name: text.encode("latin-1") for name, text in json.loads(headers).items()},
            timestamp_ms,
        )
        for found, key, value, headers, timestamp_ms in rows
    ]


def _commit(db: sqlite3.Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    with transaction(db):
        db.executemany(
            """INSERT INTO offsets SELECT ?, ?, ?, ? WHERE EXISTS (
                 SELECT 1 FROM owners
                 WHERE "group" = ? AND topic = ? AND partition = ? AND member = ? AND epoch = ?)
               ON CONFLICT DO UPDATE SET next_offset = excluded.next_offset""",
            rows,
        )


def _lag(db: sqlite3.Connection, group: str, topic: str, now_s: float) -> list[Lag]:
    committed = dict(
        db.execute('SELECT partition, next_offset FROM offsets WHERE "group" = ? AND topic = ?', (group, topic))
    )
    lags = []
    for partition, end in db.execute(
        "SELECT partition, next_offset FROM partitions WHERE topic = ? ORDER BY partition", (topic,)
    ).fetchall():
        position = TopicPartition(topic, partition)
        unread = _read(db, position, committed.get(partition, 0), 1)
        lags.append(
            Lag(
                position=position,
                committed=committed.get(partition),
                end=end,
                age_s=max(0.0, now_s - unread[0].timestamp_ms / 1000) if unread else 0.0,
                start=unread[0].offset if unread else end,
            )
        )
    return lags


def _offset_at(db: sqlite3.Connection, position: TopicPartition, timestamp_ms: int) -> int:
    row = db.execute(
        """SELECT "offset" FROM records WHERE topic = ? AND partition = ? AND timestamp_ms >= ?
           ORDER BY "offset" LIMIT 1""",
        (*position, timestamp_ms),
    ).fetchone()
    end = db.execute("SELECT next_offset FROM partitions WHERE topic = ? AND partition = ?", position).fetchone()
    return int((row or end or (0,))[0])


def _expire(db: sqlite3.Connection, before_s: float) -> int:
    with transaction(db):
        return db.execute(
            "DELETE FROM records WHERE rowid IN (SELECT rowid FROM records WHERE timestamp_ms < ? LIMIT ?)",
            (int(before_s * 1000), _EXPIRE_AT_ONCE),
        ).rowcount
