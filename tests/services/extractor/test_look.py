import asyncio
from pathlib import Path

import pytest
from sentinel.v1.events_pb2 import ReviewReady

from services.claims.base import Claims
from services.claims.sqlite import SqliteClaims
from services.errors import ClaimsUnavailable
from services.extractor.look import Look
from services.github.types import GitHubLimited, GitHubUnavailable, PostedComment
from services.key import marker, review_key

from .fakes import HEAD, FakeForge, pull_event, push

KEEP_S = 5 * 86400.0
NOW_S = 1_800_000_000


class Clock:
    def __init__(self) -> None:
        self.now = float(NOW_S)

    def __call__(self) -> float:
        return self.now


async def looked(forge: FakeForge, folder: Path, *, store_age_s: float = 60.0, kind: str = "push") -> int:
    clock = Clock()
    claims = SqliteClaims(folder / "claims.sqlite", clock=clock)
    try:
        await claims.known_since()
        clock.now += store_age_s
        look = Look(forge, claims, keep_s=KEEP_S, wall_ns=lambda: int(clock.now) * 10**9)
        return await look.unposted_at_ns(push() if kind == "push" else pull_event())
    finally:
        await claims.close()


def comment(key: str) -> PostedComment:
    return PostedComment(id=1, body=f"No findings.\n\n{marker(key)}\n")


async def test_a_push_without_a_comment_of_ours_is_known_to_have_none_since_it_was_asked(tmp_path: Path) -> None:
    forge = FakeForge(comments=(PostedComment(id=1, body="Nice"), comment("push:of another")))
    assert await looked(forge, tmp_path) == (NOW_S + 60) * 10**9
    assert forge.asked == [f"comments on {HEAD[:4]}"]


async def test_a_comment_that_is_there_is_left_to_the_publisher(tmp_path: Path) -> None:
    event = push()
    assert await looked(FakeForge(comments=(comment(review_key(ReviewReady(event=event))),)), tmp_path) == 0


@pytest.mark.parametrize(("store_age_s", "kind"), [(KEEP_S, "push"), (60.0, "pull request")])
async def test_nobody_is_asked_where_the_claims_know_or_the_publisher_looks_anyway(
    tmp_path: Path, store_age_s: float, kind: str
) -> None:
    forge = FakeForge()
    assert await looked(forge, tmp_path, store_age_s=store_age_s, kind=kind) == 0
    assert forge.asked == []


@pytest.mark.parametrize("fault", [GitHubLimited("wait", retry_after_s=7), GitHubUnavailable("502")])
async def test_a_look_that_fails_fails_nothing_else(tmp_path: Path, fault: Exception) -> None:
    assert await looked(FakeForge(comments=fault), tmp_path) == 0


async def test_without_the_claims_it_is_not_known() -> None:
    class Lost:
        async def known_since(self) -> float:
            raise ClaimsUnavailable("gone")

    claims: Claims = Lost()  # type: ignore[assignment]
    async with asyncio.timeout(5):
        assert await Look(FakeForge(), claims, keep_s=KEEP_S).unposted_at_ns(push()) == 0
