"""The log's commands on a stack that runs: dead letters put back, past pushes looked at again and posted anew."""

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from model.engine import WEIGHTS, read_manifest
from sentinelctl.demo.history import read_history
from sentinelctl.fakehub import hooks
from sentinelctl.fakehub.hub import FakeHub, Repository
from sentinelctl.fakehub.server import running_fakehub
from services.settings import StreamSettings

from .conftest import git
from .test_lifecycle import SECRET, TOKEN, Site, eventually, shown_by, site_in

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module", params=["sqlite", "kafka"])
def stream(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """Where the log is, as the environment says it; in a Kafka under a prefix of its own, and gone afterwards."""
    bus = os.environ.get("SENTINEL_TEST_KAFKA", "")
    if request.param == "sqlite":
        yield {}
        return
    if not bus:
        pytest.skip("SENTINEL_TEST_KAFKA=HOST:PORT names no Kafka broker")
    prefix = f"test-{uuid.uuid4().hex[:8]}."
    own = {"KIND": "kafka", "BOOTSTRAP": bus, "PREFIX": prefix, "LEASE_S": "6"}
    yield {f"SENTINEL_STREAM_{name}": value for name, value in own.items()}

    async def delete() -> None:
        from services.stream.kafka import KafkaAdmin

        admin = KafkaAdmin(StreamSettings(kind="kafka", bootstrap=bus, prefix=prefix))
        await admin.delete_topics(await admin.topics())
        await admin.close()

    asyncio.run(delete())


@pytest.fixture(scope="module")
def hub(stream: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeHub]:
    """Two repositories over one history of two commits."""
    path = tmp_path_factory.mktemp("hub") / "served"
    path.mkdir()
    git(path, "init", "-q", "-b", "main")
    for number in range(2):
        (path / "app.py").write_text("import run\n" + "run()  # TODO: mend\n" * number)
        git(path, "add", ".")
        git(path, "commit", "-qm", f"step {number}")
    with running_fakehub([path], copies=2, token=TOKEN) as running:
        yield running.hub


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, hub: FakeHub, stream: dict[str, str]) -> Iterator[Site]:
    with site_in(tmp_path_factory.mktemp("site"), hub.base_url, **stream) as site:
        site.done("up")
        yield site


def push(site: Site, hub: FakeHub, repository: Repository) -> str:
    """Sends the last commit; returns the delivery's id."""
    change = read_history(repository.git.folder, 1).pushes[-1]
    payload = hooks.push(repository, "refs/heads/main", change.before, change.after, hub.base_url)
    sent = hooks.delivery("push", payload, SECRET)
    url = f"http://127.0.0.1:{site.observe()['webhook-1'].ports['http']}/webhook"
    assert httpx2.post(url, content=sent.body, headers=sent.headers(), trust_env=False).status_code == 202
    return sent.id


def keys(hub: FakeHub, repository: Repository) -> list[str]:
    """Of the reviews shown for a repository, without what they have in common."""
    bodies = [one["body"] for one in hub.visible() if one["repository"]["id"] == repository.id]
    return [re.findall(r"key=push:\d+:\w+:[0-9a-f.]+:(\d+) -->", body)[0] for body in bodies]


def letters(site: Site) -> list[dict[str, object]]:
    found: list[dict[str, object]] = site.done("dlq", "list").document["letters"]
    return found


def test_a_dead_letter_whose_cause_is_gone_is_put_back_and_reviewed_once(site: Site, hub: FakeHub) -> None:
    repository = hub.repositories.pop()
    try:
        delivery = push(site, hub, repository)
        eventually(lambda: len(letters(site)) == 1)
    finally:
        hub.repositories.append(repository)
    (letter,) = letters(site)
    assert (letter["delivery_id"], letter["topic"], letter["attempts"]) == (delivery, "push-events", 4)
    assert "404" in str(letter["message"])
    assert site.run("dlq", "retry", "--limit", "1", "--dry-run").code == 100
    assert site.done("dlq", "retry", str(letter["id"])).document["letters"] == [letter]
    eventually(lambda: keys(hub, repository) == ["0"])
    assert letters(site) == []
    assert site.run("dlq", "retry", str(letter["id"])).code == 2
    assert {one["records"] for one in site.done("topics", "lag").document["lag"]} == {0}
    assert keys(hub, repository) == ["0"]


