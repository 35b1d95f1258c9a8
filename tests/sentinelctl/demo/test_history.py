import subprocess
from pathlib import Path

import pytest

from sentinelctl.demo.history import read_history
from sentinelctl.errors import PreflightError, UsageError
from sentinelctl.fakehub.git import NULL_SHA


def git(path: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    return subprocess.run(
        ["git", "-C", str(path), *identity, *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q", "-b", "trunk")
    for number in range(4):
        (tmp_path / "file.py").write_text("x = 1\n" * (number + 1))
        git(tmp_path, "add", ".")
        git(tmp_path, "commit", "-qm", f"change {number}")
    return tmp_path


def test_the_newest_commits_come_oldest_first_with_their_parents(repository: Path) -> None:
    history = read_history(repository, 3)
    assert [push.after for push in history.pushes] == git(repository, "rev-list", "--reverse", "-n3", "HEAD").split()
    assert history.pushes[1].before == history.pushes[0].after
    assert history.note == ""


def test_a_root_commit_is_pushed_from_nothing_and_few_commits_are_said(repository: Path) -> None:
    history = read_history(repository, 10)
    assert history.pushes[0].before == NULL_SHA
    assert "has 4 usable commit(s) where 10 were asked for" in history.note


def test_a_merge_is_pushed_against_its_first_parent(repository: Path) -> None:
    git(repository, "checkout", "-qb", "side", "HEAD~2")
    (repository / "other.py").write_text("y = 2\n")
    git(repository, "add", ".")
    git(repository, "commit", "-qm", "side")
    git(repository, "checkout", "-q", "trunk")
    git(repository, "merge", "-q", "--no-edit", "side")
    assert read_history(repository, 1).pushes[0].before == git(repository, "rev-parse", "HEAD^1")


def test_a_shallow_clone_leaves_out_the_commit_it_was_cut_at(
    repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    clone = tmp_path_factory.mktemp("shallow") / "clone"
    git(repository, "clone", "-q", "--depth", "2", f"file://{repository}", str(clone))
    history = read_history(clone, 5)
    assert len(history.pushes) == 1
    assert "is a shallow clone with 1 usable commit(s)" in history.note


def test_a_shallow_clone_of_one_commit_is_refused(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    clone = tmp_path_factory.mktemp("shallow") / "clone"
    git(repository, "clone", "-q", "--depth", "1", f"file://{repository}", str(clone))
    with pytest.raises(UsageError, match="shallow clone of a single commit"):
        read_history(clone, 5)


def test_what_cannot_be_pushed_is_refused_with_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no git repository"):
        read_history(tmp_path, 3)
    with pytest.raises(UsageError, match="is no folder"):
        read_history(tmp_path / "none", 3)
    git(tmp_path, "init", "-q")
    with pytest.raises(UsageError, match="has no commit yet"):
        read_history(tmp_path, 3)


def test_a_repository_named_by_sha_256_is_refused_as_github_does(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "--object-format=sha256")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "one")
    with pytest.raises(UsageError, match="by SHA-256"):
        read_history(tmp_path, 3)


def test_without_git_it_says_so(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(repository))
    with pytest.raises(PreflightError, match="git is not on PATH"):
        read_history(repository, 3)


@pytest.mark.parametrize("make", [("clone", "-q", "--bare"), ("clone", "-q"), ("worktree", "add", "-q", "--detach")])
def test_bare_clones_worktrees_and_odd_names_have_the_same_history(
    repository: Path, tmp_path_factory: pytest.TempPathFactory, make: tuple[str, ...]
) -> None:
    other = tmp_path_factory.mktemp("other") / "pfad mit ü 日本"
    git(repository, *make, *([] if make[0] == "worktree" else ["."]), str(other))
    if make == ("clone", "-q"):
        git(other, "checkout", "-q", "--detach")
    assert read_history(other, 3).pushes == read_history(repository, 3).pushes
