import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from services.errors import ConfigError, Deferred, Poison, Retryable
from services.github.client import CREDENTIALS_RETRY_S, MAX_CONNECTIONS, GitHub
from services.github.types import (
    GitHubLimited,
    GitHubNotFound,
    GitHubRejected,
    GitHubUnavailable,
    InlineComment,
    Repo,
)
from services.settings import GitHubSettings
from services.telemetry import Metrics

REPO = Repo("octocat/hello")
ROOT = "https://github.test/api/v3"
SIDE = {"sha": "1" * 40, "ref": "main", "repo": {"id": 5}}
PULL = {"number": 3, "state": "open", "head": SIDE, "base": SIDE, "changed_files": 2}
REVIEW = {"id": 9, "body": "text"}
FILE = {"filename": "a.py", "status": "modified", "patch": "@@ -1 +1 @@\n-a\n+b", "changes": 2}


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


class Forge:
    """Answers each request by the next of `answers` (a callable is asked each time it comes up); keeps the requests."""

    def __init__(self, *answers: httpx2.Response | Exception | Callable[[httpx2.Request], httpx2.Response]) -> None:
        self.answers = list(answers)
        self.requests: list[httpx2.Request] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, httpx2.Response) else answer(request)

    @property
    def paths(self) -> list[str]:
        return [str(request.url).removeprefix(ROOT) for request in self.requests]


def ok(document: Any, **headers: str) -> httpx2.Response:
    return httpx2.Response(200, json=document, headers={k.replace("_", "-"): v for k, v in headers.items()})


def failed(status: int, message: str = "", headers: dict[str, str] | None = None, **more: Any) -> httpx2.Response:
    return httpx2.Response(status, json={"message": message, **more}, headers=headers)


def linked(document: Any, url: str) -> httpx2.Response:
    return ok(document, link=f'<{url}>; rel="next", <{ROOT}/last>; rel="last"')


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def connect(clock: Clock, metrics: Metrics) -> Callable[..., GitHub]:
    def connect(forge: Any, **settings: Any) -> GitHub:
        return GitHub(
            GitHubSettings(**{"api_url": ROOT, "token": "s3cret", **settings}),
            metrics,
            transport=httpx2.MockTransport(forge),
            clock=clock,
            monotonic=clock,
            sleep=clock.sleep,
        )

    return connect


Connect = Callable[..., GitHub]


async def test_a_request_says_who_asks_and_in_which_version(connect: Connect) -> None:
    forge = Forge(ok(PULL))
    pull = await connect(forge).pull(REPO, 3)
    assert (pull.head_sha, pull.head_repository_id, pull.is_draft, pull.changed_files) == ("1" * 40, 5, False, 2)
    sent = forge.requests[0]
    assert str(sent.url) == f"{ROOT}/repos/octocat/hello/pulls/3"
    assert sent.headers["authorization"] == "Bearer s3cret"
    assert sent.headers["accept"] == "application/vnd.github+json"
    assert sent.headers["x-github-api-version"] == "2022-11-28"
    assert sent.headers["user-agent"] == "sentinel-review"


async def test_files_are_read_page_by_page_as_the_links_say(connect: Connect) -> None:
    path = "/repos/octocat/hello/pulls/3/files"
    forge = Forge(
        linked([FILE], f"{ROOT}{path}?per_page=100&page=2"),
        linked([FILE], f"{ROOT}{path}?per_page=100&page=3"),
        ok([{**FILE, "filename": "last.py"}]),
    )
    files = await connect(forge).pull_files(REPO, 3)
    assert [file.path for file in files] == ["a.py", "a.py", "last.py"]
    assert forge.paths == [f"{path}?per_page=100", f"{path}?per_page=100&page=2", f"{path}?per_page=100&page=3"]


