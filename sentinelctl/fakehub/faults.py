"""GitHub's bad days on demand: what goes wrong, for which requests, how often or how long. Pure, and always bounded.

A fault hits the requests that its method and path name. Most end the request with an answer of their own, or with none;
`late` lets the write happen first, so that only its answer is lost. `sentinelctl fakehub --fault` writes one as
`kind,name=value,...`: `status,status=503,count=2`, or `reset,method=POST,late=true`.
"""

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

Kind = Literal["latency", "status", "limit", "stall", "reset", "moved", "refused_anchors", "no_patch", "force_push"]

_ENDING = ("status", "limit", "stall", "reset", "moved")
_OWN = {
    "latency": {"ms"},
    "status": {"status"},
    "limit": {"status", "says", "wait_s"},
    "stall": {"seconds"},
    "reset": set[str](),
    "moved": set[str](),
    "refused_anchors": {"anchors"},
    "no_patch": {"files"},
    "force_push": {"branch", "to"},
}
_NEEDED = {"latency": "ms", "status": "status", "refused_anchors": "anchors", "force_push": "to"}
_WHERE = {
    "refused_anchors": ("POST", "*/reviews"),
    "no_patch": ("GET", "*/files"),
    "force_push": ("POST", "*/reviews"),
}
_STATUSES = {
    401: "Bad credentials",
    404: "Not Found",
    406: (
        "Sorry, the diff exceeded the maximum number of files (300). Consider using 'List pull requests files' API or "
        "locally cloning the repository instead."
    ),
    410: "Gone",
    500: "Internal Server Error",
    502: "Server Error",
    503: "Service Unavailable",
    504: "We couldn't respond to your request in time. Sorry about that.",
}


class Fault(BaseModel):
    """One fault, for `count` requests, for `for_s` seconds, or for what ends first; once where neither is given."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind
    method: str | None = Field(None, pattern="^[A-Z]+$")
    path: str = Field("*", description="shell pattern; * takes slashes too")
    late: bool = Field(False, description="the request has its effect first")
    skip: int = Field(0, ge=0, description="requests let through before the first is hit")
    count: int | None = Field(None, ge=1, le=10_000)
    for_s: float | None = Field(None, gt=0, le=3600)
    ms: float = Field(0, ge=0, le=600_000)
    status: int = 403
    says: Literal["retry-after", "reset", "neither"] = "retry-after"
    wait_s: int = Field(60, ge=1, le=3600)
    seconds: float = Field(600, gt=0, le=600)
    anchors: tuple[str, ...] = Field((), description="path:line, of either side")
    files: str = "*"
    branch: str | None = Field(None, description="None: the branch of the pull request in the path")
    to: str = ""

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        method, path = _WHERE.get(str(given.get("kind")), (None, "*"))
        bound = {} if given.get("count") or given.get("for_s") else {"count": 1}
        return {"method": method, "path": path, **bound, **given}

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        every = set[str]().union(*_OWN.values())
        stray = sorted((self.model_fields_set & every) - _OWN[self.kind])
        if stray:
            raise ValueError(f"{', '.join(stray)} mean nothing to {self.kind}")
        needed = _NEEDED.get(self.kind)
        if needed is not None and needed not in self.model_fields_set:
            raise ValueError(f"{self.kind} needs {needed}")
        if self.kind == "status" and self.status not in _STATUSES:
            raise ValueError(f"status must be one of {', '.join(map(str, _STATUSES))}")
        if self.kind == "limit" and self.status not in (403, 429):
            raise ValueError("a limit answers 403 or 429")
        return self

    @property
    def is_ending(self) -> bool:
        """It ends the request with an answer of its own, or with none; a request meets one of these at most."""
        return self.kind in _ENDING

    def hits(self, method: str, path: str) -> bool:
        return self.method in (None, method) and fnmatchcase(path, self.path)

    def answer(self, now_s: float) -> tuple[int, Mapping[str, str], Mapping[str, Any]]:
        """Status, headers and document of a `status` or a `limit`, in GitHub's words."""
        if self.kind == "limit":
            return self.status, self._headers(now_s), {"message": self._limit()}
        document: dict[str, Any] = {"message": _STATUSES[self.status]}
        if self.status == 406:
            document["errors"] = [{"resource": "PullRequest", "field": "diff", "code": "too_large"}]
        return self.status, {}, document

    def _headers(self, now_s: float) -> Mapping[str, str]:
        if self.says == "retry-after":
            return {"Retry-After": str(self.wait_s)}
        if self.says == "reset":
            return {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(math.ceil(now_s) + self.wait_s)}
        return {}

    def _limit(self) -> str:
        if self.says == "reset":
            return "API rate limit exceeded for user ID 1002."
        return "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."


@dataclass
class Placed:
    """A fault that was put in: how many requests it let through and hit, and when it ends (seconds of the clock)."""

    id: int
    fault: Fault
    ends_at: float
    seen: int = 0
    hits: int = 0

    def is_over(self, now: float) -> bool:
        return now >= self.ends_at or (self.fault.count is not None and self.hits >= self.fault.count)


class Faults:
    """The faults of one fakehub, oldest first. Safe to call from many threads."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """clock: seconds, never backwards."""
        self._clock = clock
        self._lock = threading.Lock()
        self._placed: list[Placed] = []

    def put(self, fault: Fault) -> Placed:
        with self._lock:
            ends_at = self._clock() + (math.inf if fault.for_s is None else fault.for_s)
            self._placed.append(Placed(len(self._placed) + 1, fault, ends_at))
            return self._placed[-1]

    def clear(self) -> None:
        """Ends them all; what they did stays listed."""
        with self._lock:
            for one in self._placed:
                one.ends_at = -math.inf

    def take(self, method: str, path: str) -> tuple[Fault, ...]:
        """The faults this request meets, which counts against them; one that ends it comes last."""
        met: list[Fault] = []
        ending: Fault | None = None
        with self._lock:
            for one in self._placed:
                fault = one.fault
                if one.is_over(self._clock()) or not fault.hits(method, path) or (fault.is_ending and ending):
                    continue
                one.seen += 1
                if one.seen <= fault.skip:
                    continue
                one.hits += 1
                if fault.is_ending:
                    ending = fault
                else:
                    met.append(fault)
        return (*met, ending) if ending else tuple(met)

    def listed(self) -> list[dict[str, Any]]:
        with self._lock:
            now = self._clock()
            return [
                {
                    "id": one.id,
                    "hits": one.hits,
                    "is_over": one.is_over(now),
                    **one.fault.model_dump(exclude_unset=True),
                }
                for one in self._placed
            ]


def parse(given: Any) -> Fault:
    """Of JSON. ValueError says what is wrong, in one line."""
    try:
        return Fault.model_validate(given)
    except ValidationError as exc:
        raise ValueError(
            "; ".join(
                f"{'.'.join(map(str, one['loc']))}: {one['msg']}" if one["loc"] else one["msg"]
                for one in exc.errors(include_url=False, include_context=False)
            )
        ) from None


def parse_line(text: str) -> Fault:
    """Of `kind,name=value,...`; anchors are parted by semicolons. ValueError says what is wrong."""
    kind, *pairs = text.split(",")
    given: dict[str, str | Sequence[str]] = {"kind": kind.strip()}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise ValueError(f"{pair!r} is not name=value")
        given[name.strip()] = value.split(";") if name.strip() == "anchors" else value
    return parse(given)
