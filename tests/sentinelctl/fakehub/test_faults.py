import asyncio
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from sentinelctl.fakehub.app import create_app
from sentinelctl.fakehub.faults import Fault, Faults, parse, parse_line
from sentinelctl.fakehub.hub import FakeHub, Pull, Repository
from sentinelctl.fakehub.server import serve

from .conftest import Workshop

REPO = "/repos/local/sample"
REVIEWS = f"{REPO}/pulls/1/reviews"
REVIEW = {"event": "COMMENT", "body": "text"}


@pytest.fixture
def pull(hub: FakeHub, served: Repository) -> Pull:
    return hub.create_pull(served, base="main~1", head="main")


async def put(client: httpx2.AsyncClient, **fault: Any) -> None:
    answer = await client.post("/_fakehub/faults", json=fault)
    assert answer.status_code == 201, answer.text


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not is_so():  # noqa: ASYNC110 - the other side is a server, which sets no event of ours
            await asyncio.sleep(0.005)


async def test_a_fault_hits_the_requests_it_names_as_often_as_it_says(client: httpx2.AsyncClient, pull: Pull) -> None:
    await put(client, kind="status", status=503, method="GET", path="*/pulls/*", skip=1, count=2)
    statuses = [(await client.get(f"{REPO}/pulls/1")).status_code for _ in range(4)]
    assert statuses == [200, 503, 503, 200]
    assert (await client.get(REPO)).status_code == 200
    (listed,) = (await client.get("/_fakehub/faults")).json()
    assert (listed["hits"], listed["is_over"]) == (2, True)


def test_a_fault_without_a_bound_happens_once_and_one_in_time_ends_with_it() -> None:
    now = [100.0]
    faults = Faults(lambda: now[0])
    faults.put(parse({"kind": "status", "status": 500}))
    faults.put(parse({"kind": "status", "status": 502, "for_s": 5}))
    met = [[fault.status for fault in faults.take("GET", "/")] for _ in range(3)]
    now[0] = 105.0
    assert [*met, [fault.status for fault in faults.take("GET", "/")]] == [[500], [502], [502], []]


async def test_faults_end_when_they_are_cleared(client: httpx2.AsyncClient) -> None:
    await put(client, kind="status", status=500, count=10)
    assert (await client.get(REPO)).status_code == 500
    await client.delete("/_fakehub/faults")
    assert (await client.get(REPO)).status_code == 200


@pytest.mark.parametrize(
    ("given", "status", "headers"),
    [
        ({"status": 429, "wait_s": 7}, 429, {"retry-after": "7"}),
        ({"says": "reset", "wait_s": 30}, 403, {"x-ratelimit-remaining": "0"}),
        ({"says": "neither"}, 403, {}),
    ],
    ids=["retry-after", "reset", "neither"],
)
async def test_a_limit_says_how_long_to_wait_or_does_not(
    client: httpx2.AsyncClient, given: dict[str, Any], status: int, headers: dict[str, str]
) -> None:
    await put(client, kind="limit", **given)
    answer = await client.get(REPO)
    assert answer.status_code == status
    assert headers.items() <= dict(answer.headers).items()
    assert ("retry-after" in answer.headers) == ("retry-after" in headers)
    assert "rate limit" in answer.json()["message"]


async def test_a_moved_repository_is_found_by_its_id(client: httpx2.AsyncClient, pull: Pull) -> None:
    await put(client, kind="moved", count=2)
    listed = await client.get(f"{REPO}/pulls/1/files?per_page=1")
    posted = await client.post(REVIEWS, json=REVIEW)
    assert (listed.status_code, posted.status_code) == (301, 307)
    assert listed.headers["location"].endswith(f"/repositories/{pull.id + 700_000_000}/pulls/1/files?per_page=1")
    assert (await client.get(listed.headers["location"])).status_code == 200
    assert (await client.post(posted.headers["location"], json=REVIEW)).status_code == 200


async def test_chosen_anchors_are_refused_without_being_named(client: httpx2.AsyncClient, pull: Pull) -> None:
    await put(client, kind="refused_anchors", anchors=["two_hunks.py:3"])
    comments = [{"path": "two_hunks.py", "line": line, "side": "RIGHT", "body": "text"} for line in (3, 30)]
    answer = await client.post(REVIEWS, json={**REVIEW, "comments": comments})
    assert answer.status_code == 422
    assert answer.json()["errors"] == ["Pull request review thread line must be part of the diff"]
    assert (await client.post(REVIEWS, json={**REVIEW, "comments": comments})).status_code == 200


