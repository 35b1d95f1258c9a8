import asyncio
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from sentinelctl.lifecycle import Project
from sentinelctl.overview import GroupLag, Overview, Row, overview
from sentinelctl.runtime.base import Usage
from sentinelctl.state import Replica, Status
from services.contract import Topic
from services.settings import load
from services.stream import open_producer
from services.stream.types import NewRecord

READY = Replica("webhook", 1, {}, pid=7, started_at=40.0, ports={"http": 8000})
CRASHED = replace(READY, status=Status.BACKING_OFF, pid=None, restarts=2, failures=2, last_exit="exit 2")


def seen(
    *rows: Row, missing: Sequence[str] = (), lag: Sequence[GroupLag] = (), supervisor_pid: int | None = 5
) -> Overview:
    return Overview("embedded", "/state", supervisor_pid, rows, missing, lag, seen_at=100.0)


def printed(shown: Overview) -> list[list[str]]:
    """The table's cells as a terminal of 100 columns shows them."""
    out = io.StringIO()
    Console(file=out, width=100).print(shown.table())
    return [line.split() for line in out.getvalue().splitlines()]


def test_a_row_has_what_an_operator_asks_first() -> None:
    header, row = printed(seen(Row(READY, "", Usage(1.4, 60 * 1024 * 1024))))
    assert header == ["replica", "pid", "health", "up", "restarts", "cpu", "memory", "ports"]
    assert row == ["webhook-1", "7", "ready", "1", "min", "0", "1", "%", "60", "MiB", "http", "8000"]


@pytest.mark.parametrize(
    ("started_at", "shown"), [(99.5, ["0", "s"]), (41.0, ["59", "s"]), (-7100.0, ["2", "h"]), (-180000.0, ["2", "d"])]
)
def test_an_age_is_in_the_largest_unit_that_it_fills(started_at: float, shown: list[str]) -> None:
    _, row = printed(seen(Row(replace(READY, started_at=started_at), "", None)))
    assert row[3:5] == shown


def test_what_does_not_run_has_no_pid_no_age_and_no_use() -> None:
    beside = Row(replace(READY, index=2), "", Usage(1.4, 60 * 1024 * 1024))
    _, row, _ = printed(seen(Row(CRASHED, "crashed: exit 2", None), beside))
    assert row == ["webhook-1", "–", "crashed", "–", "2", "–", "–", "http", "8000"]


def test_use_that_nobody_measured_takes_no_column() -> None:
    header, _ = printed(seen(Row(READY, "", None)))
    assert header == ["replica", "pid", "health", "up", "restarts", "ports"]


@pytest.mark.parametrize(
    ("row", "note"),
    [
        (Row(CRASHED, "crashed: exit 2", None), "webhook-1 is crashed: exit 2"),
        (Row(READY, "not-ready: 503", None), "webhook-1 is not-ready: 503"),
        (
            Row(replace(READY, last_exit="SIGKILL"), "not-ready: refused", None),
            "webhook-1 is not-ready: refused (restarted after SIGKILL)",
        ),
    ],
)
def test_what_is_not_ready_is_explained_with_the_next_step(row: Row, note: str) -> None:
    assert seen(row).notes()[0] == f"{note}; `sentinelctl logs webhook-1` says more"


def test_a_lost_supervisor_a_missing_replica_and_the_lag_are_said() -> None:
    lag = [GroupLag("extractor", "push-events", 3, 1.25), GroupLag("publisher", "reviews", 0, 0.0)]
    orphan = replace(READY, is_supervised=False)
    assert seen(Row(orphan, "", None), missing=["inference-1"], lag=lag, supervisor_pid=None).notes() == [
        "the supervisor is gone: these serve, but none would be restarted; `sentinelctl up` adopts them",
        "not running here: inference-1; `sentinelctl up` starts what is missing",
        "lag: extractor has 3 of push-events to read, the oldest for 1.2 s",
        "lag: publisher has 0 of reviews to read",
        "state in /state",
    ]


@pytest.mark.parametrize(
    ("rows", "is_healthy"),
    [
        ([], True),
        ([Row(READY, "", None)], True),
        ([Row(READY, "", None), Row(CRASHED, "crashed: exit 2", None)], False),
        ([Row(replace(READY, is_supervised=False), "", None)], False),
    ],
)
def test_healthy_is_ready_and_watched(rows: list[Row], is_healthy: bool) -> None:
    assert seen(*rows).is_healthy == is_healthy


@pytest.fixture
def project(tmp_path: Path) -> Project:
    environ = {
        "SENTINEL_PROJECT_STATE_DIR": str(tmp_path / "state"),
        "SENTINEL_WEBHOOK_SECRET": "hook-secret",
        "SENTINEL_EXTRACTOR_REPLICAS": "2",
        "SENTINEL_PROMETHEUS_ENABLED": "false",
    }
    return Project(load(None, environ))


def test_looking_at_nothing_makes_nothing(project: Project, tmp_path: Path) -> None:
    shown = overview(project)
    assert (shown.rows, shown.lag, shown.is_healthy) == ([], [], True)
    assert shown.missing == ["inference-1", "extractor-1", "extractor-2", "publisher-1", "webhook-1"]
    assert not (tmp_path / "state").exists()


def test_the_lag_counts_what_nobody_has_read(project: Project) -> None:
    project.prepare()

    async def append() -> None:
        producer = open_producer(project.settings.stream, project.settings.stream_path)
        await producer.append([NewRecord(Topic.PUSH_EVENTS, b"1", b"")] * 3)
        await producer.close()

    asyncio.run(append())
    assert {one.group: one.records for one in overview(project).lag} == {
        "extractor": 3,
        "inference": 0,
        "publisher": 0,
    }


def test_a_log_that_fails_hides_nothing_of_what_runs(project: Project) -> None:
    project.prepare()
    project.settings.stream_path.write_bytes(b"no database" * 1000)
    found = overview(project)
    assert found.lag == []
    assert "move the file aside" in found.log_fault
    assert any(line.startswith("lag unknown: the log at ") for line in found.notes())


def test_a_log_that_does_not_answer_is_said_beside_what_runs(tmp_path: Path) -> None:
    given = {
        "SENTINEL_PROJECT_STATE_DIR": str(tmp_path / "state"),
        "SENTINEL_STREAM_KIND": "kafka",
        "SENTINEL_STREAM_BOOTSTRAP": "127.0.0.1:1",
        "SENTINEL_STREAM_TIMEOUT_S": "1",
    }
    shown = overview(Project(load(None, given)))
    assert shown.lag == []
    assert "Kafka at 127.0.0.1:1" in shown.document()["log_fault"]
    assert [note for note in shown.notes() if note.startswith("lag unknown: Kafka at 127.0.0.1:1")]


def test_the_addresses_of_prometheus_and_grafana_are_named_for_people_and_in_the_document() -> None:
    ports = {"prometheus": 9091, "grafana": 3000}
    rows = [
        Row(Replica(service=name, index=1, identity={}, ports={"http": port}), "", None) for name, port in ports.items()
    ]
    shown = seen(*rows)
    assert "dashboard: http://127.0.0.1:3000" in shown.notes()
    assert shown.document()["dashboard_url"] == "http://127.0.0.1:3000"
    assert shown.document()["metrics_url"] == "http://127.0.0.1:9091"
    assert seen().document()["dashboard_url"] == ""
