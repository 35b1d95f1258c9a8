import asyncio
import base64
import json
import time
from pathlib import Path
from typing import Any

import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from sentinelctl.fakehub.app import create_app
from sentinelctl.fakehub.hub import TOKEN_USER, FakeHub, Pull, Repository

from .conftest import NEW, Workshop, lines, new_workshop

REPO = "/repos/local/sample"


@pytest.fixture
def pull(hub: FakeHub, served: Repository) -> Pull:
    """Number 1: the second commit onto the first."""
    return hub.create_pull(served, base="HEAD~1", head="HEAD", head_ref="topic")


async def test_a_pull_request_has_the_fields_that_clients_read(
    client: httpx2.AsyncClient, pull: Pull, shop: Workshop
) -> None:
    shown = (await client.get(f"{REPO}/pulls/1")).json()
    assert (shown["number"], shown["state"], shown["draft"], shown["title"]) == (1, "open", False, "second")
    assert shown["head"]["ref"] == "topic"
    assert shown["head"]["sha"] == shop.git("rev-parse", "HEAD")
    assert shown["base"] == {
        "label": "local:main",
        "ref": "main",
        "sha": shop.git("rev-parse", "HEAD~1"),
        "user": shown["user"],
        "repo": {
            name: value
            for name, value in (await client.get(REPO)).json().items()
            if name not in {"network_count", "subscribers_count"}
        },
    }
    assert shown["head"]["repo"]["id"] == 700_000_001
    assert (shown["commits"], shown["changed_files"]) == (1, 9)


async def test_files_are_paged_by_link_headers_down_to_the_last(client: httpx2.AsyncClient, pull: Pull) -> None:
    seen: list[str] = []
    url: str | None = f"{REPO}/pulls/1/files?per_page=2"
    pages = 0
    while url is not None:
        answer = await client.get(url)
        seen += [file["filename"] for file in answer.json()]
        url = answer.links.get("next", {}).get("url")
        pages += 1
    assert pages == 5
    assert len(seen) == len(set(seen)) == 9
    assert set(answer.links) == {"prev", "first"}
    assert (await client.get(f"{REPO}/pulls/1/files?per_page=2&page=6")).json() == []
    assert "link" not in (await client.get(f"{REPO}/pulls/1/files")).headers


async def test_links_lead_back_to_the_address_the_client_used(hub: FakeHub, pull: Pull) -> None:
    transport = httpx2.ASGITransport(create_app(hub))
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost:8080") as client:
        answer = await client.get(f"{REPO}/pulls/1/files?per_page=2")
    assert answer.links["next"]["url"] == (
        "http://localhost:8080/repositories/700000001/pulls/1/files?per_page=2&page=2"
    )


async def test_a_page_has_thirty_files_unless_asked_and_a_hundred_at_most(tmp_path: Path) -> None:
    shop = new_workshop(tmp_path / "wide")
    shop.commit("first")
    shop.commit("wide", {f"{number:04}.txt": b"x\n" for number in range(3_001)})
    hub = FakeHub([shop.path])
    hub.create_pull(hub.repositories[0], base="HEAD~1", head="HEAD")
    async with _client(hub) as client:
        url = "/repos/local/wide/pulls/1/files"
        assert len((await client.get(url)).json()) == 30
        hundred = await client.get(f"{url}?per_page=1000")
        assert len(hundred.json()) == 100
        assert hundred.links["last"]["url"].endswith("per_page=1000&page=30")
        compared = (await client.get("/repos/local/wide/compare/main~1...main")).json()
        assert len(compared["files"]) == 300


async def test_a_pull_request_is_shown_as_a_diff(client: httpx2.AsyncClient, pull: Pull) -> None:
    answer = await client.get(f"{REPO}/pulls/1", headers={"Accept": "application/vnd.github.diff"})
    assert answer.status_code == 200
    assert "diff --git a/two_hunks.py b/two_hunks.py\n" in answer.text
    assert "+line 3, changed\n" in answer.text