async def test_a_comparison_is_one_request_however_many_commits_it_spans(connect: Connect) -> None:
    next_page = f"{ROOT}/repos/octocat/hello/compare/a...b?page=2"
    forge = Forge(linked({"status": "ahead", "files": [FILE]}, next_page))
    comparison = await connect(forge).compare(REPO, "a", "b")
    assert (comparison.status, len(comparison.files)) == ("ahead", 1)
    assert forge.paths == ["/repos/octocat/hello/compare/a...b?per_page=1"]


async def test_branch_names_cannot_leave_their_place_in_the_path(connect: Connect) -> None:
    forge = Forge(ok({"status": "ahead", "files": []}))
    await connect(forge).compare(REPO, "../../x?y#z", "feature/ü")
    assert forge.paths == ["/repos/octocat/hello/compare/..%2F..%2Fx%3Fy%23z...feature%2F%C3%BC?per_page=1"]


async def test_the_files_of_a_commit_are_paged_too(connect: Connect) -> None:
    forge = Forge(
        linked({"sha": "1" * 40, "files": [FILE]}, f"{ROOT}/repos/octocat/hello/commits/1?page=2"),
        ok({"sha": "1" * 40, "files": [FILE]}),
    )
    assert len(await connect(forge).commit_files(REPO, "1" * 40)) == 2


@pytest.mark.parametrize("sha", ["..", "", "main", "1" * 39, "1" * 40 + "/x"])
async def test_only_a_commit_id_takes_the_place_of_one(connect: Connect, sha: str) -> None:
    forge = Forge(ok({}))
    with pytest.raises(Poison) as caught:
        await connect(forge).commit_files(REPO, sha)
    assert caught.value.reason == "bad_sha"
    assert forge.requests == []


async def test_pull_requests_of_a_branch_are_asked_for_by_owner_and_branch(connect: Connect) -> None:
    forge = Forge(ok([{k: v for k, v in PULL.items() if k != "changed_files"}]))
    pulls = await connect(forge).pulls_of_branch(REPO, "topic/a&b")
    assert [pull.number for pull in pulls] == [3]
    assert dict(forge.requests[0].url.params) == {"state": "open", "head": "octocat:topic/a&b", "per_page": "100"}


async def test_a_review_is_posted_with_its_comments_and_without_verdict(connect: Connect) -> None:
    forge = Forge(ok(REVIEW))
    comment = InlineComment("a.py", 4, "RIGHT", "look")
    review = await connect(forge).create_review(REPO, 3, commit_sha="1" * 40, body="seen", comments=[comment])
    assert review.id == 9
    assert json.loads(forge.requests[0].content) == {
        "commit_id": "1" * 40,
        "event": "COMMENT",
        "body": "seen",
        "comments": [{"path": "a.py", "line": 4, "side": "RIGHT", "body": "look"}],
    }


async def test_reviews_and_commit_comments_are_read_and_written(connect: Connect) -> None:
    forge = Forge(ok([REVIEW]), ok([REVIEW]), ok({"id": 10}))
    github = connect(forge)
    assert [review.body for review in await github.reviews(REPO, 3)] == ["text"]
    assert [comment.id for comment in await github.commit_comments(REPO, "1" * 40)] == [9]
    assert (await github.create_commit_comment(REPO, "1" * 40, body="seen")).id == 10
    assert [request.method for request in forge.requests] == ["GET", "GET", "POST"]


async def test_a_link_to_another_host_is_not_followed(connect: Connect) -> None:
    forge = Forge(linked([FILE], "https://evil.test/steal?page=2"))
    with pytest.raises(GitHubRejected, match=r"evil\.test"):
        await connect(forge).pull_files(REPO, 3)
    assert len(forge.requests) == 1


@pytest.mark.parametrize("status", [301, 302, 307])
async def test_a_redirect_within_the_host_keeps_method_and_body(connect: Connect, status: int) -> None:
    forge = Forge(httpx2.Response(status, headers={"location": "/api/v3/repositories/5/pulls/3/reviews"}), ok(REVIEW))
    await connect(forge).create_review(REPO, 3, commit_sha="1" * 40, body="seen")
    assert forge.paths[1] == "/repositories/5/pulls/3/reviews"
    assert forge.requests[1].method == "POST"
    assert forge.requests[1].content == forge.requests[0].content


