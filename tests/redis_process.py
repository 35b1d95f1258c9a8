"""A real redis-server of a test's own: a free loopback port, a temporary folder, and ways to lose it."""

import datetime
import ipaddress
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from redis import Redis
from redis.exceptions import RedisError

from services.settings import ClaimsSettings

_START_S = 20.0
_PORTS_TRIED = 5


class RedisProcess:
    """`options`: redis-server's own. Nothing is kept over a restart unless they say so."""

    def __init__(self, folder: Path, *options: str) -> None:
        self._folder, self._options = folder, options
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"redis://{self.address}/0"

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def settings(self, **more: Any) -> ClaimsSettings:
        return ClaimsSettings.model_validate({"kind": "redis", "url": self.url, **more})

    @property
    def _remembered(self) -> Path:
        return self._folder.with_name(f"{self._folder.name}-remembered")

    @contextmanager
    def client(self, password: str | None = None) -> Iterator[Redis]:
        """For what a test does to the server behind everybody's back."""
        client = Redis(host="127.0.0.1", port=self.port, password=password, socket_timeout=_START_S)
        try:
            yield client
        finally:
            client.close()

    def start(self) -> None:
        """On a free port the first time, on the same one ever after."""
        for _ in range(1 if self.port else _PORTS_TRIED):
            port = self.port or free_port()
            if self._is_started(port):
                self.port = port
                return
        raise AssertionError(f"redis-server did not start: {(self._folder / 'redis.log').read_text()[-2000:]}")

    def kill(self) -> None:
        process = self._process
        if process is None:
            return
        process.kill()
        process.wait()
        self._process = None

    def restart(self) -> None:
        self.kill()
        self.start()

    def remember(self) -> None:
        """What is on disk now, for start_without_last_moments()."""
        shutil.copytree(self._folder, self._remembered, ignore=shutil.ignore_patterns("*.log"))

    def start_without_last_moments(self) -> None:
        """As after a crash before the last writes reached the disk: with what was there at remember()."""
        shutil.copytree(self._remembered, self._folder, dirs_exist_ok=True)
        self.start()

    def pause(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)

    def flush(self) -> None:
        with self.client() as client:
            client.flushall()

    def age(self, seconds: float) -> None:
        """Whatever ends by itself ends that much sooner: time passes, and nobody waits."""
        with self.client() as client:
            for key in client.scan_iter():
                ends_in_ms = int(client.pttl(key))  # type: ignore[arg-type]
                if ends_in_ms < 0:
                    continue  # it never ends
                if (left_ms := ends_in_ms - round(seconds * 1000)) > 0:
                    client.pexpire(key, left_ms)
                else:
                    client.delete(key)

    def _is_started(self, port: int) -> bool:
        where = ["--bind", "127.0.0.1", "--dir", str(self._folder), "--port", str(port)]
        with (self._folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(
                ["redis-server", *where, "--save", "", *self._options], stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        deadline = time.monotonic() + _START_S
        while self._process.poll() is None and time.monotonic() < deadline:
            if self._serves(port):
                return True
            time.sleep(0.01)
        self.kill()
        return False

    def _serves(self, port: int) -> bool:
        """It is this very process that answers, not another's server on the port."""
        assert self._process is not None
        with Redis(host="127.0.0.1", port=port, socket_timeout=_START_S) as client:
            try:
                return bool(client.info("server")["process_id"] == self._process.pid)  # type: ignore[index]
            except RedisError:
                return False


@contextmanager
def running_redis(folder: Path, *options: str) -> Iterator[RedisProcess]:
    skip_without_redis()
    folder.mkdir(parents=True, exist_ok=True)
    server = RedisProcess(folder, *options)
    server.start()
    try:
        yield server
    finally:
        server.kill()


def skip_without_redis() -> None:
    if shutil.which("redis-server") is None:
        pytest.skip("no redis-server on PATH: `apt-get install redis-server`, or `brew install redis`")


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def self_signed(folder: Path, address: str = "127.0.0.1") -> tuple[Path, Path]:
    """A certificate for this IP address, which is its own CA, and its key: PEM files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "redis of a test")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "certificate.pem", folder / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths
