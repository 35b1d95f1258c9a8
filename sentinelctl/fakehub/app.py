"""GitHub's REST routes over a FakeHub, as an ASGI app, with the control routes beside them.

Latency is spent before an API request is handled, so a write becomes visible at the moment its answer is sent. A
client that dies meanwhile changes nothing: the write still happens, as on GitHub. Control routes have no latency, no
faults and no limits, and answer on loopback alone, whatever address fakehub listens on.
"""

import asyncio
import hashlib
import ipaddress
import json
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import httpx2
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sentinelctl.fakehub import app_token, control_routes, hook_routes, hooks, pull_routes, repository_routes
from sentinelctl.fakehub.call import Call, Handler, Reply, Routes
from sentinelctl.fakehub.control_routes import CONTROL
from sentinelctl.fakehub.faults import Fault
from sentinelctl.fakehub.hub import APP_USER, HUMAN, FakeHub, Hook, Request, User
from sentinelctl.fakehub.limits import PRIMARY, Verdict
from sentinelctl.fakehub.rules import Refused

MAX_REQUEST_BYTES = 25_000_000
ABORT = "sentinelctl.fakehub.abort"
"""An extension of the scope: its `abort` closes the connection with a reset."""
_CONTENT = re.compile(r"/(reviews|comments|check-runs)(/\d+)?$")
_BY_ID = re.compile(r"/repositories/(\d+)(/.*)?")
_DOCUMENTATION = "https://docs.github.com/rest"
_ROUTES: Routes = (*repository_routes.ROUTES, *pull_routes.ROUTES, *hook_routes.ROUTES, *control_routes.ROUTES)


def create_app(hub: FakeHub) -> ASGIApp:
    """An ASGI app over `hub`."""
    routes = [
        *(Route(path, _endpoint(hub, handler, auth), methods=[method]) for method, path, handler, auth in _ROUTES),
        Route("/{rest:path}", _endpoint(hub, _not_found, "none"), methods=["GET", "POST", "PUT", "PATCH", "DELETE"]),
    ]
    return _Wire(Starlette(routes=routes), hub)