@pytest.mark.parametrize(
    "location",
    ["https://evil.test/", "//evil.test/", "http://github.test/api/v3/x", "https://github.test:8443/api/v3/x"],
)
async def test_a_redirect_to_another_origin_never_sees_the_token(connect: Connect, location: str) -> None:
    forge = Forge(httpx2.Response(302, headers={"location": location}))
    with pytest.raises(GitHubRejected) as caught:
        await connect(forge).pull(REPO, 3)
    assert caught.value.reason == "github_redirect"
    assert len(forge.requests) == 1


async def test_redirects_in_a_circle_end(connect: Connect) -> None:
    forge = Forge(lambda _: httpx2.Response(302, headers={"location": "/api/v3/again"}))
    with pytest.raises(GitHubRejected, match="still redirects"):
        await connect(forge).pull(REPO, 3)


async def test_an_unchanged_answer_is_taken_from_memory(connect: Connect) -> None:
    forge = Forge(ok(PULL, etag='W/"1"'), httpx2.Response(304))
    github = connect(forge)
    assert await github.pull(REPO, 3) == await github.pull(REPO, 3)
    assert forge.requests[1].headers["if-none-match"] == 'W/"1"'


async def test_a_limit_stops_every_call_of_the_account_until_it_ends(connect: Connect, clock: Clock) -> None:
    forge = Forge(failed(429, "secondary rate limit", {"retry-after": "30"}), ok(PULL))
    github = connect(forge)
    with pytest.raises(GitHubLimited) as caught:
        await github.pull(REPO, 3)
    assert caught.value.retry_after_s == 30
    clock.now += 10
    with pytest.raises(GitHubLimited) as caught:
        await github.pull(REPO, 3)
    assert caught.value.retry_after_s == 20
    assert len(forge.requests) == 1
    clock.now += 21
    assert (await github.pull(REPO, 3)).number == 3


async def test_limits_without_a_time_wait_longer_each_time(connect: Connect, clock: Clock) -> None:
    github = connect(Forge(failed(429), failed(429), ok(PULL), failed(429)))
    waits = []
    for _ in range(4):
        try:
            await github.pull(REPO, 3)
        except GitHubLimited as exc:
            waits.append(exc.retry_after_s)
            clock.now += exc.retry_after_s
    assert waits == [60, 120, 60]


@pytest.mark.parametrize(
    "failure",
    [
        failed(500),
        failed(502, "Bad Gateway"),
        httpx2.Response(503, text="<html>down</html>"),
        httpx2.ReadError("connection reset by peer"),
        httpx2.ConnectError("connection refused"),
        httpx2.ReadTimeout("too slow"),
        httpx2.RemoteProtocolError("server disconnected"),
    ],
)
async def test_what_is_githubs_fault_puts_the_record_off(connect: Connect, failure: Any) -> None:
    with pytest.raises(GitHubUnavailable) as caught:
        await connect(Forge(failure)).pull(REPO, 3)
    assert isinstance(caught.value, Deferred)
    assert "s3cret" not in f"{caught.value!r} {caught.value}"


async def test_an_answer_that_never_comes_counts_as_lost(connect: Connect) -> None:
    async def silent(_: httpx2.Request) -> httpx2.Response:
        await asyncio.Event().wait()
        raise AssertionError

    with pytest.raises(GitHubUnavailable, match=r"no answer in 0\.01 s"):
        await connect(silent, timeout_s=0.01).pull(REPO, 3)


