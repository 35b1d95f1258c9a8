import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sentinelctl.checks import Check, Verdict, run_checks
from sentinelctl.fakehub.server import running_fakehub
from sentinelctl.lifecycle import Project
from sentinelctl.runtime.process import free_ports
from services.contract import Topic
from services.settings import load
from tests.contracts.mock_broker import API_VERSION, MockBroker
from tests.docker_engine import ADDRESS, needs_engine
from tests.redis_process import running_redis

PORTS = (
    "WEBHOOK_PORT", "INFERENCE_PORT", "INFERENCE_METRICS_PORT", "EXTRACTOR_METRICS_PORT", "PUBLISHER_METRICS_PORT",
    "PROMETHEUS_PORT",
)  # fmt: skip
SECRETS = {"SENTINEL_WEBHOOK_SECRET": "hook-secret", "SENTINEL_GITHUB_TOKEN": "forge-token"}


def checks(tmp_path: Path, *, is_online: bool = False, **environ: str) -> dict[str, Check]:
    """By name, on ports that are free unless said otherwise."""
    numbers = free_ports(dict.fromkeys(PORTS, "127.0.0.1"), but=[])
    given = {f"SENTINEL_{name}": str(number) for name, number in numbers.items()}
    given |= {"SENTINEL_PROJECT_STATE_DIR": str(tmp_path / "state"), **SECRETS, **environ}
    return {one.name: one for one in run_checks(Project(load(None, given)), is_online=is_online)}


def failed(found: dict[str, Check]) -> list[str]:
    return [name for name, one in found.items() if one.verdict is Verdict.FAILED]


@pytest.mark.parametrize(
    ("is_installed", "enabled", "verdict"),
    [(True, "true", Verdict.OK), (False, "true", Verdict.WARNING), (False, "false", Verdict.OK)],
)
def test_metrics_that_nobody_records_are_a_warning_unless_that_is_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_installed: bool, enabled: str, verdict: Verdict
) -> None:
    (tmp_path / "bin").mkdir()
    if is_installed:
        (tmp_path / "bin" / "prometheus").write_text("#!/bin/sh\n")
        (tmp_path / "bin" / "prometheus").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    found = checks(tmp_path, SENTINEL_PROMETHEUS_ENABLED=enabled)["metrics"]
    assert found.verdict is verdict
    assert ("prometheus.enabled = false" in found.remedy) == (verdict is Verdict.WARNING)


def test_a_machine_that_has_all_passes_and_nothing_is_made(tmp_path: Path) -> None:
    found = checks(tmp_path)
    assert {one.verdict for one in found.values()} == {Verdict.OK}, found
    assert not (tmp_path / "state").exists()
    assert not any(secret in repr(found) for secret in SECRETS.values())


def test_each_missing_secret_is_a_failure_of_its_own(tmp_path: Path) -> None:
    found = checks(tmp_path, SENTINEL_WEBHOOK_SECRET="", SENTINEL_GITHUB_TOKEN="")
    assert failed(found) == ["webhook secret", "GitHub access"]
    assert "SENTINEL_GITHUB_TOKEN" in found["GitHub access"].remedy


def test_a_local_github_needs_a_token_too_since_the_services_refuse_to_start_without(tmp_path: Path) -> None:
    found = checks(tmp_path, SENTINEL_GITHUB_TOKEN="", SENTINEL_GITHUB_API_URL="http://127.0.0.1:1")
    assert failed(found) == ["GitHub access"]


def test_a_taken_port_is_named_with_its_holder(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        found = checks(tmp_path, SENTINEL_WEBHOOK_PORT=str(port))
    assert failed(found) == ["ports"]
    assert found["ports"].seen.startswith(f"{port} for webhook is taken by pid {os.getpid()} (")


def test_an_unreachable_redis_is_named_with_its_address_and_what_to_do(tmp_path: Path) -> None:
    (port,) = free_ports({"redis": "127.0.0.1"}, but=[]).values()
    found = checks(
        tmp_path,
        SENTINEL_CLAIMS_KIND="redis",
        SENTINEL_CLAIMS_URL=f"redis://127.0.0.1:{port}",
        SENTINEL_CLAIMS_PASSWORD="claims-password",
    )
    assert failed(found) == ["claims"]
    assert f"Redis at 127.0.0.1:{port} did not serve" in found["claims"].seen
    assert "start it, or correct claims.url" in found["claims"].seen
    assert "claims-password" not in repr(found)


def test_a_redis_that_serves_is_named_and_one_that_may_drop_claims_is_refused(tmp_path: Path) -> None:
    with running_redis(tmp_path / "redis") as server:
        environ = {"SENTINEL_CLAIMS_KIND": "redis", "SENTINEL_CLAIMS_URL": server.url}
        assert server.address in checks(tmp_path, **environ)["claims"].seen
        with server.client() as client:
            client.config_set("maxmemory", 100 * 1024 * 1024)
            client.config_set("maxmemory-policy", "allkeys-lru")
        found = checks(tmp_path, **environ)
    assert failed(found) == ["claims"]
    assert "set its maxmemory-policy to noeviction" in found["claims"].seen


def test_weights_that_are_not_there_are_named(tmp_path: Path) -> None:
    found = checks(tmp_path, SENTINEL_INFERENCE_WEIGHTS=str(tmp_path / "none"))
    assert failed(found) == ["model"]
    assert str(tmp_path / "none") in found["model"].seen


def test_a_state_folder_that_others_can_read_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o755)
    (tmp_path / "state").chmod(0o755)
    found = checks(tmp_path)
    assert (found["state folder"].verdict, found["state folder"].remedy) == (
        Verdict.WARNING, f"chmod 700 {tmp_path / 'state'}",
    )  # fmt: skip


