import asyncio
import contextlib
import json
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st
from sentinel.v1.events_pb2 import Coverage, Event, PullRequestEvent, PushEvent, Repository, ReviewReady, Timings
from sentinel.v1.inference_pb2 import Finding

from services.claims.base import Claim, Claims
from services.claims.sqlite import SqliteClaims
from services.contract import Topic
from services.errors import ClaimsUnavailable, Deferred, Poison, Retryable
from services.github.types import (
    ChangedFile,
    GitHubLimited,
    GitHubNotFound,
    GitHubRejected,
    GitHubUnavailable,
    InlineComment,
    PostedComment,
    PostedReview,
    PullRequest,
    Repo,
)
from services.key import marker, review_key
from services.publisher.handler import Handler
from services.settings import ClaimsSettings, PublisherSettings
from services.stream.types import Record
from services.telemetry import Metrics

T = TypeVar("T")
HEAD, BEFORE, NEWER = "a" * 40, "b" * 40, "c" * 40
NOW, DAY_S = 1_700_000_000.0, 86400.0
LEASE_S = 60.0


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


class Stopwatch:
    seconds = 0.25


class FakeGitHub:
    """Holds what was posted. `faults` are raised by the next POSTs: before taking it, or after (`is_late`)."""

    def __init__(self) -> None:
        self.head, self.state = HEAD, "open"
        self.posted: list[tuple[str, tuple[InlineComment, ...]]] = []
        self.faults: list[tuple[Exception, bool]] = []
        self.read_fault: Exception | None = None
        self.looks = 0
        self.looks_until_listed = 0
        self.hangs = False
        self.files = (ChangedFile(filename="a.py", status="modified", patch="@@ -1 +1,2 @@\n a\n+b"),)

    @contextlib.contextmanager
    def stopwatch(self) -> Iterator[Stopwatch]:
        yield Stopwatch()

    async def pull(self, repo: Repo, number: int) -> PullRequest:
        if self.read_fault:
            raise self.read_fault
        branch = {"sha": self.head, "ref": "topic"}
        return PullRequest.model_validate({"number": number, "state": self.state, "head": branch, "base": branch})

    async def reviews(self, repo: Repo, number: int) -> tuple[PostedReview, ...]:
        return tuple(PostedReview(id=1, body=body) for body in self._listed())

    async def pull_files(self, repo: Repo, number: int) -> tuple[ChangedFile, ...]:
        return self.files

    async def commit_comments(self, repo: Repo, sha: str) -> tuple[PostedComment, ...]:
        return tuple(PostedComment(id=1, body=body) for body in self._listed())

    async def create_review(
        self, repo: Repo, number: int, *, commit_sha: str, body: str, comments: Sequence[InlineComment] = ()
    ) -> PostedReview:
        await self._post(body, comments)
        return PostedReview(id=1, body=body)

    async def create_commit_comment(self, repo: Repo, sha: str, *, body: str) -> PostedComment:
        await self._post(body, ())
        return PostedComment(id=1, body=body)

    async def _post(self, body: str, comments: Sequence[InlineComment]) -> None:
        if self.hangs:
            await asyncio.Event().wait()
        fault, is_late = self.faults.pop(0) if self.faults else (None, True)
        if fault and not is_late:
            raise fault
        self.posted.append((body, tuple(comments)))
        if fault:
            raise fault

    def _listed(self) -> list[str]:
        if self.read_fault:
            raise self.read_fault
        self.looks += 1
        return [body for body, _ in self.posted] if self.looks > self.looks_until_listed else []


class Killed(BaseException):
    """Stands for kill -9: whatever the process does afterwards has no effect."""


class Process:
    """Between a handler and the world: dies around its n-th outward call, and nothing gets out after that."""

    def __init__(self, dies_at: int | None, after: bool) -> None:
        self._left, self._after = dies_at, after

    async def call(self, act: Callable[[], Awaitable[T]]) -> T:
        if self._left is None:
            return await act()
        self._left -= 1
        if self._left < 0 or (self._left == 0 and not self._after):
            raise Killed
        answer = await act()
        if self._left == 0:
            raise Killed
        return answer

    def around(self, target: Any) -> Any:
        process = self

        class Through:
            def __getattr__(self, name: str) -> Any:
                method = getattr(target, name)
                if name == "stopwatch":
                    return method
                return lambda *args, **given: process.call(lambda: method(*args, **given))

        return Through()


