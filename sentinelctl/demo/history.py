"""Which commits of a real repository the demo pushes."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from sentinelctl.errors import UsageError

NULL_SHA = "0" * 40


@dataclass(frozen=True, slots=True)
class Push:
    """One commit arriving on a branch: `before` is its first parent, all zeros for a root commit."""

    before: str
    after: str


@dataclass(frozen=True, slots=True)
class History:
    """Newest commits of the first-parent line, oldest first, and what a person should know about them."""

    path: Path
    branch: str
    pushes: tuple[Push, ...]
    is_shallow: bool
    wanted: int

    @property
    def note(self) -> str:
        if len(self.pushes) >= self.wanted:
            return ""
        why = "is a shallow clone with" if self.is_shallow else "has"
        return f"{self.path} {why} {len(self.pushes)} usable commit(s) where {self.wanted} were asked for; using those"


def read_history(path: Path, wanted: int) -> History:
    """Raises UsageError when `path` is no git repository or has no commit."""
    top = _git(path, "rev-parse", "--absolute-git-dir")
    if top is None:
        raise UsageError(f"{path} is no git repository", remedy="name one: sentinelctl demo --repo PATH")
    log = _git(path, "rev-list", "--first-parent", "--parents", f"--max-count={wanted}", "HEAD")
    if not log:
        raise UsageError(f"{path} has no commit yet", remedy="commit something, or name another repository with --repo")
    is_shallow = _git(path, "rev-parse", "--is-shallow-repository") == "true"
    pushes = []
    for line in log.splitlines():
        after, *parents = line.split()
        if not parents and is_shallow:
            continue  # the clone was cut here: what came before is unknown
        pushes.append(Push(parents[0] if parents else NULL_SHA, after))
    if not pushes:
        raise UsageError(
            f"{path} is a shallow clone of a single commit, so no change can be told from it",
            remedy="fetch some history (git fetch --deepen=20), or name another repository with --repo",
        )
    branch = _git(path, "symbolic-ref", "--quiet", "--short", "HEAD") or "main"
    return History(path, branch, tuple(reversed(pushes)), is_shallow, wanted)


def _git(path: Path, *arguments: str) -> str | None:
    """Output of one git command; None when it failed."""
    done = subprocess.run(
        ["git", "-C", str(path), *arguments], capture_output=True, text=True, errors="surrogateescape", check=False
    )
    return done.stdout.strip() if done.returncode == 0 else None
