"""The Locust file against a real receiver: 50 users for ten seconds, and the log has what was acknowledged."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sentinelctl.bench.webhook import own_receiver
from services.settings import load

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(importlib.util.find_spec("locust") is None, reason="locust is not installed (the dev group)"),
]

FILE = Path(__file__).parent / "locustfile.py"


def test_fifty_users_push_for_ten_seconds_and_none_fails(tmp_path: Path) -> None:
    settings = load(environ={"SENTINEL_PROJECT_STATE_DIR": str(tmp_path / "state")})
    with own_receiver(settings, log="sqlite", body_bytes=7000) as receiver:
        assert receiver.stored is not None
        host = f"http://{receiver.host}:{receiver.port}"
        words = (
            "--headless",
            "-u",
            "50",
            "-r",
            "50",
            "-t",
            "10s",
            "--host",
            host,
            "--json",
            "--only-summary",
            "-s",
            "30",
        )
        done = subprocess.run(
            [sys.executable, "-m", "locust", "-f", str(FILE), *words],
            env={**os.environ, "SENTINEL_WEBHOOK_SECRET": receiver.secret},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        stored = receiver.stored()
    assert done.returncode == 0, done.stderr
    (seen,) = json.loads(done.stdout)
    assert seen["name"] == "/webhook"
    assert seen["num_failures"] == 0, done.stderr
    assert seen["num_requests"] > 0
    assert stored >= seen["num_requests"]
