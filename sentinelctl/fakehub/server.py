"""A fakehub on a socket: inside a running loop, or on a thread of its own."""

import asyncio
import ipaddress
import socket
import struct
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from sentinelctl.errors import PreflightError, UsageError
from sentinelctl.fakehub.app import ABORT, create_app
from sentinelctl.fakehub.hub import FakeHub


class _Protocol(HttpToolsProtocol):
    """Tells the app how to reset its connection, which ASGI has no word for."""

    def on_headers_complete(self) -> None:
        self.scope["extensions"] = {ABORT: {"abort": self._reset}}
        super().on_headers_complete()

    def _reset(self) -> None:
        # Closing with a linger of 0 s sends RST where a plain close would end the stream in good order.
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()


class _Server(uvicorn.Server):
    """Leaves signals to whoever runs it."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def serve(
    hub: FakeHub, host: str = "127.0.0.1", port: int = 0, *, allow_remote: bool = False
) -> AsyncIterator[str]:
    """Serves `hub` until the block ends; gives its URL. Port 0 takes a free one.

    UsageError for an address other hosts can reach without `allow_remote`; PreflightError for a taken port.
    """
    with _listener(host, port, allow_remote) as listener:
        shown = f"[{host}]" if ":" in host else host
        hub.base_url = f"http://{shown}:{listener.getsockname()[1]}"
        config = uvicorn.Config(
            create_app(hub),
            http=_Protocol,
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=2,
        )
        server = _Server(config)
        running = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield hub.base_url
        finally:
            server.should_exit = True
            await running


@dataclass(frozen=True)
class Running:
    url: str
    hub: FakeHub


@contextmanager
def running_fakehub(
    repositories: Sequence[Path],
    *,
    copies: int = 1,
    token: str | None = None,
    latency_ms: float = 0.0,
    has_limits: bool = False,
    host: str = "127.0.0.1",
    port: int = 0,
    allow_remote: bool = False,
) -> Iterator[Running]:
    """A fakehub on a thread of its own, until the block ends."""
    hub = FakeHub(repositories, copies=copies, token=token, latency_ms=latency_ms, has_limits=has_limits)
    is_up, stop = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()
    failure: list[Exception] = []

    async def run() -> None:
        try:
            async with serve(hub, host, port, allow_remote=allow_remote):
                is_up.set()
                await stop.wait()
        except Exception as exc:  # noqa: BLE001 - handed to the thread that waits
            failure.append(exc)
            is_up.set()

    def work() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(run())

    thread = threading.Thread(target=work, name="fakehub", daemon=True)
    thread.start()
    is_up.wait()
    try:
        if failure:
            raise failure[0]
        yield Running(hub.base_url, hub)
    finally:
        if not failure:
            loop.call_soon_threadsafe(stop.set)
        thread.join()


def _listener(host: str, port: int, allow_remote: bool) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as exc:
        raise UsageError(f"{host} is no address: {exc}", remedy="use 127.0.0.1") from exc
    if not ipaddress.ip_address(address[0]).is_loopback and not allow_remote:
        raise UsageError(
            f"fakehub answers on loopback only; {host} can be reached by other hosts",
            remedy="use 127.0.0.1, or --allow-remote if every host that can reach it may read the repositories",
        )
    # Named as TCP, as asyncio turns Nagle's delay off (40 ms an answer on loopback) only for sockets that say so.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(1024)
    except OSError as exc:
        listener.close()
        raise PreflightError(
            f"fakehub cannot listen on {host}:{port}: {exc.strerror or exc}", remedy="--port 0 takes a free port"
        ) from exc
    return listener
