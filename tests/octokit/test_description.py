"""Every answer of fakehub, every event it sends, and every request our client makes, against GitHub's description.

What fakehub gets wrong, every other test of this project would believe.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from sentinelctl.fakehub import hooks
from sentinelctl.fakehub.app import _ROUTES, create_app
from sentinelctl.fakehub.control_routes import CONTROL
from sentinelctl.fakehub.faults import parse
from sentinelctl.fakehub.hub import INSTALLATION_ID, FakeHub, Repository
from services.github.client import GitHub
from services.github.types import InlineComment, Repo
from services.settings import GitHubSettings
from services.telemetry import Metrics
from tests.sentinelctl.fakehub.conftest import NEW, OLD, Workshop, new_workshop
from tests.sentinelctl.fakehub.test_app_token import _token as app_assertion

from .description import Description, Operation
from .judged import Judged

REPO = "/repos/local/sample"
PULL = f"{REPO}/pulls/1"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    shop = new_workshop(tmp_path_factory.mktemp("octokit") / "sample")
    shop.commit("first", OLD)
    shop.commit("second\n\nWith a body.", NEW)
    return shop


@pytest.fixture
def hub(shop: Workshop) -> FakeHub:
    hub = FakeHub([shop.path], token="s3cret", has_limits=True)
    hub.create_pull(hub.repositories[0], base="main~1", head="main", head_ref="topic")
    return hub


@pytest.fixture
def judged(hub: FakeHub, description: Description) -> Judged:
    return Judged(create_app(hub), description)


@pytest.fixture
async def client(hub: FakeHub, judged: Judged) -> AsyncIterator[httpx2.AsyncClient]:
    headers = {"Authorization": "Bearer s3cret"}
    transport = httpx2.ASGITransport(judged)
    async with httpx2.AsyncClient(transport=transport, base_url=hub.base_url, headers=headers) as client:
        yield client


async def test_every_route_answers_as_github_describes_it(
    client: httpx2.AsyncClient, judged: Judged, hub: FakeHub, description: Description
) -> None:
    sha = hub.repositories[0].pulls[1].head_sha
    comment = {"path": "two_hunks.py", "line": 3, "side": "RIGHT", "body": "text"}
    now_s = hub.clock_ns() // 10**9
    assertion = {"Authorization": f"Bearer {app_assertion(iat=now_s - 60, exp=now_s + 540)}"}
    minted = await client.post(f"/app/installations/{INSTALLATION_ID}/access_tokens", headers=assertion)
    as_app = {"Authorization": f"Bearer {minted.json()['token']}"}

    async def post(path: str, document: Any, status: int, headers: dict[str, str] | None = None) -> Any:
        answer = await client.post(path, json=document, headers=headers)
        assert answer.status_code == status, answer.text
        return answer.json()

    hook = await post(f"{REPO}/hooks", {"config": {"url": "http://127.0.0.1:9/", "content_type": "json"}}, 201)
    review = await post(f"{PULL}/reviews", {"commit_id": sha, "event": "COMMENT", "comments": [comment]}, 200)
    await post(f"{PULL}/reviews", {"body": "pending"}, 200)
    await post(f"{PULL}/reviews", {"event": "COMMENT", "body": "x", "comments": [{**comment, "line": 9}]}, 422)
    ranged = {"start_line": 2, "start_side": "RIGHT"}
    await post(f"{PULL}/comments", {**comment, **ranged, "commit_id": sha}, 201)
    await post(f"{REPO}/commits/{sha}/comments", {"body": "text"}, 201)
    note = {"path": "a.py", "start_line": 1, "end_line": 2, "annotation_level": "notice", "message": "text"}
    output = {"title": "title", "summary": "summary", "annotations": [note]}
    begun = await post(f"{REPO}/check-runs", {"name": "sentinel", "head_sha": sha}, 201, as_app)
    run = f"{REPO}/check-runs/{begun['id']}"
    await client.patch(run, json={"conclusion": "neutral", "output": output}, headers=as_app)
    one_hook = f"{REPO}/hooks/{hook['id']}"
    assert (await client.post(f"{one_hook}/pings")).status_code == 204
    (*_, first) = (await client.get(f"{one_hook}/deliveries?per_page=10&status=failure")).json()
    assert (await client.post(f"{one_hook}/deliveries/{first['id']}/attempts")).status_code == 202
    gets = [
        "/user",
        "/rate_limit",
        REPO,
        f"{REPO}/hooks",
        one_hook,
        f"{one_hook}/deliveries/{first['id']}",
        f"{REPO}/commits/{sha}/pulls",
        f"{REPO}/commits/{sha}/comments",
        f"{REPO}/commits/main",
        f"{REPO}/commits/main/check-runs?check_name=sentinel&filter=all",
        f"{REPO}/compare/main~1...main?per_page=1",
        f"{REPO}/contents/two_hunks.py?ref=main",
        f"{REPO}/contents/a%20folder",
        f"{REPO}/pulls?state=all&head=local:topic",
        f"{REPO}/pulls/comments?sort=updated&direction=asc&since=2020-01-01T00:00:00Z",
        run,
        f"{run}/annotations",
        PULL,
        f"{PULL}/files?per_page=2&page=2",
        f"{PULL}/comments",
        f"{PULL}/reviews",
        f"{PULL}/reviews/{review['id']}",
        f"{PULL}/reviews/{review['id']}/comments",
        f"/repositories/{hub.repositories[0].id}/pulls/1/files",
    ]
    for path in gets:
        assert (await client.get(path)).status_code == 200, path
    assert (await client.get(f"{REPO}/installation", headers=assertion)).status_code == 200
    for path in (f"{REPO}/pulls/77", f"{REPO}/commits/nope", "/repos/local/none"):
        assert (await client.get(path)).status_code in (404, 422)
    for name in (401, 404, 410, 500, 503):
        hub.faults.put(parse({"kind": "status", "status": name}))
        assert (await client.get(PULL)).status_code == name
    for says in ("retry-after", "reset", "neither"):
        hub.faults.put(parse({"kind": "limit", "says": says}))
        assert (await client.get(PULL)).status_code == 403
    assert judged.faults == []
    untried = {
        description.operation(method, path.replace("{basehead:path}", "a...b").replace(":path}", "}"))
        for method, path, *_ in _ROUTES
        if not path.startswith(CONTROL)
    } - {operation for operation, status in judged.seen if status < 300}
    assert untried == set(), "a route that no request of this test asks for is not known to be GitHub's"


async def test_our_client_asks_for_nothing_that_github_does_not_describe(
    hub: FakeHub, judged: Judged, shop: Workshop
) -> None:
    repo, sha = Repo(hub.repositories[0].full_name), hub.repositories[0].pulls[1].head_sha
    settings = GitHubSettings.model_validate({"api_url": hub.base_url, "token": "s3cret"})
    comments = [InlineComment("two_hunks.py", 3, "RIGHT", "text")]
    async with GitHub(settings, Metrics(), transport=httpx2.ASGITransport(judged)) as github:
        await github.pull(repo, 1)
        await github.pull_files(repo, 1)
        await github.pulls_of_branch(repo, "topic")
        await github.compare(repo, "main~1", "main")
        await github.commit_files(repo, sha)
        await github.create_review(repo, 1, commit_sha=sha, body="text", comments=comments)
        await github.reviews(repo, 1)
        await github.create_commit_comment(repo, sha, body="text")
        await github.commit_comments(repo, sha)
        await github.review_comments(repo, since="2020-01-01T00:00:00Z", page=2)
    assert judged.faults == []
    assert {status for _, status in judged.seen} == {200, 201}
    asked = {name for name, value in vars(GitHub).items() if not name.startswith("_") and callable(value)}
    assert asked - {"stopwatch"} == {
        "pull",
        "pull_files",
        "pulls_of_branch",
        "compare",
        "commit_files",
        "create_review",
        "reviews",
        "create_commit_comment",
        "commit_comments",
        "review_comments",
    }


def test_the_events_that_fakehub_sends_are_githubs(hub: FakeHub, description: Description, shop: Workshop) -> None:
    served: Repository = hub.repositories[0]
    before, after = shop.git("rev-parse", "main~1"), shop.git("rev-parse", "main")
    hook = hub.add_hook(served, "http://127.0.0.1:9/", ("push",), "s3cret")
    events = [
        ("push", hooks.push(served, "refs/heads/main", before, after, hub.base_url)),
        ("push", hooks.push(served, "refs/heads/new", "0" * 40, after, hub.base_url)),
        ("push", hooks.push(served, "refs/heads/gone", after, "0" * 40, hub.base_url)),
        ("ping", hooks.ping(served, hook, hub.base_url)),
        ("pull_request", hooks.pull_request(served, served.pulls[1], "synchronize", hub.base_url, before)),
    ]
    events += [
        ("pull_request", hooks.pull_request(served, served.pulls[1], action, hub.base_url))
        for action in ("opened", "reopened", "ready_for_review")
    ]
    assert [fault for event, payload in events for fault in description.event_faults(event, payload)] == []


async def test_the_judge_finds_what_is_wrong(description: Description, tmp_path: Path) -> None:
    reviews = description.operation("POST", f"{PULL}/reviews")
    assert reviews == Operation("post", "/repos/{owner}/{repo}/pulls/{pull_number}/reviews")
    assert list(description.request_faults(reviews, "", b'{"event": "LIKE"}'))
    assert list(description.request_faults(reviews, "", b'{"colour": "red"}')) == ["colour is no described field"]
    assert list(description.request_faults(reviews, "force=1", b"{}")) == ["query parameter force is not described"]
    assert list(description.answer_faults(reviews, 200, b'{"id": 1}'))
    assert list(description.answer_faults(reviews, 302, b"")) == ["status 302 is not described"]
    assert list(description.event_faults("pull_request", {"action": "opened"}))
    assert description.operation("GET", "/repos/local/sample/nothing") is None
