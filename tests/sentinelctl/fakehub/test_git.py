import hashlib
from pathlib import Path

import pytest

from sentinelctl.errors import SentinelError, UsageError
from sentinelctl.fakehub.git import Git

from .conftest import Workshop, new_workshop


def test_a_folder_that_is_no_repository_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a git repository") as caught:
        Git(tmp_path)
    assert "bare one works too" in caught.value.remedy


def test_a_repository_that_lacks_an_object_is_said_with_what_to_do(shop: Workshop) -> None:
    blob = shop.git("rev-parse", "HEAD:crlf.txt")
    (shop.path / ".git/objects" / blob[:2] / blob[2:]).unlink()
    shop.write({"crlf.txt": None})  # or git reads it there
    git = Git(shop.path)
    with pytest.raises(SentinelError, match=f"cannot read {git.folder}") as caught:
        git.diff(None, git.tip)
    assert "--refetch" in caught.value.remedy


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no folder"):
        Git(tmp_path / "absent")


def test_an_empty_repository_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no commit yet"):
        Git(new_workshop(tmp_path / "empty").path)


@pytest.mark.parametrize("kind", ["itself", "subfolder", "bare", "worktree", "git_folder", "shallow"])
def test_each_kind_of_checkout_is_served(shop: Workshop, kind: str) -> None:
    path = shop.path.parent / "other.git"
    if kind == "bare":
        shop.git("clone", "--quiet", "--bare", ".", str(path))
    elif kind == "shallow":
        shop.git("clone", "--quiet", "--depth=1", f"file://{shop.path}", str(path))
    elif kind == "worktree":
        shop.git("worktree", "add", "--quiet", str(path), "-b", "side")
    else:
        path = {"itself": shop.path, "subfolder": shop.path / "a folder", "git_folder": shop.path / ".git"}[kind]
    git = Git(path)
    assert git.name == ("other" if kind in {"bare", "shallow", "worktree"} else "sample")
    assert git.default_branch == ("side" if kind == "worktree" else "main")
    assert git.commit(git.tip).message == "second\n\nWith a body."
    is_first = git.commit(git.tip).parents == ()
    assert is_first == (kind == "shallow")
    assert {one.status for one in git.changes(git.tip)} >= ({"added"} if is_first else {"added", "renamed"})


def test_a_detached_head_is_called_main(shop: Workshop) -> None:
    shop.git("checkout", "--quiet", "--detach", "HEAD")
    shop.git("branch", "--quiet", "-D", "main")
    git = Git(shop.path)
    assert (git.default_branch, git.tip) == ("main", shop.git("rev-parse", "HEAD"))


def test_a_head_without_commits_gives_way_to_a_branch_that_has_some(shop: Workshop) -> None:
    shop.git("symbolic-ref", "HEAD", "refs/heads/unborn")
    assert Git(shop.path).default_branch == "main"


@pytest.mark.parametrize("revision", ["", "--all", "-n1", "absent", "HEAD:two_hunks.py", "a\0b", "0" * 40])
def test_what_is_no_commit_resolves_to_nothing(shop: Workshop, revision: str) -> None:
    assert Git(shop.path).resolve(revision) is None


def test_the_readers_own_git_settings_do_not_change_a_diff(shop: Workshop) -> None:
    plain = Git(shop.path).changes(shop.git("rev-parse", "HEAD"))
    for name, value in (
        ("diff.noprefix", "true"),
        ("diff.context", "0"),
        ("diff.algorithm", "patience"),
        ("diff.renames", "false"),
        ("diff.suppressBlankEmpty", "true"),
        ("diff.relative", "true"),
        ("diff.external", "false"),
        ("color.ui", "always"),
        ("log.showSignature", "true"),
    ):
        shop.git("config", name, value)
    assert Git(shop.path / "a folder").changes(shop.git("rev-parse", "HEAD")) == plain


def test_reading_leaves_every_byte_of_the_repository_as_it_was(shop: Workshop) -> None:
    before = _digest(shop.path)
    git = Git(shop.path)
    git.changes(git.tip)
    git.entries(git.tip, "a folder")
    git.between(git.merge_base(git.tip, git.tip), git.tip)
    assert _digest(shop.path) == before


def _digest(folder: Path) -> dict[Path, tuple[int, str]]:
    return {
        path: (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