@pytest.mark.parametrize(
    ("files", "lines_each", "status", "words"),
    [(300, 1, 200, ""), (301, 1, 406, "files (300)"), (1, 20_001, 406, "lines (20000)")],
)
async def test_a_diff_above_githubs_limits_is_406_and_its_files_are_still_listed(
    tmp_path: Path, files: int, lines_each: int, status: int, words: str
) -> None:
    shop = new_workshop(tmp_path / "many")
    shop.commit("first")
    shop.commit("second", {f"{number:03}.txt": b"x\n" * lines_each for number in range(files)})
    hub = FakeHub([shop.path])
    hub.create_pull(hub.repositories[0], base="HEAD~1", head="HEAD")
    async with _client(hub) as client:
        url = "/repos/local/many/pulls/1"
        answer = await client.get(url, headers={"Accept": "application/vnd.github.v3.diff"})
        assert answer.status_code == status
        if words:
            assert words in answer.json()["message"]
            assert answer.json()["errors"][0]["code"] == "too_large"
        assert (await client.get(f"{url}/files")).status_code == 200


async def test_a_patch_is_absent_for_binary_and_mode_changes(client: httpx2.AsyncClient, pull: Pull) -> None:
    files = {file["filename"]: file for file in (await client.get(f"{REPO}/pulls/1/files")).json()}
    assert {name for name, file in files.items() if "patch" not in file} == {"data.bin", "tool.sh"}
    assert files["new_name.txt"]["previous_filename"] == "old_name.txt"
    assert (files["gone.txt"]["status"], files["gone.txt"]["deletions"]) == ("removed", 2)


async def test_a_review_with_good_anchors_becomes_visible_whole(
    client: httpx2.AsyncClient, pull: Pull, hub: FakeHub
) -> None:
    before_ns = time.time_ns()
    answer = await client.post(f"{REPO}/pulls/1/reviews", json=_review(30, 33))
    assert answer.status_code == 200
    review = answer.json()
    assert (review["state"], review["commit_id"], review["user"]["login"]) == ("COMMENTED", pull.head_sha, "sentinel")
    (shown,) = (await client.get("/_fakehub/visible")).json()
    assert before_ns <= shown.pop("visible_at_ns") <= time.time_ns()
    comment = {"path": "two_hunks.py", "side": "RIGHT", "start_line": None, "body": "text"}
    assert shown == {
        "repository": {"id": 700_000_001, "full_name": "local/sample"},
        "kind": "review",
        "id": review["id"],
        "pull_number": 1,
        "commit_id": pull.head_sha,
        "author": "sentinel",
        "body": "body",
        "comments": [{**comment, "line": 30}, {**comment, "line": 33}],
    }
    assert [one["id"] for one in (await client.get(f"{REPO}/pulls/1/reviews")).json()] == [review["id"]]
    assert (await client.get(f"{REPO}/pulls/1/reviews/{review['id']}")).json() == review
    comments = (await client.get(f"{REPO}/pulls/1/reviews/{review['id']}/comments")).json()
    assert comments == (await client.get(f"{REPO}/pulls/1/comments")).json()
    assert [(one["line"], one["side"], one["pull_request_review_id"]) for one in comments] == [
        (30, "RIGHT", review["id"]),
        (33, "RIGHT", review["id"]),
    ]
    assert comments[0]["diff_hunk"].endswith("\n+added")


async def test_one_bad_comment_fails_the_whole_review_and_is_not_named(
    client: httpx2.AsyncClient, pull: Pull, hub: FakeHub
) -> None:
    answer = await client.post(f"{REPO}/pulls/1/reviews", json=_review(30, 15, 16))
    thread = "Pull request review thread"
    assert answer.status_code == 422
    assert answer.json() == {
        "message": "Unprocessable Entity",
        "errors": [f"{thread} line must be part of the diff and {thread} diff hunk can't be blank"],
        "documentation_url": "https://docs.github.com/rest",
        "status": "422",
    }
    assert hub.visible() == []
    assert (await client.get(f"{REPO}/pulls/1/reviews")).json() == []


async def test_a_single_comments_errors_are_objects(client: httpx2.AsyncClient, pull: Pull) -> None:
    comment = {"path": "two_hunks.py", "line": 15, "body": "text", "commit_id": pull.head_sha}
    refused = await client.post(f"{REPO}/pulls/1/comments", json=comment)
    assert (refused.status_code, refused.json()["message"]) == (422, "Validation Failed")
    assert refused.json()["errors"][0]["field"] == "pull_request_review_thread.line"
    taken = await client.post(f"{REPO}/pulls/1/comments", json={**comment, "line": 30})
    assert (taken.status_code, taken.json()["line"]) == (201, 30)