def test_a_file_in_place_of_the_state_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    assert failed(checks(tmp_path)) == ["state folder"]


@pytest.fixture(scope="module")
def github(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    path = tmp_path_factory.mktemp("served")
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    for words in (["init", "-q"], [*identity, "commit", "-q", "--allow-empty", "-m", "a"]):
        subprocess.run(["git", "-C", str(path), *words], check=True)
    with running_fakehub([path], token="forge-token") as running:
        yield running.url


@pytest.mark.parametrize(
    ("token", "verdict", "seen"),
    [
        ("forge-token", Verdict.OK, "takes the token"),
        ("expired", Verdict.FAILED, "answers 401"),
        ("", Verdict.WARNING, "not asked: no token is set"),
    ],
)
def test_github_is_asked_only_online(tmp_path: Path, github: str, token: str, verdict: Verdict, seen: str) -> None:
    environ = {"SENTINEL_GITHUB_API_URL": github, "SENTINEL_GITHUB_TOKEN": token}
    assert "github" not in checks(tmp_path, **environ)
    found = checks(tmp_path, is_online=True, **environ)["github"]
    assert found.verdict is verdict
    assert seen in found.seen


def test_a_github_that_does_not_answer_is_said(tmp_path: Path) -> None:
    port = free_ports({"http": "127.0.0.1"}, but=[])["http"]
    url = f"http://127.0.0.1:{port}"
    found = checks(tmp_path, is_online=True, SENTINEL_GITHUB_API_URL=url)["github"]
    assert found.verdict is Verdict.FAILED
    assert found.seen.startswith(url)


def test_a_kafka_that_does_not_answer_is_named(tmp_path: Path) -> None:
    (port,) = free_ports({"port": "127.0.0.1"}, but=[]).values()
    address = f"127.0.0.1:{port}"
    found = checks(
        tmp_path, SENTINEL_STREAM_KIND="kafka", SENTINEL_STREAM_BOOTSTRAP=address, SENTINEL_STREAM_TIMEOUT_S="1"
    )
    assert failed(found) == ["kafka"]
    assert found["kafka"].seen.startswith(f"Kafka at {address} did not answer within 1 s")
    assert "ECONNREFUSED" in found["kafka"].seen
    assert "stream.bootstrap" in found["kafka"].seen


def test_a_kafka_that_answers_says_how_many_of_our_topics_it_has(tmp_path: Path) -> None:
    with MockBroker() as broker:
        broker.create_topic("mine-push-events", 4)
        found = checks(
            tmp_path,
            SENTINEL_STREAM_KIND="kafka",
            SENTINEL_STREAM_PREFIX="mine-",
            SENTINEL_STREAM_BOOTSTRAP=broker.bootstrap,
            SENTINEL_STREAM_API_VERSION=API_VERSION,
        )
    assert found["kafka"].seen == f"{broker.bootstrap} answers; 1 of {len(Topic)} topics"


def test_an_engine_that_does_not_answer_fails_with_what_to_do(tmp_path: Path) -> None:
    address = f"unix://{tmp_path}/none.sock"
    found = checks(tmp_path, SENTINEL_PROJECT_RUNTIME="docker", SENTINEL_DOCKER_HOST=address)
    assert failed(found) == ["ports", "engine"]
    assert "no Docker engine answers" in found["engine"].seen
    assert "--runtime embedded" in found["engine"].remedy


class TestARealEngine:
    pytestmark = needs_engine()

    def test_it_is_described_with_the_images_it_lacks(self, tmp_path: Path) -> None:
        absent = {"SENTINEL_IMAGES_PROMETHEUS": "127.0.0.1:1/none:1"}
        found = checks(tmp_path, SENTINEL_PROJECT_RUNTIME="docker", SENTINEL_DOCKER_HOST=ADDRESS, **absent)
        assert failed(found) == []
        assert found["engine"].seen.startswith("Docker ")
        assert "`up` builds or pulls 127.0.0.1:1/none:1" in found["engine"].seen
