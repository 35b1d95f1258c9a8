"""What panels, rules and alerts name is what services say, and the other way round.

tests/e2e/test_observability.py shows the same on a running stack.
"""

import pytest
from prometheus_client import Metric

from services.telemetry import Metrics
from tests.grafana.dashboard import expressions, metrics_in, recorded, rules

DESIGN = {
    "sentinel_kafka_lag": ["topic"],
    "sentinel_active_workers": [],
    "sentinel_webhook_received_total": ["status"],
    "sentinel_inference_latency_seconds": [],
    "sentinel_e2e_latency_seconds": [],
    "sentinel_review_posted_total": ["severity", "status"],
    "sentinel_bus_errors_total": ["topic", "operation"],
    "sentinel_batch_size": [],
}
OTHERS = {"up", "ALERTS"}
"""What Prometheus itself says."""


def declared() -> dict[str, Metric]:
    """By the name that a query uses."""
    families = {one.name: one for one in Metrics().registry.collect()}
    return {f"{name}_total" if one.type == "counter" else name: one for name, one in families.items()}


def named() -> dict[str, list[str]]:
    """Metric to where it is named."""
    found: dict[str, list[str]] = {}
    for where, expression in expressions():
        for name in metrics_in(expression):
            found.setdefault(name, []).append(where)
    return found


@pytest.mark.parametrize("name", DESIGN)
def test_the_design_names_it_and_it_is_declared_with_these_labels(name: str) -> None:
    assert name in declared()
    attribute = next(
        one for one in vars(Metrics()).values() if getattr(one, "_name", "") == name.removesuffix("_total")
    )
    assert list(attribute._labelnames) == DESIGN[name]


def test_whatever_is_named_is_declared_or_recorded() -> None:
    unknown = {name: where for name, where in named().items() if name not in {*declared(), *recorded(), *OTHERS}}
    assert unknown == {}


def test_whatever_is_declared_is_seen_by_somebody() -> None:
    own = {name for name in declared() if name.startswith("sentinel_")}
    assert own - named().keys() == set()


def test_whatever_is_recorded_is_used() -> None:
    unused = recorded() - named().keys()
    assert unused == set()


def test_the_alerts_of_the_design_are_there_with_their_thresholds() -> None:
    expressions = {rule["alert"]: rule["expr"] for rule in rules("alerts.yml")}
    assert expressions["SentinelReviewsSlow"] == "sentinel:e2e_latency_seconds:p99_5m > 2"
    assert expressions["SentinelInferenceSlow"] == "sentinel:inference_latency_seconds:p99_5m > 1"
    assert expressions["SentinelLag"] == "topic:sentinel_kafka_lag:sum > 50"
    assert "sentinel_bus_errors_total" in expressions["SentinelBusErrors"]
