"""A real publisher between a real log, fakehub and a real redis-server that is killed, emptied and flushed under it."""

import asyncio
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from sentinel.v1.events_pb2 import Coverage, Event, PushEvent, Repository, ReviewReady

from sentinelctl.fakehub.hub import FakeHub
from sentinelctl.fakehub.server import serve
from services.codec import encode
from services.contract import Group, Topic
from services.settings import StreamSettings
from services.stream import open_admin, open_producer
from services.stream.base import Admin
from services.stream.types import NewRecord
from tests.redis_process import RedisProcess, running_redis

from .conftest import git

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

TOKEN, PUSHES = "a-forge-token-of-this-test", 6


async def until(is_so: Callable[[], bool], what: str) -> None:
    try:
        async with asyncio.timeout(60):
            while not is_so():  # noqa: ASYNC110 - what is waited for is in another process
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"after 60 s still not so: {what}") from None


async def until_read(admin: Admin) -> None:
    async with asyncio.timeout(60):
        while sum(lag.records for lag in await admin.lag(Group.PUBLISHER, Topic.REVIEWS)):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def ready(repository: Repository, before: str, after: str, delivery_id: str) -> NewRecord:
    push = PushEvent(ref="refs/heads/main", before=before, after=after)
    event = Event(delivery_id=delivery_id, repository=repository, received_at_ns=time.time_ns(), push=push)
    value = encode(ReviewReady(event=event, commit_sha=after, coverage=Coverage(hunks=1, hunks_reviewed=1)))
    return NewRecord(Topic.REVIEWS, str(repository.id).encode(), value, {"delivery-id": delivery_id.encode()})


async def start_publisher(folder: Path, log: Path, url: str, redis: RedisProcess) -> asyncio.subprocess.Process:
    given = {
        "PROJECT_STATE_DIR": str(folder),
        "STREAM_LEASE_S": "1",
        "GITHUB_API_URL": url,
        "GITHUB_TOKEN": TOKEN,
        "GITHUB_PACING": "off",
        "PUBLISHER_METRICS_PORT": "0",
        "CLAIMS_KIND": "redis",
        "CLAIMS_URL": redis.url,
        "CLAIMS_LEASE_S": "10",
    }
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SENTINEL_")}
    with log.open("ab") as said:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "services.publisher",
            env={**kept, **{f"SENTINEL_{name}": value for name, value in given.items()}},
            stderr=said,
        )


async def test_each_push_has_one_comment_whatever_becomes_of_redis_and_of_the_publisher(tmp_path: Path) -> None:
    """Killed and back empty while records wait; flushed while the publisher is killed; then every delivery again."""
    path, log = tmp_path / "sample", tmp_path / "publisher.log"
    path.mkdir()
    git(path, "init", "-q", "-b", "main")
    for number in range(PUSHES + 1):
        git(path, "commit", "-q", "--allow-empty", "-m", f"change {number}")
    shas = git(path, "rev-list", "--reverse", "HEAD").split()
    hub = FakeHub([path], token=TOKEN)
    served = hub.repositories[0]
    repository = Repository(id=served.id, full_name=served.full_name, default_branch="main")
    pairs = list(pairwise(shas))

    settings, stream = StreamSettings(), tmp_path / "data" / "log.sqlite"
    admin, producer = open_admin(settings, stream), open_producer(settings, stream)
    await admin.create_topics(dict.fromkeys(Topic, 2))

    async def push(which: slice, name: str) -> None:
        await producer.append([ready(repository, *pair, f"{name}-{pair[1]}") for pair in pairs[which]])

    def said(event: str) -> bool:
        return event in log.read_text()

    with running_redis(tmp_path / "redis") as redis:
        async with serve(hub) as url:
            process = await start_publisher(tmp_path, log, url, redis)
            try:
                await until(lambda: said("publisher.started"), "the publisher has started")
                await push(slice(0, 2), "first")
                await until(lambda: len(hub.visible()) >= 1, "one is visible")
                redis.kill()
                await push(slice(2, 4), "first")
                await until(lambda: said("record.deferred"), "a record is put off")
                redis.start()
                await until(lambda: len(hub.visible()) >= 3, "three are visible")
                process.kill()
                await process.wait()
                redis.flush()
                process = await start_publisher(tmp_path, log, url, redis)
                await push(slice(4, 6), "first")
                await until_read(admin)
                await push(slice(0, 6), "again")
                await until_read(admin)
                process.send_signal(signal.SIGTERM)
                assert await process.wait() == 0, log.read_text()
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
        posted = Counter(one["commit_id"] for one in hub.visible())
        assert posted == dict.fromkeys(shas[1:], 1)
        assert redis.address in log.read_text()
        assert TOKEN not in log.read_text()
    await asyncio.gather(admin.close(), producer.close())
