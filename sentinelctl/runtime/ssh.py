"""The engine of another machine, reached as the user reaches that machine: by their own ssh, its settings and keys.

The SDK has an ssh of its own, which takes another library and reads a part of the user's settings alone.
"""

import atexit
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from sentinelctl.errors import PreflightError

_SOCKET: Final = "/var/run/docker.sock"
_WITHIN_S: Final = 20.0
_POLL_S: Final = 0.02


@dataclass(frozen=True, slots=True)
class _Tunnel:
    process: subprocess.Popen[bytes]
    folder: Path

    @property
    def socket(self) -> Path:
        return self.folder / "engine.sock"

    @property
    def said(self) -> Path:
        return self.folder / "said"

    def close(self) -> str:
        """What ssh said."""
        self.process.terminate()
        self.process.communicate()
        said = self.said.read_text(errors="replace")
        shutil.rmtree(self.folder, ignore_errors=True)
        return " ".join(said.split())


_OPEN: Final[dict[str, _Tunnel]] = {}


def forwarded(address: str) -> str:
    """The path of a socket here that leads to the engine at ssh://[USER@]HOST[:PORT][/PATH OF ITS SOCKET].

    The tunnel is this process's, and ends with it. Raises PreflightError with ssh's own words.
    """
    tunnel = _OPEN.get(address)
    if tunnel is None or tunnel.process.poll() is not None:
        if tunnel is not None:
            close(address)
        tunnel = _OPEN[address] = _opened(address)
    return str(tunnel.socket)


def close(address: str) -> None:
    if (tunnel := _OPEN.pop(address, None)) is not None:
        tunnel.close()


@atexit.register
def _close_all() -> None:
    for address in list(_OPEN):
        close(address)


def _opened(address: str) -> _Tunnel:
    parts = urlsplit(address)
    try:
        host, port = parts.hostname, parts.port
    except ValueError as exc:
        raise _refusal(address, str(exc)) from exc
    if not host:
        raise _refusal(address, "it names no host")
    folder = Path(tempfile.mkdtemp(prefix="sentinel-ssh-"))
    command = ["ssh", "-T", "-o", "BatchMode=yes", "-o", "ExitOnForwardFailure=yes"]
    command += ["-L", f"{folder}/engine.sock:{parts.path.rstrip('/') or _SOCKET}"]
    command += ["-l", parts.username] if parts.username else []
    command += ["-p", str(port)] if port else []
    # What ends with its input ends with us, however we end. A Ctrl-C is for us alone.
    command += ["--", host, "cat"]
    try:
        with (folder / "said").open("wb") as said:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=said, start_new_session=True
            )
    except OSError as exc:
        shutil.rmtree(folder)
        raise _refusal(address, f"ssh: {exc.strerror}") from exc
    tunnel = _Tunnel(process, folder)
    deadline = time.monotonic() + _WITHIN_S
    while not tunnel.socket.exists():
        if process.poll() is not None or time.monotonic() >= deadline:
            heard = tunnel.close()
            raise _refusal(address, heard or f"ssh neither failed nor connected within {_WITHIN_S:g} s")
        time.sleep(_POLL_S)
    return tunnel


def _refusal(address: str, said: str) -> PreflightError:
    host = urlsplit(address).netloc
    return PreflightError(
        f"no Docker engine answers at {address}: {said}",
        remedy=f"`ssh {host} docker info` has to work without a question asked; correct docker.host or DOCKER_HOST, "
        "or use --runtime embedded, which needs none",
    )
