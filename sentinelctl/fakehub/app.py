"""GitHub's REST routes over a FakeHub, as an ASGI app, and `/_fakehub/`, where tests and the demo look behind them.

Latency is spent before an API request is handled, so a write becomes visible at the moment its answer is sent. A
client that dies meanwhile changes nothing: the write still happens, as on GitHub. Control routes have no latency, no
faults and no limits, and answer on loopback alone, whatever address fakehub listens on.
"""

import asyncio
import base64
import hashlib
import ipaddress
import json
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlencode

import httpx2
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sentinelctl.fakehub import app_token, faults, hooks, shapes
from sentinelctl.fakehub.checks import CheckRun
from sentinelctl.fakehub.diff import FileDiff
from sentinelctl.fakehub.faults import Fault
from sentinelctl.fakehub.git import Entry
from sentinelctl.fakehub.hub import (
    APP_USER,
    HUMAN,
    INSTALLATION_ID,
    FakeHub,
    Hook,
    Pull,
    Repository,
    Request,
    User,
)
from sentinelctl.fakehub.limits import PRIMARY, Verdict
from sentinelctl.fakehub.rules import Refused

CONTROL = "/_fakehub/"
PER_PAGE = 30
MAX_PER_PAGE = 100
MAX_PULL_FILES = 3_000
# A diff as text has this much at most; above it the files can only be listed.
MAX_DIFF_FILES = 300
MAX_DIFF_LINES = 20_000
# A comparison shows at most this many files, and this many commits where no page is asked for.
MAX_COMPARE_FILES = 300
MAX_COMPARE_COMMITS = 250
MAX_REQUEST_BYTES = 25_000_000
ABORT = "sentinelctl.fakehub.abort"
"""An extension of the scope: its `abort` closes the connection with a reset."""
_CONTENT = re.compile(r"/(reviews|comments|check-runs)(/\d+)?$")
_BY_ID = re.compile(r"/repositories/(\d+)(/.*)?")
_DOCUMENTATION = "https://docs.github.com/rest"
_KEPT_NS = 3 * 86_400 * 10**9
"""How long GitHub keeps a hook's deliveries."""


@dataclass(frozen=True)
class Call:
    """One request, read: `body` is its JSON, None for a GET."""

    hub: FakeHub
    user: User
    path: Mapping[str, str]
    query: Mapping[str, str]
    headers: Headers
    origin: str
    """Scheme and host under which the client found us; links in the answer lead back there."""
    url_path: str
    body: Any
    faults: tuple[Fault, ...] = ()
    """Those that change the answer of the route itself."""

    @property
    def repository(self) -> Repository:
        found = self.hub.repository(f"{self.path['owner']}/{self.path['repo']}")
        if found is None:
            raise Refused(404, "Not Found")
        return found

    @property
    def pull(self) -> Pull:
        number = self.path["number"]
        found = self.repository.pulls.get(int(number)) if number.isascii() and number.isdigit() else None
        if found is None:
            raise Refused(404, "Not Found")
        return found

    def commit(self, revision: str) -> str:
        sha = self.repository.resolve(revision)
        if sha is None:
            raise Refused(422, f"No commit found for SHA: {revision}")
        return sha

    def number(self, name: str, default: int) -> int:
        """A positive number of the query; GitHub passes over anything else."""
        text = self.query.get(name, "")
        return int(text) if text.isascii() and text.isdigit() and 0 < int(text) < 10**9 else default


@dataclass(frozen=True)
class Reply:
    value: Any
    status: int = 200
    link: str | None = None
    sends: tuple[tuple[Hook, hooks.Delivery], ...] = ()
    """Deliveries to make once the answer is out."""


Handler = Callable[[Call], Reply]


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


