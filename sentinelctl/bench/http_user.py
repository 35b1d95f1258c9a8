"""A user of the receiver: one keep-alive connection, opened again when it ends."""

import asyncio
import re
from collections.abc import Sequence
from typing import Final, cast

from sentinelctl.bench.driver import Done, Ending
from sentinelctl.bench.pushes import Request

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_RETRY_S: Final = 0.05
_STALE_S: Final = 1.0
"""A connection idle for longer is opened anew, for the server may be about to close it (uvicorn's does after 5 s)."""


class HttpUser(asyncio.Protocol):
    """Of the webhook at host:port. `name` begins every delivery id."""

    def __init__(self, host: str, port: int, requests: Sequence[Request], name: str) -> None:
        self._host, self._port, self._requests, self._name = host, port, requests, name
        self._transport: asyncio.Transport | None = None
        self._idle_since = 0.0
        self._answer = b""
        self._request = b""
        self._is_written = False
        self._done: Done | None = None
        self._opening: asyncio.Task[None] | None = None
        self._is_closed = False

    async def open(self) -> None:
        """Raises OSError where nobody listens."""
        await asyncio.get_running_loop().create_connection(lambda: self, self._host, self._port)

    def send(self, number: int, done: Done) -> None:
        self._done = done
        self._request = self._requests[number % len(self._requests)].raw(f"{self._name}-{number}")
        if self._transport is not None and asyncio.get_running_loop().time() - self._idle_since > _STALE_S:
            self._drop()
        self._write()

    def abandon(self) -> None:
        self._done = None
        self._drop()

    async def close(self) -> None:
        self._is_closed, self._done = True, None
        if self._opening is not None:
            self._opening.cancel()
        if self._transport is not None:
            self._transport.close()
        await asyncio.sleep(0)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport, self._answer = cast("asyncio.Transport", transport), b""
        self._idle_since = asyncio.get_running_loop().time()
        if self._done is not None:
            self._write()

    def data_received(self, data: bytes) -> None:
        self._answer += data
        head, end, body = self._answer.partition(b"\r\n\r\n")
        length = _LENGTH.search(head) if end else None
        if length is None or len(body) < int(length[1]):
            return
        self._answer = b""
        self._idle_since = asyncio.get_running_loop().time()
        self._finish(Ending.ANSWERED if head[9:10] == b"2" else Ending.REFUSED)

    def connection_lost(self, _exc: Exception | None) -> None:
        self._transport = None
        if self._is_closed:
            return
        self._opening = asyncio.get_running_loop().create_task(self._open_again())
        if self._is_written:
            self._finish(Ending.BROKEN)

    def _write(self) -> None:
        """On the connection there is, or else on the next one, so that opening it counts."""
        self._is_written = self._transport is not None
        if self._transport is not None:
            self._transport.write(self._request)

    def _drop(self) -> None:
        self._is_written = False
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    def _finish(self, ending: Ending) -> None:
        self._is_written = False
        done, self._done = self._done, None
        if done is not None:
            done(ending)

    async def _open_again(self) -> None:
        while self._transport is None:
            try:
                await self.open()
            except OSError:
                await asyncio.sleep(_RETRY_S)
