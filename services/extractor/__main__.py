"""python -m services.extractor: one replica of the extractor."""

import asyncio
import signal
import sys

import structlog
import uvloop

from services.claims import open_claims
from services.contract import Group, Role, Topic
from services.errors import ConfigError
from services.extractor.handler import Handler
from services.extractor.kept import KeptReviewer
from services.extractor.look import Look
from services.extractor.reviewer import GrpcReviewer, Targets
from services.github.client import GitHub
from services.settings import Settings, load, replica_name
from services.stream import open_consumer, open_producer
from services.stream.runner import Limits, Runner
from services.stream.types import max_value_bytes
from services.telemetry import Metrics, OpsServer, configure_logging
from services.tracing import open_tracing

log = structlog.get_logger(__name__)


async def run(settings: Settings) -> None:
    metrics = Metrics()
    tracing = open_tracing(settings, Role.EXTRACTOR, replica_name())
    reviewer = GrpcReviewer(Targets(settings.inference.target))
    claims = open_claims(settings)
    kept = KeptReviewer(reviewer, claims, keep_s=settings.claims.chunk_keep_h * 3600)
    async with GitHub(settings.github, metrics) as github:
        producer = open_producer(settings.stream, settings.stream_path, can_redo=True)
        try:
            runner = Runner(
                open_consumer(
                    settings.stream,
                    settings.stream_path,
                    group=Group.EXTRACTOR,
                    topic=Topic.PUSH_EVENTS,
                    member=replica_name(),
                ),
                producer,
                Handler(
                    github,
                    Look(github, claims, keep_s=settings.claims.keep_days * 86400),
                    kept,
                    producer,
                    settings.extractor,
                    metrics,
                    max_record_bytes=max_value_bytes(settings.stream.max_record_bytes),
                ),
                topic=Topic.PUSH_EVENTS,
                group=Group.EXTRACTOR,
                metrics=metrics,
                tracing=tracing,
                limits=Limits(max_in_flight=settings.extractor.max_in_flight),
            )
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, runner.stop)
            bind = settings.project.metrics_bind
            with OpsServer(settings.extractor.metrics_port, metrics, runner.is_ready, bind=bind) as ops:
                log.info("extractor.started", metrics_port=ops.port, inference=settings.inference.target)
                await runner.run()
                log.info("extractor.stopped")
        finally:
            await reviewer.close()
            await claims.close()
            await producer.close()
            tracing.close()


def main() -> int:
    configure_logging(Role.EXTRACTOR)
    try:
        uvloop.run(run(load()))
    except ConfigError as exc:
        log.critical("extractor.refused", error=str(exc))
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
