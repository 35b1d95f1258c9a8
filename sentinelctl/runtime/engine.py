"""The Docker engine: where it is, whether it answers, and what its refusals mean for people."""

import contextlib
import http.client
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sentinelctl.errors import PreflightError, SentinelError
from sentinelctl.runtime.ssh import forwarded

if TYPE_CHECKING:
    import docker

LEAST_API: Final = "1.41"
"""Of Docker 20.10, which Debian 12 has."""
_DEFAULT: Final = "unix:///var/run/docker.sock"
_DESKTOP: Final = ".docker/run/docker.sock"
_PING_S: Final = 2.0
_CALL_S: Final = 120
_WITHOUT: Final = "or use --runtime embedded, which needs none"


def address_of(setting: str) -> str:
    """`setting`: docker.host. An explicit one, else DOCKER_HOST, else the socket of this machine."""
    if named := setting or os.environ.get("DOCKER_HOST", ""):
        return named
    desktop = Path.home() / _DESKTOP
    return f"unix://{desktop}" if desktop.exists() and not Path(_DEFAULT.removeprefix("unix://")).exists() else _DEFAULT


def is_local(address: str) -> bool:
    return address.startswith("unix://")


def socket_path(address: str) -> str:
    """Where the engine has its own socket, on its own machine: what a container mounts to reach it."""
    path = address.removeprefix("unix://")
    return path if is_local(address) and not path.endswith(_DESKTOP) else _DEFAULT.removeprefix("unix://")


def socket_group(address: str) -> int:
    """Whom the socket lets in, as its own machine knows them; in the virtual machine of a desktop that is 0."""
    try:
        return Path(socket_path(address)).stat().st_gid if sys.platform == "linux" else 0
    except OSError:
        return 0


def silence(address: str) -> str:
    """Why no engine answers there; empty when one does. A local one without the SDK, so that every command can ask."""
    try:
        if is_local(address):
            _ping(address, address.removeprefix("unix://"))
        else:
            connect(address).close()
    except PreflightError as exc:
        return exc.message
    return ""


def _ping(address: str, path: str) -> None:
    line = _Line(path)
    try:
        line.request("GET", "/_ping")
        answer = line.getresponse()
        answer.read()
    except (OSError, http.client.HTTPException) as exc:
        raise _absent(address, exc) from exc
    finally:
        line.close()
    if answer.status != http.client.OK:
        raise PreflightError(f"the Docker engine at {address} answers {answer.status}", remedy="look at its log")


def connect(address: str) -> "docker.APIClient":
    """Raises PreflightError, with what to do, for an engine that is absent, refuses or is too old."""
    at = f"unix://{forwarded(address)}" if address.startswith("ssh://") else address
    if is_local(at):
        _ping(address, at.removeprefix("unix://"))
    import docker
    from docker.errors import DockerException

    try:
        client = docker.APIClient(at, timeout=_CALL_S, tls=_tls())
    except (DockerException, OSError) as exc:
        raise _absent(address, exc) from exc
    try:
        version = client.version()["ApiVersion"]
    except (DockerException, OSError) as exc:
        client.close()
        raise _absent(address, exc) from exc
    if _numbers(version) < _numbers(LEAST_API):
        client.close()
        raise PreflightError(
            f"the Docker engine at {address} speaks API {version}; {LEAST_API} is needed",
            remedy=f"update it to Docker 20.10 or newer, {_WITHOUT}",
        )
    return client


@contextlib.contextmanager
def explained(doing: str) -> Iterator[None]:
    """The SDK's errors as ours. `doing`: what was tried, for the message."""
    from docker.errors import APIError, DockerException, ImageNotFound
    from requests.exceptions import RequestException

    try:
        yield
    except ImageNotFound as exc:
        raise no_image(doing, str(exc.explanation or exc)) from exc
    except APIError as exc:
        said = str(exc.explanation or exc)
        raise _refused(doing, said) from exc
    except (DockerException, RequestException, OSError) as exc:
        raise SentinelError(
            f"{doing}: the Docker engine did not answer: {exc}",
            remedy="look at its log (`journalctl -u docker`); after it is back, `sentinelctl up` goes on from here",
        ) from exc


def no_image(doing: str, said: str) -> PreflightError:
    return PreflightError(
        f"{doing}: {said.strip()}",
        remedy="with no hub in reach, bring the image (`docker load`, your own registry) and name it by its key in "
        "[images]; prometheus.enabled = false does without Prometheus and Grafana, grafana.enabled = false without "
        'Grafana, and stream.kind = "sqlite" without Kafka: with the first and the last, our own images are all',
    )


def _refused(doing: str, said: str) -> SentinelError:
    low = said.lower()
    if "no space left on device" in low:
        return PreflightError(
            f"{doing}: the engine's disk is full: {said.strip()}",
            remedy="free some: `docker system df` shows what takes it, `docker system prune` drops what nothing uses",
        )
    missing = ("manifest unknown", "pull access denied", "not found: manifest", "no such host", "no such image")
    if any(word in low for word in (*missing, "repository does not exist", "connection refused", "i/o timeout")):
        return no_image(doing, said)
    if "bind source path does not exist" in low or ("failed to mount local volume" in low and "no such file" in low):
        return PreflightError(
            f"{doing}: the engine does not see a file of this machine: {said.strip()}",
            remedy="an engine of another machine mounts that machine's files: run sentinelctl there, or do without "
            'what needs the file: prometheus.enabled = false; stream.kind = "kafka" with claims.kind = "redis"',
        )
    if "port is already allocated" in low or "address already in use" in low:
        return PreflightError(
            f"{doing}: a port is taken: {said.strip()}", remedy="end what holds it, or set another port; 0 takes any"
        )
    if "is already in use by container" in low:
        return PreflightError(
            f"{doing}: {said.strip()}",
            remedy="that container carries none of our labels; rename or remove it, or set another project.name",
        )
    return SentinelError(f"{doing}: the Docker engine refuses: {said.strip()}")


def _absent(address: str, exc: BaseException) -> PreflightError:
    seen = _reasons(exc)
    if any(isinstance(one, PermissionError) for one in seen) or "Permission denied" in str(exc):
        return PreflightError(
            f"the Docker engine at {address} does not let this user in: permission denied",
            remedy=f"add the user to the group that owns the socket (`usermod -aG docker $USER`, then log in again), "
            f"{_WITHOUT}",
        )
    said = next((one.strerror for one in seen if isinstance(one, OSError) and one.strerror), str(exc))
    return PreflightError(
        f"no Docker engine answers at {address}: {said}",
        remedy=f"start it (`systemctl start docker`, or Docker Desktop), set docker.host or DOCKER_HOST, {_WITHOUT}",
    )


def _reasons(exc: BaseException) -> list[BaseException]:
    """An exception and what it wraps: the SDK hides the system's error several levels down."""
    found: list[BaseException] = []
    queue: list[Any] = [exc]
    while queue:
        one = queue.pop()
        if isinstance(one, BaseException) and one not in found:
            found.append(one)
            queue += [one.__cause__, one.__context__, getattr(one, "reason", None), *one.args]
    return found


def _tls() -> Any:
    """As the docker command has it: DOCKER_TLS_VERIFY and DOCKER_CERT_PATH."""
    from docker.utils import kwargs_from_env

    return kwargs_from_env().get("tls", False)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


class _Line(http.client.HTTPConnection):
    """HTTP over a socket of this machine."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_PING_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_PING_S)
        self.sock.connect(self._path)
