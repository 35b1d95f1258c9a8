"""GitHub's bad days: the real client under the real handlers, against a fakehub on a socket that is told what to do.

Both handlers are called as the runner calls them: a Deferred is tried again after the time it names, a Retryable after
a second, three times at most. Time is one clock that only moves when something waits for it; all that is awaited for
real is the client's patience with a stalled answer.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from sentinel.v1.events_pb2 import Event, PullRequestEvent, PushEvent, Repository, ReviewReady
from sentinel.v1.inference_pb2 import Finding, Model

from model.inputs.diff import Hunk
from sentinelctl.fakehub.faults import parse
from sentinelctl.fakehub.hub import APP_ID, INSTALLATION_ID, FakeHub, Pull
from sentinelctl.fakehub.server import serve
from services.claims.sqlite import SqliteClaims
from services.codec import decode, encode
from services.contract import Topic
from services.errors import Deferred, Poison, Retryable
from services.extractor.handler import Handler as Extractor
from services.extractor.reviewer import Reviewed
from services.github.client import GitHub
from services.github.pacing import SECONDARY_WAIT_S
from services.github.types import MAX_FILES, GitHubLimited, Repo
from services.publisher.handler import Handler as Publisher
from services.settings import ClaimsSettings, ExtractorSettings, GitHubSettings, PublisherSettings
from services.stream.types import NewRecord, Record
from services.telemetry import Metrics
from tests.sentinelctl.fakehub.conftest import Workshop, lines, new_workshop
from tests.services.extractor.fakes import FakeLook, FakeProducer

NOW = 1_800_000_000.0
OLD_S = 60.0
"""Older than GitHub's API may trail its webhook: what is not there is gone."""
PATIENCE_S = 0.3
STARTS = (2, 20, 40)
"""Lines of app.py that the pull request changes, each in a hunk of its own."""


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


class Reviewer:
    """Finds a bug on each added line."""

    async def review(
        self,
        repository_id: int,
        commit_sha: str,
        hunks: Sequence[Hunk],
        metadata: Mapping[str, str],
        *,
        within_s: float,
    ) -> Reviewed:
        findings = [
            Finding(
                path=hunk.path,
                line=line.new,
                side="RIGHT",
                concept="c",
                title="A bug",
                text="It is one.",
                severity="bug",
                category="correctness",
                confidence=0.9,
                is_shown=True,
            )
            for hunk in hunks
            for line in hunk.lines
            if line.old is None and line.new is not None
        ]
        return Reviewed(tuple(findings), Model(name="small", version="1", digest="d"), {}, 0.0)


@dataclass
class Day:
    hub: FakeHub
    pull: Pull
    github: GitHub
    claims: SqliteClaims
    clock: Clock
    installation_id: int
    metrics: Metrics = field(default_factory=Metrics)
    waits: list[float] = field(default_factory=list)

    def fault(self, kind: str, **given: Any) -> None:
        self.hub.faults.put(parse({"kind": kind, **given}))

    @property
    def event(self) -> Event:
        served = self.hub.repositories[0]
        return Event(
            delivery_id="d-1",
            received_at_ns=int((NOW - OLD_S) * 10**9),
            installation_id=self.installation_id,
            repository=Repository(id=served.id, full_name=served.full_name, default_branch="main"),
            pull_request=PullRequestEvent(number=1, action="opened", head_sha=self.pull.head_sha, head_ref="topic"),
        )

    async def extract(self, event: Event | None = None) -> ReviewReady | None:
        handler = Extractor(
            self.github,
            FakeLook(),
            Reviewer(),
            FakeProducer(),
            ExtractorSettings(),
            self.metrics,
            max_record_bytes=2**20,
            wall_ns=lambda: int(self.clock() * 10**9),
            clock=self.clock,
        )
        made = await self._run(handler.handle, _record(Topic.PUSH_EVENTS, encode(event or self.event)))
        return decode(ReviewReady, made[0].value) if made else None

    async def publish(self, ready: ReviewReady) -> None:
        handler = Publisher(
            self.github,
            self.claims,
            self.metrics,
            settings=PublisherSettings(),
            claims_settings=ClaimsSettings(),
            clock=self.clock,
            sleep=self.clock.sleep,
        )
        await self._run(handler.handle, _record(Topic.REVIEWS, encode(ready)))

    async def review(self) -> None:
        ready = await self.extract()
        if ready is not None:
            await self.publish(ready)

    async def _run(
        self, handle: Callable[[Record], Awaitable[Sequence[NewRecord]]], record: Record
    ) -> Sequence[NewRecord]:
        retries = 0
        while True:
            try:
                return await handle(record)
            except Deferred as exc:
                assert len(self.waits) < 50, "it never gets through"
                wait_s = exc.retry_after_s
            except Retryable:
                retries += 1
                if retries > 3:
                    raise
                wait_s = 1.0
            self.waits.append(round(wait_s, 3))
            await self.clock.sleep(wait_s)

    @property
    def seen(self) -> list[dict[str, Any]]:
        return self.hub.visible()

    def asked(self, method: str, end: str = "") -> list[int]:
        return [one.status for one in self.hub.requests if one.method == method and one.path.endswith(end)]

    def ended(self, outcome: str) -> float:
        return self.metrics.registry.get_sample_value("sentinel_delivery_ended_total", {"outcome": outcome}) or 0.0


def _record(topic: str, value: bytes) -> Record:
    return Record(topic, 0, 0, b"1", value, {}, int(NOW * 1000))


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """main, a branch `work` of one commit that changes app.py in three places, and another that goes another way."""
    shop = new_workshop(tmp_path_factory.mktemp("days") / "sample")
    shop.commit("first", {"app.py": lines(1, 60)})
    shop.git("checkout", "--quiet", "-b", "work")
    text = lines(1, 60).decode().splitlines(keepends=True)
    for line in STARTS:
        text[line - 1] = f"changed {line}\n"
    shop.commit("second", {"app.py": "".join(text).encode()})
    shop.git("checkout", "--quiet", "-b", "other", "main")
    shop.commit("another way", {"app.py": lines(2, 60)})
    return shop


@asynccontextmanager
async def opened(shop: Workshop, **given: Any) -> AsyncIterator[Day]:
    """given: settings of the client; with `app_key`, the hub is handed its public half."""
    clock = Clock()
    key = given.pop("app_key", None)
    hub = FakeHub([shop.path], token="s3cret", has_limits=True, clock_ns=lambda: int(clock() * 10**9))
    who: dict[str, Any] = {"token": "s3cret"}
    if key is not None:
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        hub.app_public_key, who = public.decode(), {"app_id": APP_ID, "app_key": pem}
    pull = hub.create_pull(hub.repositories[0], base="main", head="work", head_ref="topic")
    with tempfile.TemporaryDirectory() as folder:
        claims = SqliteClaims(Path(folder) / "claims.sqlite", clock=clock)
        clock.now = NOW - 86400 * 9
        await claims.get("")
        clock.now = NOW
        try:
            async with serve(hub) as url:
                settings = GitHubSettings.model_validate({"api_url": url, "timeout_s": 20, **who, **given})
                async with GitHub(settings, Metrics(), clock=clock, monotonic=clock, sleep=clock.sleep) as github:
                    yield Day(hub, pull, github, claims, clock, INSTALLATION_ID if key else 0)
        finally:
            await claims.close()


@pytest.fixture
async def day(shop: Workshop) -> AsyncIterator[Day]:
    async with opened(shop) as day:
        yield day


def assert_reviewed_once(day: Day) -> None:
    (review,) = day.seen
    assert [one["line"] for one in review["comments"]] == list(STARTS)
    assert day.ended("reviewed") == 1


async def test_a_good_day_needs_no_second_request(day: Day) -> None:
    await day.review()
    assert_reviewed_once(day)
    assert day.waits == []
    assert day.asked("POST") == [200]


@pytest.mark.parametrize("where", [{"method": "GET"}, {"method": "POST"}], ids=["reading", "writing"])
@pytest.mark.parametrize("status", [403, 429])
@pytest.mark.parametrize(
    ("says", "waits"),
    [
        ("retry-after", [7.0, 7.0]),
        ("reset", [7.0, 7.0]),
        ("neither", [SECONDARY_WAIT_S, 2 * SECONDARY_WAIT_S]),
    ],
)
async def test_a_limit_is_waited_out_as_github_says_or_longer_each_time(
    day: Day, where: dict[str, str], status: int, says: str, waits: list[float]
) -> None:
    given = {} if says == "neither" else {"wait_s": 7}
    path = "*/pulls/1" if where["method"] == "GET" else "*"
    day.fault("limit", status=status, says=says, count=2, path=path, **where, **given)
    await day.review()
    assert_reviewed_once(day)
    assert day.waits == waits
    assert day.asked(where["method"]).count(status) == 2


async def test_while_a_limit_lasts_nothing_of_that_account_is_sent(day: Day) -> None:
    day.fault("limit", wait_s=600, path="*/pulls/1")
    with pytest.raises(GitHubLimited):
        await day.github.pull(Repo(day.hub.repositories[0].full_name), 1)
    sent = len(day.hub.requests)
    day.clock.now += 599
    with pytest.raises(GitHubLimited):
        await day.github.pull(Repo(day.hub.repositories[0].full_name), 1)
    assert len(day.hub.requests) == sent
    day.clock.now += 1
    await day.review()
    assert_reviewed_once(day)


