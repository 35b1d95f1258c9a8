"""One shared client of GitHub's REST API, with only the endpoints the services use.

Every call raises GitHubLimited, GitHubUnavailable, GitHubNotFound or GitHubRejected (see types.py), or Retryable when
GitHub's answer does not have its documented shape.
"""

import asyncio
import json
import re
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from datetime import datetime
from typing import Any, Self, TypeVar
from urllib.parse import quote, urlencode

import httpx2
from pydantic import Field, TypeAdapter, ValidationError

from services.errors import ConfigError, Poison, Retryable
from services.github.auth import AppAuth, Auth, InstallationToken, TokenAuth
from services.github.etags import EtagCache, Page
from services.github.pacing import Pace, limit_wait_s
from services.github.types import (
    Answer,
    ChangedFile,
    Comparison,
    GitHubLimited,
    GitHubNotFound,
    GitHubRejected,
    GitHubUnavailable,
    InlineComment,
    PostedComment,
    PostedReview,
    PullRequest,
    Repo,
    ReviewComment,
    ReviewComments,
)
from services.settings import GitHubSettings
from services.telemetry import Metrics

MAX_CONNECTIONS = 10
MAX_REDIRECTS = 3
MAX_PAGES = 100
PER_PAGE = 100
"""Most that GitHub puts on a page of a list."""
MAX_PACING_WAIT_S = 10.0
"""A write that would wait longer for our own pace is put off, so that it does not outlive its claim."""
CREDENTIALS_RETRY_S = 60.0

_HEADERS = {
    "User-Agent": "sentinel-review",
    "Accept": "application/vnd.github+json",
    "X-GitHub-Api-Version": "2022-11-28",
}
_REDIRECTS = (301, 302, 307, 308)
_SHA = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_NO_REASON = {404: "github_not_found", 410: "github_gone", 403: "github_forbidden"}

_T = TypeVar("_T")


class _Commit(Answer):
    files: tuple[ChangedFile, ...] = ()


class _Minted(Answer):
    token: str = Field(repr=False)
    expires_at: datetime


_FILES = TypeAdapter(tuple[ChangedFile, ...])
_PULLS = TypeAdapter(tuple[PullRequest, ...])
_REVIEWS = TypeAdapter(tuple[PostedReview, ...])
_COMMENTS = TypeAdapter(tuple[PostedComment, ...])
_REVIEW_COMMENTS = TypeAdapter(tuple[ReviewComment, ...])
_PULL = TypeAdapter(PullRequest)
_COMPARISON = TypeAdapter(Comparison)
_COMMIT = TypeAdapter(_Commit)
_REVIEW = TypeAdapter(PostedReview)
_COMMENT = TypeAdapter(PostedComment)
_MINTED = TypeAdapter(_Minted)


class Stopwatch:
    """Wall time during which at least one call is under way; calls that overlap count once."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._under_way = 0
        self._since = 0.0
        self._total = 0.0

    @property
    def seconds(self) -> float:
        return self._total + (self._clock() - self._since if self._under_way else 0.0)

    @contextmanager
    def running(self) -> Iterator[None]:
        if not self._under_way:
            self._since = self._clock()
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._total += self._clock() - self._since


_watch: ContextVar[Stopwatch | None] = ContextVar("github_stopwatch", default=None)


class GitHub:
    """Reads run side by side on a few connections. Writes of one account go out one by one, at GitHub's pace."""

    def __init__(
        self,
        settings: GitHubSettings,
        metrics: Metrics,
        *,
        transport: httpx2.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """clock: Unix time, for GitHub's resets and expiries. Raises ConfigError when the settings cannot work."""
        self._root = _root(settings.api_url)
        self._settings, self._metrics = settings, metrics
        self._clock, self._monotonic, self._sleep = clock, monotonic, sleep
        self._auth = self._authentication()
        self._http = httpx2.AsyncClient(
            transport=transport,
            headers=_HEADERS,
            timeout=settings.timeout_s,
            limits=httpx2.Limits(max_connections=MAX_CONNECTIONS, max_keepalive_connections=MAX_CONNECTIONS),
            follow_redirects=False,
            trust_env=self._root.host not in _LOOPBACK,
        )
        self._slots = asyncio.Semaphore(MAX_CONNECTIONS)
        self._etags = EtagCache()
        self._writing: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._paces: defaultdict[int, Pace] = defaultdict(
            lambda: Pace(per_min=settings.writes_per_min, per_h=settings.writes_per_h, burst=settings.write_burst)
        )
        self._limited_until: dict[int, float] = {}
        self._strikes: defaultdict[tuple[int, bool], int] = defaultdict(int)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    @contextmanager
    def stopwatch(self) -> Iterator[Stopwatch]:
        """Counts the time in which calls made inside, by this task and the tasks it starts, wait for GitHub's answers.

        Waiting for our own pace or for a free connection is not GitHub's time, and does not count.
        """
        watch = Stopwatch(self._monotonic)
        token = _watch.set(watch)
        try:
            yield watch
        finally:
            _watch.reset(token)

    async def pull(self, repo: Repo, number: int) -> PullRequest:
        return _parsed(_PULL, await self._read(repo, f"/pulls/{number:d}"))

    async def pull_files(self, repo: Repo, number: int) -> tuple[ChangedFile, ...]:
        """At most MAX_FILES; PullRequest.changed_files says how many there are."""
        pages = self._pages(repo, f"/pulls/{number:d}/files", per_page=PER_PAGE)
        return tuple([file async for page in pages for file in _parsed(_FILES, page)])

    async def pulls_of_branch(self, repo: Repo, branch: str) -> tuple[PullRequest, ...]:
        """Open pull requests whose head is a branch of this name, in this repository or in a fork by its owner."""
        pages = self._pages(repo, "/pulls", state="open", head=f"{repo.owner}:{branch}", per_page=PER_PAGE)
        return tuple([pull async for page in pages for pull in _parsed(_PULLS, page)])

    async def compare(self, repo: Repo, base: str, head: str) -> Comparison:
        """What `head` changed since its merge base with `base` (names or shas): at most MAX_COMPARED_FILES files.

        Pages are pages of commits, which nobody needs; the files all stand on the first one.
        """
        basehead = f"{quote(base, safe='')}...{quote(head, safe='')}"
        return _parsed(_COMPARISON, await self._read(repo, f"/compare/{basehead}?per_page=1"))

    async def commit_files(self, repo: Repo, sha: str) -> tuple[ChangedFile, ...]:
        """What one commit changed against its first parent: at most MAX_FILES files."""
        pages = self._pages(repo, _commit_path(sha))
        return tuple([file async for page in pages for file in _parsed(_COMMIT, page).files])

    async def reviews(self, repo: Repo, number: int) -> tuple[PostedReview, ...]:
        pages = self._pages(repo, f"/pulls/{number:d}/reviews", per_page=PER_PAGE)
        return tuple([review async for page in pages for review in _parsed(_REVIEWS, page)])

    async def create_review(
        self, repo: Repo, number: int, *, commit_sha: str, body: str, comments: Sequence[InlineComment] = ()
    ) -> PostedReview:
        """One review that neither approves nor blocks. One bad comment fails all: GitHubRejected with status 422."""
        document = {
            "commit_id": commit_sha,
            "event": "COMMENT",
            "body": body,
            "comments": [{"path": c.path, "line": c.line, "side": c.side, "body": c.body} for c in comments],
        }
        return _parsed(_REVIEW, await self._write(repo, f"/pulls/{number:d}/reviews", document))

    async def review_comments(self, repo: Repo, *, since: str = "", page: int = 1, etag: str = "") -> ReviewComments:
        """A hundred line comments of all pull requests changed since (ISO 8601), the one changed longest ago first."""
        query = {
            "sort": "updated",
            "direction": "asc",
            "per_page": PER_PAGE,
            "page": page,
            **({"since": since} if since else {}),
        }
        url = self._root.join(f"repos/{repo.full_name}/pulls/comments?{urlencode(query)}")
        headers = {"If-None-Match": etag} if etag else {}
        response = await self._call("GET", url, repo.installation_id, headers=headers)
        if etag and response.status_code == 304:
            return ReviewComments(etag=etag, is_unchanged=True)
        comments = _parsed(_REVIEW_COMMENTS, Page(response.content))
        return ReviewComments(comments, response.headers.get("etag", ""), "next" in response.links)

    async def commit_comments(self, repo: Repo, sha: str) -> tuple[PostedComment, ...]:
        pages = self._pages(repo, f"{_commit_path(sha)}/comments", per_page=PER_PAGE)
        return tuple([comment async for page in pages for comment in _parsed(_COMMENTS, page)])

    async def create_commit_comment(self, repo: Repo, sha: str, *, body: str) -> PostedComment:
        return _parsed(_COMMENT, await self._write(repo, f"{_commit_path(sha)}/comments", {"body": body}))

    def _authentication(self) -> Auth:
        if self._settings.app_id:
            return AppAuth(self._settings.app_id, self._settings.app_key, self._mint, self._clock)
        if self._settings.token.get_secret_value():
            return TokenAuth(self._settings.token)
        raise ConfigError(
            "no GitHub credentials; set SENTINEL_GITHUB_TOKEN (or SENTINEL_GITHUB_TOKEN_FILE), or github.app_id with "
            "SENTINEL_GITHUB_APP_KEY_FILE"
        )

    async def _mint(self, installation_id: int, assertion: str) -> InstallationToken:
        url = self._root.join(f"app/installations/{installation_id:d}/access_tokens")
        response = await self._send("POST", url, assertion)
        self._judge(response, installation_id)
        minted = _parsed(_MINTED, Page(response.content))
        return InstallationToken(minted.token, minted.expires_at.timestamp())

    async def _pages(self, repo: Repo, path: str, **query: str | int) -> AsyncIterator[Page]:
        page = await self._read(repo, f"{path}?{urlencode(query)}" if query else path)
        yield page
        for _ in range(MAX_PAGES):
            if page.next_url is None:
                return
            page = await self._get(repo, self._same_host(httpx2.URL(page.next_url)))
            yield page

    async def _read(self, repo: Repo, path: str) -> Page:
        return await self._get(repo, self._root.join(f"repos/{repo.full_name}{path}"))

    async def _get(self, repo: Repo, url: httpx2.URL) -> Page:
        key = (self._auth.account(repo.installation_id), str(url))
        kept = self._etags.get(key)
        headers = {"If-None-Match": kept[0]} if kept else {}
        response = await self._call("GET", url, repo.installation_id, headers=headers)
        if kept and response.status_code == 304:
            return kept[1]
        page = Page(response.content, response.links.get("next", {}).get("url"))
        if etag := response.headers.get("etag"):
            self._etags.put(key, etag, page)
        return page

    async def _write(self, repo: Repo, path: str, document: Mapping[str, Any]) -> Page:
        url = self._root.join(f"repos/{repo.full_name}{path}")
        async with self._turn_to_write(self._auth.account(repo.installation_id)):
            return Page((await self._call("POST", url, repo.installation_id, document=document)).content)

    @asynccontextmanager
    async def _turn_to_write(self, account: int) -> AsyncIterator[None]:
        if self._settings.pacing == "off":
            yield
            return
        async with self._writing[account]:
            pace = self._paces[account]
            wait_s = pace.wait_s(self._monotonic())
            if wait_s > MAX_PACING_WAIT_S:
                raise GitHubLimited(
                    f"the next write fits GitHub's content limits in {wait_s:.0f} s", retry_after_s=wait_s
                )
            if wait_s:
                await self._sleep(wait_s)
            pace.take(self._monotonic())
            yield

    async def _call(
        self,
        method: str,
        url: httpx2.URL,
        installation_id: int,
        *,
        headers: Mapping[str, str] | None = None,
        document: Mapping[str, Any] | None = None,
    ) -> httpx2.Response:
        account = self._auth.account(installation_id)
        left_s = self._limited_until.get(account, 0.0) - self._monotonic()
        if left_s > 0:
            raise GitHubLimited(f"GitHub asked us to wait; {left_s:.0f} s are left", retry_after_s=left_s)
        token = await self._auth.token(installation_id)
        response = await self._send(method, url, token, headers=headers, document=document)
        if response.status_code == 401 and self._auth.forget(installation_id, token):
            token = await self._auth.token(installation_id)
            response = await self._send(method, url, token, headers=headers, document=document)
        self._judge(response, account)
        return response

    async def _send(
        self,
        method: str,
        url: httpx2.URL,
        token: str,
        *,
        headers: Mapping[str, str] | None = None,
        document: Mapping[str, Any] | None = None,
    ) -> httpx2.Response:
        """The answer of `url`, after redirects within GitHub's own host; these keep the method, as GitHub asks."""
        for _ in range(MAX_REDIRECTS + 1):
            request = self._http.build_request(
                method, url, json=document, headers={**(headers or {}), "Authorization": f"Bearer {token}"}
            )
            response = await self._answer(request)
            location = response.headers.get("location")
            if response.status_code not in _REDIRECTS or not location:
                return response
            url = self._same_host(url.join(location))
        raise GitHubRejected(
            "github_redirect", f"{method} {url.path} still redirects after {MAX_REDIRECTS} times", status=310
        )

    async def _answer(self, request: httpx2.Request) -> httpx2.Response:
        watch, status = _watch.get() or Stopwatch(self._monotonic), "error"
        async with self._slots:
            started = self._monotonic()
            try:
                with watch.running():
                    async with asyncio.timeout(self._settings.timeout_s):
                        response = await self._http.send(request)
                status = f"{response.status_code // 100}xx"
                return response
            except TimeoutError as exc:
                raise GitHubUnavailable(
                    f"{request.method} {request.url.path}: no answer in {self._settings.timeout_s:g} s"
                ) from exc
            except httpx2.RequestError as exc:
                raise GitHubUnavailable(
                    f"{request.method} {request.url.path}: {type(exc).__name__}: {exc}; is {self._root} reachable?"
                ) from exc
            finally:
                self._metrics.github_requests.labels(request.method, status).inc()
                self._metrics.github_seconds.labels(request.method).observe(self._monotonic() - started)

    def _judge(self, response: httpx2.Response, account: int) -> None:
        """Returns when the answer is a success or a 304; else raises what it means."""
        status = response.status_code
        # Apart for reads and writes: a read that passes does not end a limit on content, nor its ever longer waits.
        strikes = (account, response.request.method == "GET")
        if response.is_success or status == 304:
            self._strikes[strikes] = 0
            return
        message, errors = _complaint(response)
        what = f"{response.request.method} {response.request.url.path}: {status} {message}".rstrip()
        wait_s = limit_wait_s(
            status, response.headers, message, now=self._clock(), strikes=min(self._strikes[strikes], 10)
        )
        if wait_s is not None:
            self._strikes[strikes] += 1
            self._limited_until[account] = self._monotonic() + wait_s
            self._paces[account].rest(self._limited_until[account])
            raise GitHubLimited(f"{what}; waiting {wait_s:.0f} s", retry_after_s=wait_s)
        if status == 401:
            raise GitHubUnavailable(
                f"{what}; GitHub refuses our credentials: check SENTINEL_GITHUB_TOKEN, or github.app_id and "
                "SENTINEL_GITHUB_APP_KEY",
                retry_after_s=CREDENTIALS_RETRY_S,
            )
        if status in _NO_REASON:
            raise GitHubNotFound(_NO_REASON[status], f"{what}; gone, or out of reach of our credentials")
        if status >= 500 and "not_available" not in errors:
            raise GitHubUnavailable(what)
        detail = f" ({'; '.join(errors)})" if errors else ""
        raise GitHubRejected(f"github_{status}", f"{what}{detail}", status=status, errors=errors)

    def _same_host(self, url: httpx2.URL) -> httpx2.URL:
        if (url.scheme, url.host, url.port) != (self._root.scheme, self._root.host, self._root.port):
            raise GitHubRejected(
                "github_redirect", f"GitHub's answer points to {url.host!r}, not to {self._root.host!r}; not followed"
            )
        return url


def _root(api_url: str) -> httpx2.URL:
    try:
        root = httpx2.URL(api_url.rstrip("/") + "/")
    except httpx2.InvalidURL as exc:
        raise ConfigError(f"github.api_url is {api_url!r}, which is no address: {exc}") from exc
    if root.scheme not in ("http", "https") or not root.host or root.userinfo or root.query:
        raise ConfigError(f"github.api_url is {api_url!r}; give http(s)://HOST[/api/v3]")
    return root


def _commit_path(sha: str) -> str:
    if not _SHA.fullmatch(sha):
        raise Poison("bad_sha", f"{sha[:80]!r} is no commit id; 40 or 64 hexadecimal digits were expected")
    return f"/commits/{sha}"


def _parsed(shape: TypeAdapter[_T], page: Page) -> _T:
    try:
        return shape.validate_json(page.content)
    except ValidationError as exc:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in exc.errors(include_input=False)[:3]
        )
        raise Retryable(f"GitHub's answer does not have its documented shape: {faults}") from None


def _complaint(response: httpx2.Response) -> tuple[str, tuple[str, ...]]:
    """GitHub's `message` and `errors`, which are strings or objects."""
    try:
        document = json.loads(response.content)
    except ValueError:
        return response.reason_phrase, ()
    if not isinstance(document, dict):
        return response.reason_phrase, ()
    listed = document.get("errors")
    errors = [_one_error(error) for error in listed] if isinstance(listed, list) else []
    return str(document.get("message", ""))[:300], tuple(errors)


def _one_error(error: object) -> str:
    if not isinstance(error, dict):
        return str(error)[:300]
    if error.get("code") == "not_available":
        return "not_available"
    return str(error.get("message") or f"{error.get('field')}: {error.get('code')}")[:300]
