import asyncio
import contextlib
import errno
import itertools
import os
import random
import shutil
import sqlite3
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.errors import BusUnavailable
from services.settings import StreamSettings
from services.stream import sqlite
from services.stream.sqlite import SqliteAdmin, SqliteConsumer, SqliteProducer, partition_of, quotas
from services.stream.types import NewRecord, TopicPartition

SETTINGS = StreamSettings()


def test_the_partition_of_a_key_never_changes() -> None:
    assert [partition_of(key, 12) for key in (b"", b"1", b"123456789", b"\xff")] == [0, 11, 2, 0]


@given(owned=st.dictionaries(st.text(max_size=3), st.integers(0, 20), min_size=1), partitions=st.integers(0, 40))
def test_shares_are_even_and_add_up(owned: dict[str, int], partitions: int) -> None:
    shares = quotas(owned, partitions)
    assert sum(shares.values()) == partitions
    assert max(shares.values()) - min(shares.values()) <= 1


@given(members=st.integers(1, 9), partitions=st.integers(0, 24), seed=st.integers(0, 999))
def test_shares_settle_in_whatever_order_members_look(members: int, partitions: int, seed: int) -> None:
    """Starting from one owner of everything, nobody gets more than a share, and nobody gives up below it."""
    owned = {f"m{number}": 0 for number in range(members)}
    owned["m0"] = partitions
    order = random.Random(seed)
    moved = 0
    for _ in range(8 * members):
        member = order.choice(sorted(owned))
        share = quotas(owned, partitions)[member]
        free = partitions - sum(owned.values())
        moved += max(0, owned[member] - share)
        owned[member] = min(share, owned[member] + free)
    for member in sorted(owned) * 2:
        free = partitions - sum(owned.values())
        owned[member] = min(quotas(owned, partitions)[member], owned[member] + free)
    assert sum(owned.values()) == partitions
    assert max(owned.values()) - min(owned.values()) <= 1
    assert moved <= partitions - partitions // members


async def test_a_missing_folder_is_made_for_this_user_alone(tmp_path: Path) -> None:
    path = tmp_path / "state" / "log.sqlite"
    admin = SqliteAdmin(path, SETTINGS)
    await admin.create_topics({"topic": 1})
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}
    await admin.close()


async def test_a_file_that_is_no_log_is_named_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite"
    path.write_bytes(b"not a database at all, but long enough to be one" * 100)
    producer = SqliteProducer(path, SETTINGS)
    with pytest.raises(BusUnavailable, match=r"log\.sqlite failed: file is not a database.*move the file aside"):
        await producer.append([NewRecord("topic", b"", b"")])
    path.unlink()
    admin = SqliteAdmin(path, SETTINGS)
    await admin.create_topics({"topic": 1})
    assert await producer.append([NewRecord("topic", b"", b"")]) == [("topic", 0, 0)], "it recovers by itself"
    await producer.close()
    await admin.close()


async def test_a_log_of_another_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite"
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()
    admin = SqliteAdmin(path, SETTINGS)
    with pytest.raises(BusUnavailable, match="format is 99, this version reads 1"):
        await admin.topics()
    await admin.close()


async def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    admin = SqliteAdmin(tmp_path / "file" / "log.sqlite", SETTINGS)
    with pytest.raises(BusUnavailable, match=str(tmp_path / "file")):
        await admin.topics()
    await admin.close()


async def test_appends_that_wait_for_one_commit_go_into_the_next_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log.sqlite"
    ticks = itertools.count(1_000_000.0)  # a look at the clock per transaction, at least: each has its own time
    is_asked, has_answered = slow_disk(monkeypatch)
    admin, producer = SqliteAdmin(path, SETTINGS), SqliteProducer(path, SETTINGS, now=lambda: next(ticks))
    await admin.create_topics({"topic": 1})
    appends = [asyncio.create_task(producer.append([NewRecord("topic", b"k", b"v")]))]
    try:
        await asyncio.to_thread(is_asked.wait)
        appends += [asyncio.create_task(producer.append([NewRecord("topic", b"k", b"v")])) for _ in range(50)]
        await asyncio.sleep(0)  # all have begun
    finally:
        has_answered.set()
    await asyncio.gather(*appends)
    records = await admin.read(TopicPartition("topic", 0), 0, 100)
    assert len(records) == 51
    assert len({record.timestamp_ms for record in records}) == 2
    await producer.close()
    await admin.close()


async def test_an_appending_producer_drops_what_is_past_the_retention(tmp_path: Path) -> None:
    now = 1_000_000.0
    path = tmp_path / "log.sqlite"
    admin = SqliteAdmin(path, SETTINGS, now=lambda: now)
    producer = SqliteProducer(path, SETTINGS, now=lambda: now)
    await admin.create_topics({"topic": 1})
    for value in (b"old", b"middle"):
        await producer.append([NewRecord("topic", b"k", value)])
        now += 12 * 3600
    now += 1
    await producer.append([NewRecord("topic", b"k", b"new")])
    await producer.close()
    assert [record.value for record in await admin.read(TopicPartition("topic", 0), 0, 9)] == [b"middle", b"new"]
    await admin.close()