async def test_fakehubs_own_limits_are_waited_out_too(day: Day) -> None:
    user, now = day.hub.user_of("Bearer s3cret"), day.clock.now
    assert user is not None
    for _ in range(80):
        day.hub.limits.begin(user.id, now, is_write=True, is_content=True)
        day.hub.limits.end(user.id, was_unchanged=False)
    await day.review()
    assert_reviewed_once(day)
    assert day.waits == [60.0]


async def test_paced_writes_never_meet_githubs_limits(shop: Workshop) -> None:
    """700 comments as fast as the client lets them out: no minute holds over 80, no hour over 500, none is refused."""
    async with opened(shop) as day:
        repo, sha, sent_at = Repo(day.hub.repositories[0].full_name), day.pull.head_sha, []
        while len(sent_at) < 700:
            try:
                await day.github.create_commit_comment(repo, sha, body="text")
            except GitHubLimited as exc:
                await day.clock.sleep(exc.retry_after_s)
            else:
                sent_at.append(day.clock.now)
        assert set(day.asked("POST")) == {201}
        assert sent_at[19] == NOW, "a burst of 20 goes out at once"
        assert all(late - early >= 1 - 1e-6 for early, late in pairwise(sent_at[19:500]))
        assert 3600 <= sent_at[-1] - NOW < 3600 + 600


async def test_an_unchanged_answer_costs_no_quota(day: Day) -> None:
    await day.extract()
    used = day.hub.limits.look(1002, day.clock.now).used
    await day.extract()
    assert set(day.asked("GET")[-2:]) == {304}
    assert day.hub.limits.look(1002, day.clock.now).used == used > 0


async def test_three_thousand_files_are_paged_through_and_the_rest_is_counted(tmp_path: Path) -> None:
    shop = new_workshop(tmp_path / "sample")
    shop.commit("first", {"a.txt": b"a\n"})
    shop.git("checkout", "--quiet", "-b", "work")
    shop.commit("second", {f"many/{number:04}.txt": b"x\n" for number in range(MAX_FILES + 7)})
    async with opened(shop) as day:
        ready = await day.extract()
        assert ready is not None
        assert day.asked("GET", "/files") == [200] * 30
        assert ready.coverage.skipped["unlisted"] == 7
        assert ready.coverage.hunks == MAX_FILES + 7


async def test_a_diff_too_large_for_github_is_a_dead_letter_with_its_reason(day: Day) -> None:
    day.fault("status", status=406, path="*/files", count=9)
    with pytest.raises(Poison, match="exceeded the maximum number of files") as caught:
        await day.review()
    assert caught.value.reason == "github_406"


async def test_a_file_without_its_patch_is_counted_and_the_review_still_comes(day: Day) -> None:
    day.fault("no_patch", files="app.py")
    await day.review()
    (review,) = day.seen
    assert review["body"].startswith("0 of 1 hunk reviewed, 1 skipped (too large 1).")


async def test_a_renamed_repository_is_followed_for_reads_and_for_the_write(day: Day) -> None:
    day.fault("moved", path="/repos/*", count=20)
    await day.review()
    assert_reviewed_once(day)
    assert day.asked("POST") == [307, 200]
    assert day.asked("GET").count(301) == 3


@pytest.mark.parametrize(("status", "reason"), [(404, "github_not_found"), (410, "github_gone")])
async def test_what_is_gone_is_a_dead_letter_at_once_unless_the_event_is_young(
    day: Day, status: int, reason: str
) -> None:
    day.fault("status", status=status, path="*/pulls/1", count=1)
    with pytest.raises(Poison) as caught:
        await day.review()
    assert (caught.value.reason, day.waits) == (reason, [])
    day.fault("status", status=status, path="*/pulls/1", count=1)
    young = day.event
    young.received_at_ns = int(day.clock.now * 10**9)
    ready = await day.extract(young)
    assert ready is not None
    assert day.waits == [1.0]


async def test_a_pull_request_that_is_gone_when_its_review_is_posted_is_a_dead_letter(day: Day) -> None:
    day.fault("status", status=404, method="POST")
    with pytest.raises(Poison):
        await day.review()
    assert day.seen == []


@pytest.mark.parametrize("where", [{"path": "*/files"}, {"path": "*/reviews", "method": "POST"}])
async def test_a_refused_token_is_renewed_once(shop: Workshop, where: dict[str, str]) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    async with opened(shop, app_key=key) as day:
        day.fault("status", status=401, **where)
        await day.review()
        assert_reviewed_once(day)
        assert day.waits == []
        assert day.asked("POST", "/access_tokens") == [201, 201]


async def test_credentials_that_stay_refused_put_the_record_off(day: Day) -> None:
    day.fault("status", status=401, path="*/files", count=2)
    await day.review()
    assert_reviewed_once(day)
    assert day.waits == [60.0, 60.0]


