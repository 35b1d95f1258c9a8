import os
from dataclasses import replace
from typing import Any

import pytest

from sentinelctl.bench.ratio.generator import Generator, find
from sentinelctl.bench.ratio.load import Load, Pair
from sentinelctl.bench.ratio.webhook import Result, Server, _run
from sentinelctl.errors import PreflightError, SentinelError, UnhealthyError

GOOD = Load(seconds=1.0, answered=900, refused=0, broken=0, p50_ms=5.0, p99_ms=20.0, generator_cpu=0.4)
SLOWER = replace(GOOD, answered=600)


def result(ours: Load, control: Load = SLOWER, *, records: int = 10_000) -> Result:
    return Result("wrk", 50, 7000, "sqlite", 1.5, [Pair(ours, control)] * 3, warm_up=100, records=records)


def test_a_good_result_has_no_fault() -> None:
    assert result(GOOD).faults() == []
    assert result(GOOD).document()["ratio"] == {"median": 1.5, "min": 1.5, "max": 1.5}


@pytest.mark.parametrize(
    ("ours", "records", "fault"),
    [
        (replace(GOOD, answered=599), 10_000, "ratio is 1.00, below 1"),
        (replace(GOOD, p99_ms=50.0), 10_000, "p99 is 50.0 ms"),
        (replace(GOOD, refused=1), 10_000, "3 requests were not acknowledged"),
        (GOOD, 2799, "2800 deliveries were acknowledged and the log holds 2799"),
    ],
)
def test_each_fault_is_named_with_what_was_seen(ours: Load, records: int, fault: str) -> None:
    (found,) = result(ours, records=records).faults()
    assert fault in found
    assert result(ours, records=records).document()["faults"] == [found]


def test_one_slow_pair_of_three_is_shown_and_does_not_decide() -> None:
    slow = Pair(replace(GOOD, answered=300, p99_ms=80.0), SLOWER)
    seen = Result("wrk", 50, 7000, "sqlite", 1.5, [Pair(GOOD, SLOWER), slow, Pair(GOOD, SLOWER)], records=10_000)
    assert seen.faults() == []
    assert seen.document()["ratio"] == {"median": 1.5, "min": 0.5, "max": 1.5}


def run(load: Load, pid: int = os.getpid()) -> Load:
    generator = Generator("fake", lambda *_job: load)
    return _run(Server("receiver", pid, 1), generator, [], 50, 1.0)


def test_a_saturated_generator_gives_no_result() -> None:
    with pytest.raises(SentinelError, match="no result: the load generator used 97% of its one core"):
        run(replace(GOOD, generator_cpu=0.97))
    assert run(GOOD).answered == 900


def test_a_server_that_acknowledges_nothing_or_ends_is_no_result() -> None:
    with pytest.raises(UnhealthyError, match="acknowledged nothing: 7 requests refused, 50 connections broken"):
        run(replace(GOOD, answered=0, refused=7, broken=50))
    with pytest.raises(UnhealthyError, match="ended under the load"):
        run(GOOD, pid=2**22 + 1)


def test_the_generator_is_wrk_where_it_is_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    (tmp_path / "wrk").write_text("#!/bin/sh\necho 'wrk 9.9 [epoll] Copyright'\n")
    (tmp_path / "wrk").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find("sockets").name == "raw keep-alive sockets of our own"
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert find("auto").name == find("wrk").name == "wrk 9.9"
    monkeypatch.setenv("PATH", "")
    assert find("auto").name == "raw keep-alive sockets of our own"
    with pytest.raises(PreflightError, match="wrk is not installed"):
        find("wrk")
