import io
import os
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
import unidiff
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model.inputs.diff import DiffError, FileDiff, Hunk, number_lines, parse_diff, parse_patch

ENVIRONMENT = {
    **os.environ,
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
    "GIT_AUTHOR_NAME": "a",
    "GIT_AUTHOR_EMAIL": "a@example.com",
    "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@example.com",
}


def git(folder: Path, *arguments: str, stdin: bytes = b"", ok: tuple[int, ...] = (0,)) -> bytes:
    done = subprocess.run(["git", *arguments], cwd=folder, env=ENVIRONMENT, input=stdin, capture_output=True)
    assert done.returncode in ok, done.stderr.decode()
    return done.stdout


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repo")
    git(folder, "init", "-q")
    git(folder, "config", "core.autocrlf", "false")
    return folder


def change(repo: Path, before: dict[str, bytes], after: dict[str, bytes], *options: str) -> bytes:
    """What `git diff` says of two states of the work tree."""
    git(repo, "rm", "-rfq", "--cached", "--ignore-unmatch", ".")
    git(repo, "clean", "-fdxq")
    for path, content in before.items():
        (repo / path).parent.mkdir(parents=True, exist_ok=True)
        (repo / path).write_bytes(content)
    git(repo, "add", "-A")
    tree = git(repo, "write-tree").decode().strip()
    for path in before:
        (repo / path).unlink()
    for path, content in after.items():
        (repo / path).parent.mkdir(parents=True, exist_ok=True)
        (repo / path).write_bytes(content)
    git(repo, "add", "-A")
    return git(repo, "diff", "--cached", "-M", *options, tree)


def apply(before: str, hunks: tuple[Hunk, ...]) -> str:
    """The new text, from the old one and our hunks alone."""
    old = before.split("\n")
    out: list[str] = []
    at = 0
    is_open = before[-1:] not in ("", "\n")
    if not is_open:
        old.pop()
    for hunk in hunks:
        start = hunk.old_start - 1 if hunk.old_lines else hunk.old_start
        out += old[at:start]
        at = start
        for line in hunk.lines:
            if line.kind != "add":
                assert old[at] == line.text
                assert line.old == at + 1
                at += 1
            if line.kind == "del":
                is_open = False  # what stands before it has its newline
            else:
                out.append(line.text)
                assert line.new == len(out)
                is_open = not line.has_newline
    out += old[at:]
    if at < len(old):
        is_open = before[-1:] != "\n"
    return "\n".join(out) + ("" if is_open or not out else "\n")


LINES = st.sampled_from(
    ["", " ", "x = 1", "\tpass", "-- a", "++ b", "@@ -1 +1 @@", "\\ no", "crlf\r", "a\x0cb", "a\u2028b", "日本", "\r"]
)


@st.composite
def texts(draw: st.DrawFn) -> str:
    lines = draw(st.lists(LINES, max_size=14))
    return "\n".join(lines) + draw(st.sampled_from(["", "\n"])) if lines else ""


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=texts(), after=texts(), context=st.integers(0, 3))
def test_numbers_agree_with_unidiff_and_the_new_file_with_git_apply(
    repo: Path, before: str, after: str, context: int
) -> None:
    raw = change(repo, {"f.py": before.encode()}, {"f.py": after.encode()}, f"-U{context}")
    files = parse_diff(raw)
    if before == after:
        assert files == ()
        return
    (file,) = files
    (theirs,) = unidiff.PatchSet(io.StringIO(raw.decode(), newline="\n"))
    assert [
        (line.kind, line.old, line.new, line.text, line.has_newline) for hunk in file.hunks for line in hunk.lines
    ] == their_lines(theirs)
    (repo / "f.py").write_bytes(before.encode())
    git(repo, "apply", "--whitespace=nowarn", *(["--unidiff-zero"] if not context else []), "-", stdin=raw)
    applied = (repo / "f.py").read_bytes()
    assert applied == after.encode()
    assert apply(before, file.hunks).encode() == applied
    patch = raw[raw.index(b"@@ -") :].decode()
    assert parse_patch(patch, "f.py") == file.hunks


