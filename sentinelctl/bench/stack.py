"""The whole pipeline over a fakehub of its own, for the time of a measurement."""

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from sentinelctl.bench.changes import ABOUT, Changes, make_history
from sentinelctl.bench.receiver import own_topics
from sentinelctl.demo.history import Push, read_history
from sentinelctl.demo.run import demo_settings
from sentinelctl.errors import UnhealthyError, UsageError
from sentinelctl.fakehub.hub import FakeHub
from sentinelctl.fakehub.server import running_fakehub
from sentinelctl.lifecycle import Project
from services.settings import Settings

SCALED = ("extractor", "inference", "publisher")


@dataclass(frozen=True, slots=True)
class Layout:
    """What is measured. repo: whose commits are pushed, None for a made history of `commits`.

    files: of each pushed commit; pulls: a pull request of one commit is opened instead. github_ms: an API answer takes
    that long. has_limits: the forge refuses what is above GitHub's limits and the publisher keeps to them.
    """

    repo: Path | None = None
    commits: int = 200
    repositories: int = 48
    files: int = 1
    pulls: bool = False
    github_ms: float = 300.0
    has_limits: bool = True
    log: Literal["sqlite", "kafka"] = "sqlite"
    replicas: Mapping[str, int] | None = None

    def document(self) -> dict[str, Any]:
        return {
            "history": str(self.repo) if self.repo else ABOUT,
            "repositories": self.repositories,
            "files": self.files,
            "event": "pull_request" if self.pulls else "push",
            "github_ms": self.github_ms,
            "forge_limits": "on" if self.has_limits else "off",
            "log": self.log,
            "replicas": {name: (self.replicas or {}).get(name, 1) for name in SCALED},
        }


@dataclass(frozen=True, slots=True)
class Stack:
    """Not yet started: `project.bring_up` does that."""

    project: Project
    hub: FakeHub
    pushes: Sequence[Push]
    changes: Changes
    layout: Layout


@contextmanager
def own_stack(settings: Settings, layout: Layout) -> Iterator[Stack]:
    """Over a state folder that is deleted; nothing runs afterwards."""
    with TemporaryDirectory(prefix="sentinel-bench-") as name:
        folder, token = Path(name), secrets.token_hex(20)
        repo = layout.repo
        if repo is None:
            repo = folder / "history.git"
            make_history(repo, layout.commits, files=layout.files)
        pushes = read_history(repo, layout.commits).pushes
        with running_fakehub(
            [repo],
            copies=layout.repositories,
            token=token,
            latency_ms=layout.github_ms,
            has_limits=layout.has_limits,
        ) as fakehub:
            project = Project(_settings(settings, layout, fakehub.url, token, folder / "state"))
            secret = project.settings.webhook.secret.get_secret_value()
            changes = Changes(fakehub.hub, pushes, secret, pulls=layout.pulls)
            with own_topics(project.settings):
                try:
                    yield Stack(project, fakehub.hub, pushes, changes, layout)
                finally:
                    with suppress(UnhealthyError):  # a worker with a backlog in hand may have to be killed; it is done
                        project.take_down(with_volumes=True)
                    project.runtime.close()


def _settings(settings: Settings, layout: Layout, url: str, token: str, folder: Path) -> Settings:
    made = demo_settings(settings, url, token, folder)
    own: dict[str, dict[str, Any]] = {
        "project": {"name": "sentinel-bench"},
        "github": {"pacing": "on" if layout.has_limits else "off", "timeout_s": 10.0},
    }
    for role, count in (layout.replicas or {}).items():
        own[role] = {"replicas": count}
    if layout.log == "kafka":
        theirs = settings.stream
        prefix = f"{theirs.prefix}bench-{secrets.token_hex(4)}."
        own["stream"] = {**theirs.model_dump(), "kind": "kafka", "prefix": prefix, "lease_s": max(6.0, theirs.lease_s)}
    return made.model_copy(update={name: getattr(made, name).model_copy(update=more) for name, more in own.items()})


def replicas_of(words: Sequence[str]) -> dict[str, int]:
    """Of SERVICE=N each. Raises UsageError."""
    counts: dict[str, int] = {}
    for word in words:
        name, _, number = word.partition("=")
        if name not in SCALED or not number.isdecimal() or not 1 <= int(number) <= 64:
            raise UsageError(
                f"{word!r} is no SERVICE=N", remedy=f"try extractor=4; it goes for {', '.join(SCALED)}, from 1 to 64"
            )
        counts[name] = int(number)
    return counts
