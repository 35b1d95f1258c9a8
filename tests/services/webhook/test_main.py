"""The receiver as a real process: what only the server around the app decides."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
    admin = open_admin(StreamSettings(), state_dir / "data" / "log.sqlite")
    await admin.create_topics({"push-events": 3})
    await admin.close()


@contextmanager
def running(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A receiver and its port."""
    process = subprocess.Popen(
        COMMAND, env=environment(tmp_path, SENTINEL_WEBHOOK_SECRET="s3cret"), stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    try:
        yield process, next(line["port"] for line in map(json.loads, process.stderr) if "port" in line)
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    asyncio.run(create_topic(tmp_path))
    with running(tmp_path) as started:
        yield started


def answer(port: int, *parts: bytes) -> bytes:
    """What the receiver says to these bytes; empty where it closes the connection on bytes that it has not read."""
    said = b""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        with suppress(ConnectionError):
            for part in parts:
                client.sendall(part)
        with suppress(ConnectionError):
            while b"\r\n\r\n" not in said and (more := client.recv(65536)):
                said += more
    return said


@pytest.mark.parametrize("secret", [{}, {"SENTINEL_WEBHOOK_SECRET": " "}])
def test_without_a_secret_it_refuses_to_start_and_says_how_to_set_one(tmp_path: Path, secret: dict[str, str]) -> None:
    done = subprocess.run(COMMAND, env=environment(tmp_path, **secret), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "SENTINEL_WEBHOOK_SECRET_FILE" in json.loads(done.stderr)["error"]


def test_the_secret_before_counts_only_beside_a_present_one() -> None:
    assert secrets(WebhookSettings(secret="new", secret_previous="old")) == [b"new", b"old"]
    with pytest.raises(ConfigError, match="SENTINEL_WEBHOOK_SECRET"):
        secrets(WebhookSettings(secret_previous="old"))


def test_a_taken_port_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder, pytest.raises(ConfigError, match="webhook"):
        listen("127.0.0.1", holder.getsockname()[1])


BODY = json.dumps(payloads.push()).encode()
HEADERS = {
    "x-github-event": "push",
    "x-github-delivery": "d-1",
    "x-hub-signature-256": sign(BODY, b"s3cret").decode(),
}
HEAD = b"POST /webhook HTTP/1.1\r\nHost: x\r\n"
MIB = b"x" * 1024 * 1024


def test_a_running_receiver_takes_deliveries_refuses_floods_and_ends_cleanly(
    receiver: tuple[subprocess.Popen[str], int],
) -> None:
    process, port = receiver
    body, headers = BODY, HEADERS
    with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        assert client.get("/ready").status_code == 200
        assert client.post("/webhook", content=body, headers=headers).json()["status"] == "accepted"
        assert client.post("/webhook", content=body, headers=headers).json()["status"] == "duplicate"
        # The sender sees the answer, although most of its body was never read into memory.
        assert client.post("/webhook", content=b"x" * (26 * 1024 * 1024)).status_code == 413
        odd = [(name.encode(), value.encode()) for name, value in headers.items() if "signature" not in name]
        for signature in (b"sha256=\xc3\xbc", b"\xff" * 71):
            refused = client.post("/webhook", content=body, headers=[*odd, (b"x-hub-signature-256", signature)])
            assert (refused.status_code, refused.json()["status"]) == (401, "unauthorized")
    assert answer(port, b"no HTTP\r\n\r\n").startswith(b"HTTP/1.1 400")  # which the server itself logs
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=30)
    assert process.returncode == 0
    lines = [json.loads(line) for line in log.splitlines()]
    assert [line["event"] for line in lines][-1] == "webhook.stopped"
    assert {line["delivery_id"] for line in lines if line["event"] == "delivery.ended"} == {"d-1"}


@pytest.mark.parametrize(
    ("parts", "status"),
    [
        ((b"Content-Length: 30000000\r\n\r\n",), b"413"),
        ((b"Transfer-Encoding: chunked\r\n\r\n", *[b"100000\r\n" + MIB + b"\r\n"] * 40), b"413"),
        ((b"Content-Length: 10\r\n\r\n", *[MIB] * 30), b"40"),
        ((b"Content-Length: -1\r\n\r\n",), b"400"),
        ((b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n1",), b"400"),
        ((b"X-Endless: ", *[MIB] * 30), b"400"),
        ((*[b"X-Endless: 1\r\n" * 2**16] * 3,), b"400"),
    ],
    ids=["declared", "chunked", "more than declared", "negative", "two lengths", "a header", "headers"],
)
def test_what_would_flood_it_is_refused_and_the_next_delivery_taken(
    receiver: tuple[subprocess.Popen[str], int], parts: tuple[bytes, ...], status: bytes
) -> None:
    _, port = receiver
    said = answer(port, HEAD, *parts)
    assert said.startswith(b"HTTP/1.1 " + status) or (not said and len(parts) > 2 and status != b"413")
    with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        assert client.post("/webhook", content=BODY, headers=HEADERS).status_code == 202


def test_a_sender_that_waits_for_leave_to_send_its_body_gets_it(receiver: tuple[subprocess.Popen[str], int]) -> None:
    """What is written is kept until an answer is complete, but for this."""
    _, port = receiver
    lines = [f"{name}: {value}" for name, value in {**HEADERS, "Content-Length": str(len(BODY))}.items()]
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        client.sendall(HEAD + "\r\n".join([*lines, "Expect: 100-continue", "", ""]).encode())
        assert client.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(BODY)
        assert client.recv(65536).startswith(b"HTTP/1.1 202 Accepted\r\n")


def test_requests_sent_one_after_the_other_unanswered_are_answered_in_order(
    receiver: tuple[subprocess.Popen[str], int],
) -> None:
    _, port = receiver
    lines = [f"{name}: {value}" for name, value in {**HEADERS, "Content-Length": str(len(BODY))}.items()]
    request = HEAD + "\r\n".join([*lines, "", ""]).encode() + BODY
    said = b""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        client.sendall(request * 2 + b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        while more := client.recv(65536):
            said += more
    assert [answer[:3] for answer in said.split(b"HTTP/1.1 ")[1:]] == [b"202", b"202", b"200"]
    assert said.index(b"accepted") < said.index(b"duplicate") < said.index(b"ok\n")


def writer_of(process: subprocess.Popen[str]) -> int:
    """The pid of its writing process."""
    (pid,) = (
        int(fields[0])
        for fields in map(str.split, subprocess.check_output(["ps", "-A", "-o", "pid=,ppid="], text=True).splitlines())
        if int(fields[1]) == process.pid
    )
    return pid


def test_a_receiver_whose_writing_process_ends_refuses_and_ends_to_be_started_again(
    receiver: tuple[subprocess.Popen[str], int],
) -> None:
    process, port = receiver
    os.kill(writer_of(process), signal.SIGKILL)
    with suppress(httpx2.TransportError), httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        assert client.post("/webhook", content=BODY, headers=HEADERS).status_code == 503
    _, log = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "webhook.writer_ended" in log


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_writing_process_ends_with_the_receiver_and_not_by_a_signal_of_its_own(
    receiver: tuple[subprocess.Popen[str], int], number: signal.Signals
) -> None:
    process, port = receiver
    writer = writer_of(process)
    os.kill(writer, signal.SIGTERM)
    with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        assert client.post("/webhook", content=BODY, headers=HEADERS).status_code == 202
    process.send_signal(number)
    process.communicate(timeout=30)  # both hold the pipe that is read to its end here


def test_while_the_log_is_broken_a_delivery_is_answered_503_and_forgotten(tmp_path: Path) -> None:
    log = tmp_path / "data" / "log.sqlite"
    log.parent.mkdir()
    log.write_bytes(b"no database" * 500)
    with running(tmp_path) as (_, port), httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        assert client.get("/ready").status_code == 503
        assert client.post("/webhook", content=BODY, headers=HEADERS).status_code == 503
        log.unlink()
        asyncio.run(create_topic(tmp_path))
        assert client.post("/webhook", content=BODY, headers=HEADERS).json()["status"] == "accepted"