def their_lines(file: unidiff.PatchedFile) -> list[tuple[str, int | None, int | None, str, bool]]:
    kinds = {"+": "add", "-": "del", " ": "ctx"}
    found: list[tuple[str, int | None, int | None, str, bool]] = []
    for line in (line for hunk in file for line in hunk):
        if line.line_type == "\\":
            found[-1] = (*found[-1][:4], False)
        else:
            text = line.value.removesuffix("\n")
            found.append((kinds[line.line_type], line.source_line_no, line.target_line_no, text, True))
    return found


@pytest.mark.parametrize("options", [(), ("--no-prefix",), ("--src-prefix=i/", "--dst-prefix=w/")])
@pytest.mark.parametrize(
    "path", ["plain.py", "a/nested.py", "b c/d e.py", 'q"uote.py', "日本/語.py", "tab\t.py", "b/b/b"]
)
@pytest.mark.parametrize("quoting", ["true", "false"])
def test_paths_are_read_back_under_every_prefix_and_quoting(
    repo: Path, path: str, options: tuple[str, ...], quoting: str
) -> None:
    git(repo, "config", "core.quotePath", quoting)
    for before, after, status in (
        ({path: b"one\n"}, {path: b"two\n"}, "modified"),
        ({}, {path: b"two\n"}, "added"),
        ({path: b"one\n"}, {}, "removed"),
        ({}, {path: b""}, "added"),
        ({path: b""}, {path: b"\0"}, "modified"),
    ):
        (file,) = parse_diff(change(repo, before, after, *options))
        assert (file.path, file.old_path, file.status) == (path, None, status)


def test_a_rename_has_both_paths_and_only_the_hunks_that_changed(repo: Path) -> None:
    body = b"".join(b"line %d\n" % n for n in range(20))
    (same,) = parse_diff(change(repo, {"old name.py": body}, {"new name.py": body}))
    assert same == FileDiff("new name.py", "old name.py", "renamed", "text", ())
    (edited,) = parse_diff(change(repo, {"old.py": body}, {"dir/new.py": body + b"more\n"}))
    assert (edited.path, edited.old_path, edited.status) == ("dir/new.py", "old.py", "renamed")
    assert [line.new for line in edited.hunks[0].lines if line.kind == "add"] == [21]
    assert edited.hunks[0].path == "dir/new.py"


def test_a_copy_has_its_source(repo: Path) -> None:
    body = b"".join(b"line %d\n" % n for n in range(20))
    raw = change(repo, {"a.py": body}, {"a.py": body, "b.py": body}, "-C", "--find-copies-harder")
    assert parse_diff(raw) == (FileDiff("b.py", "a.py", "copied", "text", ()),)


def test_a_mode_change_is_a_file_without_hunks() -> None:
    (file,) = parse_diff("diff --git a/run b/run\nold mode 100644\nnew mode 100755\n")
    assert file == FileDiff("run", None, "modified", "text", ())


def test_binary_files_are_named_and_have_no_hunks(repo: Path) -> None:
    states: tuple[dict[str, bytes], dict[str, bytes]] = (
        {"x.bin": b"\0a" * 50, "y.py": b"1\n"},
        {"x.bin": b"\0b" * 50, "y.py": b"2\n"},
    )
    for options in ((), ("--binary",)):
        binary, text = parse_diff(change(repo, *states, *options))
        assert (binary.path, binary.kind, binary.hunks) == ("x.bin", "binary", ())
        assert (text.path, len(text.hunks)) == ("y.py", 1)


@pytest.mark.parametrize("options", [(), ("--binary",), ("--no-prefix",)])
def test_two_folders_that_git_compares_are_read_whole(tmp_path: Path, options: tuple[str, ...]) -> None:
    for folder, content in (("old", b"x = 1\n"), ("new", b"x = 2\n")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "data").write_bytes(b"\0" + content)
        (tmp_path / folder / "run.sh").write_bytes(b"echo\n")
        (tmp_path / folder / "x.py").write_bytes(content)
    (tmp_path / "new/run.sh").chmod(0o755)
    diff = git(tmp_path, "diff", "--no-index", *options, "old", "new", ok=(1,))
    files = {file.path: (file.old_path, file.kind, len(file.hunks)) for file in parse_diff(diff)}
    assert files == {
        "new/data": ("old/data", "binary", 0),
        "new/run.sh": ("old/run.sh", "text", 0),
        "new/x.py": ("old/x.py", "text", 1),
    }


