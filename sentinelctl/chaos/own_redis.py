"""A redis-server of the run's own, for what becomes of claims when theirs is killed or begins anew."""

import contextlib
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sentinelctl.chaos.journal import Journal
from sentinelctl.errors import PreflightError
from sentinelctl.runtime.process import free_ports, start_token

_START_S: Final = 20.0
_OPTIONS: Final = ("--save", "", "--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction")


class OwnRedis:
    """On one port of loopback; what it acknowledged is on disk, until it is told to lose it."""

    def __init__(self, folder: Path, journal: Journal) -> None:
        self._folder, self._journal = folder, journal
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_ports({"redis": "127.0.0.1"}, but=())["redis"]

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Returns when it answers. Raises PreflightError where it does not."""
        self._folder.mkdir(parents=True, exist_ok=True)
        where = ("--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self._folder))
        with (self._folder.parent / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(
                ["redis-server", *where, *_OPTIONS], stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        pid = self._process.pid
        self._journal.note({"do": "kill", "pid": pid, "started": start_token(pid) or "", "of": "redis-server"})
        deadline = time.monotonic() + _START_S
        while self.keys() is None:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise PreflightError(
                    f"redis-server did not start on port {self.port}", remedy=f"see {self._folder.parent / 'redis.log'}"
                )
            time.sleep(0.02)

    def kill(self) -> int:
        """kill -9; the pid that was."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        return self._process.pid

    def lose(self) -> None:
        """What a disk had that is gone with it."""
        shutil.rmtree(self._folder)

    def keys(self) -> int | None:
        """How many it holds; None where it does not answer."""
        from redis import Redis
        from redis.exceptions import RedisError

        with Redis(host="127.0.0.1", port=self.port, socket_timeout=2) as client, contextlib.suppress(RedisError):
            return int(client.dbsize())
        return None


@contextmanager
def running_redis(folder: Path, journal: Journal) -> Iterator[OwnRedis]:
    server = OwnRedis(folder, journal)
    server.start()
    try:
        yield server
    finally:
        server.kill()