@pytest.mark.parametrize("status", [500, 502, 503, 504])
@pytest.mark.parametrize("where", [{"method": "GET"}, {"method": "POST"}, {"method": "POST", "late": True}])
async def test_githubs_own_errors_cost_time_and_nothing_else(day: Day, status: int, where: dict[str, Any]) -> None:
    day.fault("status", status=status, **where)
    await day.review()
    assert_reviewed_once(day)


@pytest.mark.parametrize("late", [False, True], ids=["before the write", "after the write"])
@pytest.mark.parametrize("kind", ["reset", "stall"])
@pytest.mark.parametrize("end", ["reviews", "comments"])
async def test_an_answer_lost_around_the_write_leaves_one_review(
    shop: Workshop, kind: str, late: bool, end: str
) -> None:
    async with opened(shop, timeout_s=PATIENCE_S) as day:
        event = day.event
        if end == "comments":
            event.push.CopyFrom(PushEvent(ref="refs/heads/other", before="0" * 40, after=day.pull.head_sha))
        ready = await day.extract(event)
        assert ready is not None
        day.fault(kind, method="POST", late=late, seconds=30) if kind == "stall" else day.fault(
            kind, method="POST", late=late
        )
        await day.publish(ready)
        assert len(day.seen) == 1
        assert day.ended("reviewed") == 1
        assert len(day.asked("POST")) == (1 if late else 2)


@pytest.mark.parametrize("kind", ["reset", "stall"])
async def test_an_answer_lost_while_reading_is_asked_for_again(shop: Workshop, kind: str) -> None:
    async with opened(shop, timeout_s=PATIENCE_S) as day:
        day.fault(kind, method="GET", count=2)
        await day.review()
        assert_reviewed_once(day)


async def test_a_forge_that_stalls_for_five_minutes_delays_the_review_and_loses_nothing(shop: Workshop) -> None:
    async with opened(shop, timeout_s=PATIENCE_S) as day:
        day.fault("stall", for_s=300)
        asked_until = day.clock.now + 300
        ticking = asyncio.create_task(_tick(day.clock, asked_until))
        await day.review()
        await ticking
        assert_reviewed_once(day)
        assert day.waits


async def _tick(clock: Clock, until: float) -> None:
    """Lets the clock run through the stall while the client waits."""
    while clock.now < until:
        await asyncio.sleep(PATIENCE_S)
        clock.now += 100


@pytest.mark.parametrize("bad", STARTS)
async def test_one_refused_anchor_of_many_goes_into_the_body_alone(day: Day, bad: int) -> None:
    """GitHub refuses all three and names none; nothing but the final review is ever seen."""
    day.fault("refused_anchors", anchors=[f"app.py:{bad}"], count=50)
    await day.review()
    (review,) = day.seen
    assert [one["line"] for one in review["comments"]] == [line for line in STARTS if line != bad]
    assert f"`app.py:{bad}`" in review["body"]
    assert day.asked("POST").count(200) == 1
    assert len(day.asked("POST")) <= 1 + len(STARTS)


async def test_an_anchor_that_left_the_diff_is_found_without_trying(day: Day) -> None:
    ready = await day.extract()
    assert ready is not None
    ready.findings[1].line = 55
    await day.publish(ready)
    (review,) = day.seen
    assert [one["line"] for one in review["comments"]] == [STARTS[0], STARTS[2]]
    assert "`app.py:55`" in review["body"]
    assert day.asked("POST") == [422, 200]


async def test_when_every_anchor_is_refused_the_review_has_them_in_its_body(day: Day) -> None:
    day.fault("refused_anchors", anchors=[f"app.py:{line}" for line in STARTS], count=50)
    await day.review()
    (review,) = day.seen
    assert review["comments"] == []
    assert all(f"`app.py:{line}`" in review["body"] for line in STARTS)


@pytest.mark.parametrize(
    "where",
    [{"method": "GET", "path": "*/pulls/1"}, {"method": "POST"}],
    ids=["while it is read", "while it is posted"],
)
async def test_a_force_push_under_way_supersedes_the_review(day: Day, where: dict[str, str]) -> None:
    event = day.event
    day.fault("force_push", to="other", **where)
    ready = await day.extract(event)
    if ready is not None:
        await day.publish(ready)
    assert day.seen == []
    assert day.ended("superseded") == 1
    assert day.waits == []


async def test_reads_go_side_by_side_and_a_hundred_at_once_are_never_passed(day: Day) -> None:
    repo = Repo(day.hub.repositories[0].full_name)
    await asyncio.gather(*[day.github.pull(repo, 1) for _ in range(200)])
    assert set(day.asked("GET")) <= {200, 304}
