"""A TCP relay in the path between two services, which can be cut: what passes is dropped, and nobody new is let in."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Final

_CHUNK: Final = 65_536
_LISTEN_EVERY_S: Final = 0.2


class Proxy:
    """Relays `host`:`port` to `host`:`target`, on threads of its own, until it is closed.

    cut_count: connections that a cut broke or refused.
    """

    def __init__(self, target: int, host: str = "127.0.0.1") -> None:
        self._target = host, target
        self._is_cut = False
        self._is_closed = False
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._lock = threading.Lock()
        self.cut_count = 0
        self._listener = socket.create_server((host, 0))
        self._listener.settimeout(_LISTEN_EVERY_S)
        self.port = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._serve, name="proxy", daemon=True)
        self._thread.start()

    @contextlib.contextmanager
    def cut(self) -> Iterator[None]:
        self._is_cut = True
        self._drop()
        try:
            yield
        finally:
            self._is_cut = False

    def close(self) -> None:
        self._is_closed = True
        self._thread.join()
        self._listener.close()
        self._drop()

    def _serve(self) -> None:
        while not self._is_closed:
            try:
                near, _ = self._listener.accept()
            except TimeoutError:
                continue
            if self._is_cut:
                self.cut_count += 1
                near.close()
                continue
            try:
                far = socket.create_connection(self._target, timeout=5)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            pair = (near, far)
            with self._lock:
                self._pairs.add(pair)
            for source, sink in (pair, pair[::-1]):
                threading.Thread(target=self._relay, args=(source, sink, pair), name="relay", daemon=True).start()

    def _relay(self, source: socket.socket, sink: socket.socket, pair: tuple[socket.socket, socket.socket]) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(_CHUNK):
                sink.sendall(chunk)
            sink.shutdown(socket.SHUT_WR)
            return
        self._end(pair)

    def _drop(self) -> None:
        with self._lock:
            pairs, self._pairs = self._pairs, set()
        for pair in pairs:
            self.cut_count += self._is_cut
            self._end(pair)

    def _end(self, pair: tuple[socket.socket, socket.socket]) -> None:
        with self._lock:
            self._pairs.discard(pair)
        for one in pair:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
