"""The autoscaler on both runtimes, under a load that grows fivefold and shrinks again.

The counts are those of processes that the kernel shows, or of containers that the engine shows, looked at from outside;
what became of each delivery is paired with what the fakehub shows. Windows are seconds instead of minutes, nothing else
is another way than in production.
"""

import asyncio
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import cycle, pairwise
from typing import Any, Protocol

import docker
import pytest

from sentinelctl.demo.history import read_history
from sentinelctl.fakehub.hub import FakeHub
from sentinelctl.fakehub.server import running_fakehub
from sentinelctl.ledger import account
from sentinelctl.runtime.docker import PROJECT, SERVICE, DockerRuntime
from sentinelctl.runtime.process import is_same
from services.contract import Label, Topic
from services.settings import StreamSettings
from services.stream import open_admin
from tests.docker_engine import ADDRESS, needs_engine

from . import test_docker, test_lifecycle
from .conftest import git
from .test_docker import Site as DockerSite
from .test_lifecycle import TOKEN, Sender, eventually, shown_by
from .test_lifecycle import Site as EmbeddedSite

Site = DockerSite | EmbeddedSite

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(400)]

REPOSITORIES = 60
"""So many ids leave no partition of the 12 empty; 48 of them would."""
LATENCY_MS = 250
"""Of GitHub, so that an extractor waits more than it computes, and two get on twice as fast on any machine."""
ONCE_PER_S, TARGET = 2.0, 5
PHASES = ((4.0, 1), (8.0, 5), (4.0, 1))
"""Seconds, and times the load."""

SETTINGS = {
    "SENTINEL_AUTOSCALER_ENABLED": "true",
    "SENTINEL_AUTOSCALER_METRICS_PORT": "0",
    "SENTINEL_AUTOSCALER_INTERVAL_S": "0.5",
    "SENTINEL_AUTOSCALER_EXTRACTOR_MAX": "3",
    "SENTINEL_AUTOSCALER_EXTRACTOR_TARGET": str(TARGET),
    "SENTINEL_AUTOSCALER_INFERENCE_MAX": "1",
    "SENTINEL_AUTOSCALER_COOLDOWN_S": "2",
    "SENTINEL_AUTOSCALER_STABILISE_S": "6",
    "SENTINEL_AUTOSCALER_STALL_S": "10",
    "SENTINEL_EXTRACTOR_MAX_IN_FLIGHT": "1",
}


class Seen(Protocol):
    """What the runtime itself shows of the extractors, from outside."""

    site: Site

    def pids(self) -> dict[str, int]:
        """Of what runs now, by name."""

    def ends(self) -> list[tuple[str, str]]:
        """Each end that there was: of which replica, and how."""


class Processes:
    def __init__(self, site: EmbeddedSite) -> None:
        self.site = site

    def pids(self) -> dict[str, int]:
        found = [one for one in self.site.observe().values() if one.service == "extractor"]
        return {one.name: one.pid for one in found if one.pid is not None and is_same(one.pid, one.started)}

    def ends(self) -> list[tuple[str, str]]:
        rows = [line for line in self.site.log("extractor") if line["event"] in ("replica.stopped", "replica.exited")]
        return [(line["replica"], line["how"]) for line in rows]


class Containers:
    def __init__(self, site: DockerSite) -> None:
        self.site, self._since = site, int(time.time())
        self._client = docker.APIClient(ADDRESS)
        self._labels = [f"{PROJECT}={site.name}", f"{SERVICE}=extractor"]

    def pids(self) -> dict[str, int]:
        listed = self._client.containers(filters={"label": self._labels, "status": "running"})
        return {f"extractor-{one['Labels'][Label.REPLICA]}": int(one["Id"][:12], 16) for one in listed}

    def ends(self) -> list[tuple[str, str]]:
        told = self._client.events(
            since=self._since, until=int(time.time()) + 1, decode=True,
            filters={"type": "container", "event": "die", "label": self._labels},
        )  # fmt: skip
        about = [one["Actor"]["Attributes"] for one in told]
        return [(f"extractor-{one[Label.REPLICA]}", f"exit {one['exitCode']}") for one in about]

    def close(self) -> None:
        self._client.close()


