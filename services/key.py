"""The idempotency key of a review, and the hidden marker that carries it to GitHub."""

import hashlib
import re

from sentinel.v1.events_pb2 import Event, ReviewReady

from services.errors import Poison

_SHA = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


def review_key(ready: ReviewReady) -> str:
    """pr:{repository}:{number}:{head}:{revision} or push:{repository}:{hash of ref}:{before}..{after}:{revision}.

    A ref may hold nearly any character, so its hash stands in. Raises Poison when the record names no unit of review.
    """
    event, revision = ready.event, ready.revision
    if event.WhichOneof("kind") == "pull_request":
        return f"pr:{event.repository.id}:{event.pull_request.number}:{_sha(event.pull_request.head_sha)}:{revision}"
    if event.WhichOneof("kind") == "push":
        ref = hashlib.sha256(event.push.ref.encode()).hexdigest()[:16]
        return f"push:{event.repository.id}:{ref}:{_sha(event.push.before)}..{_sha(event.push.after)}:{revision}"
    raise Poison("malformed_review", f"{_name(event)} is neither a push nor a pull request")


def marker(key: str) -> str:
    """The last line of everything we post; GitHub does not show it."""
    return f"<!-- sentinel:review v1 key={key} -->"


def is_marked(body: str | None, key: str) -> bool:
    return (body or "").rstrip().endswith(marker(key))


def _sha(value: str) -> str:
    if not _SHA.fullmatch(value):
        raise Poison("malformed_review", f"{value!r} is no commit id: 40 or 64 hexadecimal digits are")
    return value


def _name(event: Event) -> str:
    return f"the event of delivery {event.delivery_id!r}"