class LostClaims:
    """A store that answers until `lost_from` names the call that fails."""

    def __init__(self, claims: Claims, *lost: str) -> None:
        self._claims, self._lost = claims, lost

    def __getattr__(self, name: str) -> Any:
        if name in self._lost:
            return self._fail
        return getattr(self._claims, name)

    async def _fail(self, *args: object, **given: object) -> None:
        raise ClaimsUnavailable("the claims store is gone")


def pull_ready(delivery_id: str = "d-1", *, received_at: float = NOW - 1) -> ReviewReady:
    return ReviewReady(
        event=Event(
            delivery_id=delivery_id,
            repository=Repository(id=7, full_name="octo/repo"),
            received_at_ns=round(received_at * 1e9),
            pull_request=PullRequestEvent(number=3, head_sha=HEAD),
        ),
        commit_sha=HEAD,
        findings=[
            Finding(
                path="a.py",
                line=2,
                side="RIGHT",
                title="T",
                severity="bug",
                category="c",
                confidence=0.9,
                is_shown=True,
            )
        ],
        coverage=Coverage(hunks=1, hunks_reviewed=1),
        timings=Timings(
            queue_s=0.1, github_s=0.3, inference_s=0.05, forward_s=0.02, ready_at_ns=round((NOW - 0.1) * 1e9)
        ),
    )


def push_ready(**given: Any) -> ReviewReady:
    ready = pull_ready(**given)
    ready.event.push.CopyFrom(PushEvent(ref="refs/heads/main", before=BEFORE, after=HEAD))
    return ready


def record(ready: ReviewReady) -> Record:
    return Record(Topic.REVIEWS, 0, 0, b"7", ready.SerializeToString(), {}, round(NOW * 1000))


class World:
    """One GitHub, one claims file, and as many publishers as a test starts."""

    def __init__(self, folder: Path) -> None:
        self.clock, self.github, self.metrics = Clock(), FakeGitHub(), Metrics()
        self.clock.now = NOW - 30 * DAY_S
        self.claims: Any = SqliteClaims(folder / "claims.sqlite", clock=self.clock)

    async def begin(self) -> None:
        await self.claims.known_since()
        self.clock.now = NOW

    def publisher(self, *, process: Process | None = None, claims: Any = None, lease_s: float = LEASE_S) -> Handler:
        process = process or Process(None, after=True)
        return Handler(
            process.around(self.github),
            process.around(claims or self.claims),
            self.metrics,
            settings=PublisherSettings(),
            claims_settings=ClaimsSettings().model_copy(update={"lease_s": lease_s}),
            clock=self.clock,
            sleep=self.clock.sleep,
        )

    def ended(self, outcome: str) -> float:
        return self.metrics.registry.get_sample_value("sentinel_delivery_ended_total", {"outcome": outcome}) or 0.0

    async def status(self, ready: ReviewReady) -> Claim:
        return await self.claims.claim(review_key(ready), lease_s=1)


@pytest.fixture
async def world(tmp_path: Path):
    world = World(tmp_path)
    await world.begin()
    yield world
    await world.claims.close()


async def test_a_record_becomes_one_review_with_its_comments_and_marker(world: World):
    ready = pull_ready()
    with structlog.testing.capture_logs() as logs:
        assert await world.publisher().handle(record(ready)) == ()
    ((body, comments),) = world.github.posted
    assert body.endswith(marker(review_key(ready)))
    assert [(c.path, c.line, c.side) for c in comments] == [("a.py", 2, "RIGHT")]
    assert world.github.looks == 0
    assert world.ended("reviewed") == 1
    (line,) = logs
    assert json.loads(json.dumps(line)) == {
        "event": "review.published",
        "log_level": "info",
        "delivery_id": "d-1",
        "repo": "octo/repo",
        "pull": 3,
        "commit": HEAD,
        "key": review_key(ready),
        "outcome": "reviewed",
        "findings": 1,
        "comments": 1,
        "e2e_s": 1.0,
        "stages": {
            "queue_s": 0.1,
            "github_s": 0.55,
            "inference_s": 0.05,
            "forward_s": 0.02,
            "bus_s": 0.1,
            "check_s": 0.0,
            "post_s": 0.0,
            "own_s": 0.43,
        },
    }
    assert world.metrics.registry.get_sample_value(
        "sentinel_review_posted_total", {"severity": "bug", "status": "posted"}
    )


