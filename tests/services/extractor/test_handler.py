import pytest
from sentinel.v1 import inference_pb2 as pb
from sentinel.v1.events_pb2 import Event, ReviewReady

from services.codec import encode
from services.contract import Topic
from services.errors import Deferred, Poison, Retryable
from services.extractor.handler import Handler
from services.extractor.reviewer import Reviewed
from services.github.types import Comparison
from services.settings import ExtractorSettings
from services.stream.types import Record
from services.telemetry import Metrics
from tests.services.extractor.fakes import (
    BASE,
    HEAD,
    OTHER,
    REPOSITORY_ID,
    FakeForge,
    FakeReviewer,
    changed,
    pull_event,
    pull_request,
    push,
)

NOW_NS = 1_800_000_000 * 10**9
FILES = (changed(), changed("b.py"), changed("logo.png", None, status="added"), changed("x.py", "broken"))
FINDING = pb.Finding(path="a.py", line=1, concept="c", is_shown=True)
MODEL = pb.Model(name="small", version="1", digest="d")
REVIEWED = Reviewed((FINDING,), MODEL, {"language_not_taught": 1}, 0.02)


def record(event: Event | bytes) -> Record:
    if isinstance(event, Event):
        event.received_at_ns = NOW_NS - 2 * 10**9
        event = encode(event)
    headers = {"traceparent": b"00-1-2-01", "delivery-id": b"guid", "attempt": b"2"}
    return Record(Topic.PUSH_EVENTS, 4, 7, b"5", event, headers, NOW_NS // 10**6 - 1500)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def handler(forge: FakeForge, reviewer: FakeReviewer, metrics: Metrics) -> Handler:
    ticks = iter(range(100))
    return Handler(
        forge,
        reviewer,
        ExtractorSettings(),
        metrics,
        wall_ns=lambda: NOW_NS,
        clock=lambda: float(next(ticks)),
    )


def ended(metrics: Metrics, outcome: str) -> float | None:
    return metrics.registry.get_sample_value("sentinel_delivery_ended_total", {"outcome": outcome})


async def test_one_event_becomes_one_review_with_all_its_hunks_accounted_for(metrics: Metrics) -> None:
    reviewer = FakeReviewer(REVIEWED)
    event = pull_event()
    (new,) = await handler(FakeForge(files=FILES), reviewer, metrics).handle(record(event))
    assert (new.topic, new.key) == (Topic.REVIEWS, b"5")
    review = ReviewReady.FromString(new.value)
    assert review.event == event
    assert (review.commit_sha, review.revision) == (HEAD, 0)
    assert list(review.findings) == [FINDING]
    assert review.model == MODEL
    assert (review.coverage.hunks, review.coverage.hunks_reviewed) == (4, 1)
    assert dict(review.coverage.skipped) == {"binary": 1, "unparsable": 1, "language_not_taught": 1}
    timings = review.timings
    assert (timings.queue_s, timings.github_s, timings.inference_s, timings.forward_s) == (1.5, 0.25, 1.0, 0.02)
    assert timings.ready_at_ns == NOW_NS


async def test_inference_is_told_whose_hunks_they_are_and_which_delivery_asks(metrics: Metrics) -> None:
    reviewer = FakeReviewer(REVIEWED)
    await handler(FakeForge(files=FILES), reviewer, metrics).handle(record(pull_event()))
    ((repository_id, commit_sha, hunks, metadata),) = reviewer.calls
    assert (repository_id, commit_sha) == (REPOSITORY_ID, HEAD)
    assert [hunk.path for hunk in hunks] == ["a.py", "b.py"]
    assert metadata == {"traceparent": "00-1-2-01", "delivery-id": "guid"}


async def test_a_change_without_hunks_still_becomes_a_review(metrics: Metrics) -> None:
    forge = FakeForge(comparisons={(BASE, HEAD): Comparison(status="identical")})
    (new,) = await handler(forge, FakeReviewer(), metrics).handle(record(push()))
    review = ReviewReady.FromString(new.value)
    assert (review.coverage.hunks, review.coverage.hunks_reviewed, len(review.findings)) == (0, 0, 0)


async def test_hunks_are_counted_by_what_became_of_them(metrics: Metrics) -> None:
    await handler(FakeForge(files=FILES), FakeReviewer(REVIEWED), metrics).handle(record(pull_event()))
    counted = {
        result: metrics.registry.get_sample_value("sentinel_hunks_total", {"result": result})
        for result in ("reviewed", "binary", "unparsable", "language_not_taught")
    }
    assert set(counted.values()) == {1}


@pytest.mark.parametrize(
    ("event", "forge", "outcome"),
    [
        (push(), FakeForge(branch_pulls=(pull_request(),)), "covered"),
        (pull_event(), FakeForge(pull_answer=pull_request(OTHER)), "superseded"),
    ],
)
async def test_an_event_that_needs_no_review_of_its_own_ends_here(
    metrics: Metrics, event: Event, forge: FakeForge, outcome: str
) -> None:
    reviewer = FakeReviewer()
    assert list(await handler(forge, reviewer, metrics).handle(record(event))) == []
    assert reviewer.calls == []
    assert ended(metrics, outcome) == 1


async def test_a_record_that_is_no_event_is_poison(metrics: Metrics) -> None:
    with pytest.raises(Poison) as caught:
        await handler(FakeForge(), FakeReviewer(), metrics).handle(record(b"\xff\xff"))
    assert caught.value.reason == "undecodable"


async def test_a_payload_cannot_choose_the_path_of_a_request(metrics: Metrics) -> None:
    event = push()
    event.repository.full_name = "../../admin"
    with pytest.raises(Poison) as caught:
        await handler(FakeForge(), FakeReviewer(), metrics).handle(record(event))
    assert caught.value.reason == "bad_repository"


async def test_inference_out_of_reach_puts_the_record_off_and_counts_nothing(metrics: Metrics) -> None:
    reviewer = FakeReviewer(Deferred("down"))
    with pytest.raises(Deferred):
        await handler(FakeForge(files=FILES), reviewer, metrics).handle(record(pull_event()))
    assert metrics.registry.get_sample_value("sentinel_hunks_total", {"result": "binary"}) is None


async def test_inference_cannot_have_skipped_more_than_it_was_sent(metrics: Metrics) -> None:
    reviewer = FakeReviewer(Reviewed((), MODEL, {"language_not_taught": 3}))
    with pytest.raises(Retryable, match="skipped 3 of 2"):
        await handler(FakeForge(files=FILES), reviewer, metrics).handle(record(pull_event()))
