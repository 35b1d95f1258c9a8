"""Which commits of a real repository the demo pushes."""

from dataclasses import dataclass
from pathlib import Path

from sentinelctl.errors import UsageError
from sentinelctl.fakehub.git import NULL_SHA, Git


@dataclass(frozen=True, slots=True)
class Push:
    """One commit arriving on a branch: `before` is its first parent, all zeros for a root commit."""

    before: str
    after: str


@dataclass(frozen=True, slots=True)
class History:
    """Newest commits of the first-parent line, oldest first, and what a person should know about them."""

    path: Path
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
    """UsageError when `path` is no git repository or has no commit to push; PreflightError without git."""
    git = Git(path)
    is_shallow = git.run("rev-parse", "--is-shallow-repository").strip() == b"true"
    pushes = []
    log = git.run("rev-list", "--first-parent", "--parents", f"--max-count={wanted}", git.tip)
    for line in log.decode().splitlines():
        after, *parents = line.split()
        if not parents and is_shallow:
            continue  # the clone was cut here: what came before is unknown
        pushes.append(Push(parents[0] if parents else NULL_SHA, after))
    if not pushes:
        raise UsageError(
            f"{git.folder} is a shallow clone of a single commit, so no change can be told from it",
            remedy="fetch some history (git fetch --deepen=20), or name another repository with --repo",
        )
    return History(git.folder, tuple(reversed(pushes)), is_shallow, wanted)