@pytest.mark.parametrize(
    ("mode", "kind"), [("160000", "submodule"), ("120000", "symlink")], ids=["submodule", "symlink"]
)
@pytest.mark.parametrize("header", ["index 1111111..2222222 {}", "new file mode {}", "deleted file mode {}"])
def test_what_is_no_file_of_text_is_named_by_its_mode(mode: str, kind: str, header: str) -> None:
    diff = f"diff --git a/lib b/lib\n{header.format(mode)}\n--- a/lib\n+++ b/lib\n@@ -1 +1 @@\n-one\n+two\n"
    (file,) = parse_diff(diff)
    assert (file.path, file.kind, file.hunks) == ("lib", kind, ())


def test_the_short_form_of_a_submodule_is_read() -> None:
    (file,) = parse_diff("Submodule third/lib 1111111..2222222:\n  > a commit\n")
    assert (file.path, file.kind) == ("third/lib", "submodule")


def test_a_combined_diff_is_named_and_its_columns_are_not_misread() -> None:
    combined = (
        "diff --cc m.py\nindex 1,2..3\n--- a/m.py\n+++ b/m.py\n@@@ -1,2 -1,2 +1,2 @@@\n- one\n -uno\n++two\n  x\n"
    )
    following = "diff --git a/n.py b/n.py\n--- a/n.py\n+++ b/n.py\n@@ -1 +1 @@\n-a\n+b\n"
    merged, plain = parse_diff(combined + following)
    assert (merged.path, merged.kind, merged.hunks) == ("m.py", "combined", ())
    assert (plain.path, plain.kind, len(plain.hunks)) == ("n.py", "text", 1)


def test_bytes_that_are_no_utf_8_become_replacement_characters(repo: Path) -> None:
    (file,) = parse_diff(change(repo, {"l.py": b"x\n"}, {"l.py": b"caf\xe9\n"}))
    assert [line.text for line in file.hunks[0].lines] == ["x", "caf\ufffd"]
    (hunk,) = parse_patch("@@ -0,0 +1 @@\n+a\ud800b", "f")
    assert hunk.lines[0].text.encode()


