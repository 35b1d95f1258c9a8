"""GitHub's routes of a repository's hooks and of the deliveries to them."""

import re
from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import urlencode

from sentinelctl.fakehub import hooks, shapes
from sentinelctl.fakehub.call import MAX_PER_PAGE, PER_PAGE, REPO, Call, Reply, Routes, address, listed
from sentinelctl.fakehub.hub import Hook
from sentinelctl.fakehub.rules import Refused

_KEPT_NS = 3 * 86_400 * 10**9
"""How long GitHub keeps a hook's deliveries."""


def _list_hooks(call: Call) -> Reply:
    served = call.repository
    return listed(call, list(served.hooks.values()), lambda one: shapes.hook(one, served, call.origin))


def _create_hook(call: Call) -> Reply:
    """Sends the hook a signed ping, as GitHub does."""
    served, base_url = call.repository, call.origin
    config = call.body.get("config") if isinstance(call.body, dict) else None
    url = config.get("url") if isinstance(config, dict) else None
    events = call.body.get("events", ["push"]) if isinstance(call.body, dict) else None
    if not isinstance(config, dict) or not isinstance(url, str) or not re.match(r"https?://", url):
        raise Refused(422, "Validation Failed", [_hook_error("url", "url must be an http or https address")])
    if not isinstance(events, list) or not all(isinstance(event, str) for event in events):
        raise Refused(422, "Validation Failed", [_hook_error("events", "events must be a list of names")])
    if config.get("content_type") != "json":
        raise Refused(422, "Validation Failed", [_hook_error("content_type", "fakehub sends json; set content_type")])
    if any(one.url == url and set(one.events) & set(events) for one in served.hooks.values()):
        raise Refused(422, "Validation Failed", [_hook_error("base", "Hook already exists on this repository")])
    hook = call.hub.add_hook(served, url, events, config.get("secret"))
    ping = hooks.delivery("ping", hooks.ping(served, hook, base_url), hook.secret)
    return Reply(shapes.hook(hook, served, base_url), 201, sends=((hook, ping),))


def _hook_error(field: str, message: str) -> Mapping[str, str]:
    return {"resource": "Hook", "code": "custom", "field": field, "message": message}


def _hook(call: Call) -> Hook:
    found = next((one for one in call.repository.hooks.values() if str(one.id) == call.path["hook"]), None)
    if found is None:
        raise Refused(404, "Not Found")
    return found


def _get_hook(call: Call) -> Reply:
    return Reply(shapes.hook(_hook(call), call.repository, call.origin))


def _ping_hook(call: Call) -> Reply:
    hook = _hook(call)
    ping = hooks.delivery("ping", hooks.ping(call.repository, hook, call.origin), hook.secret)
    return Reply(b"", 204, sends=((hook, ping),))


def _kept(call: Call) -> list[hooks.Attempt]:
    """The latest first."""
    since_ns = call.hub.clock_ns() - _KEPT_NS
    return [one for one in reversed(_hook(call).attempts) if one.at_ns >= since_ns]


def _list_deliveries(call: Call) -> Reply:
    """Pages go by a cursor, the last delivery seen, as new ones come in at the top."""
    kept, status = _kept(call), call.query.get("status")
    if status is not None:
        kept = [one for one in kept if (200 <= one.status_code < 400) == (status == "success")]
    cursor = call.query.get("cursor", "").removeprefix("v1_")
    if cursor.isascii() and cursor.isdigit():
        kept = [one for one in kept if one.id < int(cursor)]
    size = min(call.number("per_page", PER_PAGE), MAX_PER_PAGE)
    link = None
    if len(kept) > size:
        query = urlencode({**call.query, "cursor": f"v1_{kept[size - 1].id}"})
        link = f'<{address(call)}?{query}>; rel="next"'
    return Reply([hooks.shown(one, call.repository) for one in kept[:size]], link=link)


def _attempt(call: Call) -> hooks.Attempt:
    found = next((one for one in _kept(call) if str(one.id) == call.path["delivery"]), None)
    if found is None:
        raise Refused(404, "Not Found")
    return found


def _get_delivery(call: Call) -> Reply:
    return Reply(hooks.shown_whole(_attempt(call), call.repository))


def _redeliver(call: Call) -> Reply:
    """The same bytes under the same GUID."""
    return Reply({}, 202, sends=((_hook(call), replace(_attempt(call).sent, is_redelivery=True)),))


ROUTES: Routes = (
    ("GET", f"{REPO}/hooks", _list_hooks, "token"),
    ("POST", f"{REPO}/hooks", _create_hook, "token"),
    ("GET", f"{REPO}/hooks/{{hook}}", _get_hook, "token"),
    ("POST", f"{REPO}/hooks/{{hook}}/pings", _ping_hook, "token"),
    ("GET", f"{REPO}/hooks/{{hook}}/deliveries", _list_deliveries, "token"),
    ("GET", f"{REPO}/hooks/{{hook}}/deliveries/{{delivery}}", _get_delivery, "token"),
    ("POST", f"{REPO}/hooks/{{hook}}/deliveries/{{delivery}}/attempts", _redeliver, "token"),
)
