"""Reading without a group, on a real log."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from sentinelctl.errors import PreflightError, SentinelError, UsageError
from sentinelctl.log.reading import document, following, kept, last, looking, partitions, since
from services.contract import Topic
from services.settings import Settings, load
from services.stream.base import Admin, Producer
from services.stream.sqlite import SqliteProducer
from services.stream.types import NewRecord, Record, TopicPartition


class Bench:
    """A log whose clock only a test moves."""

    def __init__(self, settings: Settings, admin: Admin) -> None:
        self.settings, self.admin, self.now = settings, admin, 1000.0
        self.producer: Producer = SqliteProducer(settings.stream_path, settings.stream, now=lambda: self.now)

    async def append(self, *values: str) -> None:
        """A second apart, and each in the partition of its own key."""
        for value in values:
            self.now += 1
            await self.producer.append([NewRecord(Topic.REVIEWS, value.encode(), value.encode())])


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    settings = load(environ={"SENTINEL_PROJECT_STATE_DIR": str(tmp_path)})
    settings.stream_path.parent.mkdir()
    settings.stream_path.touch()
    async with looking(settings) as admin:
        await admin.create_topics({Topic.REVIEWS: 4})
        bench = Bench(settings, admin)
        yield bench
        await bench.producer.close()


def told(records: list[Record]) -> str:
    return "".join(one.value.decode() for one in records)


async def test_records_of_all_partitions_come_by_time(bench: Bench) -> None:
    await bench.append(*"abcdefgh")
    assert len({one.partition for one in await since(bench.admin, Topic.REVIEWS)}) > 1
    assert told(await since(bench.admin, Topic.REVIEWS)) == "abcdefgh"


async def test_only_what_came_since_a_time_is_read(bench: Bench) -> None:
    await bench.append(*"abcdefgh")
    assert told(await since(bench.admin, Topic.REVIEWS, 1_006_000)) == "fgh"
    assert await since(bench.admin, Topic.REVIEWS, 2_000_000) == []


async def test_more_records_than_one_read_takes_are_all_read(bench: Bench) -> None:
    await bench.producer.append([NewRecord(Topic.REVIEWS, b"k", b"x")] * 1203)
    assert len(await since(bench.admin, Topic.REVIEWS)) == 1203
    assert sum(one.records for one in await kept(bench.admin, Topic.REVIEWS)) == 1203


@pytest.mark.parametrize(("count", "expected"), [(0, ""), (3, "fgh"), (8, "abcdefgh"), (50, "abcdefgh")])
async def test_the_newest_are_told_in_their_order(bench: Bench, count: int, expected: str) -> None:
    await bench.append(*"abcdefgh")
    assert told(await last(bench.admin, Topic.REVIEWS, count)) == expected


async def test_what_the_retention_dropped_is_not_counted_as_kept(bench: Bench) -> None:
    await bench.append("a", "b")
    assert await bench.admin.expire() == 2, "by the clock of the admin, which is today's"
    assert [one.records for one in await kept(bench.admin, Topic.REVIEWS)] == [0] * 4
    assert await last(bench.admin, Topic.REVIEWS, 5) == []


async def test_following_begins_where_it_is_told_and_misses_nothing(bench: Bench) -> None:
    await bench.append("a", "b")
    ends = {one.position: one.end for one in await kept(bench.admin, Topic.REVIEWS)}
    await bench.append("c")
    async with aclosing(following(bench.admin, ends)) as news:
        assert told(await anext(news)) == "c"
        await bench.append("d", "e")
        assert told(await anext(news)) == "de"
        assert await anext(news) == []


async def test_looking_makes_no_log(tmp_path: Path) -> None:
    settings = load(environ={"SENTINEL_PROJECT_STATE_DIR": str(tmp_path / "none")})
    with pytest.raises(PreflightError, match="nothing was started"):
        async with looking(settings):
            pass
    assert not (tmp_path / "none").exists()


async def test_a_log_that_fails_is_said_so(tmp_path: Path) -> None:
    settings = load(environ={"SENTINEL_PROJECT_STATE_DIR": str(tmp_path)})
    settings.stream_path.parent.mkdir()
    settings.stream_path.write_bytes(b"no database, but long enough to be taken for one" * 100)
    with pytest.raises(SentinelError, match="move the file aside"):
        async with looking(settings) as admin:
            await admin.topics()


async def test_a_topic_that_is_not_there_is_named_with_those_that_are(bench: Bench) -> None:
    with pytest.raises(UsageError) as caught:
        await partitions(bench.admin, "nope")
    assert (caught.value.message, caught.value.remedy) == ("the log has no topic 'nope'", "there are reviews")


async def test_a_value_that_cannot_be_decoded_is_shown_in_base64_with_the_fault(bench: Bench) -> None:
    position = TopicPartition(Topic.REVIEWS, 1)
    shown = document(Record(*position, 5, b"7", b"\xff\xff", {"delivery-id": b"d"}, 12))
    assert (shown["value"], shown["headers"], shown["key"]) == ("//8=", {"delivery-id": "d"}, "7")
    assert "2 bytes are no ReviewReady" in shown["fault"]
