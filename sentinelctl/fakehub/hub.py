"""The state of a fakehub: repositories, pull requests, reviews, comments, hooks; and what became visible when."""

import re
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sentinelctl.errors import UsageError
from sentinelctl.fakehub.diff import FileDiff
from sentinelctl.fakehub.git import NULL_SHA, Git
from sentinelctl.fakehub.rules import (
    STATES,
    Placed,
    Refused,
    Unplaced,
    check_comment,
    check_commit_comment,
    check_review,
    place,
)

OWNER = "local"
INSTALLATION_ID = 1
APP_ID = 1
TOKEN_LIFE_S = 3600
_FIRST_REPOSITORY_ID = 700_000_001
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9._-]")
# GitHub allows 100; the rest is for the number of a copy.
_MAX_NAME_CHARS = 90


@dataclass(frozen=True)
class User:
    id: int
    login: str
    type: str = "User"


HUMAN = User(1001, OWNER)
TOKEN_USER = User(1002, "sentinel")
APP_USER = User(1003, "sentinel-app[bot]", "Bot")


@dataclass(frozen=True)
class Comment:
    """A comment on a line of a pull request's diff."""

    id: int
    review_id: int
    author: User
    commit_id: str
    created_at_ns: int
    placed: Placed


@dataclass(frozen=True)
class Review:
    id: int
    author: User
    commit_id: str
    body: str
    state: str
    visible_at_ns: int
    comments: tuple[Comment, ...]


@dataclass(frozen=True)
class CommitComment:
    id: int
    author: User
    commit_id: str
    body: str
    path: str | None
    position: int | None
    line: int | None
    visible_at_ns: int


@dataclass
class Pull:
    id: int
    number: int
    title: str
    is_draft: bool
    base_ref: str
    base_sha: str
    head_ref: str
    head_sha: str
    created_at_ns: int
    updated_at_ns: int
    state: str = "open"
    reviews: list[Review] = field(default_factory=list)


@dataclass
class Hook:
    id: int
    url: str
    events: tuple[str, ...]
    secret: str | None
    created_at_ns: int
    is_active: bool = True
    last_code: int | None = None
    """Status of the last delivery's answer; None before any, 0 when there was no answer."""

    def takes(self, event: str) -> bool:
        return self.is_active and (event == "ping" or "*" in self.events or event in self.events)


@dataclass
class Repository:
    """What one repository id serves; several may serve the same git repository."""

    id: int
    name: str
    git: Git
    refs: dict[str, str] = field(default_factory=dict)
    """Branches that exist here alone, or that were moved here; these win over git's."""
    pulls: dict[int, Pull] = field(default_factory=dict)
    comments: list[CommitComment] = field(default_factory=list)
    hooks: dict[int, Hook] = field(default_factory=dict)

    @property
    def full_name(self) -> str:
        return f"{OWNER}/{self.name}"

    def resolve(self, revision: str) -> str | None:
        branch = revision.removeprefix("refs/").removeprefix("heads/")
        return self.refs.get(branch) or self.git.resolve(revision)

    def merge_base(self, pull: Pull) -> str | None:
        return self.git.merge_base(pull.base_sha, pull.head_sha)

    def pull_files(self, pull: Pull, head: str | None = None) -> tuple[FileDiff, ...]:
        """Against the merge base, as GitHub's three dots do; `head` may be an earlier commit of the pull request."""
        return self.git.diff(self.merge_base(pull), head or pull.head_sha)

    def pull_commits(self, pull: Pull) -> list[str]:
        return self.git.between(pull.base_sha, pull.head_sha)


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    status: int
    ms: float


