"""Webhook deliveries as GitHub sends them: payloads from the real repository, signed, under GitHub's headers."""

import hashlib
import hmac
import json
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx2

from sentinelctl.fakehub import shapes
from sentinelctl.fakehub.git import Person
from sentinelctl.fakehub.hub import HUMAN, FakeHub, Hook, Pull, Repository

# GitHub puts at most this many commits in a push.
_MAX_COMMITS = 2_048
# A receiver has this long to answer before GitHub records the delivery as failed.
TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Delivery:
    """One delivery; sent again, it keeps its id, as GitHub's redelivery does."""

    id: str
    event: str
    body: bytes
    signature: str | None
    """Of the raw body; None for a hook without a secret."""
    action: str | None = None
    is_redelivery: bool = False

    def headers(self) -> dict[str, str]:
        headers = {
            "Accept": "*/*",
            "Content-Type": "application/json",
            "User-Agent": "GitHub-Hookshot/0000000",
            "X-GitHub-Delivery": self.id,
            "X-GitHub-Event": self.event,
        }
        return headers if self.signature is None else {**headers, "X-Hub-Signature-256": self.signature}


@dataclass(frozen=True)
class Attempt:
    """A delivery that was made. status_code: of the answer, 0 where there was none, and `status` says why."""

    id: int
    sent: Delivery
    url: str
    at_ns: int
    duration_s: float
    status_code: int
    status: str
    answer_headers: Mapping[str, str]
    answer: str


def sign(secret: str, body: bytes) -> str:
    """The value of X-Hub-Signature-256."""
    return f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}"


def delivery(event: str, payload: shapes.Json, secret: str | None) -> Delivery:
    body = json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode()
    signature = None if secret is None else sign(secret, body)
    return Delivery(str(uuid.uuid4()), event, body, signature, payload.get("action"))


async def deliver(url: str, sent: Delivery, client: httpx2.AsyncClient) -> httpx2.Response:
    return await client.post(url, content=sent.body, headers=sent.headers(), timeout=TIMEOUT_S)


async def attempt(hook: Hook, sent: Delivery, client: httpx2.AsyncClient, hub: FakeHub) -> Attempt:
    """Delivers it and writes that down, answered or not."""
    at_ns, started = hub.clock_ns(), time.perf_counter()
    code, status, headers, text = 0, "failed to connect to host", {}, ""
    try:
        answer = await deliver(hook.url, sent, client)
    except httpx2.TimeoutException:
        status = "timed out"
    except (httpx2.HTTPError, httpx2.InvalidURL):
        pass
    else:
        code, headers, text = answer.status_code, dict(answer.headers), answer.text
        status = "OK" if answer.is_success else f"Invalid HTTP Response: {code}"
    made = Attempt(
        hub.next_id(), sent, hook.url, at_ns, round(time.perf_counter() - started, 3), code, status, headers, text
    )
    hook.attempts.append(made)
    return made


def shown(one: Attempt, of: Repository) -> shapes.Json:
    """As a list shows it; `shown_whole` adds what went out and what came back."""
    return {
        "id": one.id,
        "guid": one.sent.id,
        "delivered_at": shapes.utc(one.at_ns),
        "redelivery": one.sent.is_redelivery,
        "duration": one.duration_s,
        "status": one.status,
        "status_code": one.status_code,
        "event": one.sent.event,
        "action": one.sent.action,
        "installation_id": None,
        "repository_id": of.id,
        "throttled_at": None,
    }


def shown_whole(one: Attempt, of: Repository) -> shapes.Json:
    return {
        **shown(one, of),
        "url": one.url,
        "request": {"headers": one.sent.headers(), "payload": json.loads(one.sent.body)},
        "response": {"headers": dict(one.answer_headers), "payload": one.answer},
    }


def push(repository: Repository, ref: str, before: str, after: str, base_url: str) -> shapes.Json:
    """`ref` in full (refs/heads/main). All zeros as `before` is a branch that is created, as `after` one deleted.

    A created branch lists the commits that the default branch has not, or all of them for the default branch itself.
    """
    git = repository.git
    is_created, is_deleted = not before.strip("0"), not after.strip("0")
    shas: list[str] = []
    if not is_deleted:
        default = repository.resolve(git.default_branch)
        is_default = ref == f"refs/heads/{git.default_branch}"
        known = (None if is_default else default) if is_created else before
        shas = git.between(known, after)[-_MAX_COMMITS:]
    commits = [_commit(repository, sha, base_url) for sha in shas]
    html_url = f"{base_url}/{repository.full_name}"
    compare = f"{html_url}/compare/{before[:12]}...{after[:12]}"
    told = shapes.repository(repository, base_url)
    pusher = {"name": HUMAN.login, "email": f"{HUMAN.login}@users.noreply.example"}
    return {
        "ref": ref,
        "before": before,
        "after": after,
        "base_ref": None,
        "created": is_created,
        "deleted": is_deleted,
        "forced": not is_created and not is_deleted and not git.is_ancestor(before, after),
        "compare": compare,
        "commits": commits,
        "head_commit": None if is_deleted else _commit(repository, after, base_url),
        "repository": {**told, "owner": {**told["owner"], **pusher}},
        "pusher": pusher,
        "sender": shapes.user(HUMAN, base_url),
    }


def pull_request(
    repository: Repository, pull: Pull, action: str, base_url: str, before: str | None = None
) -> shapes.Json:
    """`before` is the head that a `synchronize` replaces."""
    heads = {} if before is None else {"before": before, "after": pull.head_sha}
    return {
        "action": action,
        "number": pull.number,
        **heads,
        "pull_request": shapes.pull_details(pull, repository, base_url),
        "repository": shapes.repository(repository, base_url),
        "sender": shapes.user(HUMAN, base_url),
    }


def ping(repository: Repository, hook: Hook, base_url: str) -> shapes.Json:
    return {
        "zen": "Speak like a human.",
        "hook_id": hook.id,
        "hook": shapes.hook(hook, repository, base_url),
        "repository": shapes.repository(repository, base_url),
        "sender": shapes.user(HUMAN, base_url),
    }


def _commit(repository: Repository, sha: str, base_url: str) -> shapes.Json:
    commit = repository.git.commit(sha)
    changes = repository.git.changes(sha)
    moved = [one for one in changes if one.status == "renamed"]
    return {
        "id": sha,
        "tree_id": commit.tree,
        "distinct": True,
        "message": commit.message,
        "timestamp": commit.committer.date,
        "url": f"{base_url}/{repository.full_name}/commit/{sha}",
        "author": _person(commit.author),
        "committer": _person(commit.committer),
        "added": [one.path for one in changes if one.status in {"added", "copied", "renamed"}],
        "removed": [one.path for one in changes if one.status == "removed"] + [str(one.old_path) for one in moved],
        "modified": [one.path for one in changes if one.status in {"modified", "changed"}],
    }


def _person(person: Person) -> dict[str, Any]:
    return {"name": person.name, "email": person.email}
