"""One file over HTTP, whole or not at all: what a broken connection left is gone on from, as the server allows it.

A part lies beside the file as NAME.part, with the server's ETag in NAME.part.etag. It is only gone on from while the
server still has that very file (`Range` with `If-Range`, RFC 9110 section 13.1.5).
"""

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import httpx2

from sentinelctl.errors import SentinelError

TRIES: Final = 6  # answers in a row that bring nothing
MAX_WAIT_S: Final = 300.0
_RANGE: Final = re.compile(r"bytes (?:([0-9]+)-[0-9]+|\*)/([0-9]+)")
_PASSING: Final = (408, 425, 429, 500, 502, 503, 504)

Progress = Callable[[int, int], None]
"""(bytes there, bytes in all or 0 where the server does not say)."""


class Missing(SentinelError):
    """The server has no such file."""


class Downloads:
    """A client that begins a request at most every `pause_s` seconds."""

    def __init__(
        self,
        client: httpx2.Client,
        *,
        pause_s: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client, self._pause_s = client, pause_s
        self._clock, self._sleep = clock, sleep
        self._next = clock()

    def fetch(self, url: str, target: Path, progress: Progress) -> None:
        """Writes `target`, as long as the server says. Raises Missing, or SentinelError once TRIES brought nothing."""
        part = target.with_name(f"{target.name}.part")
        failed, why = 0, ""
        while failed < TRIES:
            before = _size(part)
            try:
                wait_s = self._go_on(url, part, progress)
            except httpx2.HTTPError as exc:
                wait_s, why = 0.0, f"{type(exc).__name__}: {exc}"
            else:
                if wait_s is None:
                    part.replace(target)
                    _etag(part).unlink(missing_ok=True)
                    return
                why = "the server is busy, or ended early"
            failed = 0 if _size(part) > before else failed + 1
            self._sleep(min(max(wait_s, 2.0**failed), MAX_WAIT_S) if failed else 0.0)
        raise SentinelError(
            f"{url}: {TRIES} tries in a row brought nothing, with {_size(part):,} bytes there; last: {why}",
            remedy="run the same command again: it goes on from there",
        )

    def _go_on(self, url: str, part: Path, progress: Progress) -> float | None:
        """One request. None when the part is whole; else the seconds the server asks to wait."""
        there, tag = _size(part), _etag(part).read_text("utf-8") if _etag(part).exists() else ""
        headers = {"Accept-Encoding": "identity"}
        if there and tag:
            headers |= {"Range": f"bytes={there}-", "If-Range": tag}
        self._sleep(max(0.0, self._next - self._clock()))
        self._next = self._clock() + self._pause_s
        with self._client.stream("GET", url, headers=headers) as response:
            status = response.status_code
            if status in (404, 410):
                raise Missing(
                    f"{url} is not there ({status})", remedy="ask for another hour, or later: it may come yet"
                )
            if status in _PASSING:
                asked = response.headers.get("retry-after", "")
                return float(asked) if asked.isascii() and asked.isdigit() else 0.0
            found = _RANGE.fullmatch(response.headers.get("content-range", ""))
            if status == 416 and found and int(found[2]) == there:
                return None
            if status == 206 and found and found[1] and int(found[1]) == there:
                total = int(found[2])
            elif status == 200:
                there, total = 0, int(response.headers.get("content-length", 0))
            elif status in (206, 416):  # of another file than the part, or of another place in it
                part.unlink(missing_ok=True)
                return 0.0
            else:
                raise SentinelError(f"{url} answers {status} {response.reason_phrase}", remedy="check --from")
            new = response.headers.get("etag", "")
            _etag(part).write_text("" if new.startswith("W/") else new, "utf-8")  # a weak one does not vouch for bytes
            with part.open("ab" if there else "wb") as file:
                for chunk in response.iter_raw():
                    file.write(chunk)
                    there += len(chunk)
                    progress(there, total)
        return None if not total or there == total else 0.0


def _etag(part: Path) -> Path:
    return part.with_name(f"{part.name}.etag")


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0
