"""Which change is reviewed: a diff read from a file, or asked of git in a way that no configuration alters."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sentinelctl.errors import PreflightError, UsageError

_CONFIG: Final = (
    "core.quotePath=true",
    "core.fsmonitor=false",  # may name a program
    "diff.suppressBlankEmpty=false",
    "diff.interHunkContext=0",
)
_DIFF: Final = (
    "diff",
    "--no-ext-diff",
    "--no-textconv",
    "--no-color",
    "--no-relative",
    "--no-indent-heuristic",
    "--diff-algorithm=myers",
    "--find-renames",
    "--submodule=short",
    "--ignore-submodules=dirty",
    "--src-prefix=a/",
    "--dst-prefix=b/",
    "--unified=3",
    "-O/dev/null",
)


@dataclass(frozen=True, slots=True)
class Change:
    """`diff` as git wrote it. `label` says to people what it is; `note` what they should know about it."""

    label: str
    diff: bytes
    note: str = ""


def read_file(name: str) -> Change:
    """The diff in a file, or on standard input where `name` is `-`. Raises UsageError."""
    if name == "-":
        return Change("the diff on standard input", sys.stdin.buffer.read())
    try:
        return Change(name, Path(name).read_bytes())
    except OSError as exc:
        raise UsageError(
            f"the diff {name} cannot be read: {exc.strerror}", remedy="name a file, or - for standard input"
        ) from exc


def read_staged(cwd: Path) -> Change:
    """What `git commit` would commit now; in a repository without a commit, against the empty tree."""
    git = Git(cwd)
    base = "HEAD" if git.commit("HEAD") else git.empty_tree()
    return Change("the staged change", git.diff("--cached", base))


def read_range(cwd: Path, words: str) -> Change:
    """`A..B`, `A...B` (since their merge base; an empty side is HEAD), or one commit against its first parent.

    Raises UsageError for what does not exist.
    """
    git = Git(cwd)
    for dots in ("...", ".."):
        left, found, right = words.partition(dots)
        if found:
            before, after = git.resolve(left or "HEAD"), git.resolve(right or "HEAD")
            if dots == "...":
                before = git.merge_base(before, after, words)
            return Change(words, git.diff(before, after))
    after = git.resolve(words)
    return Change(f"the commit {words}", git.diff(git.parent(after), after))


def read_present(cwd: Path) -> Change:
    """The working tree against HEAD where anything differs, else the last commit. Raises UsageError."""
    git = Git(cwd)
    head = git.commit("HEAD")
    if not head:
        raise UsageError(f"{git.cwd} has no commit yet", remedy="commit something, or review what is staged: --staged")
    if git.has_work_tree():
        untracked = git.untracked()
        note = f"{untracked} untracked file(s) are not part of it; `git add -N` adds them" if untracked else ""
        if diff := git.diff("HEAD"):
            return Change("the working tree against HEAD", diff, note)
    return Change("the last commit (the working tree has no change)", git.diff(git.parent(head), head))


class Git:
    """Questions to git about the repository around `cwd`. Raises PreflightError without git, UsageError outside one."""

    def __init__(self, cwd: Path) -> None:
        self.cwd = cwd
        self._environment = {
            **{name: value for name, value in os.environ.items() if name not in ("GIT_DIFF_OPTS", "GIT_EXTERNAL_DIFF")},
            "LC_ALL": "C",
            "GIT_OPTIONAL_LOCKS": "0",
        }
        done = self._run("rev-parse", "--git-dir")
        if done.returncode:
            raise UsageError(
                f"{cwd} is in no git repository: {_said(done)}",
                remedy="run it inside one, or review a diff from anywhere: git diff | sentinelctl review --diff -",
            )

    def commit(self, name: str) -> str:
        """The full id of a commit; empty where there is none."""
        return self._line("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")

    def resolve(self, name: str) -> str:
        """The full id of a commit, or of a tree."""
        tree = ("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{tree}}")
        if found := self.commit(name) or self._line(*tree):
            return found
        if not self.commit("HEAD"):
            raise UsageError(f"{self.cwd} has no commit yet, so {name} names none", remedy="review it with --staged")
        raise UsageError(
            f"{name} names no commit of this repository", remedy=self._deepen() or "see: git log --oneline"
        )

    def parent(self, commit: str) -> str:
        """The first parent; the empty tree for the first commit of all."""
        if found := self.commit(f"{commit}^1"):
            return found
        # The object itself, unlike git's answers, names the parents that a shallow clone left out.
        header = self._run("cat-file", "commit", commit).stdout.split(b"\n\n", 1)[0]
        if b"\nparent " in header:
            raise UsageError(
                f"the parent of {commit[:12]} is not in this shallow clone, so its change cannot be told",
                remedy=self._deepen(),
            )
        return self.empty_tree()

    def merge_base(self, before: str, after: str, words: str) -> str:
        if found := self._line("merge-base", before, after):
            return found
        raise UsageError(
            f"the two sides of {words} have no common commit here",
            remedy=self._deepen() or "compare them as they are, with two dots",
        )

    def empty_tree(self) -> str:
        return self._line("hash-object", "-t", "tree", "--stdin")

    def has_work_tree(self) -> bool:
        return self._line("rev-parse", "--is-inside-work-tree") == "true"

    def untracked(self) -> int:
        return self._run("ls-files", "--others", "--exclude-standard", "--full-name", "-z", ":/").stdout.count(b"\0")

    def diff(self, *revisions: str) -> bytes:
        done = self._run(*_DIFF, *revisions, "--")
        if done.returncode:
            raise UsageError(f"git diff {' '.join(revisions)} failed: {_said(done)}", remedy=self._deepen())
        return done.stdout

    def _deepen(self) -> str:
        """What to do where history is missing because the clone is shallow; empty where it is not."""
        if self._line("rev-parse", "--is-shallow-repository") != "true":
            return ""
        return "fetch the history (git fetch --unshallow; in a workflow, `fetch-depth: 0` for actions/checkout)"

    def _line(self, *arguments: str) -> str:
        done = self._run(*arguments)
        return "" if done.returncode else done.stdout.decode(errors="replace").strip()

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        config = [word for setting in _CONFIG for word in ("-c", setting)]
        try:
            return subprocess.run(
                ["git", "--no-pager", *config, *arguments],
                cwd=self.cwd,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
            )
        except FileNotFoundError as exc:
            raise PreflightError("git is not installed, or not on PATH", remedy="install git") from exc


def _said(done: subprocess.CompletedProcess[bytes]) -> str:
    """The first line of git's complaint."""
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    return lines[0].removeprefix("fatal: ") if lines else f"git ended with {done.returncode} and said nothing"
