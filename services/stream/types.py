"""Records and positions of the log, the same for every implementation."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from services.contract import Topic
from services.errors import RecordTooLarge

MAX_LABEL_BYTES: Final = 16_384  # key and headers of one record together
ENVELOPE_BYTES: Final = 65_536  # a dead letter may exceed the limit by this: it holds a whole record, labels twice


class TopicPartition(NamedTuple):
    topic: str
    partition: int


@dataclass(frozen=True, slots=True)
class NewRecord:
    """What a producer appends; its key decides the partition."""

    topic: str
    key: bytes
    value: bytes
    headers: dict[str, bytes] = field(default_factory=dict)

    @property
    def label_bytes(self) -> int:
        return len(self.key) + sum(len(name.encode()) + len(value) for name, value in self.headers.items())


def max_value_bytes(max_record_bytes: int) -> int:
    """Of a record that takes its labels from another one."""
    return max_record_bytes - MAX_LABEL_BYTES


def check_sizes(records: Sequence[NewRecord], max_bytes: int) -> None:
    """Raises RecordTooLarge naming the topic, the size seen and the limit."""
    for record in records:
        labels, size = record.label_bytes, record.label_bytes + len(record.value)
        limit = max_bytes + (ENVELOPE_BYTES if record.topic == Topic.DEAD_LETTERS else 0)
        if size > limit:
            raise RecordTooLarge(
                f"a record of {size} bytes for {record.topic} is above stream.max_record_bytes = {max_bytes}; raise "
                "it, and max.message.bytes of that topic where Kafka holds it"
            )
        if labels > MAX_LABEL_BYTES:
            raise RecordTooLarge(
                f"key and headers of a record for {record.topic} have {labels} bytes; the limit is {MAX_LABEL_BYTES}"
            )


@dataclass(frozen=True, slots=True)
class Record:
    """One record at one offset; `timestamp_ms` is Unix time at append."""

    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes
    headers: dict[str, bytes]
    timestamp_ms: int

    @property
    def position(self) -> TopicPartition:
        return TopicPartition(self.topic, self.partition)


class Appended(NamedTuple):
    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Lag:
    """How far a group is behind on one partition: records, and seconds since the oldest unread one was appended.

    start: offset of the oldest unread record that the retention left, `end` when there is none.
    """

    position: TopicPartition
    committed: int | None
    end: int
    age_s: float
    start: int

    @property
    def records(self) -> int:
        return self.end - self.start
