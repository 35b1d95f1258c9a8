"""What an event changed, as GitHub lists it; or why the event ends here, without a review of its own."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from sentinel.v1.events_pb2 import Event, PullRequestEvent, PushEvent

from services.contract import NULL_SHA, Outcome
from services.errors import Deferred, Poison, Retryable
from services.github.types import (
    MAX_COMPARED_FILES,
    ChangedFile,
    Comparison,
    GitHubNotFound,
    GitHubRejected,
    PullRequest,
    Repo,
)

YOUNG_S = 30.0
"""How long GitHub's API may trail its own webhook; after that, what is not there is gone."""


class Forge(Protocol):
    """What is asked of services.github.client.GitHub."""

    async def pull(self, repo: Repo, number: int) -> PullRequest: ...

    async def pull_files(self, repo: Repo, number: int) -> tuple[ChangedFile, ...]: ...

    async def pulls_of_branch(self, repo: Repo, branch: str) -> tuple[PullRequest, ...]: ...

    async def compare(self, repo: Repo, base: str, head: str) -> Comparison: ...

    async def commit_files(self, repo: Repo, sha: str) -> tuple[ChangedFile, ...]: ...


@dataclass(frozen=True, slots=True)
class Change:
    """commit_sha: what the new line numbers belong to. unlisted: what GitHub did not list, counted by reason."""

    commit_sha: str
    files: tuple[ChangedFile, ...]
    unlisted: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ended:
    """The event needs no review of its own."""

    outcome: Outcome
    reason: str


async def find_change(forge: Forge, event: Event, *, age_s: float) -> Change | Ended:
    """age_s: seconds since the webhook.

    Raises what the forge raises, and Retryable for what a young event names but GitHub does not have yet.
    """
    repo = Repo(event.repository.full_name, event.installation_id)
    try:
        match event.WhichOneof("kind"):
            case "pull_request":
                return await _pull_change(forge, repo, event.pull_request, age_s)
            case "push":
                return await _push_change(forge, repo, event)
            case _:
                raise Poison("unknown_event", "the event is neither a push nor a pull request; its producer is newer")
    except (GitHubNotFound, GitHubRejected) as exc:
        if age_s < YOUNG_S:
            raise Retryable(f"{exc}; the event is {age_s:.1f} s old, so it may still appear") from exc
        raise


async def _pull_change(forge: Forge, repo: Repo, event: PullRequestEvent, age_s: float) -> Change | Ended:
    pull, files = await asyncio.gather(forge.pull(repo, event.number), forge.pull_files(repo, event.number))
    if pull.head_sha != event.head_sha:
        if age_s < YOUNG_S and await _is_ahead(forge, repo, of=pull.head_sha, head=event.head_sha):
            raise Deferred(f"pull request {event.number} still shows {pull.head_sha}, which {event.head_sha} follows")
        return Ended(Outcome.SUPERSEDED, f"the head is {pull.head_sha} by now")
    missing = (pull.changed_files or 0) - len(files)
    return Change(event.head_sha, files, {"unlisted": missing} if missing > 0 else {})


async def _is_ahead(forge: Forge, repo: Repo, *, of: str, head: str) -> bool:
    try:
        return (await forge.compare(repo, of, head)).status == "ahead"
    except GitHubNotFound:
        return False


async def _push_change(forge: Forge, repo: Repo, event: Event) -> Change | Ended:
    """The look-up and the comparison run side by side: nearly every push needs both."""
    branch = event.push.ref.removeprefix("refs/heads/")
    listing = asyncio.create_task(_pushed_files(forge, repo, event.push, branch, event.repository.default_branch))
    try:
        for pull in await forge.pulls_of_branch(repo, branch):
            if pull.head_repository_id == event.repository.id and pull.head_ref == branch:
                return Ended(Outcome.COVERED, f"pull request {pull.number} has {branch} as its head")
        return await listing
    finally:
        listing.cancel()
        await asyncio.gather(listing, return_exceptions=True)


async def _pushed_files(forge: Forge, repo: Repo, push: PushEvent, branch: str, default_branch: str) -> Change:
    """A new branch is compared with the default branch, and where that is itself, its last commit is all there is.

    The three-dot comparison starts at the merge base, so a forced push shows what the new tip adds to what stayed.
    A `before` that GitHub no longer has leaves the last commit; what came before it is counted as base_gone.
    """
    is_new = push.before == NULL_SHA
    if is_new and branch == default_branch:
        return Change(push.after, await forge.commit_files(repo, push.after))
    try:
        comparison = await forge.compare(repo, default_branch if is_new else push.before, push.after)
    except GitHubNotFound:
        return Change(push.after, await forge.commit_files(repo, push.after), {"base_gone": 1})
    is_cut = len(comparison.files) >= MAX_COMPARED_FILES
    return Change(push.after, comparison.files, {"unlisted": 1} if is_cut else {})
