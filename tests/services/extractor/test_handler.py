import pytest
from sentinel.v1 import inference_pb2 as pb
from sentinel.v1.events_pb2 import Event, Place, ReviewReady, ReviewRequest

from model.inputs.diff import parse_patch
from services.codec import encode
from services.contract import Topic
from services.errors import Poison, Retryable
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
    FakeLook,
    FakeProducer,
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


def record(event: Event | bytes, *, waited_s: float = 1.5) -> Record:
    if isinstance(event, Event):
        event.received_at_ns = NOW_NS - 2 * 10**9
        event = encode(event)
    headers = {"traceparent": b"00-1-2-01", "delivery-id": b"guid", "attempt": b"2"}
    return Record(Topic.PUSH_EVENTS, 4, 7, b"5", event, headers, NOW_NS // 10**6 - int(waited_s * 1000))


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def handler(
    forge: FakeForge,
    reviewer: FakeReviewer,
    metrics: Metrics,
    *,
    producer: FakeProducer | None = None,
    look: FakeLook | None = None,
    max_record_bytes: int = 900_000,
) -> Handler:
    ticks = iter(range(100))
    return Handler(
        forge,
        look or FakeLook(),
        reviewer,
        producer or FakeProducer(),
        ExtractorSettings(),
        metrics,
        max_record_bytes=max_record_bytes,
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


@pytest.mark.parametrize(("look", "known"), [(FakeLook(7), 7), (FakeLook(hangs=True), 0)])
async def test_the_publisher_is_told_since_when_a_push_has_no_comment_unless_that_takes_long(
    metrics: Metrics, monkeypatch: pytest.MonkeyPatch, look: FakeLook, known: int
) -> None:
    monkeypatch.setattr("services.extractor.handler._LOOK_S", 0.01)
    forge = FakeForge(comparisons={(BASE, HEAD): Comparison(status="identical")})
    (new,) = await handler(forge, FakeReviewer(), metrics, look=look).handle(record(push()))
    assert ReviewReady.FromString(new.value).unposted_at_ns == known


async def test_nobody_waits_for_the_look_where_the_event_ends(metrics: Metrics) -> None:
    forge = FakeForge(branch_pulls=(pull_request(),))
    assert await handler(forge, FakeReviewer(), metrics, look=FakeLook(hangs=True)).handle(record(push())) == ()


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


HUNKS = tuple(hunk for file in FILES[:2] for hunk in parse_patch(file.patch or "", file.path))


async def test_what_inference_does_not_take_in_time_goes_by_diff_chunks_with_all_that_is_known(
    metrics: Metrics,
) -> None:
    reviewer = FakeReviewer(Reviewed((FINDING,), MODEL, {}, 0.02, left=HUNKS[1:], why="late", said="a:1: too late"))
    event = pull_event()
    event.revision = 2
    (new,) = await handler(FakeForge(files=FILES), reviewer, metrics).handle(record(event))
    assert (new.topic, new.key) == (Topic.DIFF_CHUNKS, b"5")
    request = ReviewRequest.FromString(new.value)
    assert [hunk.path for hunk in request.hunks] == ["b.py"]
    assert request.asked_at_ns == NOW_NS
    review = request.so_far
    assert (review.event, review.commit_sha, review.revision) == (event, HEAD, 2)
    assert (list(review.findings), review.model) == ([FINDING], MODEL)
    assert (review.coverage.hunks, review.coverage.hunks_reviewed) == (4, 1)
    assert dict(review.coverage.skipped) == {"binary": 1, "unparsable": 1}
    assert (review.timings.queue_s, review.timings.github_s, review.timings.forward_s) == (1.5, 0.25, 0.02)
    assert metrics.registry.get_sample_value("sentinel_overflow_total", {"reason": "late"}) == 1


async def test_hunks_are_counted_by_whoever_finishes_the_review(metrics: Metrics) -> None:
    reviewer = FakeReviewer(Reviewed(left=HUNKS))
    await handler(FakeForge(files=FILES), reviewer, metrics).handle(record(pull_event()))
    assert metrics.registry.get_sample_value("sentinel_hunks_total", {"result": "binary"}) is None


@pytest.mark.parametrize(("waited_s", "within_s"), [(0.0, 5.0), (3.0, 2.0), (60.0, 0.25)])
async def test_the_longer_an_event_has_waited_the_less_it_waits_for_inference(
    metrics: Metrics, waited_s: float, within_s: float
) -> None:
    reviewer = FakeReviewer(Reviewed(left=HUNKS))
    await handler(FakeForge(files=FILES), reviewer, metrics).handle(record(pull_event(), waited_s=waited_s))
    assert reviewer.within_s == [pytest.approx(within_s)]


async def test_hunks_too_long_for_one_record_go_ahead_in_pieces_that_the_record_names(metrics: Metrics) -> None:
    files = tuple(changed(f"{at}.py", f"@@ -1 +1 @@\n-a\n+{at}{'x' * 400}") for at in range(5))
    left = tuple(hunk for file in files for hunk in parse_patch(file.patch or "", file.path))
    reviewer, producer = FakeReviewer(Reviewed(left=left)), FakeProducer()
    extractor = handler(FakeForge(files=files), reviewer, metrics, producer=producer, max_record_bytes=1000)
    (new,) = await extractor.handle(record(pull_event()))
    request = ReviewRequest.FromString(new.value)
    assert (len(request.hunks), list(request.pieces)) == (0, [Place(offset=at) for at in range(3)])
    assert all(len(one.value) <= 1000 and one.key == new.key for one in (*producer.records, new))
    pieces = [ReviewRequest.FromString(one.value) for one in producer.records]
    assert [hunk.path for piece in pieces for hunk in piece.hunks] == [file.path for file in files]
    assert not any(piece.HasField("so_far") for piece in pieces)


async def test_a_hunk_too_long_for_any_record_is_counted(metrics: Metrics) -> None:
    files = (changed(), changed("b.py", f"@@ -1 +1 @@\n-a\n+{'x' * 2000}"))
    left = tuple(hunk for file in files for hunk in parse_patch(file.patch or "", file.path))
    extractor = handler(FakeForge(files=files), FakeReviewer(Reviewed(left=left)), metrics, max_record_bytes=1000)
    (new,) = await extractor.handle(record(pull_event()))
    request = ReviewRequest.FromString(new.value)
    assert [hunk.path for hunk in request.hunks] == ["a.py"]
    assert (request.so_far.coverage.hunks, dict(request.so_far.coverage.skipped)) == (2, {"too_large": 1})


async def test_inference_cannot_have_skipped_more_than_it_was_sent(metrics: Metrics) -> None:
    reviewer = FakeReviewer(Reviewed((), MODEL, {"language_not_taught": 3}))
    with pytest.raises(Retryable, match="skipped 3 of 2"):
        await handler(FakeForge(files=FILES), reviewer, metrics).handle(record(pull_event()))