class _Wire:
    """Reads the request whole, spends the latency, lets faults happen, and writes the request down."""

    def __init__(self, app: ASGIApp, hub: FakeHub) -> None:
        self._app = app
        self._hub = hub

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(CONTROL):
            app = self._app if _is_from_here(scope) else JSONResponse({"message": "Not Found"}, 404)
            await app(scope, receive, send)
            return
        started = time.perf_counter()
        status, is_noted = 0, False
        body = await _body(receive)
        if body is None:
            return
        if self._hub.latency_ms:
            await asyncio.sleep(self._hub.latency_ms / 1000)

        def note() -> None:
            nonlocal is_noted
            elapsed_ms = (time.perf_counter() - started) * 1000
            self._hub.requests.append(Request(scope["method"], scope["path"], status, round(elapsed_ms, 3)))
            is_noted = True

        async def replay() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            elif not message.get("more_body", False):
                note()
            await send(message)

        try:
            met = self._hub.faults.take(scope["method"], scope["path"])
            await self._meet(met, self._by_name(scope), replay, receive, watch)
        finally:
            if not is_noted:
                note()

    def _by_name(self, scope: Scope) -> Scope:
        """A repository's address by id, to which GitHub redirects and links, is served under its name."""
        found = _BY_ID.fullmatch(scope["path"])
        named = found and next((one for one in self._hub.repositories if one.id == int(found[1])), None)
        if not found or not named:
            return scope
        return {**scope, "path": f"/repos/{named.full_name}{found[2] or ''}"}

    async def _meet(self, met: Sequence[Fault], scope: Scope, replay: Receive, receive: Receive, send: Send) -> None:
        """`replay` gives the request's body, `receive` what the connection brings after it."""
        for fault in met:
            if fault.kind == "latency":
                await asyncio.sleep(fault.ms / 1000)
            elif fault.kind == "force_push":
                self._force_push(fault, scope["path"])
        scope["sentinelctl.fakehub.faults"] = met
        ending = met[-1] if met and met[-1].is_ending else None
        if ending is None:
            await self._app(scope, replay, send)
            return
        held: list[Message] = []

        async def hold(message: Message) -> None:
            held.append(message)

        if ending.late:
            await self._app(scope, replay, hold)
        if ending.kind == "reset":
            _abort(scope)
            await _hangs_up(receive, within_s=1)  # the server knows by then, and does not miss an answer
        elif ending.kind == "stall":
            if not await _hangs_up(receive, within_s=ending.seconds):
                if not ending.late:
                    await self._app(scope, replay, hold)
                for message in held:
                    await send(message)
        else:
            await self._ill(ending, scope)(scope, replay, send)

    def _ill(self, fault: Fault, scope: Scope) -> Response:
        now_s = self._hub.clock_ns() / 10**9
        if fault.kind != "moved":
            status, headers, document = fault.answer(now_s)
            said = {**document, "documentation_url": _DOCUMENTATION, "status": str(status)}
            return JSONResponse(said, status, {**_limit_headers(Verdict(1, int(now_s) + 3600)), **headers})
        _, _, owner, name, *rest = scope["path"].split("/")
        moved = self._hub.repository(f"{owner}/{name}")
        host = Headers(scope=scope).get("host", "")
        query = f"?{scope['query_string'].decode()}" if scope["query_string"] else ""
        place = "/".join(["repositories", str(moved.id if moved else 0), *rest])
        url = f"{scope['scheme']}://{host}/{place}{query}"
        said = {"message": "Moved Permanently", "url": url, "documentation_url": _DOCUMENTATION}
        return JSONResponse(said, 301 if scope["method"] == "GET" else 307, {"Location": url})

    def _force_push(self, fault: Fault, path: str) -> None:
        _, _, owner, name, *rest = path.split("/")
        served = self._hub.repository(f"{owner}/{name}")
        if served is None:
            return
        pull = served.pulls.get(int(rest[1])) if rest[:1] == ["pulls"] and rest[1].isdigit() else None
        branch = fault.branch or (pull.head_ref if pull else None)
        if branch:
            self._hub.push(served, branch, fault.to)


def _is_from_here(scope: Scope) -> bool:
    client = scope["client"]
    return client is not None and ipaddress.ip_address(client[0]).is_loopback


def _abort(scope: Scope) -> None:
    extension = scope.get("extensions", {}).get(ABORT)
    if extension is None:
        raise ConnectionResetError("fakehub was told to reset this connection, and this transport has none")
    extension["abort"]()


async def _hangs_up(receive: Receive, *, within_s: float) -> bool:
    try:
        async with asyncio.timeout(within_s):
            while (await receive())["type"] != "http.disconnect":
                pass
    except TimeoutError:
        return False
    return True


async def _body(receive: Receive) -> bytes | None:
    """None when the client left before the end of its request, which GitHub then never sees."""
    parts: list[bytes] = []
    size, has_more = 0, True
    while has_more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        part = message.get("body", b"")
        size += len(part)
        if size <= MAX_REQUEST_BYTES:
            parts.append(part)
        has_more = message.get("more_body", False)
    return b"".join(parts) if size <= MAX_REQUEST_BYTES else b"too large"


