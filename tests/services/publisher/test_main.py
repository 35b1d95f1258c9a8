import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest


def start(folder: Path, **environ: str) -> "subprocess.Popen[str]":
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    return subprocess.Popen(
        [sys.executable, "-m", "services.publisher"],
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path.cwd(),
        env={**kept, "SENTINEL_PROJECT_STATE_DIR": str(folder), "SENTINEL_PUBLISHER_METRICS_PORT": "0", **environ},
    )


@pytest.mark.e2e
def test_without_credentials_the_publisher_refuses_to_start_and_says_how_to_give_them(tmp_path: Path):
    process = start(tmp_path)
    _, said = process.communicate()
    assert process.returncode == 2
    line = json.loads(said)
    assert line["event"] == "publisher.refused"
    assert "SENTINEL_GITHUB_TOKEN" in line["error"]


@pytest.mark.e2e
def test_a_started_publisher_has_its_claims_ready_and_stops_on_sigterm(tmp_path: Path):
    process = start(tmp_path, SENTINEL_GITHUB_TOKEN="unused")
    assert process.stderr is not None
    assert json.loads(process.stderr.readline())["event"] == "publisher.started"
    assert (tmp_path / "data" / "claims.sqlite").exists()
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate()
    assert process.returncode == 0
    assert json.loads(said.splitlines()[-1])["event"] == "publisher.stopped"
