"""Containers over a Kafka and a Redis that others run, on one engine and on two.

Redis runs for real on this machine, behind TLS and a password; Kafka where SENTINEL_TEST_KAFKA names a broker at an
address that containers reach. The second host is a second engine with a network stack and a name of its own.
"""

import asyncio
import contextlib
import os
import threading
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import docker
import pytest

from sentinelctl.chaos.history import make_history
from sentinelctl.containers import own_images
from sentinelctl.demo.history import read_history
from sentinelctl.fakehub.hub import FakeHub
from sentinelctl.fakehub.server import running_fakehub
from sentinelctl.ledger import account
from sentinelctl.runtime.docker import DockerRuntime
from services.contract import Topic
from services.settings import StreamSettings, load
from services.stream.kafka import KafkaAdmin
from tests.docker_engine import ADDRESS, PYTHON_IMAGE, needs_engine
from tests.redis_process import RedisProcess, free_port, running_redis, self_signed
from tests.second_engine import needs_second_engine, second_engine

from .test_docker import Site, site_in
from .test_lifecycle import TOKEN, Sender, eventually, shown_by

pytestmark = [*needs_engine(), pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(400)]

BROKER = os.environ.get("SENTINEL_TEST_KAFKA", "")
PASSWORD = "a-redis-password-of-this-test"
_LEASE_S = 6  # the least that a broker takes
_COMMITS = 16

needs_broker = pytest.mark.skipif(
    not BROKER or BROKER.startswith(("127.", "localhost", "[::1]")),
    reason="SENTINEL_TEST_KAFKA=HOST:PORT names no broker at an address that containers reach",
)


@pytest.fixture(scope="module")
def host() -> str:
    """The address of this machine that containers of both engines reach and other machines do not."""
    runtime = DockerRuntime("test", ADDRESS)
    address = runtime.host_address()
    runtime.close()
    if not address:
        pytest.skip("the engine runs in a virtual machine, whose containers do not reach what tests start here")
    return address


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory, host: str) -> Iterator[FakeHub]:
    """So many repositories that each of twelve partitions has some."""
    path = tmp_path_factory.mktemp("hub") / "served"
    make_history(path, _COMMITS)
    with running_fakehub([path], copies=48, token=TOKEN, latency_ms=5, host=host, allow_remote=True) as running:
        yield running.hub


@dataclass
class Redis:
    """One that others run: behind TLS, with a password."""

    server: RedisProcess
    settings: dict[str, str]

    def keys(self, project: str) -> int:
        with self.server.client(PASSWORD) as client:
            return sum(1 for _ in client.scan_iter(f"sentinel:{project}:*"))


@pytest.fixture
def redis(tmp_path: Path, host: str) -> Iterator[Redis]:
    certificate, key = self_signed(tmp_path, host)
    port = free_port()
    options = [
        "--bind",
        "127.0.0.1",
        host,
        "--protected-mode",
        "no",
        "--tls-port",
        str(port),
        "--tls-auth-clients",
        "no",
    ]
    options += ["--tls-cert-file", str(certificate), "--tls-key-file", str(key), "--tls-ca-cert-file", str(certificate)]
    with running_redis(tmp_path / "redis", *options) as server:
        with server.client() as client:
            client.config_set("requirepass", PASSWORD)
        settings = {
            "SENTINEL_CLAIMS_KIND": "redis",
            "SENTINEL_CLAIMS_URL": f"rediss://{host}:{port}",
            "SENTINEL_CLAIMS_CA_FILE": str(certificate),
            "SENTINEL_CLAIMS_PASSWORD": PASSWORD,
        }
        yield Redis(server, settings)


@contextlib.asynccontextmanager
async def opened(settings: StreamSettings) -> AsyncIterator[KafkaAdmin]:
    admin = KafkaAdmin(settings)
    try:
        yield admin
    finally:
        await admin.close()


@dataclass
class Bus:
    """A prefix of its own on the broker that others run."""

    prefix: str

    @property
    def settings(self) -> dict[str, str]:
        return {
            "SENTINEL_STREAM_KIND": "kafka",
            "SENTINEL_STREAM_BOOTSTRAP": BROKER,
            "SENTINEL_STREAM_PREFIX": self.prefix,
            "SENTINEL_STREAM_LEASE_S": str(_LEASE_S),
        }

    @property
    def stream(self) -> StreamSettings:
        return StreamSettings(kind="kafka", bootstrap=BROKER, prefix=self.prefix)

    def create(self, **topics: int) -> None:
        async def create() -> None:
            async with opened(self.stream) as admin:
                await admin.create_topics({name.replace("_", "-"): count for name, count in topics.items()})

        asyncio.run(create())

    def clear(self) -> None:
        async def clear() -> None:
            async with opened(self.stream) as admin:
                if there := await admin.topics():
                    await admin.delete_topics(there)

        asyncio.run(clear())


@pytest.fixture
def bus() -> Iterator[Bus]:
    bus = Bus(f"test-{uuid.uuid4().hex[:12]}-")
    yield bus
    bus.clear()


