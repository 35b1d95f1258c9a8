"""The installation that runs already, where its forge is a fakehub: none of it is started, ended or lost by a run."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx2

from sentinelctl.chaos.history import Made, make_history
from sentinelctl.chaos.journal import Journal
from sentinelctl.chaos.stack import Stack
from sentinelctl.demo.history import read_history
from sentinelctl.errors import PreflightError, UnhealthyError
from sentinelctl.fakehub.faults import Fault, Faults, Placed
from sentinelctl.fakehub.git import Git
from sentinelctl.fakehub.hub import FakeHub, Repository
from sentinelctl.lifecycle import Project

_ASK_S: Final = 5.0
_COMMITS: Final = 10_000


def fakehub_at(api_url: str) -> list[dict[str, Any]]:
    """The repositories that a fakehub at this address serves; empty where anybody else answers, or nobody."""
    try:
        answer = httpx2.get(f"{api_url}/_fakehub/repositories", trust_env=False, timeout=_ASK_S)
        listed = answer.json() if answer.is_success else []
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError):
        return []
    return listed if isinstance(listed, list) else []


class _Faults(Faults):
    """Those of a fakehub in another process."""

    def __init__(self, url: str) -> None:
        super().__init__(lambda: 0.0)
        self._url = f"{url}/_fakehub/faults"

    def put(self, fault: Fault) -> Placed:
        document = fault.model_dump(exclude_unset=True)
        answer = httpx2.post(self._url, json=document, trust_env=False, timeout=_ASK_S).raise_for_status()
        return Placed(answer.json()["id"], fault, 0.0)

    def clear(self) -> None:
        httpx2.delete(self._url, trust_env=False, timeout=_ASK_S).raise_for_status()

    def listed(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = httpx2.get(self._url, trust_env=False, timeout=_ASK_S).raise_for_status().json()
        return found


class _Elsewhere(FakeHub):
    """A fakehub in another process, as far as a run asks it: what it serves, what is visible there, its faults."""

    def __init__(self, url: str, listed: list[dict[str, Any]]) -> None:
        path = Path(listed[0]["path"])
        super().__init__([path])
        git = Git(path)
        self.base_url = url
        self.faults = _Faults(url)
        self.repositories = [
            Repository(one["id"], one["full_name"].partition("/")[2], git) for one in listed if one["path"] == str(path)
        ]

    def visible(self) -> list[dict[str, Any]]:
        shown = httpx2.get(f"{self.base_url}/_fakehub/visible", trust_env=False, timeout=_ASK_S).raise_for_status()
        found: list[dict[str, Any]] = shown.json()
        return found


@contextmanager
def installed(project: Project, journal: Journal, *, i_know: bool) -> Iterator[tuple[Stack, bool]]:
    """The stack, and whether anything may be sent to it. It runs on afterwards.

    Raises PreflightError where its forge is no fakehub, unless `i_know`: then nothing is sent, nothing is visible, and
    nothing can be accounted for.
    """
    if not project.runtime.observe().replicas:
        raise UnhealthyError("nothing runs here", remedy="`sentinelctl up`; without --here a run has its own stack")
    api_url = project.settings.github.api_url
    listed = fakehub_at(api_url)
    if not listed and not i_know:
        raise PreflightError(
            f"the forge of this installation, {api_url}, is no fakehub: a fault's load would be reviewed there for "
            "everybody to see",
            remedy="leave --here out, or --i-know makes the fault alone, with no load and no account",
        )
    if listed:
        path = Path(listed[0]["path"])
        made = Made(path, tuple(push.after for push in read_history(path, _COMMITS).pushes))
        yield Stack(project, _Elsewhere(api_url, listed), made, journal, {}), True
    else:
        made = make_history(journal.folder / "served", 4)
        yield Stack(project, FakeHub([made.path]), made, journal, {}), False
