"""kill -9 of the receiver under the load that it is measured with: what it acknowledged is in its log."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from sentinelctl.bench.pushes import signed_pushes
from sentinelctl.bench.ratio.sockets import Tally, pour
from services.contract import Header, Topic
from services.settings import StreamSettings
from services.stream import open_admin
from services.stream.types import TopicPartition

pytestmark = pytest.mark.e2e

SECRET = "s3cret"
CONNECTIONS = 50
STREAM = StreamSettings()


def start(folder: Path) -> tuple["subprocess.Popen[bytes]", int]:
    """A receiver and its port."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("SENTINEL_")}
    own = {"PROJECT_STATE_DIR": str(folder), "WEBHOOK_PORT": "0", "WEBHOOK_SECRET": SECRET}
    with (folder / "receiver.log").open("ab+") as lines:
        began = lines.tell()
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "services.webhook"],
            env={**environ, **{f"SENTINEL_{name}": value for name, value in own.items()}},
            stderr=lines,
        )
        while process.poll() is None:
            lines.seek(began)
            line = lines.readline()
            if not line.endswith(b"\n"):
                continue
            began = lines.tell()
            if "port" in (said := json.loads(line)):  # before it, the writer of a killed one may say its last
                return process, int(said["port"])
    raise AssertionError(f"the receiver ended: {(folder / 'receiver.log').read_text()}")


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - it becomes true in another process
        await asyncio.sleep(0.001)


async def said(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await reader.readuntil(b"}")
    writer.close()
    return answer


async def create_topic(folder: Path) -> None:
    admin = open_admin(STREAM, folder / "data" / "log.sqlite")
    await admin.create_topics({Topic.PUSH_EVENTS: STREAM.partitions})
    await admin.close()


async def logged(folder: Path) -> Counter[str]:
    """How often each delivery id stands in the log."""
    admin = open_admin(STREAM, folder / "data" / "log.sqlite")
    found: Counter[str] = Counter()
    for partition in range(STREAM.partitions):
        for record in await admin.read(TopicPartition(Topic.PUSH_EVENTS, partition), 0, 1_000_000):
            found[record.headers[Header.DELIVERY_ID].decode()] += 1
    await admin.close()
    return found


@pytest.mark.parametrize("acknowledged_before", [1, 100, 1000])
async def test_kill_9_under_load_loses_nothing_that_was_acknowledged(tmp_path: Path, acknowledged_before: int) -> None:
    """50 connections send pushes as fast as they are answered; the receiver is killed in the middle of that, with
    requests under way on every connection, and started again on what it left."""
    await create_topic(tmp_path)
    process, port = start(tmp_path)
    tally, requests = Tally(), signed_pushes(SECRET)
    load = asyncio.create_task(pour(port, requests, "d", connections=CONNECTIONS, seconds=3600, tally=tally))
    is_full = lambda: tally.opened == CONNECTIONS and len(tally.acknowledged) >= acknowledged_before  # noqa: E731
    await until(lambda: is_full() or load.done())
    process.send_signal(signal.SIGKILL)
    process.wait()
    await until(lambda: tally.broken >= CONNECTIONS or load.done())
    acknowledged = list(tally.acknowledged)
    assert load.cancel(), "it was still sending"
    assert len(acknowledged) >= acknowledged_before
    assert tally.refused == 0

    process, port = start(tmp_path)
    try:
        found = await logged(tmp_path)
        assert [each for each in acknowledged if found[each] != 1] == []
        assert b'"duplicate"' in await said(port, requests[0].raw(acknowledged[-1])), "it also knows that it has them"
        assert await logged(tmp_path) == found
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