@contextlib.contextmanager
def sending(site: Site, hub: FakeHub, first: int, last: int) -> Iterator[Sender]:
    """These commits, in each repository; each commit is sent by one test alone."""
    (served,) = {one.git.folder for one in hub.repositories}
    port = site.rows()["webhook-1"]["ports"]["http"]
    sender = Sender(f"http://127.0.0.1:{port}/webhook", hub, read_history(served, _COMMITS).pushes[first:last])
    thread = threading.Thread(target=sender.go)
    thread.start()
    try:
        yield sender
    finally:
        thread.join()


def assert_each_has_one_review(sender: Sender, hub: FakeHub) -> None:
    assert sender.sent
    with contextlib.suppress(AssertionError):  # the account below says which
        eventually(lambda: account(sender.sent, shown_by(hub)).count("lost") == 0)
    result = account(sender.sent, shown_by(hub))
    assert {one: ending for one, ending in result.endings.items() if ending != "reviewed"} == {}
    assert (len(result.endings), result.duplicates) == (len(sender.sent), 0)


def test_tls_and_a_password_of_redis_reach_the_clients_in_containers(
    tmp_path: Path, hub: FakeHub, redis: Redis
) -> None:
    with site_in(tmp_path, hub.base_url, **redis.settings) as site:
        up = site.done("up", "--timeout", "120")
        assert not [one for one in up.operations if "redis" in one or "kafka" in one]
        with sending(site, hub, 0, 1) as sender:
            pass
        assert_each_has_one_review(sender, hub)
        assert redis.keys(site.name) > len(sender.sent)
        assert PASSWORD not in "".join(site.said)


def test_servers_that_do_not_answer_end_up_before_anything_is_made(tmp_path: Path, hub: FakeHub, host: str) -> None:
    nobody = f"{host}:{free_port()}"
    with site_in(tmp_path, hub.base_url) as site:
        kafka = site.run(
            "up", SENTINEL_STREAM_KIND="kafka", SENTINEL_STREAM_BOOTSTRAP=nobody, SENTINEL_STREAM_TIMEOUT_S="1"
        )
        redis = site.run("up", SENTINEL_CLAIMS_KIND="redis", SENTINEL_CLAIMS_URL=f"redis://{nobody}")
        assert (kafka.code, redis.code) == (3, 3)
        assert kafka.document["error"]["message"].startswith(f"Kafka at {nobody} did not answer within 1 s")
        assert "doctor" in kafka.document["error"]["remedy"]
        assert redis.document["error"]["message"].startswith(f"the Redis at {nobody} did not serve")
        assert site.rows() == {}
        assert site.done("down").operations == []


@needs_broker
def test_of_topics_on_a_broker_of_others_only_the_missing_ones_are_made(
    tmp_path: Path, hub: FakeHub, redis: Redis, bus: Bus
) -> None:
    bus.create(push_events=24)
    with site_in(tmp_path, hub.base_url, **bus.settings, **redis.settings) as site:
        up = site.done("up", "--timeout", "120")
        assert not [one for one in up.operations if "redis" in one or "kafka" in one or "volume" in one]
        topics = {one["topic"]: one["partitions"] for one in site.done("topics", "list").document["topics"]}
        assert topics == {**{topic.value: 12 for topic in Topic}, "push-events": 24}
        assert site.done("up").operations == []
        few = site.run("up", SENTINEL_STREAM_PARTITIONS="24")
        assert few.code == 3
        assert "fewer partitions than stream.partitions = 24: diff-chunks has 12" in few.document["error"]["message"]
        assert "set stream.partitions = 12" in few.document["error"]["remedy"]


@needs_broker
@needs_second_engine
def test_a_second_host_takes_its_share_and_its_loss_loses_nothing(
    tmp_path_factory: pytest.TempPathFactory, hub: FakeHub, redis: Redis, bus: Bus
) -> None:
    """Both have the project's name, the broker, the Redis and the secrets; the second has no receiver."""
    roles = ("inference", "extractor", "publisher")
    shared = {**bus.settings, **redis.settings}
    base = load(None, {"SENTINEL_IMAGES_PYTHON": PYTHON_IMAGE})
    with site_in(tmp_path_factory.mktemp("one"), hub.base_url, **shared) as one:
        one.done("up", "--timeout", "120")
        with (
            second_engine([image.reference for image in own_images(base)]) as address,
            site_in(tmp_path_factory.mktemp("two"), hub.base_url, one.name, **shared, DOCKER_HOST=address) as two,
        ):
            up = two.done("up", "--only", ",".join(roles), "--timeout", "120")
            assert up.operations == [f"create network {one.name}", *(f"start {role}-1" for role in roles)]
            with sending(one, hub, 1, 4) as sender:
                eventually(lambda: all(sender.handled_by(site, "extractor-1") for site in (one, two)))
                eventually(lambda: all(sender.handled_by(site, "publisher-1") for site in (one, two)))
            assert_each_has_one_review(sender, hub)
            with sending(one, hub, 4, 6) as sender:
                client = docker.APIClient(address)
                for role in roles:
                    client.kill(f"{two.name}-{role}-1")
                client.close()
            assert_each_has_one_review(sender, hub)
            assert {row["health"] for row in one.rows().values()} == {"ready"}