@pytest.mark.parametrize(
    ("status", "reason"), [(404, "github_not_found"), (410, "github_gone"), (403, "github_forbidden")]
)
async def test_what_is_out_of_reach_is_poison(connect: Connect, status: int, reason: str) -> None:
    with pytest.raises(GitHubNotFound, match="Not Found") as caught:
        await connect(Forge(failed(status, "Not Found"))).pull(REPO, 3)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("errors", "words"),
    [
        (["Line must be part of the diff"], ("Line must be part of the diff",)),
        ([{"resource": "X", "message": "hunk can't be blank"}], ("hunk can't be blank",)),
        ([{"resource": "X", "field": "line", "code": "invalid"}], ("line: invalid",)),
        ("odd", ()),
    ],
)
async def test_a_refused_review_carries_githubs_own_words(
    connect: Connect, errors: object, words: tuple[str, ...]
) -> None:
    forge = Forge(failed(422, "Unprocessable Entity", errors=errors))
    with pytest.raises(GitHubRejected) as caught:
        await connect(forge).create_review(REPO, 3, commit_sha="1" * 40, body="seen")
    assert (caught.value.reason, caught.value.status, caught.value.errors) == ("github_422", 422, words)


async def test_a_diff_github_cannot_make_is_not_asked_for_again(connect: Connect) -> None:
    errors = [{"resource": "PullRequest", "field": "diff", "code": "not_available"}]
    with pytest.raises(GitHubRejected):
        await connect(Forge(failed(500, "this diff is taking too long to generate", errors=errors))).pull(REPO, 3)


@pytest.mark.parametrize("answer", [ok({"number": 3}), ok([]), httpx2.Response(200, text="<html>")])
async def test_an_answer_of_another_shape_uses_up_a_retry(connect: Connect, answer: httpx2.Response) -> None:
    with pytest.raises(Retryable, match="documented shape"):
        await connect(Forge(answer)).pull(REPO, 3)


async def test_a_refused_token_is_named_and_not_shown(connect: Connect) -> None:
    forge = Forge(failed(401, "Bad credentials"))
    with pytest.raises(GitHubUnavailable, match="SENTINEL_GITHUB_TOKEN") as caught:
        await connect(forge).pull(REPO, 3)
    assert len(forge.requests) == 1
    assert caught.value.retry_after_s == CREDENTIALS_RETRY_S
    assert "s3cret" not in str(caught.value)


@pytest.fixture(scope="module")
def app_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


class App:
    """Hands out token-1, token-2, … and answers by them."""

    def __init__(self, *refused: str) -> None:
        self.refused = {f"Bearer {token}" for token in refused}
        self.minted = 0
        self.asked: list[str] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        if request.url.path == "/api/v3/app/installations/42/access_tokens":
            self.minted += 1
            return ok({"token": f"token-{self.minted}", "expires_at": "2099-01-01T00:00:00Z"})
        self.asked.append(request.headers["authorization"])
        return failed(401, "Bad credentials") if self.asked[-1] in self.refused else ok(PULL)


async def test_an_app_asks_with_the_token_of_the_installation(connect: Connect, app_key: str) -> None:
    app = App()
    github = connect(app, token="", app_id=7, app_key=app_key)
    await asyncio.gather(*[github.pull(Repo("octocat/hello", 42), 3) for _ in range(5)])
    assert app.asked == ["Bearer token-1"] * 5
    assert app.minted == 1


async def test_an_app_renews_a_refused_token_once(connect: Connect, app_key: str) -> None:
    app = App("token-1")
    await connect(app, token="", app_id=7, app_key=app_key).pull(Repo("octocat/hello", 42), 3)
    assert app.asked == ["Bearer token-1", "Bearer token-2"]
    app = App("token-1", "token-2")
    with pytest.raises(GitHubUnavailable):
        await connect(app, token="", app_id=7, app_key=app_key).pull(Repo("octocat/hello", 42), 3)
    assert app.minted == 2


async def test_writes_beyond_the_burst_are_paced(connect: Connect, clock: Clock) -> None:
    github = connect(Forge(lambda _: ok(REVIEW)), write_burst=2)
    for _ in range(4):
        await github.create_review(REPO, 3, commit_sha="1" * 40, body="seen")
    assert clock.slept == [pytest.approx(1.0), pytest.approx(1.0)]


