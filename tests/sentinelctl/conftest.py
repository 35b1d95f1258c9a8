"""A log in a temporary folder, for tests that are not asynchronous, and events to put into it."""

import asyncio
from pathlib import Path

import pytest
from sentinel.v1.events_pb2 import Event, PullRequestEvent, PushEvent, Repository

from services import codec
from services.contract import Topic
from services.settings import Settings, load
from services.stream import open_admin, open_consumer, open_producer
from services.stream.types import Appended, NewRecord, Record, TopicPartition

PARTITIONS = 3


def push(delivery_id: str = "d-1", *, after: str = "b" * 40, repo: str = "octo/hello", revision: int = 0) -> Event:
    repository = Repository(id=7, full_name=repo, default_branch="main")
    change = PushEvent(ref="refs/heads/main", before="a" * 40, after=after)
    return Event(delivery_id=delivery_id, repository=repository, received_at_ns=5, push=change, revision=revision)


def pull(delivery_id: str = "d-2", *, head: str = "c" * 40, action: str = "opened") -> Event:
    repository = Repository(id=7, full_name="octo/hello", default_branch="main")
    change = PullRequestEvent(number=3, head_sha=head, action=action)
    return Event(delivery_id=delivery_id, repository=repository, pull_request=change)


def record_of(event: Event, key: bytes = b"7") -> NewRecord:
    headers = {"delivery-id": event.delivery_id.encode(), "traceparent": b"00-1-2-01"}
    return NewRecord(Topic.PUSH_EVENTS, key, codec.encode(event), headers)


class Log:
    """The log of `settings`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def create(self) -> None:
        async def create() -> None:
            admin = open_admin(self.settings.stream, self.settings.stream_path)
            await admin.create_topics(dict.fromkeys(Topic, PARTITIONS))
            await admin.close()

        asyncio.run(create())

    def append(self, *records: NewRecord) -> list[Appended]:
        async def append() -> list[Appended]:
            producer = open_producer(self.settings.stream, self.settings.stream_path)
            appended = await producer.append(records)
            await producer.close()
            return appended

        return asyncio.run(append())

    def read(self, topic: str) -> list[Record]:
        async def read() -> list[Record]:
            admin = open_admin(self.settings.stream, self.settings.stream_path)
            found = [await admin.read(TopicPartition(topic, one), 0, 1000) for one in range(PARTITIONS)]
            await admin.close()
            return [record for records in found for record in records]

        return asyncio.run(read())

    def commit(self, group: str, topic: str, count: int) -> None:
        """The group has read the first `count` records of each partition."""

        async def commit() -> None:
            consumer = open_consumer(self.settings.stream, self.settings.stream_path, group=group, topic=topic)
            while not consumer.assignment():
                await consumer.poll(max_records=0, timeout_s=0.01)
            await consumer.commit(dict.fromkeys(consumer.assignment(), count))
            await consumer.close()

        asyncio.run(commit())


@pytest.fixture
def log(tmp_path: Path) -> Log:
    """With every topic, in the folder of the installation that `ctl` speaks to."""
    log = Log(load(environ={"SENTINEL_PROJECT_STATE_DIR": str(tmp_path / "state")}))
    log.create()
    return log
