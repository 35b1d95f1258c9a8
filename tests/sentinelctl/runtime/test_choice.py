from pathlib import Path

import pytest

from sentinelctl.runtime.choice import settled
from services.settings import Settings, load
from tests.docker_engine import ADDRESS, needs_engine

from .conftest import Bench, fake


def settings(tmp_path: Path, **environ: str) -> Settings:
    return load(None, {"SENTINEL_PROJECT_STATE_DIR": str(tmp_path / "state"), **environ})


def chosen(given: Settings) -> tuple[str, str, str]:
    found, _ = settled(given)
    return found.project.runtime, found.stream.kind, found.claims.kind


def test_without_an_engine_services_are_processes_and_it_is_said_why(tmp_path: Path) -> None:
    given = settings(tmp_path, SENTINEL_DOCKER_HOST=f"unix://{tmp_path}/none.sock")
    assert chosen(given) == ("embedded", "sqlite", "sqlite")
    assert "no Docker engine answers" in settled(given)[1]


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        pytest.param({}, ("docker", "kafka", "redis"), id="all of it"),
        pytest.param({"SENTINEL_STREAM_KIND": "sqlite"}, ("docker", "sqlite", "sqlite"), id="no Kafka, no Redis"),
        pytest.param({"SENTINEL_CLAIMS_KIND": "sqlite"}, ("docker", "kafka", "sqlite"), id="no Redis"),
        pytest.param(
            {"SENTINEL_STREAM_KIND": "sqlite", "SENTINEL_CLAIMS_KIND": "redis"},
            ("docker", "sqlite", "redis"),
            id="Redis",
        ),
    ],
)
def test_containers_stand_on_kafka_and_redis_unless_told_otherwise(
    tmp_path: Path, environ: dict[str, str], expected: tuple[str, str, str]
) -> None:
    assert chosen(settings(tmp_path, SENTINEL_PROJECT_RUNTIME="docker", **environ)) == expected


def test_our_own_servers_are_reached_at_their_ports_and_a_cluster_at_its_own(tmp_path: Path) -> None:
    own, _ = settled(settings(tmp_path, SENTINEL_PROJECT_RUNTIME="docker", SENTINEL_DOCKER_KAFKA_PORT="19999"))
    assert (own.stream.bootstrap, own.claims.url) == ("127.0.0.1:19999", "redis://127.0.0.1:6379/0")
    given = settings(tmp_path, SENTINEL_PROJECT_RUNTIME="docker", SENTINEL_STREAM_BOOTSTRAP="broker:9092")
    assert settled(given)[0].stream.bootstrap == "broker:9092"


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        pytest.param({"SENTINEL_PROJECT_RUNTIME": "embedded"}, False, id="processes share the same cores"),
        pytest.param({}, True, id="containers"),
        pytest.param({"SENTINEL_DOCKER_HOST": "tcp://10.0.0.2:2376"}, False, id="another machine's engine"),
        pytest.param({"SENTINEL_AUTOSCALER_ENABLED": "false"}, False, id="no socket for it"),
    ],
)
def test_containers_are_scaled_by_what_waits_unless_told_otherwise(
    tmp_path: Path, environ: dict[str, str], expected: bool
) -> None:
    given = settings(tmp_path, **{"SENTINEL_PROJECT_RUNTIME": "docker", **environ})
    assert settled(given)[0].autoscaler.enabled is expected


def test_what_is_settled_stays_settled(tmp_path: Path) -> None:
    once, _ = settled(settings(tmp_path, SENTINEL_PROJECT_RUNTIME="docker"))
    assert settled(once)[0] == once


@pytest.mark.e2e
def test_processes_that_run_here_already_are_not_run_a_second_time_as_containers(
    tmp_path: Path, runtime: Bench
) -> None:
    runtime.converge(fake())
    found, why = settled(load(None, {"SENTINEL_PROJECT_STATE_DIR": str(tmp_path / "state")}))
    assert (found.project.runtime, why) == ("embedded", "it runs here already")


class TestARealEngine:
    pytestmark = needs_engine()

    def test_it_is_taken(self, tmp_path: Path) -> None:
        assert settled(settings(tmp_path, SENTINEL_DOCKER_HOST=ADDRESS))[0].project.runtime == "docker"
