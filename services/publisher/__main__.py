"""python -m services.publisher: one replica of the publisher."""

import asyncio
import signal
import sys

import structlog
import uvloop

from services.claims import open_claims
from services.contract import Group, Role, Topic
from services.errors import ConfigError
from services.github.client import GitHub
from services.publisher.handler import Handler
from services.publisher.watch import ClaimsWatch
from services.settings import Settings, load, replica_name
from services.stream import open_consumer, open_producer
from services.stream.runner import Runner
from services.telemetry import Metrics, OpsServer, configure_logging
from services.tracing import open_tracing

log = structlog.get_logger(__name__)


async def run(settings: Settings) -> None:
    metrics = Metrics()
    tracing = open_tracing(settings, Role.PUBLISHER, replica_name())
    claims = open_claims(settings)
    producer = open_producer(settings.stream, settings.stream_path, can_redo=True)
    try:
        async with GitHub(settings.github, metrics) as github:
            runner = Runner(
                open_consumer(
                    settings.stream,
                    settings.stream_path,
                    group=Group.PUBLISHER,
                    topic=Topic.REVIEWS,
                    member=replica_name(),
                ),
                producer,
                Handler(github, claims, metrics, settings=settings.publisher, claims_settings=settings.claims),
                topic=Topic.REVIEWS,
                group=Group.PUBLISHER,
                metrics=metrics,
                tracing=tracing,
            )
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, runner.stop)
            watch = ClaimsWatch(claims)
            await watch.look()
            watching = asyncio.create_task(watch.run())
            try:
                bind = settings.project.metrics_bind
                with OpsServer(settings.publisher.metrics_port, metrics, runner.is_ready, bind=bind) as ops:
                    log.info("publisher.started", metrics_port=ops.port)
                    await runner.run()
                    log.info("publisher.stopped")
            finally:
                watching.cancel()
    finally:
        await producer.close()
        await claims.close()
        tracing.close()


def main() -> int:
    configure_logging(Role.PUBLISHER)
    try:
        uvloop.run(run(load()))
    except ConfigError as exc:
        log.critical("publisher.refused", error=str(exc))
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
