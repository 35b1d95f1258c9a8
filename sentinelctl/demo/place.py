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
    """The demo on an engine. Raises PreflightError where none answers."""

    def __init__(self, settings: "Settings", progress: Progress) -> None:
        runtime = DockerRuntime("sentinel-demo", address_of(settings.docker.host))
        try:
            self._address = runtime.host_address()
            self.missing = [
                image
                for image in (settings.images.kafka, settings.images.redis)
                if settings.stream.kind == "kafka" and not runtime.has_or_pulls(image, progress)
            ]
        finally:
            runtime.close()
        self.log = "kafka" if settings.stream.kind == "kafka" and not self.missing else "sqlite"

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
