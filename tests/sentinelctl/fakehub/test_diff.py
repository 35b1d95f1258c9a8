from pathlib import Path

import pytest

from sentinelctl.fakehub import diff as module
from sentinelctl.fakehub.diff import FileDiff, anchors, hunk_text, parse_diff
from sentinelctl.fakehub.git import Git
from sentinelctl.fakehub.hub import Repository

from .conftest import NEW, OLD, Workshop, lines, new_workshop


@pytest.fixture
def files(served: Repository) -> dict[str, FileDiff]:
    return {one.path: one for one in served.git.changes(served.git.tip)}


@pytest.mark.parametrize(
    ("path", "status", "additions", "deletions", "has_patch"),
    [
        ("two_hunks.py", "modified", 2, 1, True),
        ("no_newline.txt", "modified", 1, 1, True),
        ("crlf.txt", "modified", 1, 1, True),
        ("new_name.txt", "renamed", 1, 1, True),
        ("gone.txt", "removed", 0, 2, True),
        ("data.bin", "modified", 0, 0, False),
        ("tool.sh", "modified", 0, 0, False),
        ('a folder/ünï "quoted".txt', "added", 1, 0, True),
        ("caf\ufffd.txt", "modified", 1, 1, True),
    ],
)
def test_each_kind_of_change_is_told_as_github_tells_it(
    files: dict[str, FileDiff], path: str, status: str, additions: int, deletions: int, has_patch: bool
) -> None:
    file = files[path]
    assert (file.status, file.additions, file.deletions, file.patch is not None) == (
        status,
        additions,
        deletions,
        has_patch,
    )
    assert file.old_path == ("old_name.txt" if status == "renamed" else None)


def test_every_anchor_stands_on_the_line_of_the_file_it_names(files: dict[str, FileDiff]) -> None:
    checked = 0
    for path in ("two_hunks.py", "no_newline.txt", "crlf.txt", "new_name.txt", "gone.txt"):
        file = files[path]
        assert file.patch is not None
        patch = file.patch.split("\n")
        sides = (
            ("LEFT", anchors(file.patch).left, OLD[file.old_path or path]),
            ("RIGHT", anchors(file.patch).right, NEW[path]),
        )
        for _, found, content in sides:
            text = (content or b"").decode().split("\n")
            for line, anchor in found.items():
                assert patch[anchor.position][1:] == text[line - 1]
                assert patch[anchor.hunk].startswith("@@ ")
                checked += 1
    assert checked == 53


def test_a_patch_starts_at_its_first_hunk_and_keeps_the_note_on_a_missing_newline(files: dict[str, FileDiff]) -> None:
    assert files["no_newline.txt"].patch == "@@ -1,3 +1,3 @@\n one\n-two\n+2\n three\n\\ No newline at end of file"
    assert files["crlf.txt"].patch == "@@ -1,3 +1,3 @@\n one\r\n-two\r\n+2\r\n three\r"


def test_a_hunk_is_shown_from_its_header_down_to_the_line(files: dict[str, FileDiff]) -> None:
    patch = files["two_hunks.py"].patch or ""
    shown = hunk_text(patch, anchors(patch).right[30])
    assert shown.split("\n") == ["@@ -27,6 +27,7 @@ line 26", " line 27", " line 28", " line 29", "+added"]


def test_content_that_looks_like_a_diff_stays_content(workshop: Workshop) -> None:
    text = b"diff --git a/x b/x\n@@ -1 +1 @@\n--- a/x\n+++ b/x\n"
    workshop.commit("first", {"a.txt": b"a\n", "b.txt": b"b\n"})
    sha = workshop.commit("second", {"a.txt": text, "b.txt": b"c\n"})
    first, second = _changes(workshop, sha)
    assert (first.path, first.additions, first.deletions) == ("a.txt", 4, 1)
    assert second.patch == "@@ -1 +1 @@\n-b\n+c"
    assert sorted(anchors(first.patch).right) == [1, 2, 3, 4]


def test_a_file_that_becomes_a_link_shows_both_halves(workshop: Workshop) -> None:
    workshop.commit("first", {"a": b"text\n", "b": b"b\n"})
    (workshop.path / "a").unlink()
    (workshop.path / "a").symlink_to("b")
    sha = workshop.commit("second", {"b": b"c\n"})
    link, other = _changes(workshop, sha)
    assert (link.status, link.additions, link.deletions) == ("changed", 1, 1)
    assert link.patch == "@@ -1 +0,0 @@\n-text\n@@ -0,0 +1 @@\n+b\n\\ No newline at end of file"
    assert other.patch == "@@ -1 +1 @@\n-b\n+c"


def test_a_submodule_shows_its_commit(workshop: Workshop) -> None:
    workshop.commit("first", {"a": b"a\n"})
    sha = "1234567890" * 4
    workshop.git("update-index", "--add", "--cacheinfo", f"160000,{sha},sub")
    workshop.git("commit", "--quiet", "-m", "submodule")
    (file,) = _changes(workshop, workshop.git("rev-parse", "HEAD"))
    assert file.patch == f"@@ -0,0 +1 @@\n+Subproject commit {sha}"


@pytest.mark.parametrize("count", [19_998, 20_000])
def test_a_patch_above_githubs_limit_is_left_out_and_still_counted(workshop: Workshop, count: int) -> None:
    sha = workshop.commit("big", {"big.txt": lines(1, count)})
    (file,) = _changes(workshop, sha)
    assert file.additions == count
    assert (file.patch is None) == (count >= module.MAX_PATCH_LINES)


def test_no_difference_is_no_file() -> None:
    assert parse_diff(b"") == ()


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return new_workshop(tmp_path / "work")


def _changes(workshop: Workshop, sha: str) -> tuple[FileDiff, ...]:
    return Git(workshop.path).changes(sha)
