"""Names that both sides of a wire rely on: topics, groups, ports, headers, environment. Standard library only."""

from enum import StrEnum
from typing import Final


class Topic(StrEnum):
    PUSH_EVENTS = "push-events"
    DIFF_CHUNKS = "diff-chunks"
    REVIEWS = "reviews"
    DEAD_LETTERS = "reviews-dlq"


class Group(StrEnum):
    EXTRACTOR = "extractor"
    INFERENCE = "inference"
    PUBLISHER = "publisher"


READERS: Final = {
    Topic.PUSH_EVENTS: Group.EXTRACTOR,
    Topic.DIFF_CHUNKS: Group.INFERENCE,
    Topic.REVIEWS: Group.PUBLISHER,
}
"""The group that works off each topic; people read the dead letters."""


class Role(StrEnum):
    """A kind of service process; `python -m services.<role>` starts one replica."""

    WEBHOOK = "webhook"
    EXTRACTOR = "extractor"
    INFERENCE = "inference"
    PUBLISHER = "publisher"
    AUTOSCALER = "autoscaler"


class Header:
    """Record headers."""

    TRACEPARENT: Final = "traceparent"
    DELIVERY_ID: Final = "delivery-id"
    ATTEMPT: Final = "attempt"


class Port:
    """Default ports; further replicas take free ones."""

    WEBHOOK: Final = 8000
    REDIS: Final = 6379
    KAFKA: Final = 9092
    PROMETHEUS: Final = 9091
    GRAFANA: Final = 3000
    INFERENCE: Final = 50051
    AUTOSCALER_METRICS: Final = 9090
    PUBLISHER_METRICS: Final = 9102
    INFERENCE_METRICS: Final = 9103
    EXTRACTOR_METRICS: Final = 9104


class Variable:
    """Environment variables that are not settings of a section."""

    CONFIG: Final = "SENTINEL_CONFIG"
    REPLICA: Final = "SENTINEL_REPLICA"


class Label:
    """Of containers, which carry no other memory; networks and volumes carry the first."""

    PROJECT: Final = "sentinel.project"
    SERVICE: Final = "sentinel.service"
    REPLICA: Final = "sentinel.replica"
    PORTS: Final = "sentinel.ports"
    """What it listens on inside, as JSON: the port's name to its number."""
    GRACE_S: Final = "sentinel.grace_s"
    """From SIGTERM to SIGKILL."""


class Outcome(StrEnum):
    """How an acknowledged delivery ends; exactly one of these, each with a reason in the log line."""

    REVIEWED = "reviewed"
    SUPERSEDED = "superseded"
    COVERED = "covered"
    DEAD_LETTERED = "dead-lettered"
    IGNORED = "ignored"
    DUPLICATE = "duplicate"


SEVERITIES: Final = ("nit", "suggestion", "bug", "critical")

NULL_SHA: Final = "0" * 40
