from typing import Any

import httpx2
import pytest

from sentinelctl.fakehub.hub import FakeHub
from sentinelctl.fakehub.rules import Refused

REPO = "/repos/local/sample"
NOTE = {"path": "crlf.txt", "start_line": 900, "end_line": 901, "annotation_level": "warning", "message": "text"}


@pytest.fixture
def client(hub: FakeHub, client: httpx2.AsyncClient) -> httpx2.AsyncClient:
    """As an App's installation: check runs are for Apps alone."""
    client.headers["Authorization"] = f"Bearer {hub.issue_token()[0]}"
    return client


@pytest.fixture
def sha(hub: FakeHub) -> str:
    found = hub.repositories[0].resolve("main")
    assert found is not None
    return found


async def created(client: httpx2.AsyncClient, sha: str, **more: Any) -> dict[str, Any]:
    answer = await client.post(f"{REPO}/check-runs", json={"name": "sentinel", "head_sha": sha, **more})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def test_a_check_run_is_created_completed_and_listed_with_its_commit(
    client: httpx2.AsyncClient, sha: str
) -> None:
    run = await created(client, sha, status="in_progress")
    assert (run["status"], run["conclusion"], run["completed_at"]) == ("in_progress", None, None)
    await client.patch(f"{REPO}/check-runs/{run['id']}", json={"conclusion": "neutral"})
    again = await created(client, sha, conclusion="success")
    listed = (await client.get(f"{REPO}/commits/main/check-runs")).json()
    assert (listed["total_count"], [one["id"] for one in listed["check_runs"]]) == (1, [again["id"]])
    every = (await client.get(f"{REPO}/commits/main/check-runs?filter=all")).json()["check_runs"]
    assert [(one["id"], one["status"], one["conclusion"]) for one in every] == [
        (again["id"], "completed", "success"),
        (run["id"], "completed", "neutral"),
    ]


async def test_annotations_grow_by_fifty_a_request_and_may_lie_outside_the_diff(
    client: httpx2.AsyncClient, sha: str
) -> None:
    output = {"title": "title", "summary": "summary", "annotations": [NOTE] * 50}
    run = await created(client, sha, output=output)
    url = f"{REPO}/check-runs/{run['id']}"
    updated = await client.patch(url, json={"output": {**output, "annotations": [{**NOTE, "start_line": 901}]}})
    assert updated.json()["output"]["annotations_count"] == 51
    last = (await client.get(f"{url}/annotations?per_page=50&page=2")).json()
    assert [(one["path"], one["start_line"]) for one in last] == [("crlf.txt", 901)]
    over = await client.patch(url, json={"output": {**output, "annotations": [NOTE] * 51}})
    assert (over.status_code, (await client.get(url)).json()["output"]["annotations_count"]) == (422, 51)


async def test_a_run_never_leaves_its_commit(client: httpx2.AsyncClient, sha: str) -> None:
    run = await created(client, sha)
    answer = await client.patch(f"{REPO}/check-runs/{run['id']}", json={"head_sha": "a" * 40})
    assert answer.status_code == 422
    assert '"head_sha" is not a permitted key' in answer.json()["message"]


async def test_only_an_app_writes_check_runs(client: httpx2.AsyncClient, sha: str) -> None:
    run = await created(client, sha)
    del client.headers["Authorization"]
    body = {"name": "sentinel", "head_sha": sha}
    assert (await client.post(f"{REPO}/check-runs", json=body)).status_code == 403
    assert (await client.patch(f"{REPO}/check-runs/{run['id']}", json={"status": "queued"})).status_code == 403
    assert (await client.get(f"{REPO}/check-runs/{run['id']}")).status_code == 200


@pytest.mark.parametrize(
    ("request_body", "words"),
    [
        ([], "is not an object"),
        ({"name": "x"}, "head_sha"),
        ({"head_sha": "main", "name": "x"}, "No commit found for SHA: main"),
        ({"head_sha": "a" * 40, "name": "x"}, "No commit found"),
        ({"name": "x", "head_sha": 5}, "not a string"),
        ({"name": "x", "head_sha": "a", "colour": "red"}, "colour"),
        ({"name": "x", "head_sha": "a", "status": "done"}, "is not a member"),
        ({"name": "x", "head_sha": "a", "conclusion": "stale"}, "is not a member"),
        ({"name": "x", "head_sha": "a", "status": "completed"}, "conclusion"),
        ({"name": "x", "head_sha": "a", "output": {"title": "t"}}, "summary"),
        ({"name": "x", "head_sha": "a", "output": {"title": "t", "summary": "s" * 65_536}}, "65535"),
    ],
)
def test_a_check_run_that_github_refuses_is_refused(hub: FakeHub, request_body: Any, words: str) -> None:
    with pytest.raises(Refused, match=words) as caught:
        hub.create_check_run(hub.repositories[0], request_body, "2026-01-01T00:00:00Z")
    assert caught.value.status == 422


@pytest.mark.parametrize(
    "changes",
    [
        {"message": None},
        {"message": "x" * 65_537},
        {"start_line": 0},
        {"start_line": 902},
        {"start_column": 1},
        {"annotation_level": "error"},
        {"colour": "red"},
    ],
)
def test_an_annotation_that_github_refuses_is_refused(hub: FakeHub, sha: str, changes: dict[str, Any]) -> None:
    output = {"title": "t", "summary": "s", "annotations": [{**NOTE, **changes}]}
    with pytest.raises(Refused):
        hub.create_check_run(hub.repositories[0], {"name": "x", "head_sha": sha, "output": output}, "")
