"""Reads a local git repository by its own commands. Never writes: no ref, no object, no index refresh."""

import os
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sentinelctl.errors import PreflightError, SentinelError, UsageError
from sentinelctl.fakehub.diff import FileDiff, parse_diff

# Output that must not follow the reader's own git settings.
_SETTINGS = ("log.showSignature=false", "diff.suppressBlankEmpty=false", "core.quotePath=true", "diff.relative=false")
_DIFF = (
    *("diff-tree", "-r", "-z", "--patch-with-raw", "--find-renames=50%", "-l1000", "-U3", "--inter-hunk-context=0"),
    *("--diff-algorithm=myers", "--no-color", "--no-ext-diff", "--no-textconv", "--submodule=short"),
    *("--ignore-submodules=none", "--src-prefix=a/", "--dst-prefix=b/"),
)
_LOG_FORMAT = "--format=%H%x00%T%x00%P%x00%an%x00%ae%x00%aI%x00%cn%x00%ce%x00%cI%x00%B"
_LOG_FIELDS = 10

NULL_SHA = "0" * 40
_REMEDY = "give the path of a git repository; a bare one works too"


class GitError(SentinelError):
    """git refused; the message holds its own words."""

    def __init__(self, folder: Path, said: str) -> None:
        super().__init__(
            f"git cannot read {folder}: {said}",
            remedy="`git fsck` there says what is wrong; a partial clone gets what it lacks by `git fetch --refetch`",
        )
        self.said = said


@dataclass(frozen=True)
class Person:
    name: str
    email: str
    date: str
    """ISO 8601, with the offset it was written in."""


@dataclass(frozen=True)
class Commit:
    sha: str
    tree: str
    parents: tuple[str, ...]
    author: Person
    committer: Person
    message: str


@dataclass(frozen=True)
class Entry:
    """One entry of a tree: `kind` is blob, tree or commit (a submodule)."""

    kind: str
    sha: str
    path: str


