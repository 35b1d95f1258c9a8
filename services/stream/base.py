"""The log as services see it. One contract suite runs on every implementation (tests/contracts/test_stream.py)."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from services.stream.types import Appended, Lag, NewRecord, Record, TopicPartition


class Producer(Protocol):
    async def append(self, records: Sequence[NewRecord]) -> list[Appended]:
        """Durable when it returns; all of `records`, or none where one of them is at fault.

        Raises RecordTooLarge, and BusUnavailable: Kafka may then have some of them, which a retry appends again.
        """

    async def close(self) -> None: ...


class Consumer(Protocol):
    """One member of a group on one topic. Positions start at the group's committed offset, else at the beginning.

    Everything but poll and seek may be called while a poll waits. Cancelling a poll loses nothing.
    """

    async def poll(self, *, max_records: int, timeout_s: float) -> list[Record]:
        """Next records of the owned, unpaused partitions, in order per partition.

        Empty after `timeout_s`, and at once when the assignment changed. Keeps the membership alive and takes part in
        rebalances. Raises BusUnavailable.
        """

    def assignment(self) -> frozenset[TopicPartition]:
        """Partitions owned as of the last poll. Work on a partition that left must not be committed."""

    def pause(self, positions: frozenset[TopicPartition]) -> None: ...

    def resume(self, positions: frozenset[TopicPartition]) -> None:
        """A poll that waits looks at these at once."""

    def seek(self, position: TopicPartition, offset: int) -> None:
        """The next poll reads this partition from `offset`."""

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Each value is the next offset to read. A partition owned by somebody else by now is left out silently.

        A commit that meets a rebalance is made by it, or by the next poll.
        """

    async def lag(self) -> list[Lag]:
        """Of the owned partitions."""

    async def close(self) -> None:
        """Leaves the group at once, so that its partitions move without waiting for the lease."""


class Admin(Protocol):
    async def create_topics(self, topics: Mapping[str, int]) -> frozenset[str]:
        """Name to partition count; idempotent. Returns the names it created."""

    async def topics(self) -> dict[str, int]: ...

    async def brokers(self) -> list[str]:
        """Hosts at which clients are told to look for the log, whatever address they began with; none for a file."""

    async def lag(self, group: str, topic: str) -> list[Lag]: ...

    async def offset_at(self, position: TopicPartition, timestamp_ms: int) -> int:
        """First offset appended at or after the time; the end offset when there is none."""

    async def read(self, position: TopicPartition, offset: int, max_records: int) -> list[Record]:
        """Reads without a group, for people and tools."""

    async def expire(self) -> int:
        """Drops records older than the retention; returns how many. Kafka does this itself and answers 0."""

    async def close(self) -> None: ...
