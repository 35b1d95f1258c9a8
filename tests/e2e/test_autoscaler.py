"""The autoscaler on the embedded runtime, under a load that grows fivefold and shrinks again.

The counts are those of processes that the kernel shows, looked at from outside; what became of each delivery is paired
with what the fakehub shows. Windows are seconds instead of minutes, nothing else is another way than in production.
"""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import cycle, pairwise
from typing import Any

import pytest

from sentinelctl.demo.history import read_history
from sentinelctl.demo.ledger import account
from sentinelctl.fakehub.hub import FakeHub
from sentinelctl.fakehub.server import running_fakehub
from sentinelctl.runtime.process import is_same

from .conftest import git
from .test_lifecycle import TOKEN, Sender, Site, eventually, shown_by, site_in

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

REPOSITORIES = 48
"""So many ids leave no partition of the 12 without one."""
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


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeHub]:
    path = tmp_path_factory.mktemp("scaled") / "served"
    path.mkdir()
    git(path, "init", "-q", "-b", "main")
    for number in range(5):
        (path / "app.py").write_text(f"LIMIT = {number}\ndef load(path):\n    return open(path).read()\n")
        git(path, "add", ".")
        git(path, "commit", "-qm", f"step {number}")
    with running_fakehub([path], copies=REPOSITORIES, token=TOKEN, latency_ms=LATENCY_MS) as running:
        yield running.hub


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, hub: FakeHub) -> Iterator[Site]:
    with site_in(tmp_path_factory.mktemp("site"), hub.base_url, **SETTINGS) as site:
        site.done("up")
        yield site


@dataclass
class Watch:
    """How many extractors run, each time that it changed, by pid and start; and every process that there was."""

    site: Site
    counts: list[int] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def go(self) -> None:
        while not self.stop.wait(0.1):
            count = extractors(self.site)
            if not self.counts or self.counts[-1] != count:
                self.counts.append(count)

    @property
    def turns(self) -> int:
        """Changes of direction."""
        steps = [1 if after > before else -1 for before, after in pairwise(self.counts)]
        return sum(one != other for one, other in pairwise(steps))


def extractors(site: Site) -> int:
    found = (one for name, one in site.observe().items() if name.startswith("extractor-"))
    return sum(one.pid is not None and is_same(one.pid, one.started) for one in found)


def lag(site: Site) -> int:
    rows = site.done("topics", "lag").document["lag"]
    return int(next(one["records"] for one in rows if one["group"] == "extractor"))


def decisions(site: Site) -> list[dict[str, Any]]:
    found = site.done("autoscaler", "status", "-n", "500").document["decisions"]
    return [one for one in found if one["service"] == "extractor"]


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
    site: Site, hub: FakeHub
) -> None:
    port = site.observe()["webhook-1"].ports["http"]
    sender = Sender(f"http://127.0.0.1:{port}/webhook", hub, read_history(hub.repositories[0].git.folder, 4).pushes)
    watch = Watch(site)
    watcher = threading.Thread(target=watch.go)
    watcher.start()
    try:
        send(sender)
        eventually(lambda: lag(site) <= TARGET, within_s=20)
        eventually(lambda: watch.counts[-1] == 1, within_s=30)
        eventually(lambda: account(sender.sent, shown_by(hub)).count("lost") == 0, within_s=20)
    finally:
        watch.stop.set()
        watcher.join()
    result = account(sender.sent, shown_by(hub))
    assert {one: ending for one, ending in result.endings.items() if ending != "reviewed"} == {}
    assert result.duplicates == 0
    assert len({one.unit.repository_id for one in sender.sent}) == REPOSITORIES
    told = decisions(site)
    assert max(watch.counts) > 1, told
    assert watch.counts[-1] == 1
    assert watch.turns <= 2, watch.counts
    assert {one["why"] for one in told} >= {"grow", "shrink"}
    assert all(one["reason"] for one in told)
    for index in range(2, max(watch.counts) + 1):
        ended = [line for line in site.log(f"extractor-{index}") if line["event"].startswith("replica.")]
        assert {line["how"] for line in ended if line["event"] == "replica.stopped"} == {"exit 0"}, (
            "drained, not killed"
        )
        assert {line["event"] for line in ended} == {"replica.started", "replica.stopped"}


def test_what_is_scaled_by_hand_is_left_alone_until_it_is_handed_back(site: Site) -> None:
    ran = site.done("scale", "extractor=2")
    assert "the autoscaler leaves extractor alone" in ran.err
    eventually(lambda: decisions(site)[-1]["why"] == "by-hand")
    rows = site.done("autoscaler", "status").document["services"]
    assert {one["service"]: one["is_paused"] for one in rows} == {
        "extractor": True, "inference": False, "publisher": False
    }  # fmt: skip
    assert (extractors(site), site.done("up").operations) == (2, [])
    site.done("autoscaler", "resume", "extractor")
    eventually(lambda: extractors(site) == 1, within_s=30)
    assert "shrink" in {one["why"] for one in decisions(site)[-4:]}


def test_a_paused_service_keeps_what_it_has(site: Site) -> None:
    rows = site.done("autoscaler", "pause").document["services"]
    assert [(one["running"], one["is_paused"]) for one in rows] == [(1, True)] * 3
    rows = site.done("autoscaler", "resume").document["services"]
    assert [one["is_paused"] for one in rows] == [False] * 3


def test_a_second_up_leaves_the_autoscaler_and_its_counts_alone(site: Site) -> None:
    before = site.pids()
    assert site.done("up").operations == []
    assert site.pids() == before
    assert "autoscaler-1" in before