async def test_a_silent_member_loses_its_partitions_only_when_its_lease_ends(tmp_path: Path) -> None:
    now = 1_000_000.0
    path = tmp_path / "log.sqlite"
    settings = StreamSettings(lease_s=3600)  # heartbeats are 20 minutes apart: the clock below decides alone
    admin = SqliteAdmin(path, settings)
    await admin.create_topics({"topic": 2})
    silent, other = (SqliteConsumer(path, settings, group="g", topic="topic", now=lambda: now) for _ in range(2))
    await silent.poll(max_records=1, timeout_s=0)
    now += 3599
    await other.poll(max_records=1, timeout_s=0)
    assert other.assignment() == frozenset()
    await other.close()
    now += 1
    heir = SqliteConsumer(path, settings, group="g", topic="topic", now=lambda: now)
    await heir.poll(max_records=1, timeout_s=0)
    assert len(heir.assignment()) == 2
    await silent.commit(dict.fromkeys(silent.assignment(), 7))
    assert [lag.committed for lag in await admin.lag("g", "topic")] == [None, None]
    await silent.poll(max_records=1, timeout_s=0)
    assert silent.assignment() == frozenset()
    for one in (silent, heir, admin):
        await one.close()


async def test_a_partition_that_was_lost_and_came_back_is_first_reported_as_lost(tmp_path: Path) -> None:
    """Else the work of its former owner would be committed over what somebody else did in between."""
    now = 1_000_000.0
    path = tmp_path / "log.sqlite"
    settings = StreamSettings(lease_s=3600)
    admin, producer = SqliteAdmin(path, settings), SqliteProducer(path, settings)
    await admin.create_topics({"topic": 1})
    await producer.append([NewRecord("topic", b"k", value) for value in (b"0", b"1", b"2")])
    position = TopicPartition("topic", 0)
    silent, heir = (SqliteConsumer(path, settings, group="g", topic="topic", now=lambda: now) for _ in range(2))
    await silent.poll(max_records=1, timeout_s=0)
    now += 3600
    await heir.poll(max_records=2, timeout_s=0)
    await heir.commit({position: 2})
    await heir.close()
    await silent.commit({position: 1})
    assert await silent.poll(max_records=9, timeout_s=60) == []
    assert silent.assignment() == frozenset()
    assert [record.value for record in await silent.poll(max_records=9, timeout_s=60)] == [b"2"]
    for one in (silent, producer, admin):
        await one.close()


async def test_a_group_larger_than_one_statement_keeps_the_order_of_each_partition(tmp_path: Path) -> None:
    """Statements hold 64 rows: groups around and above that, over several partitions and topics."""
    admin, producer = SqliteAdmin(tmp_path / "log", SETTINGS), SqliteProducer(tmp_path / "log", SETTINGS)
    await admin.create_topics({"one": 3, "two": 12})
    sent: dict[TopicPartition, list[bytes]] = {}
    number = itertools.count()
    for size in (1, 63, 64, 65, 200):
        keys = [str(next(number)) for _ in range(size)]
        records = [NewRecord("one" if int(key) % 2 else "two", key.encode(), f"v{key}".encode()) for key in keys]
        for record, at in zip(records, await producer.append(records), strict=True):
            seen = sent.setdefault(TopicPartition(at.topic, at.partition), [])
            assert at.offset == len(seen), "offsets are dense"
            seen.append(record.value)
    assert len(sent) == 15
    for position, values in sent.items():
        assert [record.value for record in await admin.read(position, 0, 1000)] == values
    await producer.close()
    await admin.close()


async def test_in_one_commit_an_unknown_topic_fails_its_own_append_and_no_other(tmp_path: Path) -> None:
    admin, producer = SqliteAdmin(tmp_path / "log", SETTINGS), SqliteProducer(tmp_path / "log", SETTINGS)
    await admin.create_topics({"known": 1})
    both = [NewRecord("known", b"", b"never"), NewRecord("unknown", b"", b"never")]
    appends = [producer.append([NewRecord("known", b"", b"0")]), producer.append(both)]
    appends += [producer.append([NewRecord("known", b"", b"1")])]
    first, failed, last = await asyncio.gather(*appends, return_exceptions=True)
    assert (first, last) == ([("known", 0, 0)], [("known", 0, 1)])
    assert isinstance(failed, BusUnavailable)
    assert "no topic unknown" in str(failed)
    assert [record.value for record in await admin.read(TopicPartition("known", 0), 0, 9)] == [b"0", b"1"]
    await producer.close()
    await admin.close()


