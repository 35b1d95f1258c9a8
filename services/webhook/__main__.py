"""python -m services.webhook: the receiver."""

import asyncio
import signal
import socket
import sys
from collections.abc import Callable

import structlog

from services.claims import open_claims
from services.contract import Role, Topic
from services.errors import BusUnavailable, ConfigError
from services.settings import Settings, WebhookSettings, load, replica_name, variable
from services.stream import open_admin, open_producer
from services.telemetry import Metrics, configure_logging
from services.tracing import Tracing, open_tracing
from services.webhook.app import Receiver, create_app
from services.webhook.intake import recall
from services.webhook.server import Server

log = structlog.get_logger(__name__)


def secrets(settings: WebhookSettings) -> list[bytes]:
    """The present one, and the one before where there is one. Raises ConfigError when there is none."""
    present, previous = settings.secret.get_secret_value(), settings.secret_previous.get_secret_value()
    if not present.strip():
        name = variable("webhook", "secret")
        raise ConfigError(
            f"no webhook secret: set {name}, or {name}_FILE to a file that holds it, to the secret of the hook on "
            "GitHub; `python3 -c 'import secrets; print(secrets.token_hex(32))'` makes a new one"
        )
    return [secret.encode() for secret in (present, previous) if secret]


def listen(bind: str, port: int) -> socket.socket:
    """Raises ConfigError naming the address."""
    try:
        family, _, _, _, address = socket.getaddrinfo(bind, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family, backlog=2048)
    except OSError as exc:
        raise ConfigError(
            f"cannot listen on {bind}:{port}: {exc}; end what holds the port, or set webhook.bind and webhook.port"
        ) from exc


async def run(settings: Settings, listener: socket.socket, keys: list[bytes], tracing: Tracing) -> None:
    metrics = Metrics()
    producer = open_producer(settings.stream, settings.stream_path)
    admin = open_admin(settings.stream, settings.stream_path)
    claims = open_claims(settings)

    async def is_ready() -> bool:
        try:
            return Topic.PUSH_EVENTS in await admin.topics()
        except BusUnavailable as exc:
            log.warning("webhook.not_ready", error=str(exc))
            return False

    keep_s = settings.claims.keep_days * 86400
    receiver = Receiver(
        producer,
        claims,
        metrics,
        keys,
        max_body_bytes=settings.webhook.max_body_bytes,
        keep_s=keep_s,
        tracing=tracing,
    )
    server = Server(create_app(receiver, metrics, is_ready))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.stop)
    try:
        await recall(admin, claims, keep_s=keep_s)
        host, port = listener.getsockname()[:2]
        log.info("webhook.started", bind=host, port=port)
        await server.serve([listener])
        log.info("webhook.stopped")
    finally:
        await receiver.close()
        await producer.close()
        await admin.close()
        await claims.close()
        tracing.close()


def main() -> int:
    configure_logging(Role.WEBHOOK)
    try:
        settings = load()
        keys = secrets(settings.webhook)
        tracing = open_tracing(settings, Role.WEBHOOK, replica_name())
        listener = listen(settings.webhook.bind, settings.webhook.port)
    except ConfigError as exc:
        log.error("webhook.refused", error=str(exc))
        return 2
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(run(settings, listener, keys, tracing))
    return 0


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # Windows
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


if __name__ == "__main__":
    sys.exit(main())
