"""What every route of a fakehub gets and gives: a request as it was read, an answer still to be written, its pages."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from starlette.datastructures import Headers

from sentinelctl.fakehub.faults import Fault
from sentinelctl.fakehub.hooks import Delivery
from sentinelctl.fakehub.hub import FakeHub, Hook, Pull, Repository, User
from sentinelctl.fakehub.rules import Refused

PER_PAGE = 30
MAX_PER_PAGE = 100
# As many files of a pull request, or of a commit, are listed at most.
MAX_PULL_FILES = 3_000
REPO = "/repos/{owner}/{repo}"


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
    """What is answered: `value` is written as JSON, bytes as they are."""

    value: Any
    status: int = 200
    link: str | None = None
    sends: tuple[tuple[Hook, Delivery], ...] = ()
    """Deliveries to make once the answer is out."""


Handler = Callable[[Call], Reply]
Routes = tuple[tuple[str, str, Handler, str], ...]
"""Method, path, handler, and who may ask: whoever has a "token", the App with its "jwt", or anybody ("none")."""


def page(
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
    place = address(call)
    shown = [f'<{place}?{urlencode({**call.query, "page": other})}>; rel="{name}"' for name, other in links.items()]
    return slice((number - 1) * size, number * size), ", ".join(shown) or None


def address(call: Call) -> str:
    """As GitHub's links name it: a repository by its id."""
    if "repo" not in call.path:
        return f"{call.origin}{call.url_path}"
    return "/".join([f"{call.origin}/repositories/{call.repository.id}", *call.url_path.split("/", 4)[4:]])


def listed(call: Call, items: Sequence[Any], shape: Callable[[Any], Any]) -> Reply:
    """The page asked for, each item as `shape` has it."""
    window, link = page(call, items)
    return Reply([shape(item) for item in items[window]], link=link)
