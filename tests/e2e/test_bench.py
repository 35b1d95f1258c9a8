"""The bench commands, a second each: that they measure real processes and say what they saw. No figure is judged."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.e2e


def bench(folder: Path, *words: str) -> tuple[int, Any, str]:
    """(exit code, document, people's text); the state folder holds nothing of it afterwards."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("SENTINEL_")}
    done = subprocess.run(
        [sys.executable, "-m", "sentinelctl", "bench", *words, "--json"],
        env={**environ, "SENTINEL_PROJECT_STATE_DIR": str(folder / "state")},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout), done.stderr


@pytest.mark.parametrize(
    "generator",
    [
        "sockets",
        pytest.param("wrk", marks=pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")),
    ],
)
def test_the_receiver_and_its_control_are_measured_in_pairs(tmp_path: Path, generator: str) -> None:
    words = ("--seconds", "1", "--pairs", "2", "--connections", "8", "--generator", generator, "--thresholds")
    code, document, said = bench(tmp_path, "webhook", *words)
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
    code, document, said = bench(tmp_path, "inference", *words)
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
    code, document, _ = bench(tmp_path, "inference")
    assert code == 2
    assert "hold no line that the model reads" in document["error"]["message"]
