"""GH Archive's hourly files: events of all of public GitHub, one JSON document a line, gzipped.

Read as a stream, a line at a time, so that memory does not grow with the hour. Format: https://www.gharchive.org, and
GitHub's "Event types" for the payloads; from 2015 on the lines are those of the Events API.
"""

import gzip
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any, Final

from model.dataset import DataError
from model.mining.comments import comment_of, is_bot, kept, line_of

FIRST: Final = datetime(2015, 1, 1, tzinfo=UTC)
MAX_HOURS: Final = 24 * 366
_LINE_BYTES: Final = 16 * 1024 * 1024  # a longer line is passed over
_HOUR: Final = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})-([0-9]{1,2})")
_COMMENT: Final = "PullRequestReviewCommentEvent"


class BrokenArchive(DataError):
    """The file ends early or is no gzip of JSON lines: what was downloaded is not what the archive has."""


@dataclass(frozen=True, slots=True)
class Hour:
    """What one hour held; it stands beside its comments as JSON."""

    hour: str
    bytes: int  # of the gzipped file
    events: int
    comments: int
    bots: int
    skipped: int  # lines that are no event, and comments without a body or path
    kinds: dict[str, int]  # events of each type


def hours(text: str) -> tuple[str, ...]:
    """`2024-01-01-15`, or `2024-01-01-15..2024-01-01-18`, both ends counted. Raises DataError."""
    first, dots, last = text.partition("..")
    begin, end = _hour(first), _hour(last if dots else first)
    count = int((end - begin).total_seconds()) // 3600 + 1
    if not 1 <= count <= MAX_HOURS:
        raise DataError(f"{text} is {count} hours; give an end that follows its beginning within {MAX_HOURS} hours")
    return tuple(_name(begin + timedelta(hours=at)) for at in range(count))


def extract(archive: Path, hour: str, out: Path) -> Hour:
    """Writes the review comments of one hour to `out`/HOUR.jsonl and their counts to HOUR.json, the last of all.

    Raises BrokenArchive, and leaves nothing, where the gzip does not end well: its checksum covers every byte.
    """
    out.mkdir(parents=True, exist_ok=True)
    target = out / f"{hour}.jsonl"
    part = target.with_suffix(".part")
    kinds: Counter[str] = Counter()
    count = Counter(comments=0, bots=0, skipped=0)
    try:
        with gzip.open(archive) as stream, part.open("w", encoding="utf-8", errors="replace") as file:
            for event in _events(stream, count):
                kinds[str(event.get("type"))] += 1
                if event.get("type") == _COMMENT:
                    _comment(event, file, count)
    except (EOFError, gzip.BadGzipFile, zlib.error) as exc:
        part.unlink(missing_ok=True)
        raise BrokenArchive(
            f"{archive} is not the whole gzip of {hour}: {exc}; remove it and download it again"
        ) from exc
    part.replace(target)
    found = Hour(hour, archive.stat().st_size, sum(kinds.values()), kinds=dict(kinds.most_common()), **count)
    (out / f"{hour}.part").write_text(json.dumps(asdict(found)) + "\n", "utf-8")
    (out / f"{hour}.part").replace(summary_of(out, hour))
    return found


def done(out: Path, hour: str) -> Hour | None:
    """What an earlier run found in this hour."""
    path = summary_of(out, hour)
    return Hour(**json.loads(path.read_text("utf-8"))) if path.exists() else None


def summary_of(out: Path, hour: str) -> Path:
    return out / f"{hour}.json"


def _events(stream: gzip.GzipFile, count: "Counter[str]") -> Iterator[dict[str, Any]]:
    while line := stream.readline(_LINE_BYTES):
        if not line.endswith(b"\n") and len(line) == _LINE_BYTES:
            while (rest := stream.readline(_LINE_BYTES)) and not rest.endswith(b"\n"):
                pass
            count["skipped"] += 1
            continue
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            event = None
        if isinstance(event, dict):
            yield event
        else:
            count["skipped"] += 1


def _comment(event: dict[str, Any], file: IO[str], count: "Counter[str]") -> None:
    payload = event.get("payload") or {}
    document, pull, repo = (payload.get("comment") or {}, payload.get("pull_request") or {}, event.get("repo") or {})
    if is_bot(event.get("actor")) or is_bot(document.get("user")):
        count["bots"] += 1
        return
    try:
        comment = comment_of({"pull": pull.get("number"), **document}, str(repo.get("name", "")))
    except DataError:
        count["skipped"] += 1
        return
    file.write(line_of(kept(comment)))
    count["comments"] += 1


def _hour(text: str) -> datetime:
    found = _HOUR.fullmatch(text.strip())
    try:
        when = datetime(*map(int, found.groups()), tzinfo=UTC) if found else None  # type: ignore[misc,arg-type]
    except ValueError:
        when = None
    if when is None:
        raise DataError(f"{text!r} is no hour; write YYYY-MM-DD-H in UTC, as in 2024-01-01-15")
    if when < FIRST:
        raise DataError(f"{text} is before 2015, when the archive had another format; give a later hour")
    return when


def _name(when: datetime) -> str:
    """As the archive names it: the hour without a leading zero."""
    return f"{when:%Y-%m-%d}-{when.hour}"
