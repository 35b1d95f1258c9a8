"""What the pipeline is given to review: a made history, the same on every machine, or a repository's own commits."""

import json
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path
from typing import Final

from sentinelctl.bench.pushes import Request, request
from sentinelctl.demo.history import Push
from sentinelctl.errors import PreflightError, UsageError
from sentinelctl.fakehub import hooks
from sentinelctl.fakehub.hub import FakeHub
from sentinelctl.ledger import Unit

_FUNCTIONS: Final = 8
_CHANGED: Final = 4
_FUNCTION: Final = """\
def load_{n}(path, limit={n}):
    with open(path) as file:
        rows_{n} = [line.strip() for line in file]
    found_{n} = {{}}
    for number_{n}, row in enumerate(rows_{n}):
        if number_{n} > limit:
            break
        name_{n}, _, value = row.partition("=")
        found_{n}[name_{n}] = int(value)
    return found_{n}


"""
ABOUT: Final = "made: one hunk of eight changed lines of Python in each file"


def make_history(path: Path, commits: int, *, files: int = 1) -> None:
    """A new bare repository: `files` files, in each of which every commit after the first changes eight lines."""
    lines: list[bytes] = []
    for number in range(commits + 1):
        who = f"bench <bench@example.invalid> {1_700_000_000 + number} +0000"
        message = f"step {number}"
        lines.append(f"commit refs/heads/main\ncommitter {who}\ndata {len(message)}\n{message}\n".encode())
        for file in range(files):
            content = _content(number).encode()
            name = f"src/part_{file // 100}/file_{file}.py"
            lines += [f"M 100644 inline {name}\ndata {len(content)}\n".encode(), content, b"\n"]
    for words, given in (
        (("init", "-q", "--bare", "-b", "main", str(path)), b""),
        (("-C", str(path), "fast-import", "--quiet"), b"".join(lines)),
    ):
        try:
            subprocess.run(["git", *words], input=given, capture_output=True, check=True)
        except FileNotFoundError as exc:
            raise PreflightError("git is not on PATH", remedy="install git 2.30 or later") from exc


def _content(number: int) -> str:
    return "".join(_FUNCTION.format(n=1000 + number if place == _CHANGED else place) for place in range(_FUNCTIONS))


@dataclass(frozen=True, slots=True)
class Change:
    """One delivery, signed, and the unit whose review it asks for."""

    unit: Unit
    request: Request


class Changes:
    """Deliveries over a hub's repositories, each asking for a review of its own; neighbours are of different ones.

    No commit comes twice to a repository: of that, the findings would still be there.
    """

    def __init__(self, hub: FakeHub, pushes: Sequence[Push], secret: str, *, pulls: bool = False) -> None:
        """`pulls`: each is a pull request of one commit, opened for it."""
        self._hub, self._pushes, self._secret = hub, pushes, secret
        self._left = self._pulls() if pulls else self._all()

    def take(self, count: int) -> list[Change]:
        """Raises UsageError where there are no more."""
        taken = list(islice(self._left, count))
        if len(taken) < count:
            total = len(self._pushes) * len(self._hub.repositories)
            raise UsageError(
                f"the history has {len(self._pushes)} commits, over {len(self._hub.repositories)} repositories "
                f"{total} reviews, and more are asked for",
                remedy="more --repositories, a longer history, a lower --rate or a shorter --duration",
            )
        return taken

    def _all(self) -> Iterator[Change]:
        for push, repository in product(self._pushes, self._hub.repositories):
            ref = f"refs/heads/{repository.git.default_branch}"
            payload = hooks.push(repository, ref, push.before, push.after, self._hub.base_url)
            yield self._change("push", payload, Unit(repository.id, None, push.after))

    def _pulls(self) -> Iterator[Change]:
        for push, repository in product(self._pushes, self._hub.repositories):
            pull = self._hub.create_pull(repository, base=push.before, head=push.after)
            payload = hooks.pull_request(repository, pull, "opened", self._hub.base_url)
            yield self._change("pull_request", payload, Unit(repository.id, pull.number, pull.head_sha))

    def _change(self, event: str, payload: object, unit: Unit) -> Change:
        body = json.dumps(payload, ensure_ascii=True, separators=(",", ":"))
        return Change(unit, request(event, body, self._secret))
