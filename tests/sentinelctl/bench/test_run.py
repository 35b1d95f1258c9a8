import sys
from pathlib import Path

import pytest

from sentinelctl.bench.arrivals import fixed
from sentinelctl.bench.run import Job, make_load
from sentinelctl.errors import SentinelError, UnhealthyError
from sentinelctl.runtime.process import free_ports

from .made import made_run


def test_a_good_run_has_its_figures_and_no_fault() -> None:
    run = made_run([float(each) for each in range(1, 101)])
    figures = run.figures
    assert (figures["sent"], figures["rate"], figures["errors"]) == (100, 10.0, 0)
    assert figures["latency_ms"]["p99"] == pytest.approx(99, rel=0.001)
    assert run.faults() == []
    assert run.document()["segments"][0]["achieved"] == 10.0


@pytest.mark.parametrize(
    ("endings", "fault"),
    [
        ({"dropped": 3}, "3 of 103 arrivals were dropped"),
        ({"refused": 1}, "1 of 101 arrivals were refused"),
        ({"broken": 2}, "2 of 102 arrivals were broken"),
        ({"timed_out": 2}, "2 of 102 arrivals were timed out"),
    ],
)
def test_whatever_was_not_answered_is_a_fault(endings: dict[str, int], fault: str) -> None:
    (found,) = made_run(**endings).faults()
    assert fault in found


def test_a_run_without_an_answer_is_none() -> None:
    assert "nothing was answered" in made_run([]).faults()


@pytest.mark.parametrize(
    ("cpu", "slip_ms", "why"),
    [
        (0.94, 0.1, ""),
        (0.95, 0.1, "used 95% of its one core"),
        (0.2, 4.9, ""),  # a timer of a shared machine
        (0.2, 5.2, "5.2 ms behind its schedule"),
    ],
)
def test_a_generator_that_cannot_keep_its_schedule_measured_itself(cpu: float, slip_ms: float, why: str) -> None:
    run = made_run([8.0] * 100, cpu=cpu, slip_ms=slip_ms)
    assert why in run.saturated_by
    assert bool(run.saturated_by) == bool(why)
    assert any("saturated" in fault for fault in run.faults()) == bool(why)


def test_slip_that_is_small_beside_what_was_measured_spoils_nothing() -> None:
    assert made_run([100.0] * 100, slip_ms=49.0).saturated_by == ""
    assert made_run([100.0] * 100, slip_ms=51.0).saturated_by


def job(port: int) -> Job:
    where = {"target": "webhook", "host": "127.0.0.1", "port": port, "requests": [["", ""]], "name": "n"}
    return Job(fixed(10, 0.5), 1, 1, where, warm_up_s=0)


def test_a_target_that_does_not_listen_is_said() -> None:
    free_port = free_ports({"http": "127.0.0.1"}, but=())["http"]
    with pytest.raises(UnhealthyError, match="nobody takes the load"):
        make_load(job(free_port), lambda _done, _total: None)


def test_a_generator_that_fails_says_how(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\ncat >/dev/null\necho 'MemoryError: no room' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))
    with pytest.raises(SentinelError, match="the load generator failed: MemoryError: no room"):
        make_load(job(1), lambda _done, _total: None)
