"""Unified diffs to hunks with real line numbers: GitHub's `patch` of one file, and the output of `git diff`.

Text is UTF-8; bytes and surrogates that are not become U+FFFD, in lines and paths alike, since nothing further on
(protobuf, JSON, a terminal) can carry them. Lines end at LF alone, so a CR, form feed or U+2028 stays in its line.
Formats: git-diff(1) and git-apply(1).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

LineKind = Literal["add", "del", "ctx"]
Status = Literal["added", "removed", "modified", "renamed", "copied"]
FileKind = Literal["text", "binary", "submodule", "symlink", "combined", "unmerged"]

_KINDS: Final[dict[str, LineKind]] = {"+": "add", "-": "del", " ": "ctx"}
_MAX_NUMBER: Final = 2**31 - 1  # line numbers travel as int32
_HUNK = re.compile(r"@@ -([0-9]+)(?:,([0-9]+))? \+([0-9]+)(?:,([0-9]+))? @@(.*)", re.DOTALL)
_SUBMODULE = re.compile(r"Submodule (.+) [0-9a-f]{7,64}\.{2,3}[0-9a-f]{7,64}\b.*")
_BINARY = re.compile(r"Binary files (.+) and (.+) differ")
_UNMERGED = "* Unmerged path "
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_ESCAPE = re.compile(rb"\\([0-7]{1,3}|.)", re.DOTALL)
_ESCAPES: Final = {b"a": b"\a", b"b": b"\b", b"t": b"\t", b"n": b"\n", b"v": b"\v", b"f": b"\f", b"r": b"\r"}
_PREFIXES: Final = frozenset("abciow12")  # a/ b/, and git's mnemonic prefixes
_MODES: Final[dict[str, FileKind]] = {"160000": "submodule", "120000": "symlink"}


class DiffError(ValueError):
    """Text that is no diff, or whose counts disagree with its lines; the message names the line."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a hunk. `text` is without its newline (a CR stays); `old` and `new` count from 1."""

    kind: LineKind
    text: str
    old: int | None
    new: int | None
    has_newline: bool = True  # False: the file ends here without one


@dataclass(frozen=True, slots=True)
class Hunk:
    """One @@ block. A side of no lines has the number of the line before it as its start, as git writes it."""

    path: str
    old_start: int
    old_lines: int
    new_start: int
    new_lines: int
    section: str  # text after the second @@
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class FileDiff:
    """One file of a diff. Only kind `text` has hunks; any other is named by its kind where it is counted as skipped."""

    path: str
    old_path: str | None  # only where it differs from path
    status: Status
    kind: FileKind
    hunks: tuple[Hunk, ...]


def parse_patch(patch: str, path: str) -> tuple[Hunk, ...]:
    """The hunks of GitHub's `patch`: @@ blocks and nothing else. Empty text has none.

    Raises DiffError naming the line of the patch.
    """
    lines = _split(patch)
    end = max((at for at, line in enumerate(lines, 1) if line.strip()), default=0)
    hunks: list[Hunk] = []
    at = 0
    while at < end:
        hunk, at = _hunk(lines, at, path)
        hunks.append(hunk)
    return tuple(hunks)


def parse_diff(text: str | bytes) -> tuple[FileDiff, ...]:
    """The files of a `git diff`, of `git show`, `git log -p`, `git format-patch`, or of plain `diff -u`.

    Text around the files (commit messages, mail headers) is passed over. Combined diffs of merges (`diff --cc`) come
    back as kind `combined`, as their columns are no lines of one file pair, and files in conflict as `unmerged`. Empty
    text has no files; other text without a single file raises DiffError, as does any malformed hunk, naming the line.
    """
    lines = _split(text)
    files: list[FileDiff] = []
    at = 0
    while at < len(lines):
        line = lines[at]
        if line.startswith("diff --git "):
            file, at = _git_file(lines, at)
            files.append(file)
        elif line.startswith(("diff --cc ", "diff --combined ")):
            path = _unquote(line.split(" ", 2)[2].rstrip("\r"))
            files.append(FileDiff(path, None, "modified", "combined", ()))
            at = _next_file(lines, at + 1)
        elif _is_names(lines, at):
            file, at = _plain_file(lines, at)
            files.append(file)
        elif _HUNK.match(line):
            raise DiffError(f"line {at + 1}: a hunk before any file header ('diff --git' or '---' and '+++')")
        else:
            if line.startswith(_UNMERGED):
                files.append(FileDiff(_unquote(line.removeprefix(_UNMERGED)), None, "modified", "unmerged", ()))
            elif found := _SUBMODULE.match(line):
                files.append(FileDiff(found[1], None, "modified", "submodule", ()))
            elif found := _BINARY.match(line):
                old, new = _names(found[1], found[2])
                files.append(FileDiff(new or old or "", None, _status(old, new), "binary", ()))
            at += 1
    if not files and any(line.strip() for line in lines):
        colour = (
            "; it holds colour codes, so try `git diff --no-color`" if any("\x1b[" in line for line in lines) else ""
        )
        raise DiffError(f"line 1: no diff found: no line starts with 'diff --git' or '--- '{colour}")
    return tuple(files)


