"""GitHub's payloads to events: only the fields a review needs, each checked. Pure."""

import json
import re
from dataclasses import dataclass
from typing import Any, Final, NoReturn, TypedDict, TypeVar

import msgspec
from sentinel.v1.events_pb2 import Event, PullRequestEvent, PushEvent, Repository

from services.contract import NULL_SHA

T = TypeVar("T")

REVIEWED_ACTIONS: Final = frozenset({"opened", "synchronize", "reopened", "ready_for_review"})

_SHA = re.compile(r"[0-9a-f]{40}")
# Goes into the paths of API calls later on: nothing but one owner and one name.
_FULL_NAME = re.compile(r"(?!\.{1,2}/)[A-Za-z0-9._-]{1,100}/(?!\.{1,2}\Z)[A-Za-z0-9._-]{1,100}")
# What git itself refuses in a ref stays out; lone surrogates cannot be encoded.
_NAME = re.compile(r"[^\x00-\x20\x7f\ud800-\udfff]{1,1024}")
_MAX_INT64 = 2**63 - 1
_BRANCH = "refs/heads/"
_TYPES = {dict: "an object", str: "a string", int: "an integer", bool: "true or false"}


class _Repository(TypedDict, total=False):
    id: Any
    full_name: Any
    default_branch: Any


class _Push(TypedDict, total=False):
    ref: Any
    before: Any
    after: Any
    deleted: Any
    forced: Any
    repository: _Repository
    installation: Any


class _Commit(TypedDict, total=False):
    ref: Any
    sha: Any


class _Pull(TypedDict, total=False):
    number: Any
    draft: Any
    head: _Commit
    base: _Commit


class _PullRequest(TypedDict, total=False):
    action: Any
    pull_request: _Pull
    repository: _Repository
    installation: Any


# They skip what is not listed above, and so take a sixth of the time that json takes.
_NEEDED: Final[dict[str, msgspec.json.Decoder[Any]]] = {
    "push": msgspec.json.Decoder(_Push),
    "pull_request": msgspec.json.Decoder(_PullRequest),
}


class BadPayload(ValueError):
    """The message names the field, and says what stands there and what should."""


@dataclass(frozen=True, slots=True)
class Ignored:
    """A delivery there is nothing to review in; `reason` is one word for machines and people alike."""

    reason: str


def read_event(name: str, body: bytes, *, delivery_id: str, received_at_ns: int) -> Event | Ignored:
    """`name`: the X-GitHub-Event header. Raises BadPayload. An event nobody reviews is not even parsed."""
    if name not in _NEEDED:
        return Ignored("event_not_reviewed")
    payload = _parse(name, body)
    kind = _push(payload) if name == "push" else _pull_request(payload)
    if isinstance(kind, Ignored):
        return kind
    repository = _field(payload, "repository", dict)
    event = Event(
        delivery_id=delivery_id,
        received_at_ns=received_at_ns,
        repository=Repository(
            id=_positive(repository, "repository.id"),
            full_name=_matching(repository, "repository.full_name", _FULL_NAME, "owner/name"),
            default_branch=_name(repository, "repository.default_branch"),
        ),
        push=kind if isinstance(kind, PushEvent) else None,
        pull_request=kind if isinstance(kind, PullRequestEvent) else None,
    )
    if payload.get("installation") is not None:
        event.installation_id = _positive(_field(payload, "installation", dict), "installation.id")
    return event


def _push(payload: dict[str, Any]) -> PushEvent | Ignored:
    ref = _name(payload, "ref")
    before, after = _sha(payload, "before"), _sha(payload, "after")
    if ref.startswith("refs/tags/"):
        return Ignored("tag")
    if not ref.startswith(_BRANCH) or ref == _BRANCH:
        return Ignored("not_a_branch")
    if after == NULL_SHA or _flag(payload, "deleted"):
        return Ignored("branch_deleted")
    return PushEvent(ref=ref, before=before, after=after, is_forced=_flag(payload, "forced"))


def _pull_request(payload: dict[str, Any]) -> PullRequestEvent | Ignored:
    action = _name(payload, "action")
    if action not in REVIEWED_ACTIONS:
        return Ignored("action_not_reviewed")
    pull = _field(payload, "pull_request", dict)
    if _flag(pull, "pull_request.draft"):
        return Ignored("draft")
    head, base = _field(pull, "pull_request.head", dict), _field(pull, "pull_request.base", dict)
    return PullRequestEvent(
        number=_positive(pull, "pull_request.number"),
        action=action,
        head_sha=_sha(head, "pull_request.head.sha"),
        head_ref=_name(head, "pull_request.head.ref"),
        base_sha=_sha(base, "pull_request.base.sha"),
        base_ref=_name(base, "pull_request.base.ref"),
    )


def _parse(name: str, body: bytes) -> dict[str, Any]:
    try:
        needed: dict[str, Any] = _NEEDED[name].decode(body)
        return needed
    except (msgspec.MsgspecError, ValueError, RecursionError):
        pass  # json says better what is wrong with it
    try:
        payload = json.loads(body)
    except RecursionError as exc:
        raise BadPayload("the body is JSON nested too deeply") from exc
    except ValueError as exc:
        raise BadPayload(f"the body is not JSON: {exc}") from exc
    if not isinstance(payload, dict):
        raise BadPayload(f"the body is {_seen(payload)}, not an object")
    return payload


def _field(parent: dict[str, Any], path: str, kind: type[T]) -> T:
    """The last part of `path` in `parent`, which is what the rest of the path leads to."""
    key = path.rpartition(".")[2]
    if key not in parent:
        raise BadPayload(f"{path} is missing")
    value = parent[key]
    if type(value) is not kind:  # bool is an int to isinstance
        _refuse(path, value, _TYPES[kind])
    return value


def _name(parent: dict[str, Any], path: str) -> str:
    return _matching(parent, path, _NAME, "a name of 1 to 1024 characters without blanks")


def _matching(parent: dict[str, Any], path: str, pattern: re.Pattern[str], what: str) -> str:
    value = _field(parent, path, str)
    if not pattern.fullmatch(value):
        _refuse(path, value, what)
    return value


def _sha(parent: dict[str, Any], path: str) -> str:
    return _matching(parent, path, _SHA, "40 hexadecimal digits")


def _positive(parent: dict[str, Any], path: str) -> int:
    value = _field(parent, path, int)
    if not 0 < value <= _MAX_INT64:
        _refuse(path, value, "a positive 64-bit integer")
    return value


def _flag(parent: dict[str, Any], path: str) -> bool:
    """Absent means false: these fields came to the payload later than the rest."""
    return path.rpartition(".")[2] in parent and _field(parent, path, bool)


def _refuse(path: str, value: object, expected: str) -> NoReturn:
    raise BadPayload(f"{path} is {_seen(value)}, not {expected}")


def _seen(value: object) -> str:
    """Enough of a value to recognise it, in ASCII."""
    if value is None:
        return "null"
    if isinstance(value, str):
        return ascii(value if len(value) <= 60 else value[:60] + "...")
    if isinstance(value, list):
        return "an array"
    if type(value) is int:
        return str(value) if abs(value) < 10**30 else "a huge integer"
    return _TYPES.get(type(value), type(value).__name__)