def test_a_replay_shows_what_the_model_says_and_posts_only_when_told(site: Site, hub: FakeHub) -> None:
    repository = hub.repositories[0]
    delivery = push(site, hub, repository)
    eventually(lambda: keys(hub, repository) == ["0"])
    shown, running = len(shown_by(hub)), site.pids()
    ran = site.done("replay", "--repo", repository.full_name)
    (replayed,) = ran.document["replayed"]
    assert (replayed["delivery_id"], replayed["outcome"]) == (delivery, "reviewed")
    assert {one["concept"] for one in replayed["findings"]} >= {"todo_left"}
    assert replayed["before"]["findings"] == sum(one["is_shown"] for one in replayed["findings"])
    assert ran.document["is_posted"] is False
    assert (len(shown_by(hub)), site.pids()) == (shown, running), "it posted, or touched what runs"
    site.done("replay", "--delivery", delivery, "--post")
    eventually(lambda: keys(hub, repository) == ["0", "1"])


def test_two_models_are_compared_over_past_events_and_nothing_is_posted(
    site: Site, hub: FakeHub, tmp_path: Path
) -> None:
    """The other model is the shipped one, but that its thresholds let everything through."""
    other = tmp_path / "weights"
    shutil.copytree(WEIGHTS, other)
    manifest = json.loads((other / "manifest.json").read_text())
    manifest |= {"digest": "e" * 64, "thresholds": dict.fromkeys(manifest["concepts"], 0.1)}
    (other / "manifest.json").write_text(json.dumps(manifest))
    repository = hub.repositories[0]
    push(site, hub, repository)
    eventually(lambda: "0" in keys(hub, repository))
    reviews, running = len(shown_by(hub)), site.pids()
    document = site.done("replay", "--repo", repository.full_name, "--model", str(other)).document
    assert {side: model["digest"] for side, model in document["models"].items()} == {
        "a": "e" * 64,
        "b": read_manifest().digest,
    }
    (*_, compared) = document["compared"]
    assert {side["outcome"] for side in compared["outcomes"].values()} == {"reviewed"}
    assert "todo_left" in {one["concept"] for one in compared["both"]}
    assert compared["only_b"] == []
    assert all(one["confidence_a"] == pytest.approx(one["confidence_b"]) for one in compared["both"])
    assert document["totals"]["events_compared"] == document["totals"]["events"] == len(document["compared"])
    assert (len(shown_by(hub)), site.pids()) == (reviews, running), "it posted, or touched what runs"


def test_a_replay_says_what_became_of_an_event_that_is_not_reviewed_today(site: Site, hub: FakeHub) -> None:
    """The branch has become a pull request's, so its pushes are covered by that."""
    repository = hub.repositories[0]
    change = read_history(repository.git.folder, 1).pushes[-1]
    delivery = push(site, hub, repository)
    pull = hub.create_pull(repository, base=change.before, head=change.after, head_ref="main")
    told = site.done("replay", "--repo", repository.full_name, "--since", "1h").document["replayed"]
    (replayed,) = (one for one in told if one["delivery_id"] == delivery)
    assert (replayed["outcome"], replayed["findings"]) == ("covered", [])
    assert f"pull request {pull.number}" in replayed["reason"]


def test_a_topic_can_be_followed(site: Site, hub: FakeHub) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "sentinelctl", "--json", "topics", "tail", "-f", "push-events"],
        cwd=site.folder, env=site.environment, stdout=subprocess.PIPE, text=True,
    ) as tail:  # fmt: skip
        assert tail.stdout is not None
        earlier = json.loads(tail.stdout.readline())
        assert earlier["value"]["repository"]["full_name"] in {one.full_name for one in hub.repositories}
        delivery = push(site, hub, hub.repositories[1])
        assert any(json.loads(line)["headers"]["delivery-id"] == delivery for line in tail.stdout)
        tail.terminate()


def test_the_detour_is_timed_beside_the_direct_call(tmp_path: Path, hub: FakeHub) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sentinelctl", "bench", "ratio", "detour", "--pairs", "3", "--warmup", "1", "--json"],
        cwd=hub.repositories[0].git.folder, capture_output=True, text=True, timeout=120, check=True,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PYTHONPATH": ":".join(sys.path)},
    )  # fmt: skip
    document = json.loads(done.stdout)
    assert (document["pairs"], document["log"], document["model"]["name"]) == (3, "sqlite", "sentinel-small")
    assert document["ratio"] == pytest.approx(document["detour"]["p50_ms"] / document["direct"]["p50_ms"], rel=1e-2)
    assert all(document[path]["p50_ms"] > document[path]["forward_p50_ms"] > 0 for path in ("direct", "detour"))
