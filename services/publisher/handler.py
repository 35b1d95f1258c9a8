"""One record of `reviews` becomes one review on GitHub: claim, look where it may exist already, post, confirm."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import structlog
from sentinel.v1.events_pb2 import ReviewReady

from services import codec
from services.claims.base import Claim, Claims
from services.contract import SEVERITIES, Outcome
from services.errors import ClaimsUnavailable, Deferred, Poison, Retryable
from services.github.types import (
    Anchor,
    ChangedFile,
    GitHubLimited,
    GitHubRejected,
    GitHubUnavailable,
    InlineComment,
    PostedComment,
    PostedReview,
    PullRequest,
    Repo,
)
from services.key import is_marked, review_key
from services.publisher.anchors import outside, parts
from services.publisher.review import Posting, compose
from services.settings import ClaimsSettings, PublisherSettings
from services.stream.types import NewRecord, Record
from services.telemetry import Metrics

_DAY_S = 86400.0
# GitHub's lists may trail its writes by a moment.
_SECOND_LOOK_AFTER_S = 2.0
# Of the lease: past it nothing is sent any more, so that whoever takes over finds what we did.
_WORKING_SHARE = 0.75

log = structlog.get_logger(__name__)


class Seconds(Protocol):
    @property
    def seconds(self) -> float: ...


class GitHub(Protocol):
    """What the publisher needs of services.github.client.GitHub."""

    def stopwatch(self) -> AbstractContextManager[Seconds]: ...

    async def pull(self, repo: Repo, number: int) -> PullRequest: ...

    async def reviews(self, repo: Repo, number: int) -> tuple[PostedReview, ...]: ...

    async def create_review(
        self, repo: Repo, number: int, *, commit_sha: str, body: str, comments: Sequence[InlineComment] = ()
    ) -> PostedReview: ...

    async def pull_files(self, repo: Repo, number: int) -> tuple[ChangedFile, ...]: ...

    async def commit_comments(self, repo: Repo, sha: str) -> tuple[PostedComment, ...]: ...

    async def create_commit_comment(self, repo: Repo, sha: str, *, body: str) -> PostedComment: ...


@dataclass(frozen=True, slots=True)
class _Unit:
    """What one review is about. number: None for a push."""

    key: str
    delivery_id: str
    repo: Repo
    number: int | None
    commit_sha: str
    received_at: float


class _Superseded(Exception):
    """The head is no longer the one that was reviewed; nothing was posted."""


class Handler:
    def __init__(
        self,
        github: GitHub,
        claims: Claims,
        metrics: Metrics,
        *,
        settings: PublisherSettings,
        claims_settings: ClaimsSettings,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._github = github
        self._claims = claims
        self._metrics = metrics
        self._settings = settings
        self._lease_s = claims_settings.lease_s
        self._keep_s = claims_settings.keep_days * _DAY_S
        self._clock = clock
        self._sleep = sleep
        for outcome in (Outcome.REVIEWED, Outcome.SUPERSEDED, Outcome.DUPLICATE):
            metrics.delivery_ended.labels(outcome)
        for severity in (*SEVERITIES, "none"):
            metrics.review_posted.labels(severity, "posted")

    async def handle(self, record: Record) -> Sequence[NewRecord]:
        """Nothing follows. Zero or one review exists after a failure at any step, and the next attempt completes it."""
        taken_at = self._clock()
        ready = codec.decode(ReviewReady, record.value)
        unit = _unit(ready)
        stop_at = asyncio.get_running_loop().time() + self._lease_s * _WORKING_SHARE
        claim = await self._claims.claim(unit.key, lease_s=self._lease_s)
        if claim.status == "held":
            raise Deferred(f"another attempt at {unit.key} holds its claim", retry_after_s=claim.retry_after_s)
        if claim.status == "done":
            own = claim.result == unit.delivery_id
            self._end(unit, Outcome.REVIEWED if own else Outcome.DUPLICATE, f"posted before, by {claim.result}")
            return ()
        await self._await_lost_leases(unit, claim)
        try:
            async with asyncio.timeout_at(stop_at):
                await self._publish(ready, unit, claim, taken_at)
        except TimeoutError as exc:
            raise Deferred(f"the review of {unit.key} did not get through within its lease") from exc
        return ()

    async def _await_lost_leases(self, unit: _Unit, claim: Claim) -> None:
        """A store that began after the event may have lost a claim whose holder is at work until its lease ends."""
        left_s = claim.known_since + self._lease_s - self._clock()
        if unit.received_at < claim.known_since and left_s > 0:
            await self._release(unit, claim)
            raise Deferred(
                f"the claims began anew after the event of {unit.key}, and one that was lost may still be in use",
                retry_after_s=min(left_s, self._lease_s),
            )

    async def _publish(self, ready: ReviewReady, unit: _Unit, claim: Claim, taken_at: float) -> None:
        is_unused = True
        try:
            with self._github.stopwatch() as github:
                if await self._was_posted(ready, unit, claim):
                    is_unused = False
                    await self._confirm(unit, claim)
                    self._end(unit, Outcome.REVIEWED, "its marker was found on GitHub")
                    return
                posting_at = self._clock()
                is_unused = False
                try:
                    posting = await self._post(ready, unit)
                except (GitHubLimited, Poison, _Superseded):
                    is_unused = True
                    raise
                posted_at = self._clock()
            await self._confirm(unit, claim)
            self._published(ready, unit, posting, taken_at, posting_at, posted_at, github.seconds)
        except _Superseded as exc:
            self._end(unit, Outcome.SUPERSEDED, str(exc))
        finally:
            if is_unused:
                await self._release(unit, claim)

    async def _was_posted(self, ready: ReviewReady, unit: _Unit, claim: Claim) -> bool:
        """Raises _Superseded when it was not, and the head has moved on.

        Where another attempt may have posted a moment ago, the list is looked at twice. One look, beside the check of
        the head, where the claims are younger than they are kept, so that the review may be one they lost; and for a
        pull request that comes back with the head it was closed at, which may be after any time. The extractor may have
        looked for a push's comment already: what was posted since, the claims know.
        """
        now = self._clock()
        if claim.is_takeover or unit.received_at < max(claim.known_since, now - _DAY_S):
            if await self._exists(unit):
                return True
        elif unit.number is None and ready.unposted_at_ns / 1e9 >= claim.known_since:
            return False
        elif claim.known_since > now - self._keep_s or ready.event.pull_request.action == "reopened":
            head = asyncio.create_task(self._refuse_stale(unit))
            try:
                if await self._is_listed(unit):
                    return True
                await head
            finally:
                head.cancel()
                await asyncio.gather(head, return_exceptions=True)
            return False
        await self._refuse_stale(unit)
        return False

    async def _exists(self, unit: _Unit) -> bool:
        if await self._is_listed(unit):
            return True
        await self._sleep(_SECOND_LOOK_AFTER_S)
        return await self._is_listed(unit)

    async def _is_listed(self, unit: _Unit) -> bool:
        posted: Sequence[PostedReview | PostedComment]
        if unit.number is None:
            posted = await self._github.commit_comments(unit.repo, unit.commit_sha)
        else:
            posted = await self._github.reviews(unit.repo, unit.number)
        return any(is_marked(each.body, unit.key) for each in posted)

    async def _refuse_stale(self, unit: _Unit) -> None:
        if unit.number is None:
            return
        pull = await self._github.pull(unit.repo, unit.number)
        if pull.state != "open":
            raise _Superseded("the pull request is closed")
        if pull.head_sha != unit.commit_sha:
            raise _Superseded(f"the head moved on to {pull.head_sha}")

    async def _post(self, ready: ReviewReady, unit: _Unit) -> Posting:
        """Raises GitHubLimited, Poison or _Superseded when nothing was posted; anything else leaves that open.

        One bad anchor fails the whole review, unnamed. It goes into the body, and the others keep their lines: what the
        diff of now does not show is left out first, then a part at a time, then all. Only what is taken is ever seen.
        """
        posting = self._composed(ready, unit, frozenset())
        refused = await self._refused(unit, posting)
        if refused is None:
            return posting
        log.warning("review.anchors_refused", delivery_id=unit.delivery_id, error=str(refused), errors=refused.errors)
        anchors = [comment.anchor for comment in posting.comments]
        out = outside(anchors, await self._files(unit))
        left = [anchor for anchor in anchors if anchor not in out]
        tries = [out] if out and left else []
        for refusals in dict.fromkeys((*tries, *(out | part for part in parts(left)), frozenset(anchors))):
            posting = self._composed(ready, unit, refusals)
            refused = await self._refused(unit, posting)
            if refused is None:
                return posting
        raise refused

    def _composed(self, ready: ReviewReady, unit: _Unit, refused: frozenset[Anchor]) -> Posting:
        is_anchored = unit.number is not None
        return compose(ready, self._settings, unit.key, is_anchored=is_anchored, refused=refused)

    async def _refused(self, unit: _Unit, posting: Posting) -> GitHubRejected | None:
        """None once it is posted; GitHub's refusal where that may be for its anchors. Raises as `_post` does."""
        try:
            await self._send(unit, posting)
        except GitHubRejected as exc:
            if _is_about_the_commit(exc):
                raise _Superseded(f"GitHub no longer takes comments on this commit: {exc}") from exc
            if exc.status != 422 or not posting.comments:
                raise
            return exc
        return None

    async def _files(self, unit: _Unit) -> tuple[ChangedFile, ...]:
        """Read after a refusal, so nothing is posted where they cannot be had, and the claim is given back."""
        if unit.number is None:
            return ()
        try:
            return await self._github.pull_files(unit.repo, unit.number)
        except GitHubUnavailable as exc:
            raise GitHubLimited(str(exc), retry_after_s=exc.retry_after_s) from exc

    async def _send(self, unit: _Unit, posting: Posting) -> None:
        try:
            if unit.number is None:
                await self._github.create_commit_comment(unit.repo, unit.commit_sha, body=posting.body)
            else:
                await self._github.create_review(
                    unit.repo,
                    unit.number,
                    commit_sha=unit.commit_sha,
                    body=posting.body,
                    comments=posting.comments,
                )
        except (GitHubUnavailable, Retryable) as exc:
            log.warning("review.unanswered", delivery_id=unit.delivery_id, error=str(exc))
            if not await self._exists_after(unit, exc):
                raise

    async def _exists_after(self, unit: _Unit, exc: Exception) -> bool:
        """Failing to look must not hide why we look, nor pass for a refusal: the post stays open."""
        try:
            return await self._exists(unit)
        except (Deferred, Retryable, Poison) as second:
            raise GitHubUnavailable(f"{exc}; then, looking for the review: {second}") from exc

    async def _confirm(self, unit: _Unit, claim: Claim) -> None:
        """The review stands, so a lost claim is no failure: whoever comes next finds its marker."""
        try:
            is_ours = await self._claims.confirm(unit.key, claim.token, result=unit.delivery_id, keep_s=self._keep_s)
        except ClaimsUnavailable as exc:
            log.warning("claim.unconfirmed", delivery_id=unit.delivery_id, key=unit.key, error=str(exc))
        else:
            if not is_ours:
                log.warning("claim.lost", delivery_id=unit.delivery_id, key=unit.key, token=claim.token)

    async def _release(self, unit: _Unit, claim: Claim) -> None:
        try:
            await self._claims.release(unit.key, claim.token)
        except ClaimsUnavailable as exc:
            log.warning("claim.unreleased", delivery_id=unit.delivery_id, key=unit.key, error=str(exc))

    def _end(self, unit: _Unit, outcome: Outcome, reason: str) -> None:
        self._metrics.delivery_ended.labels(outcome).inc()
        log.info("delivery.ended", outcome=outcome, reason=reason, **_names(unit))

    def _published(
        self,
        ready: ReviewReady,
        unit: _Unit,
        posting: Posting,
        taken_at: float,
        posting_at: float,
        posted_at: float,
        own_github_s: float,
    ) -> None:
        timings = ready.timings
        e2e_s = posted_at - unit.received_at
        github_s = timings.github_s + own_github_s
        stages = {
            "queue_s": timings.queue_s,
            "github_s": github_s,
            "inference_s": timings.inference_s,
            "forward_s": timings.forward_s,
            "bus_s": taken_at - timings.ready_at_ns / 1e9,
            "check_s": posting_at - taken_at,
            "post_s": posted_at - posting_at,
            "own_s": e2e_s - github_s - timings.forward_s,
        }
        self._metrics.e2e_latency.observe(e2e_s)
        for name, seconds in stages.items():
            self._metrics.stage.labels(name.removesuffix("_s")).observe(max(0.0, seconds))
        for severity in posting.severities or ("none",):
            self._metrics.review_posted.labels(severity, "posted").inc()
        self._metrics.delivery_ended.labels(Outcome.REVIEWED).inc()
        log.info(
            "review.published",
            outcome=Outcome.REVIEWED,
            findings=len(posting.severities),
            comments=len(posting.comments),
            e2e_s=round(e2e_s, 6),
            stages={name: round(seconds, 6) for name, seconds in stages.items()},
            **_names(unit),
        )


def _unit(ready: ReviewReady) -> _Unit:
    event = ready.event
    is_push = event.HasField("push")
    return _Unit(
        key=review_key(ready),
        delivery_id=event.delivery_id,
        repo=Repo(event.repository.full_name, event.installation_id),
        number=None if is_push else event.pull_request.number,
        commit_sha=event.push.after if is_push else event.pull_request.head_sha,
        received_at=event.received_at_ns / 1e9,
    )


def _names(unit: _Unit) -> dict[str, str | int | None]:
    return {
        "delivery_id": unit.delivery_id,
        "repo": unit.repo.full_name,
        "pull": unit.number,
        "commit": unit.commit_sha,
        "key": unit.key,
    }


def _is_about_the_commit(exc: GitHubRejected) -> bool:
    said = " ".join(exc.errors)
    is_gone = "commit_id is not part of" in said or "end_commit_oid" in said or "No commit found for SHA" in str(exc)
    return exc.status == 422 and is_gone
