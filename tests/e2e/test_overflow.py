"""A dead inference tier holds nothing up: pushes are extracted, their hunks wait in diff-chunks, and none is lost."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from sentinelctl.demo.history import read_history
from sentinelctl.fakehub.hub import FakeHub
from sentinelctl.fakehub.server import running_fakehub
from sentinelctl.ledger import account

from .conftest import git
from .test_lifecycle import TOKEN, Sender, Site, eventually, shown_by, site_in

pytestmark = pytest.mark.e2e

# A record holds 64 KiB: the hunks of the two large files are cut in pieces.
SETTINGS = {"SENTINEL_STREAM_MAX_RECORD_BYTES": "65536"}
LARGE = "".join(f"    value_{number} = compute({number}) or {'x' * 40!r}\n" for number in range(600))


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[FakeHub]:
    """Three repositories over one history of four commits, one of them large."""
    path = tmp_path / "served"
    path.mkdir()
    git(path, "init", "-q", "-b", "main")
    for number in range(4):
        (path / "app.py").write_text(f"import os\nLIMIT = {number}\ndef load(path):\n    return open(path).read()\n")
        if number == 2:
            for name in ("one.py", "two.py"):
                (path / name).write_text(f"def f():\n{LARGE}")
        git(path, "add", ".")
        git(path, "commit", "-qm", f"step {number}")
    with running_fakehub([path], copies=3, token=TOKEN) as running:
        yield running.hub


@pytest.fixture
def site(tmp_path: Path, hub: FakeHub) -> Iterator[Site]:
    folder = tmp_path / "site"
    folder.mkdir()
    with site_in(folder, hub.base_url) as site:
        yield site


def send_all(site: Site, hub: FakeHub) -> Sender:
    (served,) = {one.git.folder for one in hub.repositories}
    sender = Sender(
        f"http://127.0.0.1:{site.observe()['webhook-1'].ports['http']}/webhook", hub, read_history(served, 100).pushes
    )
    sender.go()
    assert all(one.is_acknowledged for one in sender.sent)
    return sender


def lag(site: Site) -> dict[str, int]:
    return {one["topic"]: one["records"] for one in site.run("status").document["lag"]}


def assert_all_reviewed_once(sender: Sender, hub: FakeHub) -> None:
    with contextlib.suppress(AssertionError):  # the account below says which is missing
        eventually(lambda: account(sender.sent, shown_by(hub)).count("lost") == 0)
    result = account(sender.sent, shown_by(hub))
    assert set(result.endings.values()) == {"reviewed"}
    assert (len(result.endings), result.count("lost"), result.duplicates) == (12, 0, 0)


def test_pushes_never_wait_for_a_dead_inference_tier_and_each_is_reviewed_once_it_is_back(
    site: Site, hub: FakeHub
) -> None:
    site.done("up", "--only", "webhook,extractor,publisher", **SETTINGS)
    sender = send_all(site, hub)
    eventually(lambda: lag(site)["push-events"] == 0)
    overflowed = [line for line in site.log("extractor-1") if line["event"] == "event.overflowed"]
    assert {line["delivery_id"] for line in overflowed} == {one.delivery_id for one in sender.sent}
    assert {line["reason"] for line in overflowed} == {"unreachable"}
    assert lag(site)["diff-chunks"] > len(sender.sent), "some of them are in pieces"
    assert shown_by(hub) == []
    site.done("up", **SETTINGS)
    assert_all_reviewed_once(sender, hub)
    assert sum(line["event"] == "overflow.reviewed" for line in site.log("inference-1")) == len(sender.sent)
    eventually(lambda: set(lag(site).values()) == {0})
    assert all("skipped" not in one["body"].splitlines()[0] for one in hub.visible())


def test_a_stopped_inference_server_holds_up_no_push(site: Site, hub: FakeHub) -> None:
    """SIGSTOP: it holds its port and answers nothing, so only time tells."""
    settings = {**SETTINGS, "SENTINEL_EXTRACTOR_OVERFLOW_AFTER_S": "1"}
    site.done("up", **settings)
    pid = site.observe()["inference-1"].pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        sender = send_all(site, hub)
        eventually(lambda: lag(site)["push-events"] == 0)
        assert shown_by(hub) == []
    finally:
        os.kill(pid, signal.SIGCONT)
    assert_all_reviewed_once(sender, hub)
