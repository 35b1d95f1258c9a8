import sys
from collections.abc import Iterator

import pytest
from opentelemetry.trace import SpanKind, StatusCode

from services.errors import ConfigError
from services.settings import load
from services.tracing import OFF, open_tracing
from tests.services.spans import PARENT, TRACE, TRACEPARENT, Collected, id_of, parent_of


@pytest.fixture
def collected() -> Iterator[Collected]:
    made = Collected()
    yield made
    made.tracing.close()


def ids(traceparent: str) -> tuple[str, str]:
    version, trace, span, flags = traceparent.split("-")
    assert version == "00"
    assert int(flags, 16) & 1, "not sampled"
    return trace, span


def test_without_a_collector_nothing_is_made() -> None:
    assert open_tracing(load(None, {}), "publisher") is OFF
    with OFF.span("work", TRACEPARENT, "consumer") as trace:
        assert trace == ""


def test_a_span_lies_below_its_parent_and_what_follows_below_the_span(collected: Collected) -> None:
    with collected.tracing.span("outer", TRACEPARENT, "consumer", topic="reviews", offset=7) as outer:
        pass
    with collected.tracing.span("inner", outer, "server") as inner:
        pass
    spans = collected.spans()
    assert parent_of(spans["outer"]) == PARENT
    assert ids(outer) == (TRACE, id_of(spans["outer"]))
    assert parent_of(spans["inner"]) == id_of(spans["outer"])
    assert ids(inner) == (TRACE, id_of(spans["inner"]))
    assert (spans["outer"].kind, spans["inner"].kind) == (SpanKind.CONSUMER, SpanKind.SERVER)
    assert dict(spans["outer"].attributes or {}) == {"sentinel.topic": "reviews", "sentinel.offset": 7}
    about = spans["outer"].resource.attributes
    assert (about["service.name"], about["service.instance.id"]) == ("publisher", "host.publisher-1")


@pytest.mark.parametrize("parent", ["", "no traceparent", f"00-{'0' * 32}-{PARENT}-01"])
def test_what_is_no_traceparent_begins_a_trace(collected: Collected, parent: str) -> None:
    with collected.tracing.span("work", parent, "server") as trace:
        ids(trace)
    assert parent_of(collected.spans()["work"]) == ""


def test_a_trace_that_its_sender_does_not_sample_goes_on_unrecorded(collected: Collected) -> None:
    with collected.tracing.span("work", f"00-{TRACE}-{PARENT}-00", "server") as trace:
        assert trace.startswith(f"00-{TRACE}-")
        assert trace.endswith("-00")
    assert collected.spans() == {}


def test_a_span_says_whether_its_work_failed(collected: Collected) -> None:
    with pytest.raises(KeyError), collected.tracing.span("raised", "", "consumer"):
        raise KeyError("x")
    with collected.tracing.span("set aside", "", "consumer"):
        collected.tracing.failed("malformed_review")
    with collected.tracing.span("done", "", "consumer"):
        pass
    spans = collected.spans()
    assert {name: span.status.status_code for name, span in spans.items()} == {
        "raised": StatusCode.ERROR, "set aside": StatusCode.ERROR, "done": StatusCode.UNSET
    }  # fmt: skip
    assert spans["set aside"].status.description == "malformed_review"
    assert [event for span in spans.values() for event in span.events] == []


def test_a_collector_without_the_extra_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    given = load(None, {"SENTINEL_TRACING_ENDPOINT": "http://127.0.0.1:4318/v1/traces"})
    with pytest.raises(ConfigError, match=r"sentinel-review\[otel\]"):
        open_tracing(given, "publisher")
