"""python -m services.inference: one replica of the inference server."""

import asyncio
import signal
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import structlog
import uvloop

from model.engine import Engine, ModelError, Probabilities, load_engine
from model.inputs.chunk import Chunk
from services.contract import Role
from services.errors import ConfigError
from services.inference.batcher import Batcher
from services.inference.server import InferenceServer, serve
from services.settings import InferenceSettings, Settings, load
from services.telemetry import Metrics, OpsServer, configure_logging

log = structlog.get_logger(__name__)


async def run(settings: Settings) -> None:
    own, metrics = settings.inference, Metrics()
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    engine = _load(own)
    with ThreadPoolExecutor(1, thread_name_prefix="engine") as thread:

        async def predict(chunks: Sequence[Chunk]) -> list[Probabilities]:
            return await loop.run_in_executor(thread, engine.predict, chunks)

        server = InferenceServer(engine, Batcher(predict, own, metrics, loop), metrics, loop)
        with OpsServer(own.metrics_port, metrics, lambda: not stop.is_set()) as ops:
            try:
                async with serve(server, f"{own.bind}:{own.port}") as port:
                    log.info("inference.started", port=port, metrics_port=ops.port)
                    await stop.wait()
                    log.info("inference.draining")
            except OSError as exc:
                raise ConfigError(f"{exc}; end what holds the port, or set inference.port") from exc
    log.info("inference.stopped")


def _load(settings: InferenceSettings) -> Engine:
    started = time.perf_counter()
    try:
        engine = load_engine(
            settings.engine, Path(settings.weights).expanduser() if settings.weights else None, settings.threads or None
        )
    except ModelError as exc:
        raise ConfigError(str(exc)) from exc
    info = engine.info
    log.info(
        "model.loaded",
        name=info.name,
        version=info.version,
        digest=info.digest,
        engine=info.engine,
        seconds=round(time.perf_counter() - started, 3),
    )
    return engine


def main() -> int:
    configure_logging(Role.INFERENCE)
    try:
        uvloop.run(run(load()))
    except ConfigError as exc:
        log.critical("inference.refused", error=str(exc))
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
