import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from sentinelctl.chaos.journal import Journal
from sentinelctl.chaos.own_redis import OwnRedis, running_redis

pytestmark = pytest.mark.skipif(
    shutil.which("redis-server") is None, reason="no redis-server on PATH: `apt-get install redis-server`"
)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal.begun(tmp_path / "run")


@pytest.fixture
def server(journal: Journal) -> Iterator[OwnRedis]:
    with running_redis(journal.folder / "redis", journal) as server:
        with Redis.from_url(server.url) as client:
            client.set("key", "value")
        yield server


def test_what_it_acknowledged_survives_a_kill_and_not_the_loss_of_its_disk(server: OwnRedis) -> None:
    assert server.keys() == 1
    server.kill()
    assert server.keys() is None
    server.start()
    assert server.keys() == 1
    server.kill()
    server.lose()
    server.start()
    assert server.keys() == 0


def test_it_is_in_the_journal_so_that_healing_ends_it(server: OwnRedis, journal: Journal) -> None:
    assert journal.heal() == ["ended redis-server"]
    assert server.keys() is None
