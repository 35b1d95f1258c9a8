"""Signed pushes as raw HTTP/1.1 requests, made before the load begins. Pure."""

import hashlib
import hmac
import json
from typing import Final, NamedTuple

_BODY_BYTES: Final = 1600
_REPOSITORIES: Final = 64  # so that every partition of the log gets some


class Request(NamedTuple):
    """A request without its delivery id, which goes between the two parts: each one sent is a delivery of its own."""

    head: str
    tail: str

    def raw(self, delivery_id: str) -> bytes:
        return f"{self.head}{delivery_id}{self.tail}".encode()


def signed_pushes(secret: str, count: int = _REPOSITORIES) -> list[Request]:
    """One push to each of `count` repositories, about 1.6 KB each."""
    return [_request(_body(number), secret) for number in range(1, count + 1)]


def _request(body: str, secret: str) -> Request:
    signature = hmac.new(secret.encode(), body.encode(), hashlib.sha256).hexdigest()
    head = (
        "POST /webhook HTTP/1.1\r\nHost: bench\r\nUser-Agent: GitHub-Hookshot/0000000\r\nAccept: */*\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nX-GitHub-Event: push\r\n"
        f"X-Hub-Signature-256: sha256={signature}\r\nX-GitHub-Delivery: "
    )
    return Request(head, f"\r\n\r\n{body}")


def _body(number: int) -> str:
    """ASCII, so that its characters are its bytes."""
    name, after = f"octocat/repository-{number}", hashlib.sha1(str(number).encode(), usedforsecurity=False).hexdigest()
    person = {"name": "octocat", "email": "octocat@users.noreply.example", "username": "octocat"}
    commit = {
        "id": after,
        "tree_id": after[::-1],
        "distinct": True,
        "message": "",
        "timestamp": "2026-11-24T12:00:00Z",
        "url": f"https://github.example/{name}/commit/{after}",
        "author": person,
        "committer": person,
        "added": [],
        "removed": [],
        "modified": ["README.md", "src/main.py"],
    }
    payload = {
        "ref": "refs/heads/main",
        "before": "a" * 40,
        "after": after,
        "created": False,
        "deleted": False,
        "forced": False,
        "compare": f"https://github.example/{name}/compare/aaaaaaaaaaaa...{after[:12]}",
        "repository": {
            "id": number,
            "name": f"repository-{number}",
            "full_name": name,
            "private": True,
            "html_url": f"https://github.example/{name}",
            "default_branch": "main",
        },
        "pusher": {"name": "octocat", "email": person["email"]},
        "sender": {"login": "octocat", "id": 583231, "type": "User"},
        "commits": [commit],
    }
    commit["message"] = "x" * max(0, _BODY_BYTES - len(json.dumps(payload)))
    return json.dumps(payload)