def _endpoint(hub: FakeHub, handler: Handler, auth: str) -> Callable[[HttpRequest], Awaitable[Response]]:
    async def answer(request: HttpRequest, user: User) -> Reply:
        try:
            call = Call(
                hub,
                user,
                request.path_params,
                request.query_params,
                request.headers,
                f"{request.url.scheme}://{request.url.netloc}",
                request.url.path,
                await _json(request),
                request.scope.get("sentinelctl.fakehub.faults", ()),
            )
            return await run_in_threadpool(handler, call)
        except Refused as exc:
            return _refusal(exc)

    async def endpoint(request: HttpRequest) -> Response:
        try:
            user = _authenticate(hub, auth, request.headers.get("authorization"))
        except Refused as exc:
            return _response(hub, request, _refusal(exc))
        if request.url.path.startswith(CONTROL):
            return _response(hub, request, await answer(request, user))
        now_s, is_write = hub.clock_ns() / 10**9, request.method != "GET"
        if request.url.path == "/rate_limit":
            return _response(hub, request, await answer(request, user), _limit_headers(hub.limits.look(user.id, now_s)))
        is_content = is_write and bool(_CONTENT.search(request.url.path))
        verdict = hub.limits.begin(user.id, now_s, is_write=is_write, is_content=is_content)
        headers, response = _limit_headers(verdict), None
        try:
            if verdict.refusal is None:
                response = _response(hub, request, await answer(request, user), headers)
            else:
                if verdict.retry_after_s is not None:
                    headers["Retry-After"] = str(verdict.retry_after_s)
                response = _response(hub, request, _refusal(Refused(403, verdict.refusal)), headers)
            return response
        finally:
            hub.limits.end(user.id, was_unchanged=response is not None and response.status_code == 304)

    return endpoint


def _refusal(exc: Refused) -> Reply:
    refused: dict[str, Any] = {"message": exc.message}
    if exc.errors:
        refused["errors"] = exc.errors
    return Reply({**refused, "documentation_url": _DOCUMENTATION, "status": str(exc.status)}, exc.status)


def _limit_headers(verdict: Verdict) -> dict[str, str]:
    return {
        "X-RateLimit-Limit": str(PRIMARY),
        "X-RateLimit-Remaining": str(verdict.remaining),
        "X-RateLimit-Used": str(verdict.used),
        "X-RateLimit-Reset": str(verdict.resets_at_s),
        "X-RateLimit-Resource": "core",
    }


def _authenticate(hub: FakeHub, auth: str, authorization: str | None) -> User:
    if auth == "none":
        return HUMAN
    if auth == "jwt":
        scheme, _, token = (authorization or "").partition(" ")
        why = app_token.refusal(
            token.strip() if scheme.lower() == "bearer" else "", hub.app_public_key, hub.clock_ns() / 10**9
        )
        if why is not None:
            raise Refused(401, why)
        return APP_USER
    user = hub.user_of(authorization)
    if user is None:
        raise Refused(401, "Bad credentials")
    return user


async def _json(request: HttpRequest) -> Any:
    if request.method == "GET":
        return None
    try:
        return json.loads(await request.body() or b"{}")
    except ValueError as exc:
        raise Refused(400, "Problems parsing JSON") from exc


def _response(hub: FakeHub, request: HttpRequest, reply: Reply, limits: Mapping[str, str] | None = None) -> Response:
    is_raw = isinstance(reply.value, bytes)
    content = reply.value if is_raw else json.dumps(reply.value, ensure_ascii=False).encode("utf-8", "replace")
    headers = {"X-GitHub-Media-Type": "github.v3; format=json", **(limits or {})}
    if reply.link is not None:
        headers["Link"] = reply.link
    status = reply.status
    if request.method == "GET" and status == HTTPStatus.OK and not request.url.path.startswith(CONTROL):
        headers["ETag"] = f'W/"{hashlib.sha256(content).hexdigest()}"'
        if request.headers.get("if-none-match") == headers["ETag"]:
            status, content = 304, b""
    background = BackgroundTask(_send, hub, reply.sends) if reply.sends else None
    media_type = "application/octet-stream" if is_raw else "application/json; charset=utf-8"
    return Response(content, status, headers, media_type, background)


async def _send(hub: FakeHub, sends: Sequence[tuple[Hook, hooks.Delivery]]) -> None:
    async with httpx2.AsyncClient(trust_env=False) as client:
        for hook, delivery in sends:
            await hooks.attempt(hook, delivery, client, hub)


def _not_found(_: Call) -> Reply:
    raise Refused(404, "Not Found")
