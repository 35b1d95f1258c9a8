"""Answers kept beside their ETag: GitHub says 304 instead of sending one again, and does not count it."""

from collections import OrderedDict
from dataclasses import dataclass


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
            self._bytes -= len(self._kept.pop(key)[1].content)
        self._kept[key] = (etag, page)
        self._bytes += len(page.content)
        while self._bytes > self._max_bytes:
            self._bytes -= len(self._kept.popitem(last=False)[1][1].content)
