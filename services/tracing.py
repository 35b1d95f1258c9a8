"""Spans of a service's work, for an OpenTelemetry collector where one is configured.

Without one nothing is made, and a traceparent passes through as it came. Source: W3C Trace Context, level 1.
"""

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

from services import __version__
from services.errors import ConfigError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

    from services.settings import Settings

Kind = Literal["server", "consumer"]
_EXPORT_S: Final = 2.0  # longest wait for the collector, also when the service stops


class Tracing(Protocol):
    def span(self, name: str, parent: str, kind: Kind, **attributes: str | int) -> AbstractContextManager[str]:
        """One piece of work, below the traceparent `parent`; one that is none begins a trace.

        Gives the traceparent of what follows from it; empty where no span is made, and `parent` goes on instead.
        """

    def failed(self, reason: str) -> None:
        """Marks the span that is open here."""

    def close(self) -> None:
        """Sends what is left."""


class Off:
    """No span is made."""

    def span(self, name: str, parent: str, kind: Kind, **attributes: str | int) -> AbstractContextManager[str]:  # noqa: ARG002
        return _NOTHING

    def failed(self, reason: str) -> None: ...

    def close(self) -> None: ...


_NOTHING: Final = contextlib.nullcontext("")
OFF: Final = Off()


class On:
    """Spans go out in the background and in groups; those that the collector does not take are lost."""

    def __init__(self, exporter: "SpanExporter", *, service: str, namespace: str, instance: str) -> None:
        from opentelemetry import trace
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        about = {"service.name": service, "service.namespace": namespace, "service.version": __version__}
        if instance:
            about["service.instance.id"] = instance
        self._provider = TracerProvider(resource=Resource(about), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("sentinel", __version__)
        self._headers = TraceContextTextMapPropagator()
        self._kinds = {"server": trace.SpanKind.SERVER, "consumer": trace.SpanKind.CONSUMER}
        self._trace = trace

    @contextlib.contextmanager
    def span(self, name: str, parent: str, kind: Kind, **attributes: str | int) -> Iterator[str]:
        from opentelemetry.context import Context

        above = self._headers.extract({"traceparent": parent}, context=Context())
        with self._tracer.start_as_current_span(
            name,
            above,
            kind=self._kinds[kind],
            attributes={f"sentinel.{key}": value for key, value in attributes.items()},
            record_exception=False,  # its message is the status; a traceback may hold what is in a diff
        ):
            headers: dict[str, str] = {}
            self._headers.inject(headers)
            yield headers["traceparent"]

    def failed(self, reason: str) -> None:
        self._trace.get_current_span().set_status(self._trace.StatusCode.ERROR, reason)

    def close(self) -> None:
        self._provider.shutdown()


def open_tracing(settings: "Settings", service: str, instance: str = "") -> Tracing:
    """Raises ConfigError where a collector is configured and the extra that speaks to it is not installed."""
    endpoint = settings.tracing.endpoint
    if not endpoint:
        return OFF
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from requests import Session
    except ImportError as exc:
        raise ConfigError(
            f"tracing.endpoint is {endpoint}, and OpenTelemetry is not installed ({exc}): "
            "`pip install 'sentinel-review[otel]'`, or leave tracing.endpoint empty"
        ) from exc
    session = Session()
    session.trust_env = False  # a collector is a neighbour: no proxy, no .netrc
    exporter: Any = OTLPSpanExporter(endpoint, timeout=_EXPORT_S, session=session)
    return On(exporter, service=service, namespace=settings.project.name, instance=instance)
