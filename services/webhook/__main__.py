"""python -m services.webhook: the receiver."""

import asyncio
import multiprocessing
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
from services.webhook.server import Server
from services.webhook.writer import Remote, Writer, recall, serve

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


async def run(settings: Settings, listener: socket.socket, keys: list[bytes], tracing: Tracing, writer: Remote) -> bool:
    """Until it is told to stop, or the writing process ends: False then."""
    metrics = Metrics()
    admin = open_admin(settings.stream, settings.stream_path)

    async def is_ready() -> bool:
        try:
            return Topic.PUSH_EVENTS in await admin.topics()
        except BusUnavailable as exc:
            log.warning("webhook.not_ready", error=str(exc))
            return False

    receiver = Receiver(writer, metrics, keys, max_body_bytes=settings.webhook.max_body_bytes, tracing=tracing)
    server = Server(create_app(receiver, metrics, is_ready))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.stop)
    try:
        writing = await writer.open()
        writing.add_done_callback(lambda _: server.stop())
        host, port = listener.getsockname()[:2]
        log.info("webhook.started", bind=host, port=port)
        await server.serve([listener])
        has_written = not writing.done()
        log.info("webhook.stopped") if has_written else log.error("webhook.writer_ended")
        return has_written
    finally:
        await receiver.close()
        await admin.close()
        tracing.close()


def write(settings: Settings, other_end: socket.socket, connection: socket.socket) -> None:
    """The writing process. Its end is that of `connection`, never a signal to the group: what came is written."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    other_end.close()

    async def run() -> None:
        producer = open_producer(settings.stream, settings.stream_path, on_thread=False)
        claims = open_claims(settings, on_thread=False)
        keep_s = settings.claims.keep_days * 86400
        try:
            admin = open_admin(settings.stream, settings.stream_path)
            await recall(admin, claims, keep_s=keep_s)
            await admin.close()
            await serve(connection, Writer(producer, claims, keep_s=keep_s))
        finally:
            await producer.close()
            await claims.close()

    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(run())
    except Exception:  # whoever started it sees the code alone
        log.exception("webhook.writer_failed")
        sys.exit(1)


def main() -> int:
    configure_logging(Role.WEBHOOK)
    try:
        settings = load()
        keys = secrets(settings.webhook)
    except ConfigError as exc:
        log.error("webhook.refused", error=str(exc))
        return 2
    # Forked, it shares this one's memory; before there are threads, and before the port, which it must not hold.
    ours, theirs = socket.socketpair()
    process = multiprocessing.get_context("fork").Process(target=write, args=(settings, ours, theirs), name="writer")
    process.start()
    theirs.close()
    try:
        tracing = open_tracing(settings, Role.WEBHOOK, replica_name())
        listener = listen(settings.webhook.bind, settings.webhook.port)
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            is_well = runner.run(run(settings, listener, keys, tracing, Remote(ours)))
    except ConfigError as exc:
        log.error("webhook.refused", error=str(exc))
        return 2
    finally:
        ours.close()
        process.join()
    return 0 if is_well else 1


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # Windows
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


if __name__ == "__main__":
    sys.exit(main())
