"""The receiver as a real process: what only the server around the app decides."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from services.errors import ConfigError
from services.settings import StreamSettings, WebhookSettings
from services.stream import open_admin
from services.webhook.__main__ import listen, secrets
from services.webhook.signature import sign
from tests.services.webhook import payloads

COMMAND = [sys.executable, "-m", "services.webhook"]


def environment(tmp_path: Path, **settings: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SENTINEL_")}
    return {**inherited, "SENTINEL_PROJECT_STATE_DIR": str(tmp_path), "SENTINEL_WEBHOOK_PORT": "0", **settings}


async def create_topic(state_dir: Path) -> None:
    admin = open_admin(StreamSettings(), state_dir / "log.sqlite")
    await admin.create_topics({"push-events": 3})
    await admin.close()


@pytest.fixture
def address(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    asyncio.run(create_topic(tmp_path))
    process = subprocess.Popen(
        COMMAND, env=environment(tmp_path, SENTINEL_WEBHOOK_SECRET="s3cret"), stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    try:
        started = json.loads(process.stderr.readline())
        yield process, f"http://127.0.0.1:{started['port']}"
    finally:
        process.kill()
        process.communicate()


def test_without_a_secret_it_refuses_to_start_and_says_how_to_set_one(tmp_path: Path) -> None:
    done = subprocess.run(COMMAND, env=environment(tmp_path), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "SENTINEL_WEBHOOK_SECRET_FILE" in json.loads(done.stderr)["error"]


def test_the_secret_before_counts_only_beside_a_present_one() -> None:
    assert secrets(WebhookSettings(secret="new", secret_previous="old")) == [b"new", b"old"]
    with pytest.raises(ConfigError, match="SENTINEL_WEBHOOK_SECRET"):
        secrets(WebhookSettings(secret_previous="old"))


def test_a_taken_port_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder, pytest.raises(ConfigError, match="webhook"):
        listen("127.0.0.1", holder.getsockname()[1])


def test_a_running_receiver_takes_deliveries_refuses_floods_and_ends_cleanly(
    address: tuple[subprocess.Popen[str], str],
) -> None:
    process, url = address
    body = json.dumps(payloads.push()).encode()
    headers = {
        "x-github-event": "push",
        "x-github-delivery": "d-1",
        "x-hub-signature-256": sign(body, b"s3cret").decode(),
    }
    with httpx2.Client(base_url=url, timeout=30) as client:
        assert client.get("/ready").status_code == 200
        assert client.post("/webhook", content=body, headers=headers).json()["status"] == "accepted"
        assert client.post("/webhook", content=body, headers=headers).json()["status"] == "duplicate"
        # The sender sees the answer, although most of its body was never read into memory.
        assert client.post("/webhook", content=b"x" * (26 * 1024 * 1024)).status_code == 413
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=30)
    assert process.returncode == 0
    lines = [json.loads(line) for line in log.splitlines()]
    assert [line["event"] for line in lines][-1] == "webhook.stopped"
    assert {line["delivery_id"] for line in lines if line["event"] == "delivery.ended"} == {"d-1"}