@pytest.fixture(scope="module", params=["embedded", pytest.param("docker", marks=needs_engine())])
def runtime(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def hub(runtime: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeHub]:
    path = tmp_path_factory.mktemp("scaled") / "served"
    path.mkdir()
    git(path, "init", "-q", "-b", "main")
    for number in range(5):
        (path / "app.py").write_text(f"LIMIT = {number}\ndef load(path):\n    return open(path).read()\n")
        git(path, "add", ".")
        git(path, "commit", "-qm", f"step {number}")
    host = "127.0.0.1" if runtime == "embedded" else reached_by_containers()
    with running_fakehub(
        [path], copies=REPOSITORIES, token=TOKEN, latency_ms=LATENCY_MS, host=host, allow_remote=True
    ) as running:
        yield running.hub


def reached_by_containers() -> str:
    engine = DockerRuntime("test", ADDRESS)
    try:
        if not (address := engine.host_address()):
            pytest.skip("the engine runs in a virtual machine, whose containers do not reach a fakehub here")
        return address
    finally:
        engine.close()


@pytest.fixture(scope="module")
def seen(runtime: str, tmp_path_factory: pytest.TempPathFactory, hub: FakeHub) -> Iterator[Seen]:
    folder = tmp_path_factory.mktemp("site")
    if runtime == "embedded":
        with test_lifecycle.site_in(folder, hub.base_url, **SETTINGS) as processes:
            processes.done("up")
            yield Processes(processes)
        return
    with test_docker.site_in(folder, hub.base_url, **SETTINGS) as containers:
        containers.done("up", "--timeout", "120")
        found = Containers(containers)
        yield found
        found.close()


@pytest.fixture
def site(seen: Seen) -> Site:
    return seen.site


@dataclass
class Watch:
    """How many extractors run, each time that it changed."""

    seen: Seen
    counts: list[int] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def go(self) -> None:
        while not self.stop.wait(0.1):
            count = len(self.seen.pids())
            if not self.counts or self.counts[-1] != count:
                self.counts.append(count)

    @property
    def turns(self) -> int:
        """Changes of direction."""
        steps = [1 if after > before else -1 for before, after in pairwise(self.counts)]
        return sum(one != other for one, other in pairwise(steps))


def rows(site: Site) -> dict[str, Any]:
    return {one["replica"]: one for one in site.done("status").document["services"]}


def lag(site: Site) -> int:
    rows = site.done("topics", "lag").document["lag"]
    return int(next(one["records"] for one in rows if one["group"] == "extractor"))


def decisions(site: Site) -> list[dict[str, Any]]:
    found = site.done("autoscaler", "status", "-n", "500").document["decisions"]
    return [one for one in found if one["service"] == "extractor"]


def partitions(site: Site) -> set[int]:
    """Of push-events that hold a record."""

    async def look() -> set[int]:
        log = site.folder / "state" / "data" / "log.sqlite"
        admin = open_admin(StreamSettings(kind="sqlite"), log)
        try:
            return {one.position.partition for one in await admin.lag("extractor", Topic.PUSH_EVENTS) if one.end}
        finally:
            await admin.close()

    return asyncio.run(look())


def send(sender: Sender) -> None:
    """Each at its own time, over all repositories in turn."""
    targets = cycle((push, one) for push in sender.pushes for one in sender.hub.repositories)
    at_s = time.monotonic()
    for seconds, times in PHASES:
        for _ in range(round(seconds * times * ONCE_PER_S)):
            at_s += 1 / (times * ONCE_PER_S)
            time.sleep(max(0.0, at_s - time.monotonic()))
            sender.sent.append(sender._send(*next(targets)))


def test_a_load_of_five_times_is_met_by_more_extractors_that_go_again_and_nothing_is_lost(
    seen: Seen, site: Site, hub: FakeHub
) -> None:
    port = rows(site)["webhook-1"]["ports"]["http"]
    sender = Sender(f"http://127.0.0.1:{port}/webhook", hub, read_history(hub.repositories[0].git.folder, 4).pushes)
    watch = Watch(seen)
    watcher = threading.Thread(target=watch.go)
    watcher.start()
    try:
        send(sender)
        eventually(lambda: lag(site) <= TARGET, within_s=60)
        eventually(lambda: len(watch.counts) > 1 and watch.counts[-1] == 1, within_s=60)
        eventually(lambda: account(sender.sent, shown_by(hub)).count("lost") == 0, within_s=60)
    finally:
        watch.stop.set()
        watcher.join()
    result = account(sender.sent, shown_by(hub))
    assert {one: ending for one, ending in result.endings.items() if ending != "reviewed"} == {}
    assert result.duplicates == 0
    assert len({one.unit.repository_id for one in sender.sent}) == REPOSITORIES
    assert partitions(site) == set(range(12))
    told = decisions(site)
    assert max(watch.counts) > 1, told
    assert watch.counts[-1] == 1
    assert watch.turns <= 2, watch.counts
    assert {one["why"] for one in told} >= {"grow", "shrink"}
    assert all(one["reason"] for one in told)
    drained = {(f"extractor-{number}", "exit 0") for number in range(2, max(watch.counts) + 1)}
    assert set(seen.ends()) == drained, "not killed, and the first never ended"


def test_what_is_scaled_by_hand_is_left_alone_until_it_is_handed_back(seen: Seen, site: Site) -> None:
    ran = site.done("scale", "extractor=2")
    assert "the autoscaler leaves extractor alone" in ran.err
    eventually(lambda: decisions(site)[-1]["why"] == "by-hand")
    rows = site.done("autoscaler", "status").document["services"]
    assert {one["service"]: one["is_paused"] for one in rows} == {
        "extractor": True, "inference": False, "publisher": False
    }  # fmt: skip
    assert (len(seen.pids()), site.done("up").operations) == (2, [])
    site.done("autoscaler", "resume", "extractor")
    eventually(lambda: len(seen.pids()) == 1, within_s=30)
    assert "shrink" in {one["why"] for one in decisions(site)[-4:]}


def test_a_paused_service_keeps_what_it_has(site: Site) -> None:
    rows = site.done("autoscaler", "pause").document["services"]
    assert [(one["running"], one["is_paused"]) for one in rows] == [(1, True)] * 3
    rows = site.done("autoscaler", "resume").document["services"]
    assert [one["is_paused"] for one in rows] == [False] * 3


def test_a_second_up_leaves_the_autoscaler_and_its_counts_alone(site: Site) -> None:
    before = {name: one["pid"] for name, one in rows(site).items()}
    assert site.done("up").operations == []
    assert {name: one["pid"] for name, one in rows(site).items()} == before
    assert "autoscaler-1" in before
