import socket
import threading
from collections.abc import Iterator

import pytest

from sentinelctl.chaos.proxy import Proxy


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    """In front of a server that says everything twice."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve(line: socket.socket) -> None:
            with line:
                while said := line.recv(100):
                    line.sendall(said * 2)

        def accept() -> None:
            while True:
                try:
                    line, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=serve, args=(line,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        proxy = Proxy(server.getsockname()[1])
        yield proxy
        proxy.close()
        server.shutdown(socket.SHUT_RDWR)


def ask(proxy: Proxy, said: bytes = b"ping") -> bytes:
    """Empty where the line was closed without an answer."""
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as line:
        try:
            line.sendall(said)
            return line.recv(100)
        except ConnectionError:
            return b""


def test_it_relays_both_ways(proxy: Proxy) -> None:
    assert [ask(proxy, said) for said in (b"one", b"two")] == [b"oneone", b"twotwo"]
    assert proxy.cut_count == 0


def test_a_cut_breaks_what_is_open_refuses_what_is_new_and_ends(proxy: Proxy) -> None:
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as line:
        line.sendall(b"a")
        assert line.recv(100) == b"aa"
        with proxy.cut():
            assert line.recv(100) == b""
            assert ask(proxy) == b""
            assert proxy.cut_count == 2
    assert ask(proxy) == b"pingping"


def test_a_target_that_is_gone_ends_the_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    proxy = Proxy(port)
    try:
        assert ask(proxy) == b""
        assert proxy.cut_count == 0
    finally:
        proxy.close()
