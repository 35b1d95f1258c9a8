"""uvicorn, with what a receiver needs of it: our own signals, an end to every head, and an answer in one piece."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, cast

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

DRAIN_S: Final = 15
_MAX_HEAD_BYTES: Final = 1024 * 1024
IS_WHOLE: Final = "sentinel.is_whole"
"""In a request's scope once its body has come: whoever reads it need not set a timer."""


class Server(uvicorn.Server):
    """Stopped by our own signal handlers: uvicorn's would raise the signal again once it has stopped, which ends the
    process before the log is closed."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=Protocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=DRAIN_S,
            )
        )

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def stop(self) -> None:
        """Takes no more connections, finishes the requests it has, and returns from serve()."""
        self.should_exit = True


class Protocol(HttpToolsProtocol):
    """Ends the request line and headers of a request that never end by themselves, and joins each answer."""

    _head_bytes: int | None = None  # read so far; None outside a head
    _answers: "_Joined"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._answers = _Joined(cast("asyncio.Transport", transport))
        super().connection_made(cast("asyncio.Transport", self._answers))

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._head_bytes is not None:
            self._head_bytes += len(data)
            if self._head_bytes > _MAX_HEAD_BYTES:
                self.send_400_response(f"The headers of this request are larger than {_MAX_HEAD_BYTES} bytes.")

    def on_message_begin(self) -> None:
        self._head_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._head_bytes = None
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self.scope[IS_WHOLE] = True  # type: ignore[typeddict-unknown-key]
        super().on_message_complete()

    def on_response_complete(self) -> None:
        self._answers.flush()
        super().on_response_complete()


class _Joined:
    """A transport that keeps what is written until the answer is complete: uvicorn writes its head and its body apart,
    and each write is a system call that wakes the other side."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._parts: list[bytes] = []
        self.is_closing = transport.is_closing

    def write(self, data: bytes) -> None:
        self._parts.append(data)
        if data.startswith(b"HTTP/1.1 100 "):  # the sender waits for it
            self.flush()

    def flush(self) -> None:
        if self._parts:
            self._transport.write(b"".join(self._parts))
            self._parts.clear()

    def close(self) -> None:
        self.flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
