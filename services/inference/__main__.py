"""python -m services.inference: one replica of the inference server."""

import asyncio
import signal
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import structlog
import uvloop

from model.engine import Engine, ModelError, Probabilities, load_engine
from model.inputs.chunk import Chunk
from services.contract import Group, Role, Topic
from services.errors import ConfigError
from services.inference.batcher import Batcher
from services.inference.overflow import Handler
from services.inference.reviewer import Reviewer
from services.inference.server import InferenceServer, serve
from services.settings import InferenceSettings, Settings, load, replica_name
from services.stream import open_admin, open_consumer, open_producer
from services.stream.runner import Limits, Runner
from services.stream.types import max_value_bytes
from services.telemetry import Metrics, OpsServer, configure_logging
from services.tracing import open_tracing

log = structlog.get_logger(__name__)


# Few heads of diff-chunks at once, so that direct calls pass between them; one that is cut short is read again.
_OVERFLOW: Final = Limits(max_in_flight=4, drain_s=2.0)


async def run(settings: Settings) -> None:
    own, metrics = settings.inference, Metrics()
    loop = asyncio.get_running_loop()
    runner: Runner
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: runner.stop())  # runs at the first await, when there is a runner
    tracing = open_tracing(settings, Role.INFERENCE, replica_name())
    engine = _load(own)
    producer = open_producer(settings.stream, settings.stream_path, can_redo=True)
    admin = open_admin(settings.stream, settings.stream_path)
    with ThreadPoolExecutor(1, thread_name_prefix="engine") as thread:

        async def predict(chunks: Sequence[Chunk]) -> list[Probabilities]:
            return await loop.run_in_executor(thread, engine.predict, chunks)

        reviewer = Reviewer(engine, Batcher(predict, own, metrics, loop), metrics, loop)
        runner = Runner(
            open_consumer(
                settings.stream,
                settings.stream_path,
                group=Group.INFERENCE,
                topic=Topic.DIFF_CHUNKS,
                member=replica_name(),
            ),
            producer,
            Handler(reviewer, admin, metrics, max_record_bytes=max_value_bytes(settings.stream.max_record_bytes)),
            topic=Topic.DIFF_CHUNKS,
            group=Group.INFERENCE,
            metrics=metrics,
            tracing=tracing,
            limits=_OVERFLOW,
        )
        try:
            bind = settings.project.metrics_bind
            with OpsServer(own.metrics_port, metrics, runner.is_working, bind=bind) as ops:
                async with serve(InferenceServer(reviewer, tracing), f"{own.bind}:{own.port}") as port:
                    log.info("inference.started", port=port, metrics_port=ops.port)
                    await runner.run()
                    log.info("inference.draining")
        finally:
            await producer.close()
            await admin.close()
            tracing.close()
    log.info("inference.stopped")


def _load(settings: InferenceSettings) -> Engine:
    started = time.perf_counter()
    try:
        engine = load_engine(
            settings.engine,
            Path(settings.weights).expanduser() if settings.weights else None,
            settings.threads or None,
            settings.min_precision,
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
