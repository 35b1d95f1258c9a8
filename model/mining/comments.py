"""A review comment as GitHub's REST API gives it, as we keep it, and as files of JSON lines hold either."""

import gzip
import json
import lzma
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any, Final

from model.dataset import DataError
from model.mining.private import drop_secrets

_REPOSITORY: Final = re.compile(r"/repos/([^/]+/[^/]+)/pulls/([0-9]+)$")
_HUNK_CHARS: Final = 4_000  # the end of a diff_hunk, which is where the comment stands
_BODY_CHARS: Final = 20_000


@dataclass(frozen=True, slots=True)
class Comment:
    """One comment on a line of a pull request. Who wrote it is not kept."""

    id: int
    repository: str  # owner/name; empty where the file does not say
    pull: int  # 0 where the file does not say
    created_at: str  # as GitHub writes times
    path: str
    line: int | None  # new numbering, or old where `side` is LEFT; None for a whole file, or where the line is gone
    side: str
    is_reply: bool
    commit: str
    diff_hunk: str  # ends at the line commented on
    body: str


def comment_of(document: Mapping[str, Any], repository: str = "") -> Comment:
    """From GitHub's fields, or ours (which also name a body `comment`). Raises DataError naming what is missing."""
    body, path, hunk = document.get("body", document.get("comment")), document.get("path"), document.get("diff_hunk")
    if not isinstance(body, str) or not isinstance(path, str):
        raise DataError("a review comment has a `body` and a `path`, and this has not")
    named = _REPOSITORY.search(_text(document, "pull_request_url"))
    return Comment(
        id=_number(document, "id") or 0,
        repository=repository
        or _text(document, "repository")
        or _text(document, "repo")
        or (named[1] if named else ""),
        pull=_number(document, "pull") or (int(named[2]) if named else 0),
        created_at=_text(document, "created_at"),
        path=path,
        line=_number(document, "line") or _number(document, "original_line"),
        side=_text(document, "side") or "RIGHT",
        is_reply=bool(document.get("is_reply") or document.get("in_reply_to_id")),
        commit=_text(document, "commit") or _text(document, "original_commit_id"),
        diff_hunk=hunk if isinstance(hunk, str) else "",
        body=body,
    )


def is_bot(author: Any) -> bool:
    """Whether GitHub's `user` or `actor` is a machine; one whose account is gone (null) is taken for a person."""
    if not isinstance(author, Mapping):
        return False
    return author.get("type") == "Bot" or str(author.get("login", "")).endswith("[bot]")


def kept(comment: Comment) -> Comment:
    """As it may be written down: no addresses, nothing that looks like a secret, and of bounded length."""
    return replace(
        comment,
        body=drop_secrets(comment.body[:_BODY_CHARS]),
        diff_hunk=drop_secrets(comment.diff_hunk[-_HUNK_CHARS:]),
    )


def line_of(comment: Comment) -> str:
    return json.dumps(asdict(comment), ensure_ascii=False) + "\n"


def read(path: Path) -> Iterator[Comment]:
    """Comments of a file of JSON lines (.gz and .xz too) or of every .jsonl below a folder. Raises DataError.

    A line may hold one comment or a list of them, as `gh api` writes a page.
    """
    for file in sorted(path.rglob("*.jsonl")) if path.is_dir() else [path]:
        with _opened(file) as lines:
            try:
                for number, line in enumerate(lines, 1):
                    if line.strip():
                        yield from _comments(line, f"{file}, line {number}")
            except (OSError, EOFError, lzma.LZMAError, UnicodeDecodeError) as exc:
                raise DataError(f"{file} cannot be read: {exc}; give JSON lines, plain or as .gz or .xz") from exc


def latest(comments: Iterator[Comment]) -> list[Comment]:
    """Each comment once: one that was edited stands again in a mined file, and the last one counts."""
    found: dict[tuple[str, int], Comment] = {}
    for at, comment in enumerate(comments):
        found[(comment.repository, comment.id or -at - 1)] = comment
    return list(found.values())


def _comments(line: str, where: str) -> Iterator[Comment]:
    try:
        value = json.loads(line)
        for each in value if isinstance(value, list) else [value]:
            if not isinstance(each, dict):
                raise DataError(f"an object was expected, and there is {type(each).__name__}")
            yield comment_of(each)
    except (ValueError, RecursionError) as exc:  # DataError is a ValueError
        raise DataError(f"{where}: {exc}; each line is one review comment as GitHub's REST API returns it") from exc


def _opened(file: Path) -> IO[str]:
    opener: Any = {".gz": gzip.open, ".xz": lzma.open}.get(file.suffix, open)
    try:
        opened: IO[str] = opener(file, "rt", encoding="utf-8")
    except OSError as exc:
        raise DataError(f"{file} cannot be read: {exc.strerror}") from exc
    return opened


def _text(document: Mapping[str, Any], name: str) -> str:
    value = document.get(name)
    return value if isinstance(value, str) else ""


def _number(document: Mapping[str, Any], name: str) -> int | None:
    value = document.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