def number_lines(
    path: str,
    old: tuple[int, int],
    new: tuple[int, int],
    section: str,
    lines: Iterable[tuple[LineKind, str]],
) -> Hunk:
    """A hunk from its parts, each line given its numbers; `old` and `new` are (start, lines).

    Raises DiffError when the counts disagree with the lines.
    """
    numbered: list[Line] = []
    old_at, new_at = old[0], new[0]
    for kind, text in lines:
        numbered.append(Line(kind, text, None if kind == "add" else old_at, None if kind == "del" else new_at))
        old_at += kind != "add"
        new_at += kind != "del"
    for side, (start, count), end in (("old", old, old_at), ("new", new, new_at)):
        _check_range(side, start, count)
        if end - start != count:
            raise DiffError(f"{side}_lines says {count}, and the lines of that side are {end - start}")
    return Hunk(path, *old, *new, section, tuple(numbered))


def _split(text: str | bytes) -> list[str]:
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    else:
        try:
            text.encode()
        except UnicodeEncodeError:
            text = text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    return lines


def _hunk(lines: list[str], at: int, path: str) -> tuple[Hunk, int]:
    """The hunk whose header is lines[at], and where the text goes on."""
    header_at = at
    found = _HUNK.match(lines[at])
    if not found:
        raise DiffError(f"line {at + 1}: expected a hunk header '@@ -a,b +c,d @@', found {_quote(lines[at])}")
    old_start, old_lines, new_start, new_lines = (_number(digits, at) for digits in found.group(1, 2, 3, 4))
    for side, start, count in (("old", old_start, old_lines), ("new", new_start, new_lines)):
        try:
            _check_range(side, start, count)
        except DiffError as exc:
            raise DiffError(f"line {at + 1}: {exc}") from None
    body: list[Line] = []
    old, new = old_start, new_start
    old_end, new_end = old_start + old_lines, new_start + new_lines
    at += 1
    while at < len(lines):
        line = lines[at]
        if line[:1] == "\\" and body:
            last = body[-1]
            body[-1] = Line(last.kind, last.text, last.old, last.new, has_newline=False)
            at += 1
            continue
        if old == old_end and new == new_end:
            break
        # Mailers and editors strip the space of an empty context line; git apply takes it so, too.
        kind = _KINDS.get(line[:1] or " ")
        if kind is None:
            break
        if (kind != "add" and old == old_end) or (kind != "del" and new == new_end):
            raise _miscounted(header_at, at, "more", old_lines, new_lines)
        body.append(Line(kind, line[1:], None if kind == "add" else old, None if kind == "del" else new))
        old += kind != "add"
        new += kind != "del"
        at += 1
    if old != old_end or new != new_end:
        raise _miscounted(header_at, at, "fewer", old_lines, new_lines)
    if at < len(lines) and lines[at][:1] in _KINDS and not _is_names(lines, at) and lines[at].rstrip() != "--":
        raise _miscounted(header_at, at, "more", old_lines, new_lines)
    section = found[5].removeprefix(" ").rstrip()
    return Hunk(path, old_start, old_lines, new_start, new_lines, section, tuple(body)), at


def _number(digits: str | None, at: int) -> int:
    if digits is None:
        return 1
    if len(digits) > 10 or int(digits) > _MAX_NUMBER:
        raise DiffError(f"line {at + 1}: {digits[:20]} is no line number or count; the largest is {_MAX_NUMBER}")
    return int(digits)


def _check_range(side: str, start: int, count: int) -> None:
    if start < 0 or count < 0 or (count and not start) or start + count > _MAX_NUMBER:
        raise DiffError(f"{side} side: {count} lines from line {start} is no range of a file")


def _miscounted(header_at: int, at: int, word: str, old_lines: int, new_lines: int) -> DiffError:
    return DiffError(
        f"line {at + 1}: the hunk of line {header_at + 1} has {word} lines than its header says "
        f"({old_lines} old, {new_lines} new)"
    )