async def test_a_patch_can_be_missing(client: httpx2.AsyncClient, pull: Pull) -> None:
    await put(client, kind="no_patch", files="two*")
    files = {one["filename"]: one for one in (await client.get(f"{REPO}/pulls/1/files")).json()}
    assert "patch" not in files["two_hunks.py"]
    assert "patch" in files["crlf.txt"]


async def test_a_force_push_while_a_review_is_under_way_takes_its_commit_away(
    client: httpx2.AsyncClient, pull: Pull, shop: Workshop
) -> None:
    shop.git("checkout", "--quiet", "-b", "other", "main~1")
    other = shop.commit("other", {"other.py": b"other\n"})
    before = pull.head_sha
    await put(client, kind="force_push", to=other)
    answer = await client.post(REVIEWS, json={**REVIEW, "commit_id": before})
    assert (answer.status_code, answer.json()["errors"]) == (422, ["commit_id is not part of the pull request"])
    assert (await client.get(f"{REPO}/pulls/1")).json()["head"]["sha"] == other


@pytest.mark.parametrize(("late", "posted"), [(False, 0), (True, 1)], ids=["before", "after"])
async def test_a_connection_is_reset_before_or_after_the_write(
    hub: FakeHub, pull: Pull, late: bool, posted: int, caplog: pytest.LogCaptureFixture
) -> None:
    hub.faults.put(Fault(kind="reset", method="POST", late=late))
    async with serve(hub) as url, httpx2.AsyncClient(base_url=url, trust_env=False) as client:
        with pytest.raises((httpx2.ReadError, httpx2.RemoteProtocolError)):
            await client.post(REVIEWS, json=REVIEW)
        assert len(hub.visible()) == posted
        assert (await client.post(REVIEWS, json=REVIEW)).status_code == 200
    assert not [record for record in caplog.records if record.levelname == "ERROR"], "it was meant"


@pytest.mark.parametrize(("late", "posted"), [(False, 0), (True, 1)], ids=["before", "after"])
async def test_a_stall_holds_the_answer_until_the_client_hangs_up(
    hub: FakeHub, pull: Pull, late: bool, posted: int
) -> None:
    hub.faults.put(Fault(kind="stall", method="POST", late=late))
    async with serve(hub) as url, httpx2.AsyncClient(base_url=url, trust_env=False) as client:
        waiting = asyncio.create_task(client.post(REVIEWS, json=REVIEW))
        await until(lambda: len(hub.visible()) == posted and hub.faults.listed()[0]["hits"] == 1)
        assert not waiting.done()
        waiting.cancel()
        await until(lambda: bool(hub.requests))
    assert len(hub.visible()) == posted
    assert [one.status for one in hub.requests] == [0]


async def test_a_stall_that_ends_gives_its_answer(client: httpx2.AsyncClient) -> None:
    await put(client, kind="stall", seconds=0.01)
    assert (await client.get(REPO)).status_code == 200


async def test_control_routes_answer_on_loopback_alone(hub: FakeHub) -> None:
    transport = httpx2.ASGITransport(create_app(hub), client=("192.0.2.1", 5))
    async with httpx2.AsyncClient(transport=transport, base_url=hub.base_url) as client:
        assert (await client.get("/_fakehub/visible")).status_code == 404
        assert (await client.post("/_fakehub/faults", json={"kind": "reset"})).status_code == 404
        assert (await client.get(REPO)).status_code == 200


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("status", "needs status"),
        ("status,status=418", "one of 401, 404"),
        ("latency", "needs ms"),
        ("limit,status=500", "403 or 429"),
        ("reset,ms=5", "ms mean nothing to reset"),
        ("reset,count=0", "count"),
        ("reset,for_s=99999", "for_s"),
        ("reset,colour=red", "colour"),
        ("flood", "kind"),
        ("reset,late", "'late' is not name=value"),
    ],
)
def test_a_fault_that_cannot_be_is_refused_with_the_reason(line: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_line(line)


def test_a_fault_on_the_command_line() -> None:
    fault = parse_line("refused_anchors,anchors=a.py:1;b.py:2,count=3")
    assert (fault.anchors, fault.count, fault.method, fault.path) == (("a.py:1", "b.py:2"), 3, "POST", "*/reviews")
    assert parse_line("reset,late=true").late


async def test_a_fault_that_cannot_be_is_422(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/_fakehub/faults", json={"kind": "flood"})
    assert answer.status_code == 422
    assert "kind" in answer.json()["message"]