async def test_nobody_else_waits_while_an_append_waits_for_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log.sqlite"
    is_asked, has_answered = slow_disk(monkeypatch)
    admin, accepting, redoing = SqliteAdmin(path, SETTINGS), SqliteProducer(path, SETTINGS), redoing_producer(path)
    consumer = SqliteConsumer(path, SETTINGS, group="group", topic="topic")
    await admin.create_topics({"topic": 1})
    assert await consumer.poll(max_records=9, timeout_s=0) == []
    accepted = asyncio.create_task(accepting.append([NewRecord("topic", b"", b"accepted")]))
    try:
        await asyncio.to_thread(is_asked.wait)
        await redoing.append([NewRecord("topic", b"", b"follows")])
        seen = await consumer.poll(max_records=9, timeout_s=30)
        assert [record.value for record in seen] == [b"accepted", b"follows"]
        await consumer.commit({TopicPartition("topic", 0): 2})
        assert [(lag.committed, lag.end) for lag in await admin.lag("group", "topic")] == [(2, 2)]
        assert not accepted.done()
    finally:
        has_answered.set()
    assert await accepted == [("topic", 0, 0)]
    for opened in (consumer, accepting, redoing, admin):
        await opened.close()


async def test_an_append_is_answered_once_the_disk_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log.sqlite"
    answers: list[OSError | None] = [None, OSError(errno.EIO, "Input/output error"), None]
    on_disk: list[int] = []

    def disk(_: Path) -> None:
        on_disk.append(count(copied(path, tmp_path / f"copy-{len(on_disk)}")))
        if (fault := answers[len(on_disk) - 1]) is not None:
            raise fault

    admin, producer = SqliteAdmin(path, SETTINGS), SqliteProducer(path, SETTINGS)
    await admin.create_topics({"topic": 1})
    monkeypatch.setattr(sqlite, "sync_wal", disk)
    await producer.append([NewRecord("topic", b"", b"1"), NewRecord("topic", b"", b"2")])
    assert on_disk == [2]
    with pytest.raises(BusUnavailable, match=r"log\.sqlite failed: .*Input/output error"):
        await producer.append([NewRecord("topic", b"", b"3")])
    assert await producer.append([NewRecord("topic", b"", b"3")]) == [("topic", 0, 3)], "the one refused is there, too"
    assert on_disk == [2, 3, 4]
    await producer.close()
    await admin.close()


async def test_a_power_cut_that_takes_an_append_takes_the_commit_behind_it(tmp_path: Path) -> None:
    """Of what no disk was asked to keep, a prefix is left: cut the write-ahead log everywhere, and look."""
    path, events = tmp_path / "log.sqlite", 12
    admin, accepting = SqliteAdmin(path, SETTINGS), SqliteProducer(path, SETTINGS)
    await admin.create_topics({"events": 1, "topic": 1})
    await accepting.append([NewRecord("events", b"", b"event") for _ in range(events)])
    await accepting.close()
    await admin.close()  # the last one: the file has everything, and the write-ahead log starts over
    redoing, consumer = redoing_producer(path), SqliteConsumer(path, SETTINGS, group="group", topic="events")
    assert await consumer.poll(max_records=1, timeout_s=30)
    for end in range(1, events + 1):
        await redoing.append([NewRecord("topic", b"", b"x" * 3000)])
        await consumer.commit({TopicPartition("events", 0): end})
    whole = {(end, end) for end in range(events + 1)}
    assert set(after_cuts(path, tmp_path / "copy")) == whole | {(end, end - 1) for end in range(1, events + 1)}
    await consumer.close()
    await redoing.close()


def slow_disk(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, threading.Event]:
    """Set once the disk was asked to keep something; to be set for it to answer."""
    is_asked, has_answered = threading.Event(), threading.Event()

    def disk(_: Path) -> None:
        is_asked.set()
        has_answered.wait()

    monkeypatch.setattr(sqlite, "sync_wal", disk)
    return is_asked, has_answered


def redoing_producer(path: Path) -> SqliteProducer:
    return SqliteProducer(path, SETTINGS, can_redo=True)


def copied(path: Path, folder: Path) -> Path:
    """What another machine would find on this disk, were nothing held back in a cache."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for file in (path, Path(f"{path}-wal")):
        shutil.copy(file, folder)
    return folder / path.name


def after_cuts(path: Path, folder: Path) -> Iterator[tuple[int, int]]:
    """Records and committed offset, the write-ahead log cut at every 997th byte, which is several times a frame."""
    wal = Path(f"{path}-wal").stat().st_size
    for size in (*range(0, wal, 997), wal):
        copy = copied(path, folder)
        os.truncate(f"{copy}-wal", size)
        yield count(copy), committed(copy)


def count(path: Path) -> int:
    with contextlib.closing(sqlite3.connect(path)) as db:
        return int(db.execute("SELECT count(*) FROM records WHERE topic = 'topic'").fetchone()[0])


def committed(path: Path) -> int:
    with contextlib.closing(sqlite3.connect(path)) as db:
        return int(db.execute("SELECT coalesce(max(next_offset), 0) FROM offsets").fetchone()[0])