async def test_a_commit_outside_the_pull_request_is_refused(client: httpx2.AsyncClient, pull: Pull) -> None:
    answer = await client.post(f"{REPO}/pulls/1/reviews", json={**_review(30), "commit_id": pull.base_sha})
    assert (answer.status_code, answer.json()["errors"]) == (422, ["commit_id is not part of the pull request"])


async def test_an_earlier_commit_of_the_pull_request_has_its_own_lines(
    client: httpx2.AsyncClient, hub: FakeHub, served: Repository, shop: Workshop
) -> None:
    shop.commit("third", {"two_hunks.py": lines(1, 40)})
    pull = hub.create_pull(served, base="HEAD~2", head="HEAD")
    earlier = shop.git("rev-parse", "HEAD~1")
    assert (await client.post(f"{REPO}/pulls/1/reviews", json=_review(30))).status_code == 422
    answer = await client.post(f"{REPO}/pulls/1/reviews", json={**_review(30), "commit_id": earlier})
    assert (answer.status_code, answer.json()["commit_id"]) == (200, earlier)
    assert pull.head_sha != earlier


async def test_a_review_without_an_event_is_pending_and_not_visible(
    client: httpx2.AsyncClient, pull: Pull, hub: FakeHub
) -> None:
    pending = _review(30)
    del pending["event"]
    first = (await client.post(f"{REPO}/pulls/1/reviews", json=pending)).json()
    assert (first["state"], "submitted_at" in first, hub.visible()) == ("PENDING", False, [])
    again = await client.post(f"{REPO}/pulls/1/reviews", json=pending)
    assert again.json()["errors"] == ["User can only have one pending review per pull request"]


async def test_comments_of_all_pull_requests_are_listed_by_time_and_since(
    client: httpx2.AsyncClient, hub: FakeHub, served: Repository, pull: Pull
) -> None:
    now_s = 1_700_000_000
    hub.clock_ns = lambda: now_s * 10**9
    other = hub.create_pull(served, base="HEAD~1", head="HEAD", head_ref="another")
    for of in (other, pull, other):
        comment = {"commit_id": of.head_sha, "path": "two_hunks.py", "line": 3, "side": "RIGHT", "body": f"{now_s}"}
        hub.create_comment(served, of, TOKEN_USER, comment)
        now_s += 60
    del comment["commit_id"]
    hub.create_review(served, pull, TOKEN_USER, {"comments": [comment]})  # pending, so not shown

    async def asked(**query: str) -> list[str]:
        return [one["body"] for one in (await client.get(f"{REPO}/pulls/comments", params=query)).json()]

    first, second, third = (str(1_700_000_000 + 60 * at) for at in range(3))
    assert await asked() == await asked(sort="updated", direction="asc") == [first, second, third]
    assert await asked(direction="desc") == [first, second, third]
    assert await asked(sort="created") == [third, second, first]
    assert await asked(since="2023-11-14T22:14:20Z") == [second, third]
    assert await asked(since="2023-11-14T22:14:21Z") == [third]
    assert await asked(per_page="2", page="2") == [third]


async def test_a_commit_comment_is_listed_and_visible(
    client: httpx2.AsyncClient, served: Repository, hub: FakeHub
) -> None:
    url = f"{REPO}/commits/{served.git.tip}/comments"
    answer = await client.post(url, json={"body": "text", "path": "two_hunks.py", "position": 4})
    assert answer.status_code == 201
    assert (await client.get(url)).json() == [answer.json()]
    (shown,) = hub.visible()
    assert (shown["kind"], shown["pull_number"], shown["commit_id"]) == ("commit_comment", None, served.git.tip)
    assert shown["id"] == answer.json()["id"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, 'Invalid request.\n\n"body" wasn\'t supplied.'),
        ({"body": "x", "path": "absent.py", "position": 1}, "Validation Failed"),
        ({"body": "x", "path": "two_hunks.py", "position": 99}, "Validation Failed"),
        ({"body": "x" * 65_537}, "Unprocessable Entity"),
    ],
)
async def test_a_commit_comment_that_github_refuses_is_refused(
    client: httpx2.AsyncClient, served: Repository, hub: FakeHub, body: dict[str, Any], message: str
) -> None:
    answer = await client.post(f"{REPO}/commits/{served.git.tip}/comments", json=body)
    assert (answer.status_code, answer.json()["message"], hub.visible()) == (422, message, [])