async def test_a_long_wait_for_our_pace_puts_the_record_off(connect: Connect, clock: Clock) -> None:
    forge = Forge(lambda _: ok(REVIEW))
    github = connect(forge, writes_per_h=1)
    await github.create_review(REPO, 3, commit_sha="1" * 40, body="seen")
    with pytest.raises(GitHubLimited) as caught:
        await github.create_review(REPO, 3, commit_sha="1" * 40, body="seen")
    assert caught.value.retry_after_s == 3600
    assert len(forge.requests) == 1


class Busy:
    """Holds every request until let go, and knows how many were open at once."""

    def __init__(self, document: Any) -> None:
        self.document = document
        self.open = self.most = 0

    async def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.open += 1
        self.most = max(self.most, self.open)
        for _ in range(5):
            await asyncio.sleep(0)
        self.open -= 1
        return ok(self.document)


async def test_writes_go_out_one_by_one_and_reads_side_by_side(connect: Connect) -> None:
    writes, reads = Busy(REVIEW), Busy(PULL)
    github = connect(writes)
    await asyncio.gather(*[github.create_review(REPO, 3, commit_sha="1" * 40, body="seen") for _ in range(5)])
    github = connect(reads)
    await asyncio.gather(*[github.pull(REPO, 3) for _ in range(30)])
    assert (writes.most, reads.most) == (1, MAX_CONNECTIONS)


async def test_without_pacing_writes_run_side_by_side(connect: Connect, clock: Clock) -> None:
    writes = Busy(REVIEW)
    github = connect(writes, pacing="off", write_burst=1)
    await asyncio.gather(*[github.create_review(REPO, 3, commit_sha="1" * 40, body="seen") for _ in range(5)])
    assert writes.most == 5
    assert clock.slept == []


async def test_the_stopwatch_counts_overlapping_calls_once_and_our_own_work_never(
    connect: Connect, clock: Clock
) -> None:
    both_open = asyncio.Barrier(2)

    async def slow(request: httpx2.Request) -> httpx2.Response:
        await both_open.wait()
        clock.now += 0.25
        return ok(PULL)

    github = connect(slow)
    with github.stopwatch() as watch:
        await asyncio.gather(github.pull(REPO, 1), github.pull(REPO, 2))
        clock.now += 5
        await asyncio.gather(github.pull(REPO, 1), github.pull(REPO, 2))
    assert watch.seconds == pytest.approx(1.0)


async def test_the_time_a_failed_call_took_counts(connect: Connect, clock: Clock) -> None:
    def slow(request: httpx2.Request) -> httpx2.Response:
        clock.now += 2
        return failed(500)

    github = connect(slow)
    with github.stopwatch() as watch, pytest.raises(GitHubUnavailable):
        await github.pull(REPO, 3)
    assert watch.seconds == 2


async def test_requests_are_counted_by_method_and_kind_of_answer(connect: Connect, metrics: Metrics) -> None:
    github = connect(Forge(ok(PULL), failed(404), httpx2.ConnectError("refused")))
    await github.pull(REPO, 3)
    with pytest.raises(GitHubNotFound):
        await github.pull(REPO, 3)
    with pytest.raises(GitHubUnavailable):
        await github.pull(REPO, 3)
    counted = [
        metrics.registry.get_sample_value("sentinel_github_requests_total", {"method": "GET", "status": status})
        for status in ("2xx", "4xx", "error")
    ]
    assert counted == [1, 1, 1]


@pytest.mark.parametrize(
    "settings", [{"api_url": "ftp://x"}, {"api_url": "github"}, {"api_url": "https://u:p@h"}, {"token": ""}]
)
def test_settings_that_cannot_work_are_refused_at_the_start(connect: Connect, settings: dict[str, str]) -> None:
    with pytest.raises(ConfigError):
        connect(Forge(ok(PULL)), **settings)
