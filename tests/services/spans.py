"""Spans kept in memory, by the SDK's own exporter."""

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.tracing import On

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"


class Collected:
    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.tracing = On(self._exporter, service="publisher", namespace="sentinel", instance="host.publisher-1")

    def spans(self) -> dict[str, ReadableSpan]:
        """All that have ended, by name; none comes after this."""
        self.tracing.close()
        return {span.name: span for span in self._exporter.get_finished_spans()}


def parent_of(span: ReadableSpan) -> str:
    """Its span id, empty for the first of a trace."""
    return f"{span.parent.span_id:016x}" if span.parent else ""


def id_of(span: ReadableSpan) -> str:
    return f"{span.get_span_context().span_id:016x}"