async def test_a_comparison_starts_at_the_merge_base(tmp_path: Path) -> None:
    shop, commits = _forked(tmp_path)
    async with _client(FakeHub([shop.path])) as client:
        compared = (await client.get("/repos/local/forked/compare/main...topic")).json()
        assert compared["merge_base_commit"]["sha"] == commits["root"]
        assert (compared["status"], compared["ahead_by"], compared["behind_by"]) == ("diverged", 1, 1)
        assert [file["filename"] for file in compared["files"]] == ["topic.txt"]
        assert [one["sha"] for one in compared["commits"]] == [commits["topic"]]


async def test_a_merge_is_compared_with_what_the_branch_had_before(tmp_path: Path) -> None:
    shop, commits = _forked(tmp_path)
    shop.git("merge", "--quiet", "--no-edit", "topic")
    merge = shop.git("rev-parse", "HEAD")
    async with _client(FakeHub([shop.path])) as client:
        compared = (await client.get(f"/repos/local/forked/compare/{commits['main']}...{merge}")).json()
        assert compared["merge_base_commit"]["sha"] == commits["main"]
        assert {one["sha"] for one in compared["commits"]} == {commits["topic"], merge}
        assert [file["filename"] for file in compared["files"]] == ["topic.txt"]
        shown = (await client.get(f"/repos/local/forked/commits/{merge}")).json()
        assert [one["sha"] for one in shown["parents"]] == [commits["main"], commits["topic"]]
        assert [file["filename"] for file in shown["files"]] == ["topic.txt"]


async def test_a_comparison_lists_250_commits_unless_paged_and_files_on_the_first_page_alone(tmp_path: Path) -> None:
    shop = new_workshop(tmp_path / "long")
    first = shop.commit("first")
    empty = "commit refs/heads/main\ncommitter A <a@b> 1 +0000\ndata 1\nx\n"
    shop.git("fast-import", "--quiet", stdin=f"reset refs/heads/main\nfrom {first}\n{empty * 260}")
    shop.git("reset", "--quiet", "--hard", "main")
    shop.commit("last", {"a.txt": b"a\n"})
    async with _client(FakeHub([shop.path])) as client:
        url = f"/repos/local/long/compare/{first}...main"
        whole = (await client.get(url)).json()
        assert (whole["total_commits"], len(whole["commits"])) == (261, 250)
        assert whole["commits"][-1]["commit"]["message"] == "last"
        second = await client.get(f"{url}?per_page=100&page=2")
        assert (len(second.json()["commits"]), second.json()["files"]) == (100, [])
        assert set(second.links) == {"prev", "next", "last", "first"}


async def test_unrelated_or_missing_commits_cannot_be_compared(client: httpx2.AsyncClient, shop: Workshop) -> None:
    shop.git("checkout", "--quiet", "--orphan", "other")
    shop.commit("unrelated")
    unrelated = await client.get(f"{REPO}/compare/main...other")
    assert (unrelated.status_code, unrelated.json()["message"]) == (404, "No common ancestor between main and other.")
    assert (await client.get(f"{REPO}/compare/{'0' * 40}...main")).status_code == 404


async def test_a_commit_belongs_to_the_pull_request_that_brings_it(
    client: httpx2.AsyncClient, hub: FakeHub, served: Repository, shop: Workshop
) -> None:
    shop.git("checkout", "--quiet", "-b", "topic")
    sha = shop.commit("topic", {"topic.txt": b"x\n"})
    hub.create_pull(served, base="main", head="topic", head_ref="topic")
    found = (await client.get(f"{REPO}/commits/{sha}/pulls")).json()
    assert [one["number"] for one in found] == [1]
    in_main = shop.git("rev-parse", "main")
    assert (await client.get(f"{REPO}/commits/{in_main}/pulls")).json() == []


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("", 1),
        ("?head=local:topic", 1),
        ("?head=other:topic", 0),
        ("?head=local:main", 0),
        ("?state=closed", 0),
        ("?state=all&base=main", 1),
        ("?base=other", 0),
    ],
)
async def test_pull_requests_are_found_by_state_head_and_base(
    client: httpx2.AsyncClient, pull: Pull, query: str, count: int
) -> None:
    assert len((await client.get(f"{REPO}/pulls{query}")).json()) == count