def _git_file(lines: list[str], at: int) -> tuple[FileDiff, int]:
    """The file whose `diff --git` line is lines[at], and where the text goes on."""
    header = lines[at].removeprefix("diff --git ").rstrip("\r")
    old, new = _git_names(header)
    status: Status = "modified"
    kind: FileKind = "text"
    at += 1
    while at < len(lines):
        line = lines[at].rstrip("\r")
        word = line.split(" ", 2)
        if line.startswith("new file mode "):
            status, kind = "added", _MODES.get(line[14:], kind)
        elif line.startswith("deleted file mode "):
            status, kind = "removed", _MODES.get(line[18:], kind)
        elif line.startswith(("rename from ", "copy from ")):
            old, status = _unquote(word[2]), "renamed" if word[0] == "rename" else "copied"
        elif line.startswith(("rename to ", "copy to ")):
            new = _unquote(word[2])
        elif line.startswith("index ") and len(word) == 3:
            kind = _MODES.get(word[2], kind)
        elif not line.startswith(("old mode ", "new mode ", "similarity ", "dissimilarity ", "index ")):
            break
        at += 1
    if _is_names(lines, at):
        if old is None or new is None:
            old, new = _names(lines[at][4:], lines[at + 1][4:])
        at += 2
    elif at < len(lines) and (_BINARY.match(lines[at]) or lines[at].startswith("GIT binary patch")):
        kind = "binary"
        at = _next_file(lines, at)
    if old is None and new is None:
        old, new = _unequal_names(header)
    path = new or old
    if not path:
        raise DiffError(f"line {at}: no path to be read from the lines of this file's header")
    hunks, at = _hunks(lines, at, path)
    if status == "modified" and old is not None and old != path:
        status = "renamed"
    return FileDiff(path, old if old != path else None, status, kind, hunks if kind == "text" else ()), at


def _plain_file(lines: list[str], at: int) -> tuple[FileDiff, int]:
    """The file whose `---` line is lines[at], without a line of git's before it."""
    old, new = _names(lines[at][4:], lines[at + 1][4:])
    path = new or old
    if not path:
        raise DiffError(f"line {at + 1}: both sides of the file are /dev/null")
    hunks, end = _hunks(lines, at + 2, path)
    return FileDiff(path, old if new and old != new else None, _status(old, new), "text", hunks), end


def _hunks(lines: list[str], at: int, path: str) -> tuple[tuple[Hunk, ...], int]:
    hunks: list[Hunk] = []
    while at < len(lines) and lines[at].startswith("@@ "):
        hunk, at = _hunk(lines, at, path)
        hunks.append(hunk)
    return tuple(hunks), at


def _next_file(lines: list[str], at: int) -> int:
    while at < len(lines) and not lines[at].startswith("diff --"):
        at += 1
    return at


def _is_names(lines: list[str], at: int) -> bool:
    return at + 1 < len(lines) and lines[at].startswith("--- ") and lines[at + 1].startswith("+++ ")


def _status(old: str | None, new: str | None) -> Status:
    if old is None:
        return "added"
    if new is None:
        return "removed"
    return "modified" if old == new else "renamed"


def _git_names(rest: str) -> tuple[str | None, str | None]:
    """Old and new path from a `diff --git` line; (None, None) where only further lines can tell.

    Unquoted paths may hold spaces, but without a rename both are the same, so the line splits in its middle.
    """
    if rest.startswith('"') and (found := _QUOTED.match(rest)):
        old, new = found[0], rest[found.end() + 1 :]
    elif rest.endswith('"') and ' "' in rest:
        old, new = rest.split(' "', 1)
        new = f'"{new}'
    else:
        middle = len(rest) // 2
        old, new = rest[:middle], rest[middle + 1 :]
    stripped = _strip_prefixes(_unquote(old), _unquote(new))
    return stripped if stripped[0] == stripped[1] else (None, None)


def _unequal_names(rest: str) -> tuple[str | None, str | None]:
    """The two paths of `git diff --no-index` where nothing but its `diff --git` line names them."""
    for gap in (" b/", " "):
        old, _, new = rest.partition(gap)
        if old and new:
            return _strip_prefixes(_unquote(old), _unquote(gap[1:] + new))
    return None, None


def _names(old: str, new: str) -> tuple[str | None, str | None]:
    """Paths from `---` and `+++` lines, None for /dev/null. What follows a tab is a time stamp, or nothing."""
    old, new = (_unquote(name.rstrip("\r").split("\t", 1)[0]) for name in (old, new))
    if old == "/dev/null":
        return None, None if new == old else new.removeprefix("b/")
    if new == "/dev/null":
        return old.removeprefix("a/"), None
    return _strip_prefixes(old, new)


def _strip_prefixes(old: str, new: str) -> tuple[str, str]:
    """Without a/ and b/ (or i/ and w/, ...). Under --no-prefix both sides start alike and stay as they are."""
    if old[1:2] == new[1:2] == "/" and old[0] != new[0] and {old[0], new[0]} <= _PREFIXES:
        return old[2:], new[2:]
    return old, new


def _unquote(path: str) -> str:
    """A path as git wrote it: within quotes, C escapes stand for bytes of UTF-8."""
    found = _QUOTED.fullmatch(path)
    if not found:
        return path
    raw = _ESCAPE.sub(_unescape, found[1].encode("utf-8"))
    return raw.decode("utf-8", "replace")


def _unescape(found: re.Match[bytes]) -> bytes:
    code: bytes = found[1]
    return bytes([int(code, 8) & 0xFF]) if code[:1].isdigit() else _ESCAPES.get(code, code)


def _quote(line: str) -> str:
    return repr(line if len(line) <= 60 else f"{line[:60]}…")