async def test_a_push_becomes_one_commit_comment(world: World):
    world.github.head = NEWER
    await world.publisher().handle(record(push_ready()))
    ((body, comments),) = world.github.posted
    assert comments == ()
    assert "`a.py:2`" in body


async def test_another_delivery_of_the_same_head_is_a_duplicate(world: World):
    await world.publisher().handle(record(pull_ready("d-1")))
    await world.publisher().handle(record(pull_ready("d-2")))
    assert len(world.github.posted) == 1
    assert (world.ended("reviewed"), world.ended("duplicate")) == (1, 1)


async def test_a_record_read_again_after_its_review_still_ends_as_reviewed(world: World):
    await world.publisher().handle(record(pull_ready()))
    world.github.head = NEWER
    await world.publisher().handle(record(pull_ready()))
    assert len(world.github.posted) == 1
    assert (world.ended("reviewed"), world.ended("duplicate"), world.ended("superseded")) == (2, 0, 0)


@pytest.mark.parametrize("change", [{"head": NEWER}, {"state": "closed"}])
async def test_an_overtaken_head_or_a_closed_pull_request_is_superseded_and_its_claim_given_back(
    world: World, change: dict[str, str]
):
    vars(world.github).update(change)
    await world.publisher().handle(record(pull_ready()))
    assert world.github.posted == []
    assert world.ended("superseded") == 1
    claim = await world.status(pull_ready())
    assert (claim.status, claim.is_takeover) == ("granted", False)


async def test_two_publishers_of_one_record_post_once(world: World):
    answers = await asyncio.gather(
        *(world.publisher().handle(record(pull_ready())) for _ in range(3)), return_exceptions=True
    )
    assert len(world.github.posted) == 1
    assert all(answer == () or isinstance(answer, Deferred) for answer in answers)


async def test_a_held_claim_defers_until_its_lease_ends(world: World):
    await world.claims.claim(review_key(pull_ready()), lease_s=42)
    with pytest.raises(Deferred) as put_off:
        await world.publisher().handle(record(pull_ready()))
    assert put_off.value.retry_after_s == 42
    assert world.github.posted == []


async def test_a_takeover_posts_when_no_marker_is_there(world: World):
    await world.claims.claim(review_key(pull_ready()), lease_s=1)
    world.clock.now += 2
    await world.publisher().handle(record(pull_ready()))
    assert (len(world.github.posted), world.github.looks) == (1, 2)


@pytest.mark.parametrize("ready", [pull_ready(), push_ready()], ids=["pull", "push"])
@pytest.mark.parametrize("looks_until_listed", [0, 1])
async def test_a_takeover_finds_the_marker_even_in_a_list_that_trails(
    world: World, ready: ReviewReady, looks_until_listed: int
):
    await world.claims.claim(review_key(ready), lease_s=1)
    world.clock.now += 2
    world.github.posted.append((f"text\n\n{marker(review_key(ready))}\n", ()))
    world.github.looks_until_listed = looks_until_listed
    await world.publisher().handle(record(ready))
    assert len(world.github.posted) == 1
    assert world.ended("reviewed") == 1
    assert (await world.status(ready)).status == "done"


async def test_a_marker_quoted_within_a_text_is_not_the_review(world: World):
    ready = pull_ready()
    await world.claims.claim(review_key(ready), lease_s=1)
    world.clock.now += 2
    world.github.posted.append((f"> {marker(review_key(ready))}\n\nI disagree", ()))
    await world.publisher().handle(record(ready))
    assert len(world.github.posted) == 2


