"""The routes under `/_fakehub/`, where tests and the demo look behind GitHub's and make happen what people would."""

from typing import Any

from sentinelctl.fakehub import faults, hooks, shapes
from sentinelctl.fakehub.call import Call, Reply, Routes
from sentinelctl.fakehub.hub import Hook, Repository
from sentinelctl.fakehub.rules import Refused

CONTROL = "/_fakehub/"


def _show_visible(call: Call) -> Reply:
    return Reply(call.hub.visible())


def _show_repositories(call: Call) -> Reply:
    """Each id, and the git repository that it serves."""
    return Reply(
        [{"id": one.id, "full_name": one.full_name, "path": str(one.git.folder)} for one in call.hub.repositories]
    )


def _show_requests(call: Call) -> Reply:
    """The last 10,000 API requests."""
    return Reply(
        [
            {"method": one.method, "path": one.path, "status": one.status, "ms": one.ms}
            for one in tuple(call.hub.requests)
        ]
    )


def _set_latency(call: Call) -> Reply:
    """{"ms": 300}"""
    ms = call.body.get("ms") if isinstance(call.body, dict) else None
    if not isinstance(ms, int | float) or isinstance(ms, bool) or not 0 <= ms <= 600_000:
        raise Refused(422, "ms must be a number from 0 to 600000")
    call.hub.latency_ms = float(ms)
    return Reply({"ms": call.hub.latency_ms})


def _show_faults(call: Call) -> Reply:
    return Reply(call.hub.faults.listed())


def _put_fault(call: Call) -> Reply:
    """{"kind": "status", "status": 503, "count": 2}; see faults.py."""
    try:
        fault = faults.parse(call.body)
    except ValueError as exc:
        raise Refused(422, str(exc)) from exc
    return Reply({"id": call.hub.faults.put(fault).id}, 201)


def _clear_faults(call: Call) -> Reply:
    call.hub.faults.clear()
    return Reply(call.hub.faults.listed())


def _open_pull(call: Call) -> Reply:
    """{"repository": "local/name", "base": revision, "head": revision, "base_ref"?, "head_ref"?, "title"?, "draft"?}

    Hooks that take `pull_request` are sent `opened`.
    """
    served, base_url = _named(call), call.origin
    texts = {name: _text(call.body, name) for name in ("base", "head", "base_ref", "head_ref", "title")}
    pull = call.hub.create_pull(
        served,
        base=texts["base"] or "",
        head=texts["head"] or "",
        base_ref=texts["base_ref"],
        head_ref=texts["head_ref"],
        title=texts["title"],
        is_draft=call.body.get("draft") is True,
    )
    payload = hooks.pull_request(served, pull, "opened", base_url)
    return Reply(shapes.pull_details(pull, served, base_url), 201, sends=_to_hooks(served, "pull_request", payload))


def _move_branch(call: Call) -> Reply:
    """{"repository": "local/name", "branch": name, "after": revision, "before"?: revision}

    `before` is where the branch is set first, for a push of commits that it has already. Hooks that take `push` are
    sent one; those that take `pull_request`, a `synchronize` for each open pull request of the branch.
    """
    served, base_url = _named(call), call.origin
    branch, after, start = (_text(call.body, name) for name in ("branch", "after", "before"))
    if not branch or not after:
        raise Refused(422, "branch and after must be given")
    if start:
        call.hub.push(served, branch, start)
    before, moved = call.hub.push(served, branch, after)
    payload = hooks.push(served, f"refs/heads/{branch}", before, served.refs[branch], base_url)
    sends = list(_to_hooks(served, "push", payload))
    for pull in moved:
        synchronized = hooks.pull_request(served, pull, "synchronize", base_url, before)
        sends.extend(_to_hooks(served, "pull_request", synchronized))
    return Reply({"before": before, "after": served.refs[branch]}, sends=tuple(sends))


def _to_hooks(served: Repository, event: str, payload: shapes.Json) -> tuple[tuple[Hook, hooks.Delivery], ...]:
    taking = [hook for hook in served.hooks.values() if hook.takes(event)]
    return tuple((hook, hooks.delivery(event, payload, hook.secret)) for hook in taking)


def _named(call: Call) -> Repository:
    name = _text(call.body, "repository")
    found = call.hub.repository(name or "")
    if found is None:
        served = ", ".join(one.full_name for one in call.hub.repositories)
        raise Refused(404, f"repository {name!r} is not served here; served: {served}")
    return found


def _text(body: Any, name: str) -> str | None:
    if not isinstance(body, dict):
        raise Refused(400, "Body should be a JSON object")
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise Refused(422, f"{name} must be a string")
    return value


ROUTES: Routes = (
    ("GET", f"{CONTROL}visible", _show_visible, "none"),
    ("GET", f"{CONTROL}repositories", _show_repositories, "none"),
    ("GET", f"{CONTROL}requests", _show_requests, "none"),
    ("POST", f"{CONTROL}latency", _set_latency, "none"),
    ("GET", f"{CONTROL}faults", _show_faults, "none"),
    ("POST", f"{CONTROL}faults", _put_fault, "none"),
    ("DELETE", f"{CONTROL}faults", _clear_faults, "none"),
    ("POST", f"{CONTROL}pulls", _open_pull, "none"),
    ("POST", f"{CONTROL}refs", _move_branch, "none"),
)