def test_every_commit_of_a_log_is_read_past_its_message(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    for n in range(3):
        (tmp_path / "f.py").write_text(f"{n}\n")
        git(tmp_path, "add", "-A")
        git(tmp_path, "commit", "-qm", f"change {n}\n\n+ a list\n- of things\n\n@@ what")
    assert len(parse_diff(git(tmp_path, "log", "-p"))) == 3
    assert len(parse_diff(git(tmp_path, "format-patch", "--stdout", "--root", "HEAD"))) == 3


def test_a_plain_diff_of_two_files_is_read() -> None:
    diff = "--- old/x.py\t2026-01-01 00:00:00\n+++ new/x.py\t2026-01-02 00:00:00\n@@ -1 +1 @@\n-a\n+b\n"
    (file,) = parse_diff(diff * 2)[:1]
    assert (file.path, file.old_path, file.status) == ("new/x.py", "old/x.py", "renamed")
    (added,) = parse_diff("--- /dev/null\n+++ b/x.py\n@@ -0,0 +1 @@\n+b\n")
    assert (added.path, added.status) == ("x.py", "added")


def test_the_section_and_a_stripped_context_line_are_read() -> None:
    (hunk,) = parse_patch("@@ -1,3 +1,3 @@ def f(): \n-a\n+b\n\n c", "x.py")
    assert hunk.section == "def f():"
    assert [(line.kind, line.text, line.old, line.new) for line in hunk.lines] == [
        ("del", "a", 1, None),
        ("add", "b", None, 1),
        ("ctx", "", 2, 2),
        ("ctx", "c", 3, 3),
    ]


def test_a_crlf_file_keeps_its_carriage_returns() -> None:
    (hunk,) = parse_patch("@@ -1 +1 @@\r\n-a\r\n+b\r\n", "x.py")
    assert [line.text for line in hunk.lines] == ["a\r", "b\r"]


def test_a_hunk_of_twenty_thousand_lines_is_read_whole() -> None:
    (hunk,) = parse_patch("@@ -0,0 +1,20000 @@\n" + "+x = 1\n" * 20_000, "x.py")
    assert (len(hunk.lines), hunk.lines[-1].new) == (20_000, 20_000)


@pytest.mark.parametrize(
    ("patch", "message"),
    [
        ("@@ -1 +1,2 @@\n-a\n+b", "line 4: the hunk of line 1 has fewer lines than its header says (1 old, 2 new)"),
        ("@@ -1 +1 @@\n-a\n+b\n+c", "line 4: the hunk of line 1 has more lines than its header says (1 old, 1 new)"),
        ("@@ -1 +1 @@\n-a\n-b\n+c", "line 3: the hunk of line 1 has more lines"),
        ("@@ -1,2 +1,2 @@\n a\n@@ -9 +9 @@\n-a\n+b", "line 3: the hunk of line 1 has fewer lines"),
        ("@@ -1 +1 @@\n-a\n+b\nwhat", "line 4: expected a hunk header '@@ -a,b +c,d @@', found 'what'"),
        ("@@@ -1 -1 +1 @@@\n  a", "line 1: expected a hunk header"),
        ("@@ -1,2 +0,2 @@\n a\n b", "line 1: new side: 2 lines from line 0 is no range of a file"),
        ("@@ -1 +99999999999999999999 @@\n-a\n+b", "line 1: 99999999999999999999 is no line number"),
        ("hello", "line 1: expected a hunk header"),
    ],
)
def test_a_malformed_patch_is_refused_with_its_line(patch: str, message: str) -> None:
    with pytest.raises(DiffError) as caught:
        parse_patch(patch, "x.py")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("diff", "message"),
    [
        ("once upon a time\n", "line 1: no diff found"),
        ("\x1b[1mdiff --git a/x b/x\x1b[m\n", "try `git diff --no-color`"),
        ("@@ -1 +1 @@\n-a\n+b\n", "line 1: a hunk before any file header"),
        ("diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n", "line 6: the hunk of line 4 has fewer lines"),
        ("diff --git what\n", "no path to be read"),
        ("--- /dev/null\n+++ /dev/null\n", "both sides of the file are /dev/null"),
    ],
)
def test_a_malformed_diff_is_refused_with_its_line(diff: str, message: str) -> None:
    with pytest.raises(DiffError) as caught:
        parse_diff(diff)
    assert message in str(caught.value)


@pytest.mark.parametrize("nothing", ["", "\n", b"", "\r\n"])
def test_empty_text_has_no_files_and_no_hunks(nothing: str | bytes) -> None:
    assert parse_diff(nothing) == ()
    assert parse_patch("", "x.py") == ()


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet='@-+ \\\n\r1,0d"a/bx', max_size=80), st.booleans())
def test_any_text_is_parsed_or_refused(text: str, has_header: bool) -> None:
    header = "diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1,2 +1,2 @@\n" if has_header else ""
    with suppress(DiffError):
        parse_diff(header + text)


def test_lines_are_numbered_from_the_starts_and_checked_against_the_counts() -> None:
    hunk = number_lines("x.py", (4, 2), (4, 2), "def f():", [("ctx", "a"), ("del", "b"), ("add", "c")])
    assert parse_patch("@@ -4,2 +4,2 @@ def f():\n a\n-b\n+c", "x.py") == (hunk,)
    with pytest.raises(DiffError, match="new_lines says 3, and the lines of that side are 2"):
        number_lines("x.py", (4, 2), (4, 3), "", [("ctx", "a"), ("del", "b"), ("add", "c")])
