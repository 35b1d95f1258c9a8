"""One shared client of GitHub's REST API, with only the endpoints the services use."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Self

import httpx2

from services.github.types import (
    ChangedFile,
    Comparison,
    InlineComment,
    PostedComment,
    PostedReview,
    PullRequest,
    Repo,
)
from services.settings import GitHubSettings
from services.telemetry import Metrics


class Stopwatch:
    seconds: float


class GitHub:
    """Raises GitHubLimited, GitHubUnavailable, GitHubNotFound, GitHubRejected from every call."""

    def __init__(
        self, settings: GitHubSettings, metrics: Metrics, *, transport: httpx2.AsyncBaseTransport | None = None
    ) -> None: ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *_: object) -> None: ...

    @contextmanager
    def stopwatch(self) -> Iterator[Stopwatch]:
        """Counts the wall time in which a call made inside (child tasks too) waits for GitHub."""

    async def pull(self, repo: Repo, number: int) -> PullRequest: ...

    async def pull_files(self, repo: Repo, number: int) -> tuple[ChangedFile, ...]: ...

    async def pulls_of_branch(self, repo: Repo, branch: str) -> tuple[PullRequest, ...]: ...

    async def compare(self, repo: Repo, base: str, head: str) -> Comparison: ...

    async def commit_files(self, repo: Repo, sha: str) -> tuple[ChangedFile, ...]: ...

    async def reviews(self, repo: Repo, number: int) -> tuple[PostedReview, ...]: ...

    async def create_review(
        self, repo: Repo, number: int, *, commit_sha: str, body: str, comments: Sequence[InlineComment] = ()
    ) -> PostedReview: ...

    async def commit_comments(self, repo: Repo, sha: str) -> tuple[PostedComment, ...]: ...

    async def create_commit_comment(self, repo: Repo, sha: str, *, body: str) -> PostedComment: ...
