"""What stands in for GitHub and for inference in the extractor's tests."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sentinel.v1.events_pb2 import Event, PullRequestEvent, PushEvent, Repository

from model.inputs.diff import Hunk
from services.extractor.reviewer import Reviewed
from services.github.types import ChangedFile, Comparison, GitHubNotFound, PostedComment, PullRequest, Repo
from services.stream.types import Appended, NewRecord

T = TypeVar("T")

REPOSITORY_ID = 5
BASE, HEAD, OTHER, NULL = "a" * 40, "b" * 40, "c" * 40, "0" * 40


def changed(path: str = "a.py", patch: str | None = "@@ -1 +1 @@\n-a\n+b", **more: Any) -> ChangedFile:
    return ChangedFile.model_validate(
        {"filename": path, "patch": patch, "status": "modified", "changes": 2 if patch else 0, **more}
    )


def pull_request(head: str = HEAD, *, repository_id: int | None = REPOSITORY_ID, **more: Any) -> PullRequest:
    repository = None if repository_id is None else {"id": repository_id}
    return PullRequest.model_validate(
        {
            "number": 3,
            "state": "open",
            "head": {"sha": head, "ref": "topic", "repo": repository},
            "base": {"sha": BASE, "ref": "main", "repo": {"id": REPOSITORY_ID}},
            **more,
        }
    )


def push(before: str = BASE, after: str = HEAD, branch: str = "topic", **more: Any) -> Event:
    return _event(push=PushEvent(ref=f"refs/heads/{branch}", before=before, after=after), **more)


def pull_event(head: str = HEAD, **more: Any) -> Event:
    pull = PullRequestEvent(number=3, action="synchronize", head_sha=head, head_ref="topic", base_sha=BASE)
    return _event(pull_request=pull, **more)


def _event(**more: Any) -> Event:
    repository = Repository(id=REPOSITORY_ID, full_name="octocat/hello", default_branch="main")
    return Event(**{"delivery_id": "guid", "repository": repository, **more})


@dataclass
class Watch:
    seconds: float = 0.25


@dataclass
class FakeForge:
    """comparisons: by (base, head). commits: by sha. What is in neither is not found."""

    pull_answer: PullRequest | Exception = field(default_factory=pull_request)
    files: tuple[ChangedFile, ...] = ()
    branch_pulls: tuple[PullRequest, ...] | Exception = ()
    comparisons: Mapping[tuple[str, str], Comparison | Exception] = field(default_factory=dict)
    commits: Mapping[str, tuple[ChangedFile, ...]] = field(default_factory=dict)
    comments: tuple[PostedComment, ...] | Exception = ()
    asked: list[str] = field(default_factory=list)

    @contextmanager
    def stopwatch(self) -> Iterator[Watch]:
        yield Watch()

    async def pull(self, repo: Repo, number: int) -> PullRequest:
        return _given(self.pull_answer)

    async def pull_files(self, repo: Repo, number: int) -> tuple[ChangedFile, ...]:
        return self.files

    async def pulls_of_branch(self, repo: Repo, branch: str) -> tuple[PullRequest, ...]:
        self.asked.append(f"pulls of {branch}")
        return _given(self.branch_pulls)

    async def compare(self, repo: Repo, base: str, head: str) -> Comparison:
        self.asked.append(f"compare {base[:4]} {head[:4]}")
        return _given(self.comparisons.get((base, head), GitHubNotFound("github_not_found", "no such comparison")))

    async def commit_comments(self, repo: Repo, sha: str) -> tuple[PostedComment, ...]:
        self.asked.append(f"comments on {sha[:4]}")
        return _given(self.comments)

    async def commit_files(self, repo: Repo, sha: str) -> tuple[ChangedFile, ...]:
        self.asked.append(f"commit {sha[:4]}")
        return _given(self.commits.get(sha, GitHubNotFound("github_not_found", "no such commit")))


def _given(answer: T | Exception) -> T:
    if isinstance(answer, Exception):
        raise answer
    return answer


@dataclass
class FakeLook:
    answer: int | Exception = 0
    hangs: bool = False

    async def unposted_at_ns(self, event: Event) -> int:
        if self.hangs:
            await asyncio.Event().wait()
        return _given(self.answer)


@dataclass
class FakeReviewer:
    answer: Reviewed | Exception = field(default_factory=Reviewed)
    calls: list[tuple[int, str, Sequence[Hunk], Mapping[str, str]]] = field(default_factory=list)
    within_s: list[float] = field(default_factory=list)

    async def review(
        self,
        repository_id: int,
        commit_sha: str,
        hunks: Sequence[Hunk],
        metadata: Mapping[str, str],
        *,
        within_s: float,
    ) -> Reviewed:
        self.calls.append((repository_id, commit_sha, hunks, metadata))
        self.within_s.append(within_s)
        return _given(self.answer)


@dataclass
class FakeProducer:
    """A log of one partition."""

    records: list[NewRecord] = field(default_factory=list)

    async def append(self, records: Sequence[NewRecord]) -> list[Appended]:
        first = len(self.records)
        self.records += records
        return [Appended(record.topic, 0, first + at) for at, record in enumerate(records)]

    async def close(self) -> None: ...
