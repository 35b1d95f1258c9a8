import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx2
import pytest

from sentinelctl.fakehub import hooks
from sentinelctl.fakehub.git import NULL_SHA
from sentinelctl.fakehub.hub import FakeHub, Repository

from .conftest import Workshop

BASE = "http://127.0.0.1"


class Receiver(ThreadingHTTPServer):
    """Keeps what is posted to it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.received: list[tuple[dict[str, str], bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/webhook"


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert isinstance(self.server, Receiver)
        self.server.received.append((dict(self.headers.items()), body))
        self.send_response(202)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        return


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        thread = threading.Thread(target=receiver.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield receiver
        receiver.shutdown()
        thread.join()


def test_a_signature_is_the_one_github_documents() -> None:
    assert (
        hooks.sign("It's a Secret to Everybody", b"Hello, World!")
        == "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    )


def test_a_delivery_carries_githubs_headers_and_signs_the_bytes_it_sends() -> None:
    sent = hooks.delivery("push", {"text": "ünï"}, "secret")
    headers = sent.headers()
    assert headers["X-GitHub-Event"] == "push"
    assert headers["X-GitHub-Delivery"] == sent.id
    assert headers["X-Hub-Signature-256"] == hooks.sign("secret", sent.body)
    assert headers["User-Agent"].startswith("GitHub-Hookshot/")
    assert "X-Hub-Signature-256" not in hooks.delivery("push", {}, None).headers()
    assert hooks.delivery("push", {}, None).id != hooks.delivery("push", {}, None).id


def test_a_push_tells_its_commits_and_what_each_changed(served: Repository, shop: Workshop) -> None:
    before, after = shop.git("rev-parse", "HEAD~1"), shop.git("rev-parse", "HEAD")
    payload = hooks.push(served, "refs/heads/main", before, after, BASE)
    assert (payload["ref"], payload["before"], payload["after"]) == ("refs/heads/main", before, after)
    assert (payload["created"], payload["deleted"], payload["forced"]) == (False, False, False)
    (commit,) = payload["commits"]
    assert commit == payload["head_commit"]
    assert (commit["id"], commit["message"]) == (after, "second\n\nWith a body.")
    assert commit["timestamp"] == "2026-03-01T12:00:00+02:00"
    assert commit["author"] == {"name": "Ada", "email": "ada@example.com"}
    assert commit["added"] == ['a folder/ünï "quoted".txt', "new_name.txt"]
    assert commit["removed"] == ["gone.txt", "old_name.txt"]
    assert set(commit["modified"]) == {
        "two_hunks.py",
        "no_newline.txt",
        "crlf.txt",
        "data.bin",
        "tool.sh",
        "caf\ufffd.txt",
    }
    assert payload["repository"]["id"] == served.id
    assert payload["repository"]["owner"]["login"] == payload["repository"]["owner"]["name"] == "local"


def test_a_push_tells_a_created_a_deleted_and_a_forced_branch(served: Repository, shop: Workshop) -> None:
    zeros = NULL_SHA
    before, after = shop.git("rev-parse", "HEAD~1"), shop.git("rev-parse", "HEAD")
    created = hooks.push(served, "refs/heads/main", zeros, after, BASE)
    assert (created["created"], [one["id"] for one in created["commits"]]) == (True, [before, after])
    assert hooks.push(served, "refs/heads/topic", zeros, after, BASE)["commits"] == []
    deleted = hooks.push(served, "refs/heads/topic", after, zeros, BASE)
    assert (deleted["deleted"], deleted["commits"], deleted["head_commit"]) == (True, [], None)
    assert hooks.push(served, "refs/heads/main", after, before, BASE)["forced"] is True


def test_a_pull_request_event_holds_the_whole_pull_request(hub: FakeHub, served: Repository) -> None:
    pull = hub.create_pull(served, base="HEAD~1", head="HEAD", is_draft=True)
    payload = hooks.pull_request(served, pull, "opened", BASE)
    assert (payload["action"], payload["number"], payload["pull_request"]["draft"]) == ("opened", 1, True)
    assert payload["pull_request"]["head"]["sha"] == served.git.tip
    assert "before" not in payload
    assert hooks.pull_request(served, pull, "synchronize", BASE, "1" * 40)["before"] == "1" * 40


async def test_a_new_hook_is_pinged_signed_with_its_secret_which_is_never_shown(
    client: httpx2.AsyncClient, receiver: Receiver
) -> None:
    config = {"url": receiver.url, "content_type": "json", "secret": "s3cret"}
    request = {"name": "web", "active": True, "events": ["push", "pull_request"], "config": config}
    created = await client.post("/repos/local/sample/hooks", json=request)
    assert created.status_code == 201
    ((headers, body),) = receiver.received
    assert headers["X-GitHub-Event"] == "ping"
    assert headers["X-Hub-Signature-256"] == hooks.sign("s3cret", body)
    assert json.loads(body)["hook_id"] == created.json()["id"]
    (listed,) = (await client.get("/repos/local/sample/hooks")).json()
    assert listed["last_response"]["code"] == 202
    assert "s3cret" not in created.text + body.decode() + json.dumps(listed)
    again = await client.post("/repos/local/sample/hooks", json=request)
    assert again.json()["errors"][0]["message"] == "Hook already exists on this repository"


@pytest.mark.parametrize(
    "request_body",
    [{}, [], {"config": {"url": "ftp://x", "content_type": "json"}}, {"config": {"url": "http://x"}}],
)
async def test_a_hook_that_cannot_be_is_refused(client: httpx2.AsyncClient, request_body: Any) -> None:
    answer = await client.post("/repos/local/sample/hooks", json=request_body)
    assert (answer.status_code, answer.json()["message"]) == (422, "Validation Failed")


async def test_a_hook_nobody_answers_is_shown_as_failed(client: httpx2.AsyncClient, receiver: Receiver) -> None:
    config = {"url": "http://127.0.0.1:1/webhook", "content_type": "json"}
    await client.post("/repos/local/sample/hooks", json={"config": config})
    (listed,) = (await client.get("/repos/local/sample/hooks")).json()
    assert listed["last_response"]["status"] == "failed to connect"


async def test_hooks_are_sent_the_pushes_and_pull_requests_made_here(
    client: httpx2.AsyncClient, hub: FakeHub, served: Repository, receiver: Receiver, shop: Workshop
) -> None:
    hub.add_hook(served, receiver.url, ["push", "pull_request"], "secret")
    named = {"repository": "local/sample"}
    opened = {**named, "base": "HEAD~1", "head": "HEAD", "head_ref": "topic"}
    assert (await client.post("/_fakehub/pulls", json=opened)).status_code == 201
    sha = shop.commit("third", {"third.txt": b"x\n"})
    await client.post("/_fakehub/refs", json={**named, "branch": "topic", "after": sha})
    told = [(headers["X-GitHub-Event"], json.loads(body)) for headers, body in receiver.received]
    assert [(event, payload.get("action")) for event, payload in told] == [
        ("pull_request", "opened"),
        ("push", None),
        ("pull_request", "synchronize"),
    ]
    assert told[1][1]["ref"] == "refs/heads/topic"
    assert told[2][1]["before"] == told[1][1]["before"] == told[0][1]["pull_request"]["head"]["sha"]
