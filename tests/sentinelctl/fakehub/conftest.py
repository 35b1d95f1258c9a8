"""Real git repositories in a temporary folder, and a client of a fakehub over them."""

import os
import subprocess
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from sentinelctl.fakehub.app import create_app
from sentinelctl.fakehub.hub import FakeHub, Repository

IDENTITY = {
    "GIT_AUTHOR_NAME": "Ada",
    "GIT_AUTHOR_EMAIL": "ada@example.com",
    "GIT_AUTHOR_DATE": "2026-03-01T12:00:00+02:00",
    "GIT_COMMITTER_NAME": "Ada",
    "GIT_COMMITTER_EMAIL": "ada@example.com",
    "GIT_COMMITTER_DATE": "2026-03-01T12:00:00+02:00",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
}


@dataclass(frozen=True)
class Workshop:
    """A git repository to build on; `None` as content removes a file."""

    path: Path

    def git(self, *arguments: str, stdin: str = "") -> str:
        done = subprocess.run(
            ["git", "-C", str(self.path), *arguments],
            env={**os.environ, **IDENTITY},
            input=stdin.encode(),
            capture_output=True,
            check=True,
        )
        return done.stdout.decode().strip()

    def write(self, files: Mapping[str | bytes, bytes | None]) -> None:
        for name, content in files.items():
            path = self.path / os.fsdecode(name)
            if content is None:
                path.unlink()
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    def commit(self, message: str, files: Mapping[str | bytes, bytes | None] | None = None) -> str:
        self.write(files or {})
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")


def new_workshop(path: Path) -> Workshop:
    path.mkdir()
    shop = Workshop(path)
    shop.git("init", "--quiet", "--initial-branch=main")
    return shop


def lines(first: int, last: int) -> bytes:
    return b"".join(b"line %d\n" % number for number in range(first, last + 1))


OLD: Mapping[str | bytes, bytes | None] = {
    "two_hunks.py": lines(1, 40),
    "no_newline.txt": b"one\ntwo\nthree",
    "crlf.txt": b"one\r\ntwo\r\nthree\r\n",
    "old_name.txt": lines(1, 20),
    "gone.txt": b"one\ntwo\n",
    "data.bin": b"\0\1\2",
    "tool.sh": b"echo\n",
    b"caf\xe9.txt": b"caf\xe9\n",
}
NEW: Mapping[str | bytes, bytes | None] = {
    "two_hunks.py": lines(1, 2) + b"line 3, changed\n" + lines(4, 29) + b"added\n" + lines(30, 40),
    "no_newline.txt": b"one\n2\nthree",
    "crlf.txt": b"one\r\n2\r\nthree\r\n",
    "old_name.txt": None,
    "new_name.txt": lines(1, 9) + b"renamed and changed\n" + lines(11, 20),
    "gone.txt": None,
    "data.bin": b"\0\3\4",
    'a folder/ünï "quoted".txt': b"new\n",
    b"caf\xe9.txt": b"caf\xe9!\n",
}


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    """Two commits: OLD, then NEW with a mode change."""
    shop = new_workshop(tmp_path / "sample")
    shop.commit("first", OLD)
    shop.write(NEW)
    (shop.path / "tool.sh").chmod(0o755)
    shop.commit("second\n\nWith a body.")
    return shop


@pytest.fixture
def hub(shop: Workshop) -> FakeHub:
    return FakeHub([shop.path])


@pytest.fixture
def served(hub: FakeHub) -> Repository:
    return hub.repositories[0]


@pytest.fixture
async def client(hub: FakeHub) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(create_app(hub))
    async with httpx2.AsyncClient(transport=transport, base_url=hub.base_url) as client:
        yield client