async def test_a_push_to_a_branch_moves_its_pull_request_and_no_git_ref(
    client: httpx2.AsyncClient, pull: Pull, shop: Workshop
) -> None:
    refs = shop.git("for-each-ref")
    sha = shop.commit("third", {"third.txt": b"x\n"})
    shop.git("reset", "--quiet", "--soft", "HEAD~1")
    answer = await client.post("/_fakehub/refs", json={"repository": "local/sample", "branch": "topic", "after": sha})
    assert answer.json() == {"before": shop.git("rev-parse", "HEAD"), "after": sha}
    assert (await client.get(f"{REPO}/pulls/1")).json()["head"]["sha"] == sha
    assert (await client.get(f"{REPO}/commits/topic")).json()["sha"] == sha
    assert shop.git("for-each-ref") == refs


async def test_contents_come_from_the_commit_asked_for(client: httpx2.AsyncClient) -> None:
    shown = (await client.get(f"{REPO}/contents/two_hunks.py?ref=main")).json()
    assert base64.b64decode(shown["content"]) == NEW["two_hunks.py"]
    assert (shown["type"], shown["encoding"], shown["path"]) == ("file", "base64", "two_hunks.py")
    raw = await client.get(
        f"{REPO}/contents/gone.txt?ref=main~1", headers={"Accept": "application/vnd.github.raw+json"}
    )
    assert raw.content == b"one\ntwo\n"
    assert (await client.get(f"{REPO}/contents/gone.txt")).status_code == 404
    folder = (await client.get(f"{REPO}/contents/a%20folder")).json()
    assert [one["name"] for one in folder] == ['ünï "quoted".txt']


@pytest.mark.parametrize(
    "path",
    ["/nowhere", "/repos/local/other", f"{REPO}/pulls/7", f"{REPO}/pulls/x", f"{REPO}/contents/absent.toml"],
)
async def test_what_is_not_there_is_404_in_githubs_shape(client: httpx2.AsyncClient, path: str) -> None:
    answer = await client.get(path)
    assert answer.status_code == 404
    assert answer.json() == {
        "message": "Not Found",
        "documentation_url": "https://docs.github.com/rest",
        "status": "404",
    }


@pytest.mark.parametrize(
    ("header", "status"),
    [(None, 401), ("Bearer wrong", 401), ("Basic right", 401), ("Bearer right", 200), ("token right", 200)],
)
async def test_a_configured_token_is_asked_for(shop: Workshop, header: str | None, status: int) -> None:
    async with _client(FakeHub([shop.path], token="right")) as client:
        answer = await client.get(REPO, headers={"Authorization": header} if header else {})
        assert answer.status_code == status
        assert status == 200 or answer.json()["message"] == "Bad credentials"
        assert (await client.get("/_fakehub/visible")).status_code == 200


async def test_an_app_trades_its_jwt_for_a_token_that_ends_after_an_hour(shop: Workshop) -> None:
    now_ns = time.time_ns()
    clock = [now_ns]
    hub = FakeHub([shop.path], token="personal", clock_ns=lambda: clock[0])
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    now_s = now_ns // 10**9
    bearer = jwt.encode({"iss": "1", "iat": now_s - 60, "exp": now_s + 540}, key, algorithm="RS256")
    async with _client(hub) as client:
        app = {"Authorization": f"Bearer {bearer}"}
        installation = (await client.get(f"{REPO}/installation", headers=app)).json()["id"]
        url = f"/app/installations/{installation}/access_tokens"
        assert (await client.post(url, headers={"Authorization": "Bearer personal"})).status_code == 401
        assert (await client.post("/app/installations/9/access_tokens", headers=app)).status_code == 404
        issued = await client.post(url, headers=app)
        assert issued.status_code == 201
        bot = {"Authorization": f"token {issued.json()['token']}"}
        assert (await client.get(REPO, headers=bot)).status_code == 200
        assert (await client.get("/user", headers=bot)).status_code == 403
        clock[0] += 3_601 * 10**9
        assert (await client.get(REPO, headers=bot)).status_code == 401


async def test_an_unchanged_answer_is_304(client: httpx2.AsyncClient, pull: Pull) -> None:
    first = await client.get(f"{REPO}/pulls/1/reviews")
    same = await client.get(f"{REPO}/pulls/1/reviews", headers={"If-None-Match": first.headers["ETag"]})
    assert (same.status_code, same.content) == (304, b"")
    await client.post(f"{REPO}/pulls/1/reviews", json=_review(30))
    changed = await client.get(f"{REPO}/pulls/1/reviews", headers={"If-None-Match": first.headers["ETag"]})
    assert changed.status_code == 200


async def test_broken_json_is_400(client: httpx2.AsyncClient, pull: Pull) -> None:
    answer = await client.post(f"{REPO}/pulls/1/reviews", content=b"{")
    assert (answer.status_code, answer.json()["message"]) == (400, "Problems parsing JSON")


async def test_latency_holds_api_answers_and_no_control_route(
    client: httpx2.AsyncClient, pull: Pull, hub: FakeHub
) -> None:
    assert (await client.post("/_fakehub/latency", json={"ms": 600_000})).json() == {"ms": 600_000}
    waiting = asyncio.create_task(client.post(f"{REPO}/pulls/1/reviews", json=_review(30)))
    try:
        assert (await client.get("/_fakehub/visible")).json() == []
        assert (await client.get("/_fakehub/requests")).json() == []
        assert not waiting.done()
    finally:
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)


async def test_a_client_that_dies_while_it_waits_has_posted_all_the_same(hub: FakeHub, pull: Pull) -> None:
    hub.latency_ms = 1
    body = json.dumps(_review(30)).encode()
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Any:
        return messages.pop() if messages else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        return None

    path = f"{REPO}/pulls/1/reviews"
    scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": []}
    await create_app(hub)(scope, receive, send)
    assert [shown["pull_number"] for shown in hub.visible()] == [1]


async def test_requests_are_written_down(client: httpx2.AsyncClient) -> None:
    await client.get(REPO)
    await client.get("/nowhere")
    shown = (await client.get("/_fakehub/requests")).json()
    assert [(one["method"], one["path"], one["status"]) for one in shown] == [
        ("GET", REPO, 200),
        ("GET", "/nowhere", 404),
    ]


async def test_copies_have_ids_and_pull_requests_of_their_own(shop: Workshop) -> None:
    hub = FakeHub([shop.path, shop.path], copies=3)
    names = [one.name for one in hub.repositories]
    assert names == ["sample", "sample-2", "sample-3", "sample-4", "sample-5", "sample-6"]
    assert len({one.id for one in hub.repositories}) == 6
    hub.create_pull(hub.repositories[1], base="HEAD~1", head="HEAD")
    async with _client(hub) as client:
        assert (await client.get(f"{REPO}/pulls")).json() == []
        assert (await client.get(f"{REPO}-2/pulls/1")).json()["base"]["repo"]["id"] == hub.repositories[1].id


@pytest.mark.parametrize(
    ("folder", "name"), [("my project (ü)", "my-project----"), ("x" * 120, "x" * 90), (".x", ".x")]
)
def test_a_folder_becomes_a_name_that_github_would_take(tmp_path: Path, folder: str, name: str) -> None:
    shop = new_workshop(tmp_path / folder)
    shop.commit("first")
    assert FakeHub([shop.path]).repositories[0].full_name == f"local/{name}"


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"repository": "local/other"}, 404, "served: local/sample"),
        ({"repository": "local/sample", "base": "absent", "head": "main"}, 422, "base 'absent' is not a commit"),
        ({"repository": "local/sample", "base": "main", "head": "main~1"}, 422, "Validation Failed"),
        ({"repository": "local/sample", "base": 7, "head": "main"}, 422, "base must be a string"),
    ],
)
async def test_a_pull_request_that_cannot_be_is_refused(
    client: httpx2.AsyncClient, body: dict[str, Any], status: int, words: str
) -> None:
    answer = await client.post("/_fakehub/pulls", json=body)
    assert answer.status_code == status
    assert words in answer.json()["message"]


def _client(hub: FakeHub) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(create_app(hub)), base_url=hub.base_url)


def _review(*at: int) -> dict[str, Any]:
    comments = [{"path": "two_hunks.py", "line": line, "side": "RIGHT", "body": "text"} for line in at]
    return {"body": "body", "event": "COMMENT", "comments": comments}


def _forked(tmp_path: Path) -> tuple[Workshop, dict[str, str]]:
    """main and topic, one commit each past their root; main is checked out."""
    shop = new_workshop(tmp_path / "forked")
    root = shop.commit("root", {"root.txt": b"x\n"})
    shop.git("checkout", "--quiet", "-b", "topic")
    topic = shop.commit("topic", {"topic.txt": b"x\n"})
    shop.git("checkout", "--quiet", "main")
    return shop, {"root": root, "topic": topic, "main": shop.commit("main", {"main.txt": b"x\n"})}
