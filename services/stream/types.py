"""Records and positions of the log, the same for every implementation."""

from dataclasses import dataclass, field
from typing import NamedTuple


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