def _page(
    call: Call, items: Sequence[Any], default: int = PER_PAGE, maximum: int = MAX_PER_PAGE
) -> tuple[slice, str | None]:
    """The page asked for, and its Link header where there is more than one."""
    size = min(call.number("per_page", default), maximum)
    number = call.number("page", 1)
    last = max(1, -(-len(items) // size))
    links = {"prev": number - 1, "next": number + 1, "last": last, "first": 1}
    if number >= last:
        del links["next"], links["last"]
    if number <= 1:
        del links["prev"], links["first"]
    address = _address(call)
    shown = [f'<{address}?{urlencode({**call.query, "page": page})}>; rel="{name}"' for name, page in links.items()]
    return slice((number - 1) * size, number * size), ", ".join(shown) or None


def _address(call: Call) -> str:
    """As GitHub's links name it: a repository by its id."""
    if "repo" not in call.path:
        return f"{call.origin}{call.url_path}"
    return "/".join([f"{call.origin}/repositories/{call.repository.id}", *call.url_path.split("/", 4)[4:]])


def _listed(call: Call, items: Sequence[Any], shape: Callable[[Any], Any]) -> Reply:
    window, link = _page(call, items)
    return Reply([shape(item) for item in items[window]], link=link)


def _not_found(_: Call) -> Reply:
    raise Refused(404, "Not Found")


def _get_user(call: Call) -> Reply:
    if call.user == APP_USER:
        raise Refused(403, "Resource not accessible by integration")
    return Reply(shapes.user_details(call.user, call.origin))


def _get_rate_limit(call: Call) -> Reply:
    seen = call.hub.limits.look(call.user.id, call.hub.clock_ns() / 10**9)
    core = {"limit": PRIMARY, "used": seen.used, "remaining": seen.remaining, "reset": seen.resets_at_s}
    return Reply({"resources": {"core": core, "search": {**core, "limit": 30, "remaining": 30}}, "rate": core})


def _get_repository(call: Call) -> Reply:
    return Reply(shapes.repository_details(call.repository, call.origin))


def _get_installation(call: Call) -> Reply:
    return Reply(shapes.installation(call.repository, call.origin))


def _create_token(call: Call) -> Reply:
    if call.path["installation"] != str(INSTALLATION_ID):
        raise Refused(404, "Not Found")
    token, expires_at_ns = call.hub.issue_token()
    return Reply(
        {
            "token": token,
            "expires_at": shapes.utc(expires_at_ns),
            "permissions": shapes.PERMISSIONS,
            "repository_selection": "all",
        },
        201,
    )


def _get_commit(call: Call) -> Reply:
    served, base_url = call.repository, call.origin
    sha = call.commit(call.path["ref"])
    files = served.git.changes(sha)[:MAX_PULL_FILES]
    window, link = _page(call, files, MAX_COMPARE_FILES, MAX_COMPARE_FILES)
    additions, deletions = sum(one.additions for one in files), sum(one.deletions for one in files)
    return Reply(
        {
            **shapes.commit(served.git.commit(sha), served, base_url),
            "stats": {"total": additions + deletions, "additions": additions, "deletions": deletions},
            "files": [shapes.file(one, served, sha, base_url) for one in files[window]],
        },
        link=link,
    )


def _compare(call: Call) -> Reply:
    """Three dots: from the merge base. Pages are of commits; the files stand on the first page alone."""
    served, base_url = call.repository, call.origin
    names = call.path["basehead"].split("...")
    if len(names) != 2:
        raise Refused(404, "Not Found")
    base, head = (served.resolve(name.rpartition(":")[2]) for name in names)
    if base is None or head is None:
        raise Refused(404, "Not Found")
    root = served.git.merge_base(base, head)
    if root is None:
        raise Refused(404, f"No common ancestor between {names[0]} and {names[1]}.")
    ahead, behind = served.git.between(base, head), served.git.between(head, base)
    link = None
    if call.query.keys() & {"page", "per_page"}:
        window, link = _page(call, ahead)
    else:
        window = slice(-MAX_COMPARE_COMMITS, None)
    is_first = call.number("page", 1) == 1
    files = served.git.diff(root, head)[:MAX_COMPARE_FILES] if is_first else ()
    status = {(False, False): "identical", (True, False): "ahead", (False, True): "behind"}
    url = f"{base_url}/repos/{served.full_name}/compare/{names[0]}...{names[1]}"
    html_url = f"{base_url}/{served.full_name}/compare/{names[0]}...{names[1]}"
    return Reply(
        {
            "url": url,
            "html_url": html_url,
            "permalink_url": f"{base_url}/{served.full_name}/compare/{base}...{head}",
            "diff_url": f"{html_url}.diff",
            "patch_url": f"{html_url}.patch",
            "base_commit": shapes.commit(served.git.commit(base), served, base_url),
            "merge_base_commit": shapes.commit(served.git.commit(root), served, base_url),
            "status": status.get((bool(ahead), bool(behind)), "diverged"),
            "ahead_by": len(ahead),
            "behind_by": len(behind),
            "total_commits": len(ahead),
            "commits": [shapes.commit(one, served, base_url) for one in served.git.commits(ahead[window])],
            "files": [shapes.file(one, served, head, base_url) for one in files],
        },
        link=link,
    )


def _list_commit_pulls(call: Call) -> Reply:
    """Open pull requests that bring a commit. One that the default branch has is no longer theirs, as on GitHub."""
    served = call.repository
    sha = call.commit(call.path["sha"])
    default = served.resolve(served.git.default_branch)
    is_merged = default is not None and served.git.is_ancestor(sha, default)
    found = [] if is_merged else [one for one in served.pulls.values() if sha in served.pull_commits(one)]
    return _listed(call, found, lambda one: shapes.pull(one, served, call.origin))


def _list_pulls(call: Call) -> Reply:
    served = call.repository
    state = call.query.get("state", "open")
    owner, _, head = call.query.get("head", "").rpartition(":")
    base = call.query.get("base")
    found = [
        one
        for one in reversed(served.pulls.values())
        if state in {"all", one.state}
        and (not owner or (owner.lower() == HUMAN.login and one.head_ref == head))
        and base in {None, one.base_ref}
    ]
    return _listed(call, found, lambda one: shapes.pull(one, served, call.origin))


def _get_pull(call: Call) -> Reply:
    """As JSON, or as a diff where the Accept header asks for one."""
    if "diff" in call.headers.get("accept", ""):
        return _get_diff(call)
    return Reply(shapes.pull_details(call.pull, call.repository, call.origin))


def _get_diff(call: Call) -> Reply:
    served, pull = call.repository, call.pull
    diff = served.git.raw_diff(served.merge_base(pull), pull.head_sha)
    for limit, count, what in (
        (MAX_DIFF_FILES, len(served.pull_files(pull)), "files"),
        (MAX_DIFF_LINES, diff.count(b"\n"), "lines"),
    ):
        if count > limit:
            raise Refused(
                406,
                f"Sorry, the diff exceeded the maximum number of {what} ({limit}). Consider using 'List pull requests "
                "files' API or locally cloning the repository instead.",
                [{"resource": "PullRequest", "field": "diff", "code": "too_large"}],
            )
    return Reply(diff)


def _list_pull_files(call: Call) -> Reply:
    served, pull = call.repository, call.pull
    files = served.pull_files(pull)[:MAX_PULL_FILES]
    bare = [fault.files for fault in call.faults if fault.kind == "no_patch"]

    def shown(one: FileDiff) -> shapes.Json:
        is_bare = any(fnmatchcase(one.path, pattern) for pattern in bare)
        return shapes.file(replace(one, patch=None) if is_bare else one, served, pull.head_sha, call.origin)

    return _listed(call, files, shown)


def _get_contents(call: Call) -> Reply:
    """A file with its bytes in base64, or the entries of a folder."""
    served, base_url = call.repository, call.origin
    path = call.path["path"].strip("/")
    ref = call.query.get("ref") or served.git.default_branch
    sha = served.resolve(ref)
    if sha is None:
        raise Refused(404, f"No commit found for the ref {ref}")
    entries = served.git.entries(sha, path)
    if not entries:
        raise Refused(404, "Not Found")

    def about(path: str, kind: str, blob: str, size: int) -> shapes.Json:
        place, repo_url = quote(path), f"{base_url}/repos/{served.full_name}"
        url, git_url = f"{repo_url}/contents/{place}?ref={ref}", f"{repo_url}/git/{kind}s/{blob}"
        html_url = f"{base_url}/{served.full_name}/{kind}/{ref}/{place}"
        return {
            "type": {"blob": "file", "tree": "dir"}.get(kind, "submodule"),
            "name": path.rpartition("/")[2],
            "path": path,
            "sha": blob,
            "size": size,
            "url": url,
            "git_url": git_url,
            "html_url": html_url,
            "download_url": f"{base_url}/{served.full_name}/raw/{ref}/{place}" if kind == "blob" else None,
            "_links": {"self": url, "git": git_url, "html": html_url},
        }

    def content_of(one: Entry) -> bytes:
        return served.git.blob(one.sha) if one.kind == "blob" else b""

    first = entries[0]
    if len(entries) != 1 or first.path != path:
        return Reply([about(one.path, one.kind, one.sha, len(content_of(one))) for one in entries])
    content = content_of(first)
    if "raw" in call.headers.get("accept", ""):
        return Reply(content)
    text = base64.encodebytes(content).decode()
    return Reply({**about(path, first.kind, first.sha, len(content)), "encoding": "base64", "content": text})


def _list_reviews(call: Call) -> Reply:
    served, pull = call.repository, call.pull
    shown = [one for one in pull.reviews if one.state != "PENDING" or one.author == call.user]
    return _listed(call, shown, lambda one: shapes.review(one, pull, served, call.origin))


def _create_review(call: Call) -> Reply:
    refused = {anchor for fault in call.faults for anchor in fault.anchors}
    review = call.hub.create_review(call.repository, call.pull, call.user, call.body, refused=refused)
    return Reply(shapes.review(review, call.pull, call.repository, call.origin))


def _get_review(call: Call) -> Reply:
    found = next((one for one in call.pull.reviews if str(one.id) == call.path["review"]), None)
    if found is None:
        raise Refused(404, "Not Found")
    return Reply(shapes.review(found, call.pull, call.repository, call.origin))


def _list_review_comments(call: Call) -> Reply:
    served, pull = call.repository, call.pull
    found = next((one for one in pull.reviews if str(one.id) == call.path["review"]), None)
    if found is None:
        raise Refused(404, "Not Found")
    return _listed(call, found.comments, lambda one: shapes.comment(one, pull, served, call.origin))


def _list_comments(call: Call) -> Reply:
    served, pull = call.repository, call.pull
    found = [one for review in pull.reviews if review.state != "PENDING" for one in review.comments]
    return _listed(call, found, lambda one: shapes.comment(one, pull, served, call.origin))


def _list_all_comments(call: Call) -> Reply:
    """Of every pull request. Nothing changes a comment here, so `updated` is when it was created."""
    served = call.repository
    found = [
        (pull, one)
        for pull in served.pulls.values()
        for review in pull.reviews
        if review.state != "PENDING"
        for one in review.comments
        if shapes.utc(one.created_at_ns) >= call.query.get("since", "")
    ]
    # Without `sort` GitHub passes over `direction` and lists by id, which grows with time.
    is_falling = "sort" in call.query and call.query.get("direction", "desc") == "desc"
    found.sort(key=lambda each: each[1].id, reverse=is_falling)
    return _listed(call, found, lambda each: shapes.comment(each[1], each[0], served, call.origin))


def _create_comment(call: Call) -> Reply:
    comment = call.hub.create_comment(call.repository, call.pull, call.user, call.body)
    return Reply(shapes.comment(comment, call.pull, call.repository, call.origin), 201)


def _list_commit_comments(call: Call) -> Reply:
    served, sha = call.repository, call.commit(call.path["sha"])
    found = [one for one in served.comments if one.commit_id == sha]
    return _listed(call, found, lambda one: shapes.commit_comment(one, served, call.origin))


def _create_commit_comment(call: Call) -> Reply:
    served = call.repository
    comment = call.hub.create_commit_comment(served, call.commit(call.path["sha"]), call.user, call.body)
    return Reply(shapes.commit_comment(comment, served, call.origin), 201)


def _list_hooks(call: Call) -> Reply:
    served = call.repository
    return _listed(call, list(served.hooks.values()), lambda one: shapes.hook(one, served, call.origin))


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
        link = f'<{_address(call)}?{query}>; rel="next"'
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


def _app_only(call: Call) -> None:
    if call.user != APP_USER:
        raise Refused(403, "You must authenticate via a GitHub App.")


def _check_run(call: Call) -> CheckRun:
    found = next((one for one in call.repository.check_runs.values() if str(one.id) == call.path["run"]), None)
    if found is None:
        raise Refused(404, "Not Found")
    return found


def _create_check_run(call: Call) -> Reply:
    _app_only(call)
    run = call.hub.create_check_run(call.repository, call.body, shapes.utc(call.hub.clock_ns()))
    return Reply(shapes.check_run(run, call.repository, call.origin), 201)


def _update_check_run(call: Call) -> Reply:
    _app_only(call)
    run = _check_run(call)
    call.hub.update_check_run(run, call.body, shapes.utc(call.hub.clock_ns()))
    return Reply(shapes.check_run(run, call.repository, call.origin))


def _get_check_run(call: Call) -> Reply:
    return Reply(shapes.check_run(_check_run(call), call.repository, call.origin))


def _list_annotations(call: Call) -> Reply:
    run = _check_run(call)
    return _listed(call, run.annotations, lambda one: shapes.annotation(one, run, call.repository, call.origin))


def _list_check_runs(call: Call) -> Reply:
    """Of one commit, the latest first; of those with one name only the latest, unless `filter` is all."""
    served, sha = call.repository, call.commit(call.path["ref"])
    name, status = call.query.get("check_name"), call.query.get("status")
    found = [
        one
        for one in reversed(served.check_runs.values())
        if one.head_sha == sha and name in {None, one.name} and status in {None, one.status}
    ]
    if call.query.get("filter") != "all":
        found = list({one.name: one for one in reversed(found)}.values())[::-1]
    window, link = _page(call, found)
    shown = [shapes.check_run(one, served, call.origin) for one in found[window]]
    return Reply({"total_count": len(found), "check_runs": shown}, link=link)


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


_REPO = "/repos/{owner}/{repo}"
_PULL = f"{_REPO}/pulls/{{number}}"
_ROUTES: tuple[tuple[str, str, Handler, str], ...] = (
    ("GET", "/user", _get_user, "token"),
    ("GET", "/rate_limit", _get_rate_limit, "token"),
    ("POST", "/app/installations/{installation}/access_tokens", _create_token, "jwt"),
    ("GET", _REPO, _get_repository, "token"),
    ("GET", f"{_REPO}/installation", _get_installation, "jwt"),
    ("GET", f"{_REPO}/hooks", _list_hooks, "token"),
    ("POST", f"{_REPO}/hooks", _create_hook, "token"),
    ("GET", f"{_REPO}/hooks/{{hook}}", _get_hook, "token"),
    ("POST", f"{_REPO}/hooks/{{hook}}/pings", _ping_hook, "token"),
    ("GET", f"{_REPO}/hooks/{{hook}}/deliveries", _list_deliveries, "token"),
    ("GET", f"{_REPO}/hooks/{{hook}}/deliveries/{{delivery}}", _get_delivery, "token"),
    ("POST", f"{_REPO}/hooks/{{hook}}/deliveries/{{delivery}}/attempts", _redeliver, "token"),
    ("POST", f"{_REPO}/check-runs", _create_check_run, "token"),
    ("GET", f"{_REPO}/check-runs/{{run}}", _get_check_run, "token"),
    ("PATCH", f"{_REPO}/check-runs/{{run}}", _update_check_run, "token"),
    ("GET", f"{_REPO}/check-runs/{{run}}/annotations", _list_annotations, "token"),
    ("GET", f"{_REPO}/commits/{{ref}}/check-runs", _list_check_runs, "token"),
    ("GET", f"{_REPO}/commits/{{sha}}/pulls", _list_commit_pulls, "token"),
    ("GET", f"{_REPO}/commits/{{sha}}/comments", _list_commit_comments, "token"),
    ("POST", f"{_REPO}/commits/{{sha}}/comments", _create_commit_comment, "token"),
    ("GET", f"{_REPO}/commits/{{ref:path}}", _get_commit, "token"),
    ("GET", f"{_REPO}/compare/{{basehead:path}}", _compare, "token"),
    ("GET", f"{_REPO}/contents/{{path:path}}", _get_contents, "token"),
    ("GET", f"{_REPO}/pulls", _list_pulls, "token"),
    ("GET", f"{_REPO}/pulls/comments", _list_all_comments, "token"),
    ("GET", _PULL, _get_pull, "token"),
    ("GET", f"{_PULL}/files", _list_pull_files, "token"),
    ("GET", f"{_PULL}/comments", _list_comments, "token"),
    ("POST", f"{_PULL}/comments", _create_comment, "token"),
    ("GET", f"{_PULL}/reviews", _list_reviews, "token"),
    ("POST", f"{_PULL}/reviews", _create_review, "token"),
    ("GET", f"{_PULL}/reviews/{{review}}", _get_review, "token"),
    ("GET", f"{_PULL}/reviews/{{review}}/comments", _list_review_comments, "token"),
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
