"""The overflow's handler on a real log, with the batcher and a fake engine."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sentinel.v1 import inference_pb2 as pb
from sentinel.v1.events_pb2 import Coverage, Event, Place, Repository, ReviewReady, ReviewRequest, Timings

from model.inputs.chunk import Chunk
from model.inputs.diff import Hunk
from services.codec import encode
from services.contract import Topic
from services.errors import Deferred, Poison, Retryable
from services.inference.batcher import Batcher
from services.inference.overflow import Handler
from services.inference.reviewer import Reviewer
from services.settings import InferenceSettings, StreamSettings
from services.stream import open_admin, open_producer
from services.stream.base import Admin, Producer
from services.stream.types import NewRecord, Record
from services.telemetry import Metrics
from tests.services.inference.test_server import FakeEngine, World, added

NOW_NS = 1_800_000_000 * 10**9
EVENT = Event(delivery_id="guid", repository=Repository(id=5, full_name="octocat/hello"), revision=1)


def request(*hunks: pb.Hunk, **more: Any) -> ReviewRequest:
    """Of a head of five hunks, of which one was read by a direct call and one is a picture."""
    so_far = ReviewReady(
        event=EVENT,
        commit_sha="c",
        findings=[pb.Finding(path="first.py", is_shown=True)],
        coverage=Coverage(hunks=5, hunks_reviewed=1, skipped={"binary": 1}),
        timings=Timings(queue_s=1, github_s=2, inference_s=3, forward_s=4),
        revision=1,
    )
    return ReviewRequest(so_far=so_far, hunks=hunks, asked_at_ns=NOW_NS - 7 * 10**9, **more)


def record(message: ReviewRequest | bytes) -> Record:
    value = message if isinstance(message, bytes) else encode(message)
    return Record(Topic.DIFF_CHUNKS, 0, 9, b"5", value, {}, NOW_NS // 10**6)


class Bench:
    def __init__(self, producer: Producer, admin: Admin) -> None:
        self.producer, self.world = producer, World(max_queue_ms=1)
        self.handler = Handler(
            self.world.reviewer, admin, self.world.metrics, max_record_bytes=900_000, wall_ns=lambda: NOW_NS
        )

    async def review(self, message: ReviewRequest) -> ReviewReady:
        (new,) = await self.handler.handle(record(message))
        assert (new.topic, new.key) == (Topic.REVIEWS, b"5")
        return ReviewReady.FromString(new.value)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    settings, path = StreamSettings(), tmp_path / "log.sqlite"
    admin, producer = open_admin(settings, path), open_producer(settings, path)
    await admin.create_topics({Topic.DIFF_CHUNKS: 3})
    yield Bench(producer, admin)
    await admin.close()
    await producer.close()


HUNKS = (added("a.py", 10, "bug one"), added("b.rs", 1, "x"), added("c.py", 3, "nit two"))


async def test_the_rest_of_a_head_completes_its_review(bench: Bench) -> None:
    review = await bench.review(request(*HUNKS))
    assert (review.event, review.commit_sha, review.revision) == (EVENT, "c", 1)
    assert [(one.path, one.line) for one in review.findings] == [("first.py", 0), ("a.py", 10), ("c.py", 3)]
    coverage = review.coverage
    assert (coverage.hunks, coverage.hunks_reviewed) == (5, 3)
    assert dict(coverage.skipped) == {"binary": 1, "language_not_taught": 1}
    assert review.model.name == "fake"
    timings = review.timings
    assert (timings.queue_s, timings.github_s, timings.inference_s) == (1, 2, 7)
    assert timings.forward_s > 4
    assert timings.ready_at_ns == NOW_NS
    assert bench.world.metrics.registry.get_sample_value("sentinel_hunks_total", {"result": "reviewed"}) == 3


async def test_hunks_in_pieces_are_read_as_if_they_came_in_one_record(bench: Bench) -> None:
    pieces = [ReviewRequest(hunks=HUNKS[:1]), ReviewRequest(hunks=HUNKS[1:])]
    records = [NewRecord(Topic.DIFF_CHUNKS, b"5", encode(piece)) for piece in pieces]
    places = [Place(partition=at.partition, offset=at.offset) for at in await bench.producer.append(records)]
    split, whole = await bench.review(request(pieces=places)), await bench.review(request(*HUNKS))
    assert (split.findings, split.coverage) == (whole.findings, whole.coverage)


async def test_a_piece_by_itself_is_passed_over(bench: Bench) -> None:
    assert await bench.handler.handle(record(ReviewRequest(hunks=HUNKS))) == ()


async def test_pieces_that_the_retention_dropped_are_named(bench: Bench) -> None:
    with pytest.raises(Poison, match="diff-chunks 2:40 are no longer in the log") as caught:
        await bench.handler.handle(record(request(pieces=[Place(partition=2, offset=40)])))
    assert caught.value.reason == "pieces_gone"


@pytest.mark.parametrize(
    ("value", "reason"),
    [(b"\xff\xff", "undecodable"), (encode(request(pb.Hunk(path="a.py", new_lines=3))), "malformed_request")],
)
async def test_what_no_worker_can_read_is_poison(bench: Bench, value: bytes, reason: str) -> None:
    with pytest.raises(Poison) as caught:
        await bench.handler.handle(record(value))
    assert caught.value.reason == reason


async def test_a_full_queue_puts_the_record_off(bench: Bench) -> None:
    bench.world.gate.clear()
    many = added("a.py", 1, *["x"] * 40)
    first = asyncio.create_task(bench.review(request(many, *HUNKS[1:])))
    await bench.world.entered.wait()
    with pytest.raises(Deferred, match="the queue is"):
        await bench.handler.handle(record(request(many)))
    bench.world.gate.set()
    await first


async def test_an_engine_that_fails_on_a_head_uses_up_a_retry_and_the_replica_lives(bench: Bench) -> None:
    class Broken(FakeEngine):
        def encode(self, hunk: Hunk) -> tuple[Chunk, ...]:
            raise MemoryError("too large")

    loop, metrics = asyncio.get_running_loop(), Metrics()
    reviewer = Reviewer(Broken(), Batcher(bench.world.predict, InferenceSettings(), metrics, loop), metrics, loop)
    handler = Handler(reviewer, open_admin(StreamSettings(), Path("unused")), metrics, max_record_bytes=900_000)
    with pytest.raises(Retryable, match=r"failed on 3 hunks: MemoryError\('too large'\)"):
        await handler.handle(record(request(*HUNKS)))
