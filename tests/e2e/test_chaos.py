"""`sentinelctl chaos` as its user meets it: real services, real faults, and nothing left whatever ends the run.

`make test` has the six checks and two experiments, and two that containers do their own way; SENTINEL_TEST_FULL (`make
test-full`) every experiment, three seeds each on processes and one in containers.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from sentinelctl.chaos.experiments import EXPERIMENTS
from sentinelctl.chaos.journal import Journal
from sentinelctl.ledger import ENDINGS
from sentinelctl.runtime.process import is_same
from sentinelctl.runtime.statefile import StateDir
from tests.docker_engine import PYTHON_IMAGE, REDIS_IMAGE, needs_engine

from .test_lifecycle import eventually

FULL: Final = bool(os.environ.get("SENTINEL_TEST_FULL"))
SHORT: Final = ("kill-extractor", "bus-unreachable")
IN_CONTAINERS: Final = ("disk-full", "cut-inference")
CONTAINED: Final = {
    "SENTINEL_PROJECT_RUNTIME": "docker",
    "SENTINEL_STREAM_KIND": "sqlite",
    "SENTINEL_IMAGES_PYTHON": PYTHON_IMAGE,
    "SENTINEL_IMAGES_REDIS": REDIS_IMAGE,
}

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(900 if FULL else 300)]


def containers(test: Callable[..., None]) -> Callable[..., None]:
    for mark in needs_engine():
        test = mark(test)
    return test


def begin(folder: Path, *words: str, **settings: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "sentinelctl", "--json", "chaos", *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder,
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("SENTINEL_")},
            "SENTINEL_PROJECT_STATE_DIR": str(folder / "installed"),
            "SENTINEL_PROJECT_RUNTIME": "embedded",
            **settings,
        },
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore Ctrl-C
    )  # fmt: skip


def finished(run: "subprocess.Popen[str]") -> tuple[int, dict[str, Any], str]:
    out, said = run.communicate(timeout=850)
    return run.returncode, json.loads(out) if out else {}, said


def test_the_six_checks_of_a_stack_that_nothing_is_done_to(tmp_path: Path) -> None:
    code, document, said = finished(begin(tmp_path, "run", "--smoke"))
    assert code == 0, said
    assert [one["passed"] for one in document["checks"]] == [True] * 6
    assert list((tmp_path / "installed" / "chaos").iterdir()) == []


@pytest.mark.parametrize("name", SHORT)
def test_a_fault_under_load_bites_and_leaves_every_delivery_accounted_for(tmp_path: Path, name: str) -> None:
    check(tmp_path, name, "--duration", "10", "--seed", "1")


@pytest.mark.skipif(not FULL, reason="SENTINEL_TEST_FULL (`make test-full`) runs every experiment")
@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("name", [one.name for one in EXPERIMENTS])
def test_every_experiment_passes_with_every_seed(tmp_path: Path, name: str, seed: int) -> None:
    check(tmp_path, name, "--duration", "30", "--seed", str(seed))


@containers
@pytest.mark.parametrize("name", IN_CONTAINERS)
def test_a_fault_in_containers_bites_as_it_does_in_processes(tmp_path: Path, name: str) -> None:
    check(tmp_path, name, "--duration", "10", **CONTAINED)


@containers
@pytest.mark.skipif(not FULL, reason="SENTINEL_TEST_FULL (`make test-full`) runs every experiment")
@pytest.mark.parametrize("name", [one.name for one in EXPERIMENTS])
def test_every_experiment_passes_in_containers(tmp_path: Path, name: str) -> None:
    check(tmp_path, name, "--duration", "30", **CONTAINED)


def check(folder: Path, name: str, *words: str, **settings: str) -> None:
    code, document, said = finished(begin(folder, "run", name, *words, "--report", str(folder / "report"), **settings))
    (found,) = document["experiments"]
    assert (found["verdict"], found["reasons"], code) == ("passed", [], 0), said
    assert found["seen"]
    assert (found["lost"], found["duplicates"], found["stale"], found["unexplained_dead_letters"]) == (0, 0, 0, 0)
    assert sum(found["endings"].get(ending, 0) for ending in ENDINGS) == found["acknowledged"] == found["sent"] > 10
    (journal,) = json.loads((folder / "report" / "journal.json").read_text())["experiments"]
    assert all(one["reason"] for one in journal["deliveries"])
    for one in journal["deliveries"]:
        topics = {stage["topic"] for stage in one["stages"]}
        assert one["ending"] != "reviewed" or {"push-events", "reviews"} <= topics, one
    assert "<svg" in (folder / "report" / "report.html").read_text()
    assert list((folder / "installed" / "chaos").iterdir()) == []


class Under:
    """A run whose publisher is frozen by now, and every process of its stack."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "installed" / "chaos"
        self.run = begin(folder, "run", "pause-publisher", "--duration", "120")
        eventually(lambda: bool(self.frozen()), within_s=120)
        recorded = StateDir(self.folder / "state").read()
        assert recorded is not None
        self.processes = [
            (recorded.supervisor_pid, recorded.supervisor_started),
            *((one.pid, one.started) for one in recorded.replicas if one.pid is not None),
        ]
        assert len(self.alive()) == 5

    @property
    def folder(self) -> Path:
        (found,) = self.home.iterdir()
        return found

    def frozen(self) -> bool:
        found = list(self.home.glob("*/journal.jsonl"))
        return bool(found) and any(one.undo["do"] == "resume" for one in Journal(found[0].parent).open_entries())

    def alive(self) -> list[int]:
        return [pid for pid, started in self.processes if is_same(pid, started)]


@pytest.fixture
def under(tmp_path: Path) -> Iterator[Under]:
    under = Under(tmp_path)
    try:
        yield under
    finally:
        under.run.kill()
        under.run.communicate()


def test_ctrl_c_undoes_the_fault_and_ends_the_stack(under: Under) -> None:
    under.run.send_signal(signal.SIGINT)
    time.sleep(0.2)  # a second one, while the first is being answered
    under.run.send_signal(signal.SIGINT)
    _, said = under.run.communicate(timeout=100)
    assert under.run.returncode == 130, said
    assert under.alive() == []
    assert Journal(under.folder).open_entries() == []


def test_what_a_killed_run_leaves_is_undone_by_its_guard_and_heal_finds_nothing_twice(
    under: Under, tmp_path: Path
) -> None:
    under.run.kill()
    under.run.communicate()
    eventually(lambda: under.alive() == [], within_s=100)
    eventually(lambda: Journal(under.folder).is_closed)
    for _ in range(2):
        code, document, said = finished(begin(tmp_path, "heal"))
        assert (code, document) == (0, {"version": 1, "healed": []}), said
