"""What operators see, declared once: metric names with their meaning, the log format, and the operations port."""

import contextlib
import json
import logging
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Self

import msgspec
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.process_collector import ProcessCollector

from services.errors import ConfigError

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)


class Metrics:
    """Every metric of every service. Labels are bounded: never a repository, a pull request or a sha.

    Each replica makes one and serves it; a role touches its own part.
    """

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.webhook_received = Counter(
            "sentinel_webhook_received_total",
            "Deliveries answered, by what was answered",
            ["status"],
            registry=registry,
        )
        self.kafka_lag = Gauge(
            "sentinel_kafka_lag", "Records of the owned partitions not yet committed", ["topic"], registry=registry
        )
        self.active_workers = Gauge("sentinel_active_workers", "Records being worked on", registry=registry)
        self.inference_latency = Histogram(
            "sentinel_inference_latency_seconds",
            "One inference call, queue included",
            registry=registry,
            buckets=_SECONDS,
        )
        self.inference_queue = Histogram(
            "sentinel_inference_queue_seconds", "Wait of a chunk for its batch", registry=registry, buckets=_SECONDS
        )
        self.batch_size = Histogram(
            "sentinel_batch_size", "Chunks in one forward pass", registry=registry, buckets=(1, 2, 4, 8, 16, 32, 64)
        )
        self.e2e_latency = Histogram(
            "sentinel_e2e_latency_seconds", "Webhook received to review posted", registry=registry, buckets=_SECONDS
        )
        self.stage = Histogram(
            "sentinel_stage_seconds",
            "What the time of a posted review went into, by stage",
            ["stage"],
            registry=registry,
            buckets=_SECONDS,
        )
        self.review_posted = Counter(
            "sentinel_review_posted_total",
            "Findings posted, by severity; `none` is a review without findings",
            ["severity", "status"],
            registry=registry,
        )
        self.delivery_ended = Counter(
            "sentinel_delivery_ended_total", "Deliveries by how they ended", ["outcome"], registry=registry
        )
        self.hunks = Counter(
            "sentinel_hunks_total", "Hunks reviewed, or skipped by reason", ["result"], registry=registry
        )
        self.overflow = Counter(
            "sentinel_overflow_total",
            "Heads that went by diff-chunks, by why: busy, late, unreachable",
            ["reason"],
            registry=registry,
        )
        self.bus_errors = Counter(
            "sentinel_bus_errors_total", "Failures of the log", ["topic", "operation"], registry=registry
        )
        self.deferred = Counter(
            "sentinel_deferred_total", "Records put off because the outside failed", ["topic"], registry=registry
        )
        self.dead_letters = Counter(
            "sentinel_dead_letters_total", "Records set aside, by reason", ["topic", "reason"], registry=registry
        )
        self.halted = Gauge("sentinel_consumer_halted", "1 while the consumer refuses to go on", registry=registry)
        self.autoscaler_replicas = Gauge(
            "sentinel_autoscaler_replicas", "Replicas that the autoscaler asks for", ["scaled"], registry=registry
        )
        self.github_requests = Counter(
            "sentinel_github_requests_total",
            "Requests to GitHub, by method and status class",
            ["method", "status"],
            registry=registry,
        )
        self.github_seconds = Histogram(
            "sentinel_github_request_seconds", "One request to GitHub", ["method"], registry=registry, buckets=_SECONDS
        )


class _Lines:
    """Lines to stderr. While the disk behind it is full they are lost, and nothing else is: no delivery is refused and
    no replica ends because what happened cannot be told."""

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError):
            sys.stderr.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            sys.stderr.flush()


_LINES: Final[Any] = _Lines()


def configure_logging(service: str, *, level: int = logging.INFO) -> None:
    """JSON lines on stderr: event, level, ts (Unix seconds), service and the fields given.

    Warnings of libraries come out the same way.
    """
    fields: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt=None, key="ts"),
        structlog.processors.format_exc_info,
    ]
    library = logging.StreamHandler(_LINES)
    library.setFormatter(structlog.stdlib.ProcessorFormatter(_render, foreign_pre_chain=fields))
    logging.basicConfig(handlers=[library], level=logging.WARNING)
    structlog.configure(
        processors=[*fields, _render],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=_LINES),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)


_encode: Final = msgspec.json.Encoder(enc_hook=repr).encode


def _render(_logger: Any, _method: str, line: MutableMapping[str, Any]) -> str:
    """ASCII, whatever the terminal or the file would make of other characters."""
    try:
        text = _encode(line).decode()
        if text.isascii():
            return text
    except (ValueError, TypeError, OverflowError):
        pass  # half a surrogate pair, a key that is no string, a huge integer: rare, and json knows what to do
    return json.dumps(line, default=repr)


def log_each(event: str, lines: Iterable[Mapping[str, Any]]) -> None:
    """One info line for each of them, in one write.

    A write lets go of Python's lock, which wakes every thread that waits for it: hundreds of times a second that costs
    more than what the lines are about.
    """
    *processors, render = structlog.get_config()["processors"]
    shared: Any = {"event": event}
    for processor in processors:
        shared = processor(None, "info", shared)
    structlog.WriteLogger(_LINES).msg("\n".join(render(None, "info", {**line, **shared}) for line in lines))


class OpsServer:
    """/health (the process lives), /ready (`is_ready()` holds) and /metrics, from a thread of its own."""

    def __init__(self, port: int, metrics: Metrics, is_ready: Callable[[], bool], *, bind: str = "127.0.0.1") -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == "/metrics":
                    self._answer(200, CONTENT_TYPE_LATEST, generate_latest(metrics.registry))
                elif self.path == "/health":
                    self._answer(200, "text/plain", b"ok\n")
                elif self.path == "/ready":
                    ready = is_ready()
                    self._answer(200 if ready else 503, "text/plain", b"ready\n" if ready else b"not ready\n")
                else:
                    self._answer(404, "text/plain", b"try /health, /ready or /metrics\n")

            def _answer(self, status: int, kind: str, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: Any) -> None:
                """Probes and scrapes are not worth a line."""

        try:
            self._server = ThreadingHTTPServer((bind, port), Handler)
        except OSError as exc:
            raise ConfigError(
                f"/metrics cannot listen on {bind}:{port}: {exc.strerror or exc}; end its holder, or set metrics_port"
            ) from exc
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        # The interval is how long a drain waits for this thread.
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, name="ops", daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
