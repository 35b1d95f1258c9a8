"""Whether a push was reviewed before, asked while its files are listed, so that the publisher need not wait for it."""

import time
from collections.abc import Callable
from typing import Final, Protocol

from sentinel.v1.events_pb2 import Event, ReviewReady

from services.claims.base import Claims
from services.errors import ClaimsUnavailable, Deferred, Poison, Retryable
from services.github.types import PostedComment, Repo
from services.key import is_marked, review_key

_NOT: Final = 0


class Forge(Protocol):
    async def commit_comments(self, repo: Repo, sha: str) -> tuple[PostedComment, ...]: ...


class Look:
    """keep_s: how long claims are kept. A store older than that knows of every review, and GitHub is not asked."""

    def __init__(
        self, forge: Forge, claims: Claims, *, keep_s: float, wall_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self._forge, self._claims, self._keep_s, self._wall_ns = forge, claims, keep_s, wall_ns

    async def unposted_at_ns(self, event: Event) -> int:
        """Unix time at which GitHub was asked for the comment of a push and had none; 0 where that is not known.

        Pull requests are looked at by the publisher, beside the check of their head, which costs no time.
        """
        if event.WhichOneof("kind") != "push":
            return _NOT
        try:
            if await self._claims.known_since() <= self._wall_ns() / 1e9 - self._keep_s:
                return _NOT
            asked_at_ns = self._wall_ns()
            repo = Repo(event.repository.full_name, event.installation_id)
            posted = await self._forge.commit_comments(repo, event.push.after)
            key = review_key(ReviewReady(event=event, revision=event.revision))
        except (ClaimsUnavailable, Deferred, Retryable, Poison):
            return _NOT  # the publisher asks, and its failure is not hidden
        return _NOT if any(is_marked(each.body, key) for each in posted) else asked_at_ns