async def test_an_event_older_than_a_day_is_looked_up_first(world: World):
    old = pull_ready(received_at=NOW - DAY_S - 1)
    world.github.posted.append((marker(review_key(old)), ()))
    await world.publisher().handle(record(old))
    assert len(world.github.posted) == 1


async def test_a_pull_request_that_comes_back_is_looked_up_first(world: World):
    ready = pull_ready()
    ready.event.pull_request.action = "reopened"
    world.github.posted.append((marker(review_key(ready)), ()))
    await world.publisher().handle(record(ready))
    assert len(world.github.posted) == 1


async def test_an_event_older_than_the_claims_waits_for_lost_leases_to_end_and_is_looked_up_first(
    world: World, tmp_path: Path
):
    """A claim that was lost may be one that somebody works under, until its lease ends."""
    ready = pull_ready()
    anew = SqliteClaims(tmp_path / "anew.sqlite", clock=world.clock)
    with pytest.raises(Deferred, match="began anew") as put_off:
        await world.publisher(claims=anew).handle(record(ready))
    assert (put_off.value.retry_after_s, world.github.looks) == (LEASE_S, 0)
    world.github.posted.append((marker(review_key(ready)), ()))
    world.clock.now += put_off.value.retry_after_s
    await world.publisher(claims=anew).handle(record(ready))
    await anew.close()
    assert len(world.github.posted) == 1


@pytest.mark.parametrize("ready", [pull_ready, push_ready])
async def test_claims_younger_than_they_are_kept_cannot_rule_out_a_review_so_a_new_event_costs_one_look(
    world: World, tmp_path: Path, ready: Callable[..., ReviewReady]
):
    """The claims were lost after the review; then the delivery comes again, under a name of its own."""
    await world.publisher().handle(record(ready(delivery_id="d-1")))
    anew = SqliteClaims(tmp_path / "anew.sqlite", clock=world.clock)
    await anew.known_since()
    world.clock.now += 1
    await world.publisher(claims=anew).handle(record(ready(delivery_id="d-2", received_at=world.clock.now)))
    assert (len(world.github.posted), world.github.looks, world.clock.now) == (1, 1, NOW + 1)
    assert (await anew.claim(review_key(ready()), lease_s=1)).status == "done"
    await anew.close()


@pytest.mark.parametrize(("looked_after_s", "looks"), [(-0.001, 1), (0.0, 0), (5.0, 0)])
async def test_what_the_extractor_saw_since_the_claims_began_is_not_looked_at_again(
    world: World, tmp_path: Path, looked_after_s: float, looks: int
):
    anew = SqliteClaims(tmp_path / "anew.sqlite", clock=world.clock)
    since = await anew.known_since()
    world.clock.now += 10
    ready = push_ready(received_at=world.clock.now)
    ready.unposted_at_ns = round((since + looked_after_s) * 1e9)
    await world.publisher(claims=anew).handle(record(ready))
    assert (len(world.github.posted), world.github.looks) == (1, looks)
    await world.publisher(claims=anew).handle(record(ready))
    assert len(world.github.posted) == 1
    await anew.close()


@pytest.mark.parametrize(("head", "ended", "posted"), [(HEAD, "reviewed", 1), (NEWER, "superseded", 0)])
async def test_young_claims_and_no_marker_leave_the_head_to_decide(
    world: World, tmp_path: Path, head: str, ended: str, posted: int
):
    anew = SqliteClaims(tmp_path / "anew.sqlite", clock=world.clock)
    await anew.known_since()
    world.github.head = head
    await world.publisher(claims=anew).handle(record(pull_ready(received_at=NOW)))
    await anew.close()
    assert (len(world.github.posted), world.github.looks, world.ended(ended)) == (posted, 1, 1)