class Git:
    """One repository. Answers about commits are cached, as a commit never changes. Safe to call from many threads."""

    def __init__(self, path: Path) -> None:
        """UsageError when `path` is no git repository or has no commit; PreflightError without git."""
        self.folder = path = path.absolute()
        if not path.is_dir():
            raise UsageError(f"{path} is no folder", remedy=_REMEDY)
        self._lock = threading.Lock()
        self._merge_bases: dict[tuple[str, str], str | None] = {}
        self._ranges: dict[tuple[str | None, str], list[str]] = {}
        self._commits: dict[str, Commit] = {}
        self._diffs: dict[tuple[str | None, str], tuple[FileDiff, ...]] = {}
        try:
            self.run("rev-parse", "--git-dir")
        except GitError as exc:
            raise UsageError(f"{path} is no git repository: {exc.said}", remedy=_REMEDY) from exc
        self.folder = self._top()
        self.name = (self.folder.parent if self.folder.name == ".git" else self.folder).name.removesuffix(".git")
        self.default_branch, self.tip = self._default(path)
        self.empty_tree = self._line("hash-object", "-t", "tree", "--stdin")
        if len(self.empty_tree) != len(NULL_SHA):
            raise UsageError(f"{path} names its objects by SHA-256, and GitHub by SHA-1 alone", remedy=_REMEDY)

    def run(self, *arguments: str, stdin: bytes = b"") -> bytes:
        """Standard output, in bytes. GitError with git's own words when it fails."""
        settings = [word for setting in _SETTINGS for word in ("-c", setting)]
        kept = {name: value for name, value in os.environ.items() if _is_kept(name)}
        environment = {
            **kept,
            "LC_ALL": "C",
            "GIT_OPTIONAL_LOCKS": "0",
            "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_NO_LAZY_FETCH": "1",
            "GIT_TERMINAL_PROMPT": "0",
        }
        try:
            done = subprocess.run(
                ["git", "-C", str(self.folder), *settings, *arguments],
                input=stdin,
                capture_output=True,
                env=environment,
                check=False,
            )
        except FileNotFoundError as exc:
            raise PreflightError("git is not on PATH", remedy="install git 2.30 or later") from exc
        if done.returncode != 0:
            said = " ".join(done.stderr.decode(errors="replace").split()).removeprefix("fatal: ")
            raise GitError(self.folder, said or f"git {arguments[0]} ended with {done.returncode}")
        return done.stdout

    def resolve(self, revision: str) -> str | None:
        """The commit that a branch, tag, sha or `HEAD~3` names; None when there is none."""
        if not revision or revision.startswith("-") or "\0" in revision:
            return None
        if revision in self._commits:
            return revision
        try:
            return self._line("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
        except GitError:
            return None

    def commits(self, shas: Sequence[str]) -> list[Commit]:
        """In the order given. A shallow clone's oldest commits have no parents."""
        missing = [sha for sha in shas if sha not in self._commits]
        if missing:
            listing = "\n".join(missing).encode() + b"\n"
            log = self.run(
                "log",
                "--no-walk=unsorted",
                "--stdin",
                "-z",
                "--encoding=UTF-8",
                "--no-mailmap",
                _LOG_FORMAT,
                stdin=listing,
            )
            fields = log.decode(errors="replace").split("\0")
            for at in range(0, len(fields) - 1, _LOG_FIELDS):
                commit = _commit(fields[at : at + _LOG_FIELDS])
                self._commits[commit.sha] = commit
        return [self._commits[sha] for sha in shas]

    def commit(self, sha: str) -> Commit:
        return self.commits([sha])[0]

    def diff(self, base: str | None, head: str) -> tuple[FileDiff, ...]:
        """What `git diff base head` says, by file, in git's order; against the empty tree when `base` is None."""
        key = (base, head)
        found = self._diffs.get(key)
        if found is None:
            found = parse_diff(self.run(*_DIFF, base or self.empty_tree, head))
            with self._lock:
                if len(self._diffs) >= 512:
                    self._diffs.pop(next(iter(self._diffs)))
                self._diffs[key] = found
        return found

    def changes(self, sha: str) -> tuple[FileDiff, ...]:
        """What a commit changed against its first parent, as GitHub shows a commit, merges included."""
        parents = self.commit(sha).parents
        return self.diff(parents[0] if parents else None, sha)

    def merge_base(self, one: str, other: str) -> str | None:
        """Of two full shas; None when they share no history."""
        if (one, other) not in self._merge_bases:
            try:
                self._merge_bases[one, other] = self._line("merge-base", one, other)
            except GitError:
                self._merge_bases[one, other] = None
        return self._merge_bases[one, other]

    def is_ancestor(self, old: str, new: str) -> bool:
        return self.merge_base(old, new) == old

    def between(self, base: str | None, head: str) -> list[str]:
        """Commits that `head` has and `base` has not, full shas, oldest first."""
        found = self._ranges.get((base, head))
        if found is None:
            ranged = head if base is None else f"{base}..{head}"
            found = self.run("rev-list", "--topo-order", "--reverse", ranged, "--").decode().split()
            self._ranges[base, head] = found
        return found

    def entries(self, sha: str, path: str) -> list[Entry]:
        """What stands at `path` in a commit: the file itself, or what a folder holds. Empty when there is nothing."""
        clean = path.strip("/")
        if not clean:
            return self._tree(sha)
        found = self._tree(sha, clean)
        return self._tree(sha, f"{clean}/") if found and found[0].kind == "tree" else found

    def blob(self, sha: str) -> bytes:
        return self.run("cat-file", "blob", sha)

    def _tree(self, sha: str, *paths: str) -> list[Entry]:
        listing = self.run("--literal-pathspecs", "ls-tree", "-z", "--full-tree", sha, "--", *paths)
        found = []
        for record in listing.decode(errors="replace").split("\0")[:-1]:
            about, _, path = record.partition("\t")
            _, kind, blob = about.split(" ")
            found.append(Entry(kind, blob, path))
        return found

    def _top(self) -> Path:
        try:
            return Path(os.fsdecode(self.run("rev-parse", "--show-toplevel").removesuffix(b"\n")))
        except GitError:
            return Path(os.fsdecode(self.run("rev-parse", "--absolute-git-dir").removesuffix(b"\n")))

    def _default(self, path: Path) -> tuple[str, str]:
        """The branch that stands for GitHub's default branch, and its commit; a detached HEAD is called main."""
        try:
            branch = self._line("symbolic-ref", "--quiet", "--short", "HEAD")
        except GitError:
            branch = "main"
        tip = self.resolve("HEAD")
        if tip is not None:
            return branch, tip
        for line in self.run("for-each-ref", "--format=%(refname:short)", "refs/heads").decode().splitlines():
            if (tip := self.resolve(f"refs/heads/{line}")) is not None:
                return line, tip
        raise UsageError(f"{path} has no commit yet", remedy="commit something first, or give another repository")

    def _line(self, *arguments: str) -> str:
        return self.run(*arguments).decode(errors="replace").strip()


def _is_kept(variable: str) -> bool:
    """A git hook's GIT_DIR and the like would point git at another repository; settings and git's own path stay."""
    return not variable.startswith("GIT_") or variable.startswith(("GIT_CONFIG_", "GIT_EXEC_PATH"))


def _commit(fields: Sequence[str]) -> Commit:
    sha, tree, parents, name, email, date, by_name, by_email, by_date, message = fields
    return Commit(
        sha.strip("\n"),
        tree,
        tuple(parents.split()),
        Person(name, email, date),
        Person(by_name, by_email, by_date),
        message.removesuffix("\n"),
    )
