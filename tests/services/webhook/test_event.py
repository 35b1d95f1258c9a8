import copy
import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sentinel.v1.events_pb2 import Event, PullRequestEvent, PushEvent, Repository

from services.contract import NULL_SHA
from services.webhook.event import BadPayload, Ignored, read_event
from tests.services.webhook import payloads

NEEDED = {
    "push": ["ref", "before", "after", "repository", "repository.id", "repository.full_name"],
    "pull_request": [
        "action",
        "pull_request",
        "pull_request.number",
        "pull_request.head",
        "pull_request.head.sha",
        "pull_request.head.ref",
        "pull_request.base",
        "pull_request.base.sha",
        "pull_request.base.ref",
        "repository",
        "repository.default_branch",
    ],
}


def read(name: str, payload: Any) -> Event | Ignored:
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return read_event(name, body, delivery_id="d-1", received_at_ns=5)


def reason(name: str, payload: Any) -> str:
    answer = read(name, payload)
    assert isinstance(answer, Ignored)
    return answer.reason


def changed(name: str, path: str, change: Any) -> dict[str, Any]:
    payload = payloads.push() if name == "push" else payloads.pull_request()
    *way, last = path.split(".")
    parent = payload
    for key in way:
        parent = parent[key]
    change(parent, last)
    return payload


def test_a_push_keeps_its_references_and_nothing_else() -> None:
    assert read("push", payloads.push(forced=True)) == Event(
        delivery_id="d-1",
        received_at_ns=5,
        repository=Repository(id=1296269, full_name="octocat/Hello-World", default_branch="main"),
        push=PushEvent(ref="refs/heads/main", before=payloads.BEFORE, after=payloads.AFTER, is_forced=True),
    )


@pytest.mark.parametrize("action", ["opened", "synchronize", "reopened", "ready_for_review"])
def test_a_pull_request_keeps_its_head_and_base(action: str) -> None:
    event = read("pull_request", payloads.pull_request(action))
    assert isinstance(event, Event)
    assert event.installation_id == 99
    assert event.pull_request == PullRequestEvent(
        number=7,
        action=action,
        head_sha=payloads.AFTER,
        head_ref="feature",
        base_sha=payloads.BEFORE,
        base_ref="main",
    )


def test_a_new_branch_is_reviewed_and_keeps_its_zeros() -> None:
    event = read("push", payloads.push(before=NULL_SHA))
    assert isinstance(event, Event)
    assert event.push.before == NULL_SHA


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"ref": "refs/tags/v1"}, "tag"),
        ({"ref": "refs/tags/v1", "after": NULL_SHA, "deleted": True}, "tag"),
        ({"ref": "refs/notes/commits"}, "not_a_branch"),
        ({"after": NULL_SHA}, "branch_deleted"),
        ({"deleted": True}, "branch_deleted"),
    ],
)
def test_a_push_with_nothing_to_review_says_why(changes: dict[str, Any], why: str) -> None:
    assert reason("push", payloads.push(**changes)) == why


def test_drafts_other_actions_and_other_events_are_ignored_with_a_reason() -> None:
    assert reason("pull_request", payloads.pull_request(draft=True)) == "draft"
    assert reason("pull_request", payloads.pull_request("labeled")) == "action_not_reviewed"
    assert reason("issues", b"not even read") == "event_not_reviewed"


@pytest.mark.parametrize(("name", "path"), [(name, path) for name, paths in NEEDED.items() for path in paths])
def test_a_missing_a_null_and_a_wrongly_typed_field_are_named(name: str, path: str) -> None:
    with pytest.raises(BadPayload, match=rf"^{path} is missing$"):
        read(name, changed(name, path, lambda parent, key: parent.pop(key)))
    with pytest.raises(BadPayload, match=rf"^{path} is null, not "):
        read(name, changed(name, path, lambda parent, key: parent.__setitem__(key, None)))
    with pytest.raises(BadPayload, match=rf"^{path} is an array, not "):
        read(name, changed(name, path, lambda parent, key: parent.__setitem__(key, [])))


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("after", "b" * 39, "40 hexadecimal digits"),
        ("after", "b" * 40 + "\n", "40 hexadecimal digits"),
        ("before", "z" * 40, "40 hexadecimal digits"),
        ("after", "HEAD", "40 hexadecimal digits"),
        ("repository.id", True, "an integer"),
        ("repository.id", 1.5, "an integer"),
        ("repository.id", 0, "a positive 64-bit integer"),
        ("repository.id", 2**63, "a positive 64-bit integer"),
        ("repository.full_name", "octocat", "owner/name"),
        ("repository.full_name", "../..", "owner/name"),
        ("repository.full_name", "a/b/../../user", "owner/name"),
        ("repository.full_name", "octocat/repo?x", "owner/name"),
        ("repository.default_branch", "", "a name"),
        ("ref", "refs/heads/\ud800", "a name"),
        ("ref", "refs/heads/a\nb", "a name"),
        ("deleted", "no", "true or false"),
    ],
)
def test_a_value_that_cannot_be_is_refused(path: str, value: Any, expected: str) -> None:
    with pytest.raises(BadPayload, match=rf"^{path} is .*, not {expected}"):
        read("push", changed("push", path, lambda parent, key: parent.__setitem__(key, value)))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the body is not JSON"),
        (b"{", "the body is not JSON"),
        (b"\xff\xfe", "the body is not JSON"),
        (b"[]", "the body is an array, not an object"),
        (b"null", "the body is null, not an object"),
        (b"3", "the body is 3, not an object"),
        (b"[" * 90_000, "the body is JSON nested too deeply"),
        (b'{"ref": ' + b"9" * 5000 + b"}", "the body is not JSON"),
    ],
)
def test_a_body_that_is_no_object_is_refused(body: bytes, message: str) -> None:
    with pytest.raises(BadPayload, match=message):
        read("push", body)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
PATHS = [*dict.fromkeys(path for paths in NEEDED.values() for path in paths), "deleted", "forced", "installation"]


@given(st.sampled_from(["push", "pull_request"]), st.sampled_from([*PATHS, "pull_request.draft"]), JSON)
@example("push", "ref", "refs/heads/é")
def test_whatever_stands_in_a_field_it_is_an_event_ignored_or_named(name: str, path: str, value: Any) -> None:
    payload = payloads.push() if name == "push" else payloads.pull_request()
    parent: Any = payload
    *way, last = path.split(".")
    for key in way:
        parent = parent.setdefault(key, {})
    parent[last] = copy.deepcopy(value)
    try:
        answer = read(name, payload)
    except BadPayload as exc:
        message = str(exc)
    else:
        assert isinstance(answer, Ignored) or Event.FromString(answer.SerializeToString()) == answer
        return
    assert message.startswith(path)


@given(JSON)
def test_any_json_at_all_is_answered(payload: Any) -> None:
    with pytest.raises(BadPayload):
        read("push", payload)
