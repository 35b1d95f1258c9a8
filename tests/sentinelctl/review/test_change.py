import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from model.inputs.diff import parse_diff
from sentinelctl.errors import UsageError
from sentinelctl.review.change import Change, read_file, read_present, read_range, read_staged


def git(path: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    allowed = ["-c", "protocol.file.allow=always"]
    done = subprocess.run(
        ["git", "-C", str(path), *identity, *allowed, *arguments], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def commit(path: Path, name: str, text: str | bytes) -> None:
    target = path / name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(text if isinstance(text, bytes) else text.encode())
    git(path, "add", "-A")
    git(path, "commit", "-qm", name)


def added(change: Change) -> list[tuple[str, str]]:
    return [
        (file.path, line.text)
        for file in parse_diff(change.diff)
        for hunk in file.hunks
        for line in hunk.lines
        if line.kind == "add"
    ]


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q", "-b", "trunk")
    return tmp_path


@pytest.fixture
def repository(empty: Path) -> Path:
    for number in range(3):
        commit(empty, f"{number}.py", f"x = {number}\n")
    return empty


def test_a_range_is_reviewed_from_its_left_to_its_right(repository: Path) -> None:
    assert added(read_range(repository, "HEAD~2..HEAD")) == [("1.py", "x = 1"), ("2.py", "x = 2")]
    assert added(read_range(repository, "HEAD~1..")) == [("2.py", "x = 2")]


def test_three_dots_begin_where_the_branches_parted(repository: Path) -> None:
    git(repository, "checkout", "-qb", "side", "HEAD~1")
    commit(repository, "side.py", "y = 1\n")
    assert added(read_range(repository, "trunk...side")) == [("side.py", "y = 1")]


def test_one_commit_is_reviewed_alone_and_the_first_of_all_whole(repository: Path) -> None:
    assert added(read_range(repository, "HEAD~1")) == [("1.py", "x = 1")]
    assert added(read_range(repository, "HEAD~2")) == [("0.py", "x = 0")]


def test_a_merge_is_reviewed_against_its_first_parent(repository: Path) -> None:
    git(repository, "checkout", "-qb", "side", "HEAD~1")
    commit(repository, "side.py", "y = 1\n")
    git(repository, "checkout", "-q", "trunk")
    git(repository, "merge", "-q", "--no-edit", "side")
    assert added(read_range(repository, "HEAD")) == added(read_present(repository)) == [("side.py", "y = 1")]


def test_without_a_range_it_is_the_working_tree_and_else_the_last_commit(repository: Path) -> None:
    clean = read_present(repository)
    assert added(clean) == [("2.py", "x = 2")]
    assert clean.label.startswith("the last commit")
    (repository / "0.py").write_text("x = 5\n")
    (repository / "new.py").write_text("z = 1\n")
    dirty = read_present(repository)
    assert added(dirty) == [("0.py", "x = 5")]
    assert dirty.label == "the working tree against HEAD"
    assert dirty.note.startswith("1 untracked file(s)")


def test_a_subfolder_reviews_the_whole_repository(repository: Path) -> None:
    (repository / "deep/er").mkdir(parents=True)
    (repository / "0.py").write_text("x = 5\n")
    assert added(read_present(repository / "deep/er")) == [("0.py", "x = 5")]


def test_what_is_staged_is_reviewed_even_before_the_first_commit(empty: Path) -> None:
    (empty / "a.py").write_text("x = 1\n")
    git(empty, "add", "a.py")
    (empty / "a.py").write_text("x = 2\n")
    assert added(read_staged(empty)) == [("a.py", "x = 1")]
    commit(empty, "a.py", "x = 2\n")
    assert read_staged(empty).diff == b""


def test_a_conflict_is_no_part_of_what_is_staged_but_is_counted(repository: Path) -> None:
    git(repository, "checkout", "-qb", "side", "HEAD~1")
    commit(repository, "2.py", "y = 1\n")
    with pytest.raises(subprocess.CalledProcessError):
        git(repository, "merge", "-q", "trunk")
    (file,) = parse_diff(read_staged(repository).diff)
    assert (file.path, file.kind, file.hunks) == ("2.py", "unmerged", ())


def test_a_repository_of_one_commit_is_reviewed_whole(empty: Path) -> None:
    commit(empty, "a.py", "x = 1\n")
    assert added(read_present(empty)) == [("a.py", "x = 1")]


def test_a_bare_repository_has_ranges_and_a_last_commit(
    repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    bare = tmp_path_factory.mktemp("bare")
    git(bare, "clone", "-q", "--bare", str(repository), ".")
    assert added(read_present(bare)) == added(read_range(bare, "HEAD~1..HEAD")) == [("2.py", "x = 2")]


@pytest.mark.parametrize("make", [("clone", "-q", "."), ("worktree", "add", "-q", "--detach")])
def test_a_detached_head_and_a_worktree_have_them_too_under_any_name(
    repository: Path, tmp_path_factory: pytest.TempPathFactory, make: tuple[str, ...]
) -> None:
    other = tmp_path_factory.mktemp("other") / "pfad mit ü 日本"
    git(repository, *make, str(other))
    git(other, "checkout", "-q", "--detach", "HEAD")
    commit(other, "dir ö/naïve file.py", "y = 1\n")
    assert added(read_present(other)) == added(read_range(other, "HEAD~1..")) == [("dir ö/naïve file.py", "y = 1")]


@pytest.mark.parametrize("read", [read_present, read_staged, lambda path: read_range(path, "HEAD")])
def test_a_folder_that_is_no_repository_is_said(tmp_path: Path, read: Callable[[Path], Change]) -> None:
    with pytest.raises(UsageError, match="is in no git repository"):
        read(tmp_path)


def test_an_empty_repository_is_said(empty: Path) -> None:
    for read in (read_present, lambda path: read_range(path, "HEAD~1..HEAD")):
        with pytest.raises(UsageError, match="has no commit yet"):
            read(empty)


@pytest.mark.parametrize("words", ["nowhere", "HEAD~9..HEAD", "HEAD..nowhere", "--output=x..HEAD", "a...b...c", "a b"])
def test_a_range_that_does_not_exist_is_named(repository: Path, words: str) -> None:
    with pytest.raises(UsageError, match="names no commit of this repository"):
        read_range(repository, words)


def test_histories_without_a_common_commit_are_said(repository: Path) -> None:
    git(repository, "checkout", "-q", "--orphan", "other")
    commit(repository, "other.py", "x = 1\n")
    with pytest.raises(UsageError, match="no common commit") as error:
        read_range(repository, "trunk...other")
    assert "two dots" in error.value.remedy


def test_a_shallow_clone_says_that_its_history_is_missing(
    repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    clone = tmp_path_factory.mktemp("shallow")
    git(clone, "clone", "-q", "--depth", "1", f"file://{repository}", ".")
    for read in (read_present, lambda path: read_range(path, "HEAD~1..HEAD")):
        with pytest.raises(UsageError) as error:
            read(clone)
        assert "fetch-depth: 0" in error.value.remedy


def test_no_configuration_changes_what_is_read(repository: Path) -> None:
    expected = read_range(repository, "HEAD~2..HEAD").diff
    for key, value in {
        "diff.noprefix": "true",
        "diff.mnemonicPrefix": "true",
        "diff.external": "false",
        "diff.relative": "true",
        "diff.orderFile": "order",
        "diff.context": "0",
        "diff.submodule": "log",
        "color.ui": "always",
        "core.pager": "false",
        "core.quotePath": "false",
        "diff.py.textconv": "false",
        "core.fsmonitor": "false",
    }.items():
        git(repository, "config", key, value)
    (repository / "order").write_text("2.py\n")
    (repository / ".git/info/attributes").write_text("*.py diff=py\n")
    assert read_range(repository, "HEAD~2..HEAD").diff == expected


def test_names_and_bytes_that_are_no_utf8_are_carried(empty: Path) -> None:
    commit(empty, "a.py", "x = 1\n")
    odd = Path(str(empty).encode().decode()) / b"\xff\x22 name.py".decode("utf-8", "surrogateescape")
    odd.write_bytes(b"y = '\xe9'\r\nz = 1")
    git(empty, "add", "-A")
    ((path, text), *_) = added(read_staged(empty))
    assert path == '�" name.py'
    assert text == "y = '�'\r"


def test_binaries_submodules_and_modes_are_files_without_hunks(
    repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = tmp_path_factory.mktemp("other")
    git(other, "init", "-q")
    commit(other, "a.py", "x = 1\n")
    git(repository, "submodule", "--quiet", "add", str(other), "sub")
    (repository / "picture").write_bytes(b"\0\1\2")
    (repository / "0.py").chmod(0o755)
    git(repository, "add", "-A")
    kinds = {file.path: (file.kind, len(file.hunks)) for file in parse_diff(read_staged(repository).diff)}
    assert kinds["sub"] == ("submodule", 0)
    assert kinds["picture"] == ("binary", 0)
    assert kinds["0.py"] == ("text", 0)


def test_a_diff_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.diff").write_bytes(b"diff")
    assert read_file(str(tmp_path / "a.diff")).diff == b"diff"
    with pytest.raises(UsageError, match=r"missing\.diff cannot be read: No such file"):
        read_file(str(tmp_path / "missing.diff"))