@pytest.mark.parametrize(
    "refusal",
    [
        GitHubLimited("wait", retry_after_s=7),
        GitHubNotFound("github_not_found", "404"),
        GitHubRejected("github_422", "422", status=422, errors=("Body can't be blank",)),
    ],
)
async def test_a_refused_post_gives_the_claim_back(world: World, refusal: Exception):
    world.github.faults = [(refusal, False), (refusal, False)]
    with pytest.raises(type(refusal)):
        await world.publisher().handle(record(pull_ready()))
    claim = await world.status(pull_ready())
    assert (claim.status, claim.is_takeover) == ("granted", False)


async def test_a_failed_check_of_the_head_gives_the_claim_back(world: World):
    world.github.read_fault = GitHubUnavailable("502")
    with pytest.raises(GitHubUnavailable):
        await world.publisher().handle(record(pull_ready()))
    assert (await world.status(pull_ready())).status == "granted"


@pytest.mark.parametrize("fault", [GitHubUnavailable("502 on POST"), Retryable("an answer of another shape")])
async def test_an_unanswered_post_that_got_through_is_found_and_confirmed(world: World, fault: Exception):
    world.github.faults = [(fault, True)]
    await world.publisher().handle(record(pull_ready()))
    assert len(world.github.posted) == 1
    assert (await world.status(pull_ready())).status == "done"


async def test_an_unanswered_post_that_is_nowhere_keeps_its_claim_and_is_looked_for_before_the_next(world: World):
    world.github.faults = [(GitHubUnavailable("timed out"), False)]
    with pytest.raises(GitHubUnavailable):
        await world.publisher().handle(record(pull_ready()))
    assert world.github.looks == 2
    with pytest.raises(Deferred) as put_off:
        await world.publisher().handle(record(pull_ready()))
    world.clock.now += put_off.value.retry_after_s
    await world.publisher().handle(record(pull_ready()))
    assert (len(world.github.posted), world.github.looks) == (1, 4)


@pytest.mark.parametrize("second", [GitHubLimited("wait"), GitHubUnavailable("502"), GitHubNotFound("gone", "404")])
async def test_an_unanswered_post_keeps_its_claim_even_when_looking_for_it_fails(world: World, second: Exception):
    world.github.faults = [(GitHubUnavailable("reset"), True)]
    create_review = world.github.create_review

    async def then_blind(*args: Any, **given: Any) -> PostedReview:
        world.github.read_fault = second
        return await create_review(*args, **given)

    world.github.create_review = then_blind  # type: ignore[method-assign]
    with pytest.raises(GitHubUnavailable, match="reset; then, looking for the review"):
        await world.publisher().handle(record(pull_ready()))
    assert (await world.status(pull_ready())).status == "held"


async def test_a_post_that_outlasts_the_lease_is_cut_off_and_keeps_its_claim(world: World):
    world.github.hangs = True
    with pytest.raises(Deferred, match="within its lease"):
        await world.publisher(lease_s=0.02).handle(record(pull_ready()))
    world.clock.now += 1
    assert (await world.status(pull_ready())).is_takeover


@pytest.mark.parametrize(("files", "refusals"), [((), 1), (None, 1)], ids=["no longer in the diff", "in the diff"])
async def test_refused_anchors_are_moved_into_the_body_and_posted_once(world: World, files: Any, refusals: int):
    errors = ("Pull request review thread line must be part of the diff",)
    world.github.files = world.github.files if files is None else files
    world.github.faults = [(GitHubRejected("github_422", "422", status=422, errors=errors), False)] * refusals
    await world.publisher().handle(record(pull_ready()))
    ((body, comments),) = world.github.posted
    assert comments == ()
    assert "`a.py:2`" in body


async def test_files_that_cannot_be_read_after_a_refusal_give_the_claim_back(world: World):
    async def fail(repo: Repo, number: int) -> tuple[ChangedFile, ...]:
        raise GitHubUnavailable("502")

    world.github.pull_files = fail  # type: ignore[method-assign]
    world.github.faults = [(GitHubRejected("github_422", "422", status=422), False)]
    with pytest.raises(Deferred, match="502"):
        await world.publisher().handle(record(pull_ready()))
    assert (await world.status(pull_ready())).status == "granted"


