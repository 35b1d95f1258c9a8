"""The bench commands, seconds each: that they measure real processes and say what they saw. No figure is judged, but
the bench's own: what it says of a target that stood still."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sentinelctl.errors import Exit
from sentinelctl.runtime.process import is_same
from sentinelctl.runtime.statefile import StateDir

from .test_lifecycle import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]  # stacks of processes, on machines that do other work too


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("SENTINEL_")}
    own = {"SENTINEL_PROJECT_STATE_DIR": str(folder / "state"), "SENTINEL_WEBHOOK_SECRET": "s3cret"}
    return subprocess.Popen(
        [sys.executable, "-m", "sentinelctl", "bench", *words, "--json"],
        env={**environ, **own},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(started: subprocess.Popen[str]) -> tuple[int, Any, str]:
    """(exit code, document, people's text); the state folder holds nothing of it afterwards."""
    out, said = started.communicate()
    assert out, said
    return started.returncode, json.loads(out), said


def bench(folder: Path, *words: str) -> tuple[int, Any, str]:
    return finish(start(folder, *words))


@pytest.mark.parametrize(
    "generator",
    [
        "sockets",
        pytest.param("wrk", marks=pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")),
    ],
)
def test_the_receiver_and_its_control_are_measured_in_pairs(tmp_path: Path, generator: str) -> None:
    words = ("--seconds", "1", "--pairs", "2", "--connections", "8", "--generator", generator, "--thresholds")
    code, document, said = bench(tmp_path, "ratio", "webhook", *words)
    assert (code == 99) == bool(document["faults"]), said
    assert code in (0, 99), said
    assert document["generator"].startswith("wrk" if generator == "wrk" else "raw keep-alive sockets")
    assert len(document["pairs"]) == 2
    for side in ("receiver", "control"):
        assert document[side]["answered"] > 0
        assert document[side]["errors"] == 0, said
        assert 0 < document[side]["p50_ms"]["median"] <= document[side]["p99_ms"]["median"]
    assert document["records_in_log"] >= document["acknowledged"] > document["receiver"]["answered"]
    assert document["fsync_p50_ms"] > 0
    assert list((tmp_path / "state").iterdir()) == []


def test_the_inference_server_and_the_engine_get_the_same_work(tmp_path: Path, repository: Path) -> None:
    words = ("--repo", str(repository), "--seconds", "0.5", "--pairs", "2", "--in-flight", "2", "--thresholds")
    code, document, said = bench(tmp_path, "ratio", "inference", *words)
    assert (code == 99) == bool(document["faults"]), said
    assert code in (0, 99), said
    assert len(document["pairs"]) == 2
    assert document["calls"] <= document["chunks"] <= document["tokens"]
    assert document["mean_batch"] >= 1
    for side in ("server", "direct"):
        assert document[side]["chunks_per_s"]["median"] > 0
        assert 0 < document[side]["lone_p50_ms"] <= document[side]["lone_p99_ms"]


def test_without_hunks_that_the_model_reads_there_is_nothing_to_measure(tmp_path: Path) -> None:
    for words in (("init", "-q", "-b", "main"), ("add", "."), ("commit", "-qm", "notes")):
        (tmp_path / "notes.md").write_text("notes\n")
        identity = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
        subprocess.run(["git", "-C", str(tmp_path), *identity, *words], check=True)
    code, document, _ = bench(tmp_path, "ratio", "inference")
    assert code == 2
    assert "hold no line that the model reads" in document["error"]["message"]


@contextmanager
def target(stops_at: int) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """(process, address) of a webhook that stops at that request until it gets SIGCONT."""
    words = [sys.executable, str(Path(__file__).parent / "stopped_target.py"), str(stops_at)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


@pytest.mark.slow
def test_a_standstill_of_two_seconds_in_a_minute_is_a_p99_of_1_4_seconds(tmp_path: Path) -> None:
    """The bench's own test: a target process is stopped (SIGSTOP) for 2 s while 50 requests a second are due for 60 s.

    100 of the 3,000 arrivals fall into those 2 s, and the first of them waits 2 s, the last nothing; 1 % of 3,000 are
    30, so p99 is what the 30th longest of the 100 waited: 2 s × (1 - 30/100) = 1.4 s. Counted from the moment of
    sending, only the five users' five requests under way would show it, and p99 would be milliseconds.
    """
    with target(stops_at=1000) as (process, url):
        words = ("--at", url, "--i-know", "--rate", "50", "--duration", "60", "--warm-up", "0", "--users", "5")
        started = start(tmp_path, "webhook", *words, "--fail-if", "p99>2s", "--fail-if", "p50>1s")
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        time.sleep(2)
        process.send_signal(signal.SIGCONT)
        code, document, said = finish(started)
    assert (code, document["figures"]["sent"]) == (0, 3000), said
    latency, service = document["figures"]["latency_ms"], document["figures"]["service_ms"]
    assert 1300 < latency["p99"] < 1700
    assert latency["max"] > 1950
    assert service["p99"] < 300 < latency["p99"], "this is what a closed loop would have said"


def test_a_condition_that_holds_is_said_and_exits_99(tmp_path: Path) -> None:
    words = ("--rate", "20", "--duration", "1", "--warm-up", "0.5", "--users", "2", "--fail-if", "p50>1us")
    code, document, said = bench(tmp_path, "webhook", *words)
    assert code == 99
    assert "p50>1us: it is" in said
    assert document["figures"]["sent"] == 20
    assert document["runs"][0]["events_in_log"] == 30
    assert document["environment"]["model"]["digest"]
    assert list((tmp_path / "state").iterdir()) == []


def test_a_receiver_that_the_bench_did_not_start_gets_no_load_unless_told(tmp_path: Path) -> None:
    with target(stops_at=0) as (_, url):
        code, document, _ = bench(tmp_path, "webhook", "--at", url)
        assert code == 2
        assert "none that this command started" in document["error"]["message"]
        words = ("--rate", "20", "--duration", "1", "--warm-up", "0", "--users", "2")
        code, document, said = bench(tmp_path, "webhook", "--at", url, "--i-know", *words)
    assert document["figures"]["sent"] == 20, said


def test_the_highest_rate_of_a_receiver_is_searched_for_and_held(tmp_path: Path) -> None:
    words = ("--profile", "find-max", "--rate", "50", "--duration", "0.5", "--warm-up", "0.2", "--users", "10")
    _, document, said = bench(tmp_path, "webhook", *words, "--slo", "p99<5s", "--slo", "rate<90")
    (best,) = document["find_max"]["rate"]
    assert 70 < best < 91, said
    assert "rate<90" in document["find_max"]["limited_by"][0]


def test_calls_of_the_inference_server_arrive_at_their_times(tmp_path: Path, repository: Path) -> None:
    words = ("--rate", "4", "--duration", "2", "--warm-up", "0.5", "--users", "4", "--chunks", "2")
    _, document, said = bench(tmp_path, "inference", "--repo", str(repository), *words, "--max-batch", "4")
    (run,) = document["runs"]
    assert (run["answered"], run["errors"], run["dropped"]) == (8, 0, 0), said
    assert document["target"]["max_batch"] == 4
    assert document["target"]["chunks_per_call"] >= 2
    assert run["mean_batch"] >= 1
    assert run["chunks_per_s"] == pytest.approx(4 * document["target"]["chunks_per_call"], abs=0.1)


def test_the_pipeline_is_timed_from_a_delivery_s_time_to_its_visible_review(tmp_path: Path) -> None:
    words = (
        "--rate",
        "4",
        "--duration",
        "2",
        "--warm-up",
        "0.5",
        "--users",
        "4",
        "--arrivals",
        "poisson",
        "--seed",
        "3",
    )
    small = ("--repositories", "3", "--github-ms", "5", "--no-limits")
    out = tmp_path / "stored" / "pipeline.json"
    _, document, said = bench(tmp_path, "pipeline", *words, *small, "--out", str(out))
    assert json.loads(out.read_text()) == document
    (run,) = document["runs"]
    assert (run["errors"], run["lost"], run["duplicates"]) == (0, 0, 0), said
    assert run["outcomes"] == {"reviewed": run["answered"]}
    assert run["acknowledged_ms"]["p50"] < run["latency_ms"]["p50"]
    assert set(run["stages_ms"]) >= {"queue", "github", "forward", "own"}
    assert set(run["memory"]["mb"]) == {"webhook", "extractor", "inference", "publisher"}
    assert document["target"]["forge_limits"] == "off"
    assert "--no-limits" in document["command"]
    assert "--out" not in document["command"]


def test_pull_requests_of_many_files_are_opened_and_reviewed(tmp_path: Path) -> None:
    words = ("--pulls", "--files", "40", "--rate", "1", "--duration", "2", "--warm-up", "0", "--users", "2")
    _, document, said = bench(tmp_path, "pipeline", *words, "--repositories", "2", "--github-ms", "5")
    (run,) = document["runs"]
    assert (run["answered"], run["lost"], run["duplicates"]) == (2, 0, 0), said
    assert (document["target"]["event"], document["target"]["files"]) == ("pull_request", 40)
    assert run["stages_ms"]["forward"]["p50"] > 0, "every head is a new one, so none of its findings is known"


def test_a_backlog_is_worked_off_once(tmp_path: Path) -> None:
    words = (
        "--queued",
        "16",
        "--repositories",
        "4",
        "--github-ms",
        "5",
        "--duration",
        "90",
        "--replicas",
        "extractor=2",
    )
    code, document, said = bench(tmp_path, "drain", *words, "--fail-if", "duplicates>0")
    assert code == 0, said
    figures = document["figures"]
    assert (figures["queued"], figures["is_empty"], figures["duplicates"]) == (16, True, 0)
    assert figures["rate"] > 0
    assert document["target"]["replicas"] == {"extractor": 2, "inference": 1, "publisher": 1}


def test_more_deliveries_than_a_repository_has_commits_are_refused_before_any_is_sent(
    tmp_path: Path, repository: Path
) -> None:
    words = ("--repo", str(repository), "--repositories", "1", "--rate", "50", "--duration", "2", "--github-ms", "5")
    code, document, _ = bench(tmp_path, "pipeline", *words)
    assert code == 2
    assert "more are asked for" in document["error"]["message"]


def test_a_bench_that_is_ended_takes_its_stack_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with start(tmp_path, "pipeline", "--duration", "60") as run:
        try:
            eventually(lambda: len(processes(tmp_path)) == 5)
            started = processes(tmp_path)
            run.terminate()
            run.communicate(timeout=60)
        finally:
            run.kill()
    eventually(lambda: not any(is_same(pid, token) for pid, token in started))
    assert run.returncode == Exit.INTERRUPTED
    assert not list(tmp_path.glob("sentinel-bench-*"))


def processes(folder: Path) -> list[tuple[int, str]]:
    """The supervisor and the four services of the stack below it, once all of them run."""
    for state in folder.glob("sentinel-bench-*/state"):
        if (recorded := StateDir(state).read()) is not None:
            replicas = [(one.pid, one.started) for one in recorded.replicas if one.pid is not None]
            return [(recorded.supervisor_pid, recorded.supervisor_started), *replicas]
    return []
