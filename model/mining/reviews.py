"""The review comments of one repository into JSON lines, page by page, so that a second run goes on where one stopped.

Pages are asked for by time of change rather than by number: a comment that is edited meanwhile moves to the end, and
numbered pages would then leave one out. The state beside the file names the question that was asked last, its ETag,
and how many lines of the file it vouches for: what a killed run wrote behind them is cut off.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, Any

from model.dataset import DataError
from model.mining.comments import comment_of, is_bot, kept, line_of


@dataclass(frozen=True, slots=True)
class Page:
    """At most a hundred comments with GitHub's fields, the one changed longest ago first."""

    comments: Sequence[Mapping[str, Any]] = ()
    etag: str = ""
    is_full: bool = False
    has_next: bool = False
    is_unchanged: bool = False  # the answer is still the one of the ETag that was sent


Ask = Callable[[str, int, str], Page]
"""(changed since, page from 1, ETag or nothing) to a page."""


@dataclass(slots=True)
class Mined:
    """What is known of a repository's file; it stands beside it as JSON."""

    repository: str
    comments: int = 0  # a line each
    new: int = 0  # of them by the last run
    bots: int = 0
    since: str = ""
    page: int = 1
    etag: str = ""
    seen: dict[str, str] = field(default_factory=dict)  # id to time of change, of what the next answer may show again


def mine_reviews(repository: str, out: Path, ask: Ask, progress: Callable[[Mined], None]) -> Mined:
    """Appends what is new to `out`/owner+name.jsonl. A comment edited since stands again, and the last one counts."""
    out.mkdir(parents=True, exist_ok=True)
    target = out / f"{repository.replace('/', '+')}.jsonl"
    state = target.with_suffix(".state.json")
    mined = replace(_load(state, repository), new=0)
    target.touch()
    with target.open("r+b") as file:
        _cut(file, mined.comments, state)
        while True:
            page = ask(mined.since, mined.page, mined.etag)
            if page.is_unchanged:
                break
            for document in page.comments:
                if mined.seen.get(str(document["id"])) == document["updated_at"]:
                    continue
                if is_bot(document.get("user")):
                    mined.bots += 1
                    continue
                file.write(line_of(kept(comment_of(document, repository))).encode("utf-8", "replace"))
                mined.comments += 1
                mined.new += 1
            file.flush()
            shown = {str(each["id"]): str(each["updated_at"]) for each in page.comments}
            if page.has_next:
                _advance(mined, shown)
            else:
                mined.seen |= shown
                mined.etag = "" if page.is_full else page.etag  # a full page stays as it is when another follows
            _save(state, mined)
            progress(mined)
            if not page.has_next:
                break
    return mined


def _advance(mined: Mined, shown: dict[str, str]) -> None:
    """The next question: from the second before the last change seen; its next page where all lie in one second."""
    last = datetime.fromisoformat(max(shown.values())) - timedelta(seconds=1)
    since = last.strftime("%Y-%m-%dT%H:%M:%SZ")
    mined.etag = ""
    if since > mined.since:
        mined.since, mined.page = since, 1
        mined.seen = {name: changed for name, changed in (mined.seen | shown).items() if changed >= since}
    else:
        mined.page += 1
        mined.seen |= shown


def _cut(file: IO[bytes], lines: int, state: Path) -> None:
    """Leaves the file at the end of that many lines, and nothing behind it."""
    for _ in range(lines):
        if not file.readline().endswith(b"\n"):
            raise DataError(f"{file.name} has fewer lines than {state} says; remove both to begin anew")
    file.seek(file.tell())  # from reading to writing
    file.truncate()


def _load(state: Path, repository: str) -> Mined:
    try:
        return Mined(**json.loads(state.read_text("utf-8")))
    except FileNotFoundError:
        return Mined(repository)
    except (ValueError, TypeError) as exc:
        raise DataError(f"{state} does not say how far mining came: {exc}; remove it to begin anew") from exc


def _save(state: Path, mined: Mined) -> None:
    part = state.with_suffix(".part")
    part.write_text(json.dumps(asdict(mined)) + "\n", "utf-8")
    part.replace(state)
