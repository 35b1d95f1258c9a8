import json
import uuid
from pathlib import Path

import pytest

from services.counts import AUTOSCALER, DECISIONS, FOLDER, OPERATOR, read_counts, write_counts
from tests.docker_engine import needs_engine

from .test_config import Ctl

SERVICES = ["extractor", "inference", "publisher"]
ONES = dict.fromkeys(SERVICES, 1)
ENABLED = {"SENTINEL_AUTOSCALER_ENABLED": "true"}


def decision(service: str, was: int, replicas: int, why: str, reason: str) -> dict[str, object]:
    return {"at_s": 1.5e9, "service": service, "was": was, "replicas": replicas, "why": why, "reason": reason}


DECIDED = [
    decision("extractor", 1, 1, "cooldown", "60 records wait on 3 partitions, but the last change is 2.0 of 15 s old"),
    decision("extractor", 1, 2, "grow", "90 records wait on 4 partitions"),
    decision("publisher", 1, 1, "on-target", "nothing waits"),
]


@pytest.fixture
def state(tmp_path: Path) -> Path:
    (tmp_path / "state" / FOLDER).mkdir(parents=True)
    return tmp_path / "state"


@pytest.fixture(params=["embedded", pytest.param("docker", marks=needs_engine())])
def runtime(request: pytest.FixtureRequest) -> dict[str, str]:
    name = f"test-{uuid.uuid4().hex[:10]}"
    return {**ENABLED, "SENTINEL_PROJECT_RUNTIME": request.param, "SENTINEL_PROJECT_NAME": name}


def test_status_tells_each_decision_with_its_reason(ctl: Ctl, state: Path, runtime: dict[str, str]) -> None:
    (state / DECISIONS).write_text("".join(json.dumps(one) + "\n" for one in DECIDED))
    write_counts(state / AUTOSCALER, {"extractor": 2}, ONES)
    ran = ctl("autoscaler", "status", **runtime)
    lines = ran.out.splitlines()
    assert lines[1].split(maxsplit=3) == ["extractor", "0", "2", "the autoscaler, else the settings"]
    assert [line.split(maxsplit=2)[2] for line in lines[-3:]] == [
        f"extractor  stays 1   cooldown     {DECIDED[0]['reason']}",
        f"extractor  1 → 2     grow         {DECIDED[1]['reason']}",
        f"publisher  stays 1   on-target    {DECIDED[2]['reason']}",
    ]
    assert "the autoscaler does not run; `sentinelctl up` starts it" in ran.err
    document = ctl("--json", "autoscaler", "status", "-n", "2", **runtime).document
    assert (document["is_enabled"], document["is_running"]) == (True, False)
    assert document["decisions"] == DECIDED[1:]


def test_a_service_is_paused_at_its_count_and_handed_back(ctl: Ctl, state: Path, runtime: dict[str, str]) -> None:
    write_counts(state / AUTOSCALER, {"extractor": 2}, ONES)
    paused = ctl("autoscaler", "pause", "extractor", **runtime)
    assert "extractor: 0 running; the autoscaler leaves it alone until" in paused.err
    assert read_counts(state / OPERATOR, ONES) == {"extractor": 2}
    rows = ctl("--json", "autoscaler", "status", **runtime).document["services"]
    assert [(one["service"], one["replicas"], one["is_paused"]) for one in rows] == [
        ("extractor", 2, True), ("inference", 1, False), ("publisher", 1, False)
    ]  # fmt: skip
    assert "hand: the autoscaler is paused" in ctl("autoscaler", "status", **runtime).out
    assert "extractor: 0 running; the autoscaler decides again" in ctl("autoscaler", "resume", **runtime).err
    assert read_counts(state / OPERATOR, ONES) == {}


def test_a_second_pause_keeps_the_count_of_the_first(ctl: Ctl, state: Path) -> None:
    write_counts(state / OPERATOR, {"extractor": 4}, ONES)
    document = ctl("--json", "autoscaler", "pause", **ENABLED).document
    assert [one["is_paused"] for one in document["services"]] == [True] * 3
    assert read_counts(state / OPERATOR, ONES) == {"extractor": 4, "inference": 1, "publisher": 1}


def test_what_is_not_scaled_by_it_cannot_be_paused(ctl: Ctl) -> None:
    refused = ctl("autoscaler", "pause", "webhook")
    assert refused.code == 2
    assert "there are extractor, inference, publisher" in refused.err


def test_where_it_is_off_that_is_said(ctl: Ctl) -> None:
    assert "autoscaler.enabled is false: nobody decides" in ctl("autoscaler", "status").err
    assert "as many as the settings say at the next `sentinelctl up`" in ctl("autoscaler", "resume").err


def test_an_engine_on_another_machine_is_refused_with_what_to_do(ctl: Ctl) -> None:
    there = {"SENTINEL_PROJECT_RUNTIME": "docker", "SENTINEL_DOCKER_HOST": "tcp://192.0.2.1:2376", **ENABLED}
    refused = ctl("up", **there)
    assert refused.code == 3
    assert "the engine is on another machine" in refused.err
    assert "run sentinelctl over there" in refused.err
