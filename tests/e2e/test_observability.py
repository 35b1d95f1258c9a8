"""A push that can be followed through every service, and a stack that is watched by a real Prometheus.

One stack with Prometheus and a collector of spans beside it takes a dozen pushes, one that cannot be reviewed and one
that is no record at all.
"""

import asyncio
import json
import math
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import httpx2
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client.parser import text_string_to_metric_families

from sentinelctl.demo.history import read_history
from sentinelctl.fakehub.server import running_fakehub
from services.contract import Topic
from services.settings import load
from services.stream import open_producer
from services.stream.types import NewRecord
from tests.grafana.dashboard import DASHBOARD, metrics_in, queries, recorded

from ..contracts.test_metrics import OTHERS, named
from .conftest import git
from .test_lifecycle import TOKEN, Sender, Site, eventually, shown_by, site_in

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.prometheus,
    pytest.mark.skipif(
        shutil.which("prometheus") is None, reason="no prometheus on PATH: apt-get install prometheus"
    ),
]  # fmt: skip

ROLES = ("webhook", "extractor", "inference", "publisher")
BESIDE = ("autoscaler", "prometheus")
_WITHIN_S = 150.0  # the long windows are recorded once a minute


class Collector:
    """An OTLP/HTTP receiver: every span it was sent, by service."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, Any]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                assert self.headers.get("Content-Encoding") is None
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    about = {one.key: one.value.string_value for one in resource.resource.attributes}
                    for scope in resource.scope_spans:
                        outer.spans += [(about["service.name"], span) for span in scope.spans]
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1/traces"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


@dataclass
class Watched:
    site: Site
    prometheus: str
    collector: Collector
    reviewed: list[str]
    """Delivery ids."""
    began: float

    def ask(self, path: str, **parameters: str | float) -> Any:
        answer = httpx2.get(f"{self.prometheus}/api/v1/{path}", params=parameters, trust_env=False, timeout=30)
        document = answer.json()
        assert document["status"] == "success", document
        return document["data"]

    def values(self, query: str, *, is_instant: bool) -> list[float]:
        """All finite numbers that a panel would draw of the time since the run began."""
        text = query.replace("$__rate_interval", "20s").replace("$__range", "10m").replace("$service", ".+")
        if is_instant:
            found = [one["value"] for one in self.ask("query", query=text)["result"]]
        else:
            span = {"start": self.began, "end": time.time(), "step": 5}
            found = [pair for one in self.ask("query_range", query=text, **span)["result"] for pair in one["values"]]
        return [number for _, text in found if math.isfinite(number := float(text))]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("watched")
    path = folder / "served"
    path.mkdir()
    git(path, "init", "-q", "-b", "main")
    for number in range(13):
        (path / "app.py").write_text(f"import os\nLIMIT = {number}\ndef load(path):\n    return open(path).read()\n")
        (path / "package-lock.json").write_text(json.dumps({"version": number}))  # which no model reads
        git(path, "add", ".")
        git(path, "commit", "-qm", f"step {number}")
    settings = {
        "SENTINEL_PROMETHEUS_ENABLED": "true",
        "SENTINEL_PROMETHEUS_PORT": "0",
        "SENTINEL_AUTOSCALER_ENABLED": "true",
        "SENTINEL_AUTOSCALER_METRICS_PORT": "0",
        "SENTINEL_AUTOSCALER_INFERENCE_QUEUE_MS": "60000",  # a slow machine is no reason for another server here
    }
    with Collector() as collector, running_fakehub([path], token=TOKEN, latency_ms=20) as fakehub:
        settings["SENTINEL_TRACING_ENDPOINT"] = collector.url
        with site_in(folder, fakehub.hub.base_url, **settings) as site:
            began = time.time()
            up = site.done("up").document
            watched = Watched(site, up["metrics_url"], collector, [], began)
            run(watched, Sender(webhook(site), fakehub.hub, read_history(path, 12).pushes))
            yield watched


def webhook(site: Site) -> str:
    return f"http://127.0.0.1:{site.observe()['webhook-1'].ports['http']}/webhook"


def run(watched: Watched, sender: Sender) -> None:
    """The pushes, over several scrapes, and a record that makes no sense, as a broken producer would append it."""
    first_scrape = 'count(up{job="sentinel"} == 1)'
    eventually(lambda: watched.values(first_scrape, is_instant=True) == [float(len(ROLES + BESIDE))])
    pushes = sender.pushes
    for number in range(3):
        sender.pushes = pushes[4 * number : 4 * number + 4]
        sender.go()
        shown = 4 * (number + 1)
        eventually(lambda shown=shown: len(shown_by(sender.hub)) >= shown)  # type: ignore[misc]
        scraped = f"sum(sentinel_e2e_latency_seconds_count) >= {shown}"
        eventually(lambda scraped=scraped: bool(watched.values(scraped, is_instant=True)))  # type: ignore[misc]
    watched.reviewed += [one.delivery_id for one in sender.sent]

    async def append() -> None:
        settings = load(None, {"SENTINEL_PROJECT_STATE_DIR": str(watched.site.folder / "state")})
        producer = open_producer(settings.stream, settings.stream_path)
        await producer.append([NewRecord(Topic.PUSH_EVENTS, b"1", b"\xff no record", {"delivery-id": b"nonsense"})])
        await producer.close()

    asyncio.run(append())


def test_every_query_of_the_dashboard_shows_numbers(watched: Watched) -> None:
    empty = {(title, query) for title, query, _ in queries()}
    deadline = time.monotonic() + _WITHIN_S
    while empty and time.monotonic() < deadline:
        for title, query, is_instant in queries():
            if (title, query) in empty and watched.values(query, is_instant=is_instant):
                empty.remove((title, query))
        time.sleep(1)
    assert empty == set()


def test_the_choice_of_services_is_filled(watched: Watched) -> None:
    (variable,) = (one for one in DASHBOARD["templating"]["list"] if one["name"] == "service")
    assert variable["query"]["query"] == 'label_values(up{job="sentinel"}, service)'
    assert set(watched.ask("label/service/values", **{"match[]": 'up{job="sentinel"}'})) >= set(ROLES)


def test_whatever_a_panel_a_rule_or_an_alert_names_is_on_a_live_metrics_page(watched: Watched) -> None:
    """With a sample, and not just declared."""
    live: set[str] = set()
    for name, replica in watched.site.observe().items():
        page = httpx2.get(f"{replica.probe.rpartition('/')[0].removesuffix('/-')}/metrics", trust_env=False).text
        for family in text_string_to_metric_families(page):
            if family.samples and not name.startswith("prometheus"):
                live |= {family.name, *(sample.name for sample in family.samples)}
    assert named().keys() - live - recorded() - OTHERS == set()


def test_every_rule_is_evaluated_without_fault(watched: Watched) -> None:
    groups = watched.ask("rules")["groups"]
    assert {rule["health"] for group in groups for rule in group["rules"]} <= {"ok", "unknown"}
    assert [rule["lastError"] for group in groups for rule in group["rules"] if rule.get("lastError")] == []


def test_the_record_that_made_no_sense_raises_its_alert_and_no_other(watched: Watched) -> None:
    def firing() -> set[str]:
        return {one["labels"]["alertname"] for one in watched.ask("alerts")["alerts"] if one["state"] == "firing"}

    eventually(lambda: "SentinelDeadLetters" in firing())
    told = {one["alert"]: one for one in watched.site.done("status").document["alerts"]}
    assert told["SentinelDeadLetters"]["summary"] == "Records were set aside by extractor"
    assert firing() - {"SentinelDeadLetters", "SentinelDeliveryBudgetFast", "SentinelDeliveryBudgetSlow"} == set()


def test_targets_follow_the_replicas(watched: Watched) -> None:
    def instances() -> set[str]:
        found = watched.ask("query", query='up{job="sentinel"} == 1')["result"]
        return {one["metric"]["instance"] for one in found}

    expected = {f"{name}-1" for name in ROLES + BESIDE}
    watched.site.done("scale", "extractor=2")
    eventually(lambda: instances() == {*expected, "extractor-2"})
    watched.site.done("scale", "extractor=1")
    eventually(lambda: instances() == expected)


def test_one_trace_is_in_the_log_lines_of_all_four_services(watched: Watched) -> None:
    lines = watched.site.log()
    for delivery_id in watched.reviewed:
        seen: dict[str, set[str]] = {}
        for line in lines:
            if line.get("delivery_id") == delivery_id and "traceparent" in line:
                seen.setdefault(line["service"], set()).add(line["traceparent"].split("-")[1])
        assert seen.keys() == set(ROLES)
        assert len(set.union(*seen.values())) == 1
        (published,) = (
            line for line in lines if line["event"] == "review.published" and line["delivery_id"] == delivery_id
        )
        assert published["traceparent"].split("-")[1] in seen["webhook"]


def test_spans_of_one_push_form_a_line_from_the_receiver_to_the_publisher(watched: Watched) -> None:
    delivery_id = watched.reviewed[0]

    def own() -> dict[str, Any]:
        return {
            service: span
            for service, span in list(watched.collector.spans)
            if any(
                one.key == "sentinel.delivery_id" and one.value.string_value == delivery_id for one in span.attributes
            )
        }

    eventually(lambda: own().keys() == set(ROLES))
    spans = own()
    assert len({span.trace_id for span in spans.values()}) == 1
    assert spans["webhook"].parent_span_id == b""
    for child, parent in (("extractor", "webhook"), ("inference", "extractor"), ("publisher", "extractor")):
        assert spans[child].parent_span_id == spans[parent].span_id, child
    assert {service: span.name for service, span in spans.items()} == {
        "webhook": "push receive",
        "extractor": "push-events process",
        "inference": "hunks review",
        "publisher": "reviews process",
    }


def test_prometheus_comes_back_after_kill_9_with_what_it_had(watched: Watched) -> None:
    pid = watched.site.pids()["prometheus-1"]
    assert pid is not None
    before = time.time()
    os.kill(pid, signal.SIGKILL)

    def remembers() -> bool:
        try:
            return bool(watched.ask("query", query='up{instance="webhook-1"}', time=before)["result"])
        except (httpx2.HTTPError, ValueError):  # it says in plain words that it is not ready
            return False

    eventually(lambda: watched.site.pids()["prometheus-1"] not in (None, pid) and remembers())


def test_the_whole_stack_at_rest_stays_within_700_mb(watched: Watched) -> None:
    rows = watched.site.done("status").document["services"]
    assert {row["service"] for row in rows} == {*ROLES, *BESIDE}
    assert sum(row["memory_bytes"] for row in rows) < 700 * 1000 * 1000


def test_status_names_where_the_metrics_are_and_down_takes_prometheus_along(watched: Watched) -> None:
    assert watched.site.done("status").document["metrics_url"] == watched.prometheus
    pid = watched.site.pids()["prometheus-1"]
    watched.site.done("down")
    assert pid not in watched.site.alive()


def test_the_panels_that_were_asked_name_metrics() -> None:
    """Or the tests above looked at nothing."""
    assert len(queries()) > 30
    assert all(metrics_in(query) for _, query, _ in queries())
