"""python -m services.autoscaler: the one process that decides how many replicas of the others there are."""

import asyncio
import contextlib
import signal
import sys
import time

import httpx2
import structlog
import uvloop

from services.autoscaler.loop import Journal, Loop, rules
from services.autoscaler.replicas import Actor, Counts, EmbeddedActor, Pages, Unseen
from services.contract import Role
from services.counts import DECISIONS, LOCK
from services.errors import ConfigError
from services.settings import Settings, load
from services.stream import open_admin
from services.telemetry import Metrics, OpsServer, configure_logging

log = structlog.get_logger(__name__)

_ANSWER_S = 2.0


async def run(settings: Settings) -> None:
    own, metrics, stop = settings.autoscaler, Metrics(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    limits = rules(settings)
    asked = Counts(settings.state_dir, {name: rule.least for name, rule in limits.items()})
    actor = _actor(settings, asked)
    journal = Journal(settings.state_dir / DECISIONS, time.time)
    admin = open_admin(settings.stream, settings.stream_path)
    try:
        async with httpx2.AsyncClient(trust_env=False, timeout=_ANSWER_S) as client:
            scaler = Loop(limits, admin, asked, actor, Pages(client), journal, metrics, time.monotonic)
            looked_at_s = -1e9

            def is_ready() -> bool:
                """It has looked, and not too long ago."""
                return time.monotonic() - looked_at_s < 3 * own.interval_s + 10 * _ANSWER_S

            with OpsServer(own.metrics_port, metrics, is_ready, bind=settings.project.metrics_bind) as ops:
                log.info("autoscaler.started", metrics_port=ops.port)
                while not stop.is_set():
                    await scaler.look()
                    looked_at_s = time.monotonic()
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(own.interval_s):
                            await stop.wait()
    finally:
        await actor.close()
        await admin.close()
    log.info("autoscaler.stopped")


def _actor(settings: Settings, asked: Counts) -> Actor:
    """Raises ConfigError where no engine answers."""
    if settings.project.runtime != "docker":
        return EmbeddedActor(settings.state_dir)
    from services.autoscaler.containers import DockerActor, connect

    try:
        engine = connect(settings.docker.host)
    except Unseen as exc:
        raise ConfigError(str(exc)) from exc
    return DockerActor(engine, settings.project.name, asked, settings.state_dir / LOCK)


def main() -> int:
    configure_logging(Role.AUTOSCALER)
    try:
        uvloop.run(run(load()))
    except ConfigError as exc:
        log.critical("autoscaler.refused", error=str(exc))
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
