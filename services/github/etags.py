"""Answers kept beside their ETag: GitHub says 304 instead of sending one again, and does not count it."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

_ENTRY_BYTES: Final = 400  # what an entry takes beside its text: most answers are an empty list


@dataclass(frozen=True, slots=True)
class Page:
    """The body of one answer, and where the next page is."""

    content: bytes
    next_url: str | None = None


class EtagCache:
    """The pages asked for last, up to `max_bytes` in all. Keys hold the account: what one may read another may not."""

    def __init__(self, max_bytes: int = 16 * 1024 * 1024) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._kept: OrderedDict[tuple[int, str], tuple[str, Page]] = OrderedDict()

    def get(self, key: tuple[int, str]) -> tuple[str, Page] | None:
        if key in self._kept:
            self._kept.move_to_end(key)
        return self._kept.get(key)

    def put(self, key: tuple[int, str], etag: str, page: Page) -> None:
        if key in self._kept:
            self._bytes -= _size(key, *self._kept.pop(key))
        self._kept[key] = (etag, page)
        self._bytes += _size(key, etag, page)
        while self._bytes > self._max_bytes:
            oldest, kept = self._kept.popitem(last=False)
            self._bytes -= _size(oldest, *kept)


def _size(key: tuple[int, str], etag: str, page: Page) -> int:
    """About the bytes of memory that it takes."""
    return _ENTRY_BYTES + len(key[1]) + len(etag) + len(page.content) + len(page.next_url or "")
