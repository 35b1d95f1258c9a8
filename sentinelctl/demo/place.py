"""Where the demo runs its services, and the log it can have there."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from sentinelctl.containers import HOST
from sentinelctl.fakehub.server import Running, running_fakehub
from sentinelctl.runtime.base import Progress
from sentinelctl.runtime.docker import DockerRuntime
from sentinelctl.runtime.engine import address_of

if TYPE_CHECKING:
    from services.settings import Settings


class Containers:
    """The demo on an engine. Raises PreflightError where none answers.

    needs_redis: whatever the log. has_redis: the engine has its image then.
    """

    def __init__(self, settings: "Settings", progress: Progress, *, needs_redis: bool = False) -> None:
        runtime = DockerRuntime("sentinel-demo", address_of(settings.docker.host))
        try:
            self._address = runtime.host_address()
            wanted = (settings.images.kafka, settings.images.redis) if settings.stream.kind == "kafka" else ()
            self.missing = [image for image in wanted if not runtime.has_or_pulls(image, progress)]
            self.has_redis = needs_redis and runtime.has_or_pulls(settings.images.redis, progress)
        finally:
            runtime.close()
        self.log = "kafka" if settings.stream.kind == "kafka" and not self.missing else "sqlite"

    @property
    def is_here(self) -> bool:
        """The engine's kernel is this machine's, so a lock on a file counts on both sides."""
        return bool(self._address)

    def fakehub(
        self, repository: Path, *, token: str, latency_ms: float, copies: int = 1
    ) -> AbstractContextManager[Running]:
        """On the engine's own bridge, which other hosts do not reach; on loopback where a virtual machine has it."""
        if not self._address:
            return running_fakehub([repository], copies=copies, token=token, latency_ms=latency_ms)
        return running_fakehub(
            [repository], copies=copies, token=token, latency_ms=latency_ms, host=self._address, allow_remote=True
        )

    def api_url(self, fakehub: Running) -> str:
        if not self._address:  # what it says of itself has to be an address that containers know
            fakehub.hub.base_url = fakehub.url.replace("127.0.0.1", HOST)
        return fakehub.hub.base_url
