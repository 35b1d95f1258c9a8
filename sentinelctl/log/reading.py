"""Reads the log without a group: what is kept, how far its readers are, records by time."""

import asyncio
import base64
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from sentinelctl.errors import PreflightError, SentinelError, UsageError
from services import codec
from services.contract import READERS
from services.errors import BusUnavailable, Poison
from services.settings import Settings
from services.stream import open_admin
from services.stream.base import Admin
from services.stream.types import Lag, Record, TopicPartition

_READ_RECORDS: Final = 500  # at a time, of one partition
_LOOK_EVERY_S: Final = 0.2
_END_OF_TIME_MS: Final = 253_402_300_799_000  # the year 9999


@dataclass(frozen=True, slots=True)
class Kept:
    """What a partition holds: offsets from `start` up to, not including, `end`."""

    position: TopicPartition
    start: int
    end: int

    @property
    def records(self) -> int:
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class GroupLag:
    """Records a group has yet to read of a topic, and for how many seconds the oldest has waited."""

    group: str
    topic: str
    records: int
    age_s: float


@asynccontextmanager
async def looking(settings: Settings) -> AsyncIterator[Admin]:
    """Raises PreflightError where there is no log yet: looking must not make one. A log that fails is an error."""
    if settings.stream.kind != "kafka" and not settings.stream_path.exists():
        raise PreflightError(
            f"there is no log at {settings.stream_path}: nothing was started with these settings yet",
            remedy="`sentinelctl up` makes one; `sentinelctl config show` says where stream.path comes from",
        )
    admin = open_admin(settings.stream, settings.stream_path)
    try:
        yield admin
    except BusUnavailable as exc:
        raise SentinelError(str(exc), remedy="`sentinelctl doctor` looks at the log, its folder and disk") from exc
    finally:
        await admin.close()


async def partitions(admin: Admin, topic: str) -> list[TopicPartition]:
    """Raises UsageError for a topic the log does not have."""
    there = await admin.topics()
    if topic not in there:
        known = ", ".join(sorted(there)) or "none; `sentinelctl up` creates them"
        raise UsageError(f"the log has no topic {topic!r}", remedy=f"there are {known}")
    return [TopicPartition(topic, number) for number in range(there[topic])]


async def kept(admin: Admin, topic: str) -> list[Kept]:
    async def look(position: TopicPartition) -> Kept:
        return Kept(position, await admin.offset_at(position, 0), await admin.offset_at(position, _END_OF_TIME_MS))

    return await asyncio.gather(*[look(position) for position in await partitions(admin, topic)])


async def group_lags(admin: Admin, topics: Iterable[str]) -> list[GroupLag]:
    """Of those that a group works off, in the order a record takes."""
    found = []
    for topic, group in READERS.items():
        if topic in topics:
            lags = await admin.lag(group, topic)
            found.append(GroupLag(group.value, topic.value, records_of(lags), round(oldest_s(lags), 3)))
    return found


def records_of(lags: Iterable[Lag]) -> int:
    return sum(one.records for one in lags)


def oldest_s(lags: Iterable[Lag]) -> float:
    return max((one.age_s for one in lags), default=0.0)


async def since(admin: Admin, topic: str, timestamp_ms: int = 0) -> list[Record]:
    """Everything appended at or after that time and before now, the oldest first."""
    found: list[Record] = []
    for one in await kept(admin, topic):
        offset = max(one.start, await admin.offset_at(one.position, timestamp_ms))
        found += await _read(admin, one.position, offset, one.end)
    return in_order(found)


async def last(admin: Admin, topic: str, count: int) -> list[Record]:
    """The newest `count`, the oldest of them first."""
    found: list[Record] = []
    for one in await kept(admin, topic):
        found += await _read(admin, one.position, max(one.start, one.end - count), one.end)
    return in_order(found)[len(found) - min(count, len(found)) :]


async def following(admin: Admin, start: Mapping[TopicPartition, int]) -> AsyncGenerator[list[Record]]:
    """What comes from these offsets on, as it comes; an empty list where nothing did."""
    offsets = dict(start)
    while True:
        found: list[Record] = []
        for position, offset in offsets.items():
            records = await admin.read(position, offset, _READ_RECORDS)
            found += records
            if records:
                offsets[position] = records[-1].offset + 1
        yield in_order(found)
        await asyncio.sleep(_LOOK_EVERY_S)


def document(record: Record) -> dict[str, Any]:
    """A record under --json. A value that cannot be decoded stands there in base64, with the fault beside it."""
    found: dict[str, Any] = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp_ms": record.timestamp_ms,
        "key": record.key.decode(errors="replace"),
        "headers": {name: value.decode(errors="replace") for name, value in record.headers.items()},
    }
    try:
        return {**found, "value": codec.to_json(record.topic, record.value)}
    except (Poison, KeyError) as exc:
        return {**found, "value": base64.b64encode(record.value).decode(), "fault": str(exc)}


def in_order(records: Iterable[Record]) -> list[Record]:
    """By time; those of one partition stay as they are."""
    return sorted(records, key=lambda one: (one.timestamp_ms, one.partition, one.offset))


async def _read(admin: Admin, position: TopicPartition, offset: int, end: int) -> list[Record]:
    found: list[Record] = []
    while offset < end:
        records = await admin.read(position, offset, min(_READ_RECORDS, end - offset))
        if not records:
            break
        found += records
        offset = records[-1].offset + 1
    return found
