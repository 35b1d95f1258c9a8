import contextlib
import json
import os
import socket
import stat
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer

import docker  # noqa: F401 - here, before a test gives its rights away
import pytest

from sentinelctl.errors import Exit, PreflightError
from sentinelctl.runtime.engine import LEAST_API, address_of, connect, is_local, silence, socket_group, socket_path
from tests.docker_engine import ADDRESS, needs_engine

_NOBODY = 65534


@contextlib.contextmanager
def serving(path: Path, version: str, status: int = 200) -> Iterator[str]:
    """Something that speaks HTTP on a socket and says it is an engine of this version."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"ApiVersion": version, "MinAPIVersion": "1.12"}).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None: ...

        def address_string(self) -> str:
            return "socket"

    with ThreadingUnixStreamServer(str(path), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"unix://{path}"
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def shut_out(path: Path) -> Iterator[None]:
    """Nobody may use the socket: its mode says so, and root, whom no mode stops, is somebody else for a while."""
    path.chmod(0)
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(_NOBODY)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)
        path.chmod(stat.S_IRWXU)


def test_an_engine_is_named_by_the_setting_then_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://there:2375")
    assert address_of("unix:///here.sock") == "unix:///here.sock"
    assert address_of("") == "tcp://there:2375"
    monkeypatch.delenv("DOCKER_HOST")
    assert is_local(address_of(""))


@pytest.mark.parametrize("look", [silence, connect])
def test_an_absent_engine_is_told_with_what_to_do(tmp_path: Path, look: object) -> None:
    address = f"unix://{tmp_path}/none.sock"
    if look is silence:
        assert silence(address) == f"no Docker engine answers at {address}: No such file or directory"
        return
    with pytest.raises(PreflightError, match=r"no Docker engine answers at .*: No such file or directory") as caught:
        connect(address)
    assert "systemctl start docker" in caught.value.remedy
    assert "--runtime embedded" in caught.value.remedy
    assert caught.value.exit_code is Exit.PREFLIGHT


def test_a_container_gets_the_engines_own_socket_and_its_group(tmp_path: Path) -> None:
    own = tmp_path / "its.sock"
    own.touch()
    assert socket_path(f"unix://{own}") == str(own)
    assert socket_path("unix:///home/me/.docker/run/docker.sock") == "/var/run/docker.sock"
    assert socket_path("ssh://there") == "/var/run/docker.sock"
    assert socket_group(f"unix://{own}") == own.stat().st_gid
    assert socket_group(f"unix://{tmp_path}/none.sock") == 0


def test_an_engine_that_ended_leaves_a_socket_nobody_answers(tmp_path: Path) -> None:
    path = tmp_path / "left.sock"
    with socket.socket(socket.AF_UNIX) as line:
        line.bind(str(path))
    assert "Connection refused" in silence(f"unix://{path}")
    with pytest.raises(PreflightError, match="Connection refused"):
        connect(f"unix://{path}")


def test_a_user_who_may_not_use_the_socket_is_told_of_the_group() -> None:
    folder = Path(os.path.realpath("/tmp")) / f"sentinel-test-{os.getpid()}"
    folder.mkdir(mode=0o755)
    path = folder / "engine.sock"
    try:
        with serving(path, LEAST_API) as address:
            assert silence(address) == ""
            with shut_out(path):
                refused = silence(address)
                with pytest.raises(PreflightError, match="does not let this user in: permission denied") as caught:
                    connect(address)
            assert "permission denied" in refused
            assert "usermod -aG docker" in caught.value.remedy
    finally:
        path.unlink(missing_ok=True)
        folder.rmdir()


def test_an_engine_that_is_too_old_is_told_by_its_version(tmp_path: Path) -> None:
    with serving(tmp_path / "old.sock", "1.38") as address, pytest.raises(PreflightError, match=r"1\.38") as caught:
        connect(address)
    assert "20.10" in caught.value.remedy


def test_what_answers_and_is_no_engine_counts_as_none(tmp_path: Path) -> None:
    with serving(tmp_path / "other.sock", LEAST_API, status=500) as address:
        assert "answers 500" in silence(address)


class TestARealEngine:
    pytestmark = needs_engine()

    def test_it_answers(self) -> None:
        assert silence(ADDRESS) == ""
        client = connect(ADDRESS)
        assert client.ping()
        client.close()
