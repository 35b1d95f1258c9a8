"""Signed pushes as raw HTTP/1.1 requests, made before the load begins. Pure."""

import hashlib
import hmac
import json
from typing import Final, NamedTuple

BODY_BYTES: Final = 7000
"""GitHub's own examples of a push with one commit have 6.5 to 7.7 KB, most of it addresses."""
LEAST_BODY_BYTES: Final = 1200

_REPOSITORIES: Final = 64  # so that every partition of the log gets some
_LINKS: Final = 45  # addresses in GitHub's repository object


class Request(NamedTuple):
    """A request without its delivery id, which goes between the two parts: each one sent is a delivery of its own."""

    head: str
    tail: str

    def raw(self, delivery_id: str) -> bytes:
        return f"{self.head}{delivery_id}{self.tail}".encode()


def signed_pushes(secret: str, body_bytes: int = BODY_BYTES) -> list[Request]:
    """One push to each of some repositories; bodies have exactly `body_bytes`."""
    return [request("push", push_body(number, body_bytes), secret) for number in range(1, _REPOSITORIES + 1)]


def request(event: str, body: str, secret: str) -> Request:
    raw = body.encode()
    signature = hmac.new(secret.encode(), raw, hashlib.sha256).hexdigest()
    head = (
        "POST /webhook HTTP/1.1\r\nHost: bench\r\nUser-Agent: GitHub-Hookshot/0000000\r\nAccept: */*\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(raw)}\r\nX-GitHub-Event: {event}\r\n"
        f"X-Hub-Signature-256: sha256={signature}\r\nX-GitHub-Delivery: "
    )
    return Request(head, f"\r\n\r\n{body}")


def push_body(number: int, size: int) -> str:
    """ASCII, so that its characters are its bytes."""
    name, after = f"octocat/repository-{number}", hashlib.sha1(str(number).encode(), usedforsecurity=False).hexdigest()
    url = f"https://api.github.example/repos/{name}"
    repository = {"id": number, "full_name": name, "private": True, "default_branch": "main"}
    commit = {"id": after, "message": "", "author": {"name": "octocat"}, "added": [], "modified": ["src/main.py"]}
    payload = {
        "ref": "refs/heads/main",
        "before": "a" * 40,
        "after": after,
        "repository": repository,
        "pusher": {"name": "octocat", "email": "octocat@users.noreply.example"},
        "sender": {"login": "octocat", "id": 583231, "type": "User"},
        "created": False,
        "deleted": False,
        "forced": False,
        "commits": [commit],
    }
    links = {f"resource_{link:02}_url": f"{url}/resource_{link:02}{{/sha}}" for link in range(_LINKS)}
    while links and len(_json(payload)) + 100 * len(links) > size:
        links.popitem()
    repository |= links
    commit["message"] = "x" * (size - len(_json(payload)))
    return _json(payload)


def _json(payload: object) -> str:
    return json.dumps(payload, separators=(",", ":"))
