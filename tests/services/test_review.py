import pytest
from hypothesis import given
from hypothesis import strategies as st
from sentinel.v1.events_pb2 import Coverage, ReviewReady, ReviewRequest
from sentinel.v1.inference_pb2 import Finding, Hunk, Line, Model

from services.contract import SEVERITIES, Topic
from services.errors import Retryable
from services.review import add, fit, fits, pieces, ready
from services.telemetry import Metrics


def finding(severity: str = "bug", confidence: float = 0.9, *, is_shown: bool = True, text: str = "text") -> Finding:
    return Finding(path="a.py", severity=severity, confidence=confidence, is_shown=is_shown, text=text)


def hunk(width: int) -> Hunk:
    return Hunk(path="a.py", lines=[Line(kind=Line.KIND_ADDED, text="x" * width)])


def test_what_is_added_adds_up() -> None:
    review = ReviewReady(coverage=Coverage(hunks=7, skipped={"binary": 1}))
    add(review, 2, [finding()], {"language_not_taught": 1}, Model(name="old"), 0.5)
    add(review, 4, [finding("nit")], {"language_not_taught": 2}, Model(name="new"), 0.25)
    assert (review.coverage.hunks_reviewed, dict(review.coverage.skipped)) == (
        3,
        {"binary": 1, "language_not_taught": 3},
    )
    assert [one.severity for one in review.findings] == ["bug", "nit"]
    assert (review.model.name, review.timings.forward_s) == ("new", 0.75)


def test_inference_cannot_have_skipped_more_than_it_was_sent() -> None:
    with pytest.raises(Retryable, match="skipped 3 of 2"):
        add(ReviewReady(), 2, [], {"language_not_taught": 3}, None, 0)


def test_a_review_that_is_ready_counts_its_hunks_once() -> None:
    metrics = Metrics()
    review = ReviewReady(coverage=Coverage(hunks=3, hunks_reviewed=2, skipped={"binary": 1}))
    new = ready(review, b"5", metrics, now_ns=9, max_bytes=1000)
    assert (new.topic, new.key) == (Topic.REVIEWS, b"5")
    assert ReviewReady.FromString(new.value).timings.ready_at_ns == 9
    read = metrics.registry.get_sample_value
    assert [read("sentinel_hunks_total", {"result": result}) for result in ("reviewed", "binary")] == [2, 1]


def test_a_review_that_fits_keeps_every_finding_in_its_order() -> None:
    findings = [finding("nit", is_shown=False), finding("critical")]
    review = ReviewReady(findings=findings)
    fit(review, 1000)
    assert (list(review.findings), review.findings_cut) == (findings, 0)


def test_a_review_that_is_too_long_loses_what_nobody_is_shown_and_then_the_least_severe() -> None:
    text = "x" * 200
    shown = [finding("nit", text=text), finding("bug", 0.7, text=text), finding("bug", 0.8, text=text)]
    review = ReviewReady(findings=[*shown, finding("critical", is_shown=False, text=text), finding("new", text=text)])
    fit(review, 600)
    assert [(one.severity, round(one.confidence, 1)) for one in review.findings] == [("bug", 0.8), ("bug", 0.7)]
    assert review.findings_cut == 2


@given(
    st.lists(st.tuples(st.sampled_from([*SEVERITIES, "?"]), st.booleans(), st.integers(0, 300)), max_size=30),
    st.integers(100, 4000),
)
def test_a_review_never_exceeds_its_room_and_no_shown_finding_goes_uncounted(
    made: list[tuple[str, bool, int]], max_bytes: int
) -> None:
    review = ReviewReady(findings=[finding(severity, is_shown=shown, text="x" * n) for severity, shown, n in made])
    fit(review, max_bytes)
    assert review.ByteSize() <= max_bytes
    assert sum(one.is_shown for one in review.findings) + review.findings_cut == sum(shown for _, shown, _ in made)


@given(st.lists(st.integers(0, 900), max_size=20), st.integers(1000, 3000))
def test_pieces_keep_every_hunk_in_order_and_none_is_too_long(widths: list[int], max_bytes: int) -> None:
    hunks = [hunk(width) for width in widths]
    assert all(fits(one, max_bytes) for one in hunks)
    parts = pieces(hunks, max_bytes)
    assert [one for part in parts for one in part] == hunks
    assert all(part and ReviewRequest(hunks=part).ByteSize() <= max_bytes for part in parts)


def test_a_hunk_fits_where_a_record_of_its_own_does() -> None:
    alone = ReviewRequest(hunks=[hunk(500)]).ByteSize()
    assert not fits(hunk(500), alone - 1)
    assert fits(hunk(500), alone + 8)
