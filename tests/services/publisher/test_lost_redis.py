"""A real redis-server is lost at each point of a review's way, and comes back with or without what it knew: whatever
happens, one review. GitHub is a fake that counts; leases are real, and short.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from sentinel.v1.events_pb2 import ReviewReady

from services.claims.redis import RedisClaims
from services.errors import ClaimsUnavailable, Deferred
from services.github.types import InlineComment, PullRequest, Repo
from services.publisher.handler import Handler
from services.settings import PublisherSettings
from services.telemetry import Metrics
from tests.redis_process import RedisProcess, running_redis
from tests.services.publisher.test_handler import FakeGitHub, pull_ready, record

LEASE_S = 0.6
DAY_S = 86400.0
IS_KEPT = ("--appendonly", "yes", "--appendfsync", "always")


@dataclass(frozen=True)
class Fault:
    """What happens to the server, and what brings it back."""

    strike: Callable[[RedisProcess], None]
    mend: Callable[[RedisProcess], None]
    options: Sequence[str] = ()


FAULTS = {
    "killed, back empty": Fault(RedisProcess.kill, RedisProcess.start),
    "killed, back with its records": Fault(RedisProcess.kill, RedisProcess.start, IS_KEPT),
    "killed, back without its last moments": Fault(RedisProcess.kill, RedisProcess.start_without_last_moments, IS_KEPT),
    "restarted empty at once": Fault(RedisProcess.restart, lambda _: None),
    "hung": Fault(RedisProcess.pause, RedisProcess.resume),
    "flushed": Fault(RedisProcess.flush, lambda _: None),
}


class GitHub(FakeGitHub):
    """Calls `at_pull` between the claim and the post, `at_posted` between the post and the confirmation: once."""

    def __init__(self) -> None:
        super().__init__()
        self.at_pull: Callable[[], Awaitable[None]] | None = None
        self.at_posted: Callable[[], Awaitable[None]] | None = None

    async def pull(self, repo: Repo, number: int) -> PullRequest:
        act, self.at_pull = self.at_pull, None
        if act:
            await act()
        return await super().pull(repo, number)

    async def _post(self, body: str, comments: Sequence[InlineComment]) -> None:
        await super()._post(body, comments)
        act, self.at_posted = self.at_posted, None
        if act:
            await act()


@asynccontextmanager
async def publisher(server: RedisProcess, github: GitHub, *, lease_s: float = LEASE_S) -> AsyncIterator[Handler]:
    """One more publisher, with connections of its own; the claims begin with it."""

    async def at_once(_: float) -> None:
        """The fake's lists do not trail."""

    settings = server.settings().model_copy(update={"lease_s": lease_s})
    claims = RedisClaims(settings, "sentinel")
    try:
        while True:
            with contextlib.suppress(ClaimsUnavailable):  # a busy machine may take longer than it is given
                await claims.known_since()
                break
        yield Handler(github, claims, Metrics(), settings=PublisherSettings(), claims_settings=settings, sleep=at_once)
    finally:
        await claims.close()


async def publish(publisher: Handler, ready: ReviewReady, *, mend: Callable[[], None] = lambda: None) -> None:
    """As the runner does: again, until it ended. `mend` is called when it is put off."""
    while True:
        try:
            await publisher.handle(record(ready))
        except Deferred as exc:
            mend()
            await asyncio.sleep(exc.retry_after_s)
        else:
            return


@pytest.fixture(params=FAULTS)
def fault(request: pytest.FixtureRequest) -> Fault:
    return FAULTS[request.param]


@pytest.fixture
def server(fault: Fault, tmp_path: Path) -> Iterator[RedisProcess]:
    with running_redis(tmp_path / "redis", *fault.options) as started:
        yield started


@pytest.mark.parametrize("point", ["before the claim", "between claim and post", "between post and confirm"])
async def test_redis_lost_and_found_leaves_one_review(server: RedisProcess, fault: Fault, point: str):
    """Afterwards the delivery comes again, and the record is read once more, as after a crash before its commit."""
    github = GitHub()
    is_lost = False

    async def strike() -> None:
        nonlocal is_lost
        fault.strike(server)
        is_lost = True

    def mend() -> None:
        nonlocal is_lost
        if is_lost:
            fault.mend(server)
            is_lost = False

    async with publisher(server, github) as first:
        with server.client() as client:  # the claims have been there for a month
            client.hset("sentinel:sentinel:era", "since", round((time.time() - 30 * DAY_S) * 1e6))
        server.remember()
        ready = pull_ready("d-1", received_at=time.time())
        if point == "before the claim":
            await strike()
        elif point == "between claim and post":
            github.at_pull = strike
        else:
            github.at_posted = strike
        await publish(first, ready, mend=mend)
    assert len(github.posted) == 1
    mend()
    async with publisher(server, github) as second:
        await publish(second, pull_ready("d-2", received_at=time.time()))
        assert len(github.posted) == 1
        await publish(second, ready)
        assert len(github.posted) == 1


async def test_without_redis_nothing_is_posted_however_often_it_is_tried(tmp_path: Path):
    github = GitHub()
    with running_redis(tmp_path) as server:
        async with publisher(server, github) as first:
            server.kill()
            for _ in range(3):
                with pytest.raises(Deferred, match=server.address):
                    await first.handle(record(pull_ready(received_at=time.time())))
    assert github.posted == []


@pytest.mark.parametrize("is_in_time", [True, False])
async def test_a_claim_lost_under_its_holder_is_nobody_elses_until_its_lease_would_have_ended(
    tmp_path: Path, is_in_time: bool
):
    """Two publishers have one record, and Redis forgets which of them may post. The holder goes on, or never wakes."""
    github = GitHub()
    is_reached, may_go_on = asyncio.Event(), asyncio.Event()

    async def stand_still() -> None:
        is_reached.set()
        await may_go_on.wait()

    github.at_pull = stand_still
    with running_redis(tmp_path) as server:
        async with publisher(server, github, lease_s=4) as holder, publisher(server, github, lease_s=4) as heir:
            ready = pull_ready(received_at=time.time())
            holding = asyncio.create_task(holder.handle(record(ready)))
            await is_reached.wait()
            server.flush()
            with pytest.raises(Deferred, match="began anew"):
                await heir.handle(record(ready))
            assert github.posted == []
            if is_in_time:
                may_go_on.set()
            with contextlib.suppress(Deferred):  # the lease may end on a busy machine, however little there is to do
                await holding
            assert len(github.posted) <= is_in_time
            await publish(heir, ready)
            assert len(github.posted) == 1


async def test_flushes_all_the_while_leave_one_review_of_each(tmp_path: Path):
    """Two publishers that both have every record, and a FLUSHALL in the middle of each review."""
    github = GitHub()
    with running_redis(tmp_path) as server:

        async def flush() -> None:
            server.flush()

        async def run(own: Handler) -> None:
            for at, ready in enumerate(all_ready):
                github.at_pull, github.at_posted = (flush, None) if at % 2 else (None, flush)
                await publish(own, ready)

        async with publisher(server, github) as one, publisher(server, github) as two:
            all_ready = [pull_ready(f"d-{number}", received_at=time.time()) for number in range(8)]
            for number, ready in enumerate(all_ready):
                ready.event.pull_request.number = number
            await asyncio.gather(run(one), run(two))
    markers = [body.rstrip().splitlines()[-1] for body, _ in github.posted]
    assert len(markers) == len(set(markers)) == 8