async def test_a_commit_that_left_the_pull_request_while_posting_is_superseded(world: World):
    errors = ("commit_id is not part of the pull request",)
    world.github.faults = [(GitHubRejected("github_422", "422", status=422, errors=errors), False)]
    await world.publisher().handle(record(pull_ready()))
    assert world.github.posted == []
    assert world.ended("superseded") == 1


async def test_a_pushed_commit_that_is_gone_is_superseded(world: World):
    world.github.faults = [(GitHubRejected("github_422", "422 No commit found for SHA: a", status=422), False)]
    await world.publisher().handle(record(push_ready()))
    assert world.ended("superseded") == 1


async def test_without_claims_nothing_is_posted(world: World):
    with pytest.raises(ClaimsUnavailable):
        await world.publisher(claims=LostClaims(world.claims, "claim")).handle(record(pull_ready()))
    assert world.github.posted == []


async def test_claims_lost_after_posting_leave_a_review_that_the_next_attempt_finds(world: World):
    await world.publisher(claims=LostClaims(world.claims, "confirm")).handle(record(pull_ready()))
    assert world.ended("reviewed") == 1
    world.clock.now += LEASE_S
    await world.publisher().handle(record(pull_ready()))
    assert len(world.github.posted) == 1


async def test_claims_that_forgot_everything_while_it_posted_know_of_it_again_by_the_confirmation(
    world: World, tmp_path: Path
):
    create_review = world.github.create_review
    files = [tmp_path / f"claims.sqlite{suffix}" for suffix in ("", "-wal", "-shm")]

    async def then_lost(*args: Any, **given: Any) -> PostedReview:
        posted = await create_review(*args, **given)
        for path in files:
            path.unlink()
        with contextlib.suppress(ClaimsUnavailable):
            await world.claims.known_since()
        return posted

    world.github.create_review = then_lost  # type: ignore[method-assign]
    await world.publisher().handle(record(pull_ready()))
    assert len(world.github.posted) == 1
    assert (await world.status(pull_ready())).status == "done"


async def test_claims_lost_while_giving_back_do_not_hide_the_refusal(world: World):
    world.github.faults = [(GitHubLimited("wait", retry_after_s=7), False)]
    with pytest.raises(GitHubLimited):
        await world.publisher(claims=LostClaims(world.claims, "release")).handle(record(pull_ready()))


async def test_undecodable_bytes_are_poison(world: World):
    with pytest.raises(Poison) as refused:
        await world.publisher().handle(Record(Topic.REVIEWS, 0, 0, b"", b"\xff\xff", {}, 0))
    assert refused.value.reason == "undecodable"


def posts_after(ready: ReviewReady, attempts: Sequence[tuple[int, bool, float]]) -> int:
    """How many reviews exist after publishers that died, one after another, and one that lived.

    attempts: the outward call at which one dies, whether after it, and the seconds until the next one starts.
    """

    async def run(folder: Path) -> int:
        world = World(folder)
        await world.begin()
        for dies_at, after, pause_s in attempts:
            with contextlib.suppress(Killed, Deferred):
                await world.publisher(process=Process(dies_at, after)).handle(record(ready))
            world.clock.now += pause_s
        world.clock.now += LEASE_S
        await world.publisher().handle(record(ready))
        assert (await world.status(ready)).status == "done"
        await world.claims.close()
        return len(world.github.posted)

    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(run(Path(folder)))


@pytest.mark.parametrize("ready", [pull_ready(), push_ready()], ids=["pull", "push"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("dies_at", [1, 2, 3, 4])
def test_a_publisher_killed_around_any_call_leaves_one_review(ready: ReviewReady, dies_at: int, after: bool):
    """The calls are: claim, read the head (pull requests), post, confirm."""
    assert posts_after(ready, [(dies_at, after, 0.0)]) == 1


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([pull_ready(), push_ready()]),
    st.lists(st.tuples(st.integers(1, 8), st.booleans(), st.sampled_from([0.0, 30.0, 61.0, 3 * DAY_S])), max_size=5),
)
def test_any_number_of_killed_publishers_leaves_one_review(
    ready: ReviewReady, attempts: Sequence[tuple[int, bool, float]]
):
    assert posts_after(ready, attempts) == 1