class FakeHub:
    """Everything a fakehub knows. Safe to call from many threads; writes are stamped when a reader can see them."""

    def __init__(
        self,
        repositories: Sequence[Path],
        *,
        copies: int = 1,
        token: str | None = None,
        app_public_key: str | None = None,
        latency_ms: float = 0.0,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """`copies` repository ids are served over each git repository: name, name-2, …

        `token` is the personal token that answers need; without one every request is let in. `app_public_key` (PEM)
        verifies an App's JWT; without one a well-formed JWT passes. `latency_ms` is spent before each API answer.
        UsageError when a path is no git repository or has no commits.
        """
        if not repositories or copies < 1:
            raise UsageError(
                "fakehub has nothing to serve", remedy="give at least one --repo, and --copies of 1 or more"
            )
        self.base_url = "http://127.0.0.1"
        self.latency_ms = latency_ms
        self.requests: deque[Request] = deque(maxlen=10_000)
        self.app_public_key = app_public_key
        self.clock_ns = clock_ns
        self._token = token
        self._installation_tokens: dict[str, int] = {}
        self._lock = threading.Lock()
        self._last_id = 0
        self._visible: list[tuple[Repository, Pull | None, Review | CommitComment]] = []
        self.repositories: list[Repository] = []
        for path in repositories:
            git = Git(path)
            name = _NOT_IN_A_NAME.sub("-", git.name)[:_MAX_NAME_CHARS] or "repository"
            for _ in range(copies):
                self._serve(git, name)

    def repository(self, full_name: str) -> Repository | None:
        """By owner/name, in any case of letters, as GitHub does."""
        return next((one for one in self.repositories if one.full_name.lower() == full_name.lower()), None)

    def user_of(self, authorization: str | None) -> User | None:
        """Who an Authorization header speaks for; None for bad credentials."""
        scheme, _, rest = (authorization or "").partition(" ")
        token = rest.strip() if scheme.lower() in {"bearer", "token"} else ""
        expires_at_ns = self._installation_tokens.get(token)
        if expires_at_ns is not None:
            return APP_USER if self.clock_ns() < expires_at_ns else None
        if self._token is None:
            return TOKEN_USER
        return TOKEN_USER if secrets.compare_digest(token.encode(), self._token.encode()) else None

    def issue_token(self) -> tuple[str, int]:
        """An installation token and when it expires, in ns."""
        token = f"ghs_{secrets.token_hex(18)}"
        expires_at_ns = self.clock_ns() + TOKEN_LIFE_S * 10**9
        self._installation_tokens[token] = expires_at_ns
        return token, expires_at_ns

    def create_pull(
        self,
        repository: Repository,
        *,
        base: str,
        head: str,
        base_ref: str | None = None,
        head_ref: str | None = None,
        title: str | None = None,
        is_draft: bool = False,
    ) -> Pull:
        """A pull request of `head` onto `base`, any two revisions; its head branch is one of its own, kept here alone.

        Refused with 422 where a revision does not exist or `head` brings no commit, as GitHub does.
        """
        base_sha, head_sha = repository.resolve(base), repository.resolve(head)
        if base_sha is None or head_sha is None:
            name, revision = ("base", base) if base_sha is None else ("head", head)
            about = {"resource": "PullRequest", "field": name, "code": "invalid"}
            raise Refused(422, f"Validation Failed: {name} {revision!r} is not a commit here", [about])
        if not repository.git.between(base_sha, head_sha):
            raise Refused(
                422,
                "Validation Failed",
                [
                    {
                        "resource": "PullRequest",
                        "code": "custom",
                        "message": f"No commits between {base} and {head}",
                    }
                ],
            )
        with self._lock:
            now_ns = self.clock_ns()
            number = len(repository.pulls) + 1
            pull = Pull(
                self._next_id(),
                number,
                title or repository.git.commit(head_sha).message.partition("\n")[0],
                is_draft,
                base_ref or repository.git.default_branch,
                base_sha,
                head_ref or f"pull-{number}",
                head_sha,
                now_ns,
                now_ns,
            )
            repository.refs[pull.head_ref] = head_sha
            repository.pulls[number] = pull
        return pull

    def push(self, repository: Repository, branch: str, after: str) -> tuple[str, list[Pull]]:
        """Moves a branch, here alone: its commit before (zeros for a new one), and the pull requests it moved.

        Refused with 422 when `after` is no commit.
        """
        sha = repository.resolve(after)
        if sha is None:
            raise Refused(422, "Object does not exist")
        before = repository.resolve(branch) or NULL_SHA
        moved = []
        with self._lock:
            repository.refs[branch] = sha
            for pull in repository.pulls.values():
                if pull.state == "open" and pull.head_ref == branch and pull.head_sha != sha:
                    pull.head_sha, pull.updated_at_ns = sha, self.clock_ns()
                    moved.append(pull)
        return before, moved

    def create_review(self, repository: Repository, pull: Pull, author: User, request: Any) -> Review:
        """All of it or nothing: Refused where GitHub refuses."""
        check_review(request)
        commit_id = self._commit_of(repository, pull, request.get("commit_id"))
        files = {file.path: file for file in repository.pull_files(pull, commit_id)}
        placed: list[Placed] = []
        errors: list[str] = []
        for comment in request.get("comments") or []:
            found = place(comment, files)
            if isinstance(found, Unplaced):
                errors.append(found.sentence())
            else:
                placed.append(found)
        if errors:
            raise Refused(422, "Unprocessable Entity", list(dict.fromkeys(errors)))
        state = STATES[request.get("event")]
        return self._add_review(repository, pull, author, commit_id, request.get("body") or "", state, placed)

    def create_comment(self, repository: Repository, pull: Pull, author: User, request: Any) -> Comment:
        """A single comment on a line; GitHub makes a review without a body of it."""
        check_comment(request, extra={"commit_id": str})
        if request.get("commit_id") is None:
            raise Refused(422, 'Invalid request.\n\n"commit_id" wasn\'t supplied.')
        commit_id = self._commit_of(repository, pull, request["commit_id"])
        found = place(request, {file.path: file for file in repository.pull_files(pull, commit_id)})
        if isinstance(found, Unplaced):
            raise Refused(422, "Validation Failed", found.objects())
        return self._add_review(repository, pull, author, commit_id, "", "COMMENTED", [found]).comments[0]

    def create_commit_comment(self, repository: Repository, sha: str, author: User, request: Any) -> CommitComment:
        check_commit_comment(request, {file.path: file for file in repository.git.changes(sha)})
        with self._lock:
            comment = CommitComment(
                self._next_id(),
                author,
                sha,
                request["body"],
                request.get("path"),
                request.get("position"),
                request.get("line"),
                self.clock_ns(),
            )
            repository.comments.append(comment)
            self._visible.append((repository, None, comment))
        return comment

    def add_hook(self, repository: Repository, url: str, events: Sequence[str], secret: str | None) -> Hook:
        with self._lock:
            hook = Hook(self._next_id(), url, tuple(events), secret, self.clock_ns())
            repository.hooks[hook.id] = hook
        return hook

    def visible(self) -> list[dict[str, Any]]:
        """Every review and commit comment a reader can see, in the order they appeared. A pending review is not."""
        with self._lock:
            shown = list(self._visible)
        return [_shown(repository, pull, item) for repository, pull, item in shown]

    def _serve(self, git: Git, wanted: str) -> None:
        taken = {one.name.lower() for one in self.repositories}
        name, number = wanted, 1
        while name.lower() in taken:
            number += 1
            name = f"{wanted}-{number}"
        repository = Repository(_FIRST_REPOSITORY_ID + len(self.repositories), name, git)
        if git.resolve(f"refs/heads/{git.default_branch}") is None:
            repository.refs[git.default_branch] = git.tip
        self.repositories.append(repository)

    def _next_id(self) -> int:
        self._last_id += 1
        return self._last_id

    def _commit_of(self, repository: Repository, pull: Pull, wanted: str | None) -> str:
        if wanted is None:
            return pull.head_sha
        if wanted != pull.head_sha and wanted not in repository.pull_commits(pull):
            raise Refused(422, "Unprocessable Entity", ["commit_id is not part of the pull request"])
        return wanted

    def _add_review(
        self,
        repository: Repository,
        pull: Pull,
        author: User,
        commit_id: str,
        body: str,
        state: str,
        placed: Sequence[Placed],
    ) -> Review:
        with self._lock:
            if state == "PENDING" and any(one.state == state and one.author == author for one in pull.reviews):
                raise Refused(422, "Unprocessable Entity", ["User can only have one pending review per pull request"])
            review_id = self._next_id()
            now_ns = self.clock_ns()
            comments = tuple(Comment(self._next_id(), review_id, author, commit_id, now_ns, one) for one in placed)
            review = Review(review_id, author, commit_id, body, state, now_ns, comments)
            pull.reviews.append(review)
            if state != "PENDING":
                self._visible.append((repository, pull, review))
        return review


def _shown(repository: Repository, pull: Pull | None, item: Review | CommitComment) -> dict[str, Any]:
    comments: list[Mapping[str, Any]] = []
    if isinstance(item, Review):
        comments = [
            {
                "path": one.placed.path,
                "line": one.placed.line,
                "side": one.placed.side,
                "start_line": one.placed.start_line,
                "body": one.placed.body,
            }
            for one in item.comments
        ]
    return {
        "repository": {"id": repository.id, "full_name": repository.full_name},
        "kind": "review" if isinstance(item, Review) else "commit_comment",
        "id": item.id,
        "pull_number": None if pull is None else pull.number,
        "commit_id": item.commit_id,
        "author": item.author.login,
        "body": item.body,
        "comments": comments,
        "visible_at_ns": item.visible_at_ns,
    }
