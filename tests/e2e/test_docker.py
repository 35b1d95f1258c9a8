"""The Docker runtime as its user meets it: real commands, a real engine, our own images, a fakehub as GitHub.

One stack over SQLite on a shared volume serves most of the tests; Redis runs for real in a container of its own, and
Kafka where SENTINEL_TEST_KAFKA_IMAGE names an image.
"""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import docker
import httpx2
import pytest

from sentinelctl.chaos.history import make_history
from sentinelctl.demo.history import Push, read_history
from sentinelctl.fakehub.hub import FakeHub
from sentinelctl.fakehub.server import running_fakehub
from sentinelctl.ledger import account
from sentinelctl.runtime.docker import DockerRuntime
from sentinelctl.runtime.statefile import StateDir
from services.settings import Settings, load
from tests.docker_engine import (
    ADDRESS,
    GRAFANA_IMAGE,
    KAFKA_IMAGE,
    PROMETHEUS_IMAGE,
    PYTHON_IMAGE,
    REDIS_IMAGE,
    labelled,
    missing,
    needs_engine,
    project_name,
    sweep,
)

from .test_lifecycle import SECRET, TOKEN, Sender, eventually, shown_by

pytestmark = [*needs_engine(), pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(400)]

_COMMITS = 180

needs_redis = pytest.mark.skipif(bool(missing(REDIS_IMAGE)), reason=missing(REDIS_IMAGE))
needs_prometheus = pytest.mark.skipif(bool(missing(PROMETHEUS_IMAGE)), reason=missing(PROMETHEUS_IMAGE))
needs_kafka = [
    pytest.mark.kafka_image,
    pytest.mark.skipif(not KAFKA_IMAGE, reason="SENTINEL_TEST_KAFKA_IMAGE names no image of Kafka"),
]


@dataclass(frozen=True)
class Ran:
    code: int
    document: dict[str, Any]
    err: str

    @property
    def operations(self) -> list[str]:
        return [f"{one['operation']} {one['replica']}" for one in self.document["operations"]]


@dataclass
class Site:
    """One installation on the engine, in a folder of its own, on free ports."""

    folder: Path
    hub_url: str
    settings: dict[str, str] = field(default_factory=dict)
    name: str = field(default_factory=project_name)
    said: list[str] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        ports = ("WEBHOOK_PORT", "INFERENCE_PORT", "INFERENCE_METRICS_PORT", "EXTRACTOR_METRICS_PORT")
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("SENTINEL_")},
            **{f"SENTINEL_{name}": "0" for name in (*ports, "PUBLISHER_METRICS_PORT")},
            "SENTINEL_PROJECT_NAME": self.name,
            "SENTINEL_PROJECT_RUNTIME": "docker",
            "SENTINEL_PROJECT_STATE_DIR": str(self.folder / "state"),
            "SENTINEL_STREAM_KIND": "sqlite",
            "SENTINEL_STREAM_LEASE_S": "3",
            "SENTINEL_IMAGES_PYTHON": PYTHON_IMAGE,
            "SENTINEL_IMAGES_REDIS": REDIS_IMAGE,
            "SENTINEL_IMAGES_PROMETHEUS": PROMETHEUS_IMAGE,
            "SENTINEL_AUTOSCALER_ENABLED": "false",
            "SENTINEL_PROMETHEUS_ENABLED": "false",
            "SENTINEL_PROMETHEUS_PORT": "0",
            "SENTINEL_GRAFANA_ENABLED": "false",
            "SENTINEL_GRAFANA_PORT": "0",
            "SENTINEL_IMAGES_GRAFANA": GRAFANA_IMAGE or "127.0.0.1:1/no/grafana:1",
            "SENTINEL_IMAGES_KAFKA": KAFKA_IMAGE or "127.0.0.1:1/no/kafka:1",
            "SENTINEL_GITHUB_API_URL": self.hub_url,
            "SENTINEL_GITHUB_PACING": "off",
            "SENTINEL_GITHUB_TOKEN": TOKEN,
            "SENTINEL_WEBHOOK_SECRET": SECRET,
            **self.settings,
        }

    def start(self, *words: str, **settings: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "sentinelctl", *words, "--json"],
            cwd=self.folder, env=self.environment | settings, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip

    def run(self, *words: str, **settings: str) -> Ran:
        with self.start(*words, **settings) as command:
            out, err = command.communicate(timeout=300)
        self.said += [out, err]
        return Ran(command.returncode, json.loads(out), err)

    def done(self, *words: str, **settings: str) -> Ran:
        ran = self.run(*words, **settings)
        assert ran.code == 0, f"{words} exits {ran.code}\n{ran.err}"
        return ran

    def rows(self) -> dict[str, Any]:
        return {one["replica"]: one for one in self.run("status").document["services"]}

    def log(self, *names: str) -> list[dict[str, Any]]:
        done = subprocess.run(
            [sys.executable, "-m", "sentinelctl", "--json", "logs", "-n", "10000", *names],
            cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        self.said.append(done.stdout)
        return [json.loads(line) for line in done.stdout.splitlines()]


@contextlib.contextmanager
def site_in(folder: Path, hub_url: str, *name: str, **settings: str) -> Iterator[Site]:
    """`down --volumes` leaves nothing that carries the project's label on its engine: DOCKER_HOST among `settings`."""
    site = Site(folder, hub_url, settings, *name)
    client = docker.APIClient(settings.get("DOCKER_HOST", ADDRESS))
    try:
        yield site
        down = site.run("down", "--volumes", "--yes")
        assert (down.code, labelled(client, site.name)) == (0, []), down.err
    finally:
        sweep(client, site.name)
        client.close()


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeHub]:
    """Six repositories over one history of many commits, where containers reach it and other hosts do not."""
    path = tmp_path_factory.mktemp("hub") / "served"
    make_history(path, _COMMITS)
    runtime = DockerRuntime("test", ADDRESS)
    address = runtime.host_address()
    runtime.close()
    if not address:
        pytest.skip("the engine runs in a virtual machine, whose containers do not reach a fakehub here")
    with running_fakehub([path], copies=6, token=TOKEN, latency_ms=5, host=address, allow_remote=True) as running:
        yield running.hub


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, hub: FakeHub) -> Iterator[Site]:
    with site_in(tmp_path_factory.mktemp("site"), hub.base_url) as site:
        site.done("up", "--timeout", "120")
        yield site


@pytest.fixture(scope="module")
def history(hub: FakeHub) -> Iterator[Push]:
    """Each of its pushes is taken by one test alone: what another test had reviewed would prove nothing."""
    (served,) = {one.git.folder for one in hub.repositories}
    return iter(read_history(served, _COMMITS).pushes)


@contextlib.contextmanager
def sending(site: Site, hub: FakeHub, history: Iterator[Push], commits: int = 12) -> Iterator[Sender]:
    """Twenty deliveries a second, of these commits in each of six repositories, or until the block ends."""
    port = site.rows()["webhook-1"]["ports"]["http"]
    sender = Sender(f"http://127.0.0.1:{port}/webhook", hub, tuple(islice(history, commits)))
    thread = threading.Thread(target=sender.go)
    thread.start()
    try:
        yield sender
    finally:
        sender.stop.set()
        thread.join()


def assert_each_has_one_review(sender: Sender, hub: FakeHub) -> None:
    with contextlib.suppress(AssertionError):  # the account below says which
        eventually(lambda: account(sender.sent, shown_by(hub)).count("lost") == 0)
    result = account(sender.sent, shown_by(hub))
    assert result.endings
    assert {one: ending for one, ending in result.endings.items() if ending != "reviewed"} == {}
    assert result.duplicates == 0


def test_up_makes_a_network_a_volume_and_every_container_ready(site: Site) -> None:
    rows = site.rows()
    assert {name: one["health"] for name, one in rows.items()} == dict.fromkeys(
        ["inference-1", "extractor-1", "publisher-1", "webhook-1"], "ready"
    )
    assert all(one["memory_bytes"] > 0 and one["restarts"] == 0 for one in rows.values())
    document = site.done("status").document
    assert (document["runtime"], document["missing"]) == ("docker", [])
    assert [one["group"] for one in document["lag"]] == ["extractor", "inference", "publisher"]


def test_a_second_up_changes_nothing(site: Site) -> None:
    before = {name: one["pid"] for name, one in site.rows().items()}
    second = site.done("up")
    assert second.operations == []
    assert "nothing to change" in second.err
    assert {name: one["pid"] for name, one in site.rows().items()} == before


class Relay:
    """Between a command and the engine: passes everything on and keeps the first line of each request."""

    def __init__(self, path: Path) -> None:
        self.path, self.requests = path, []  # type: ignore[var-annotated]
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.socket(socket.AF_UNIX)
                far.connect(ADDRESS.removeprefix("unix://"))
                threading.Thread(target=self._pass, args=(near, far, True), daemon=True).start()
                threading.Thread(target=self._pass, args=(far, near, False), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, is_asking: bool) -> None:
        with contextlib.suppress(OSError), source:
            while data := source.recv(65536):
                if is_asking:
                    found = re.findall(rb"^([A-Z]+ /\S*) HTTP/1\.1\r$", data, re.MULTILINE)
                    self.requests += [line.decode() for line in found]
                target.sendall(data)
            target.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Relay]:
    relay = Relay(tmp_path / "relay.sock")
    yield relay
    relay.close()


@pytest.mark.skipif(not ADDRESS.startswith("unix://"), reason="the relay listens on a socket of this machine")
def test_a_dry_run_sends_nothing_but_reads(site: Site, relay: Relay) -> None:
    through = {"SENTINEL_DOCKER_HOST": f"unix://{relay.path}"}
    up = site.run("up", "--dry-run", SENTINEL_PUBLISHER_MAX_COMMENTS="9", SENTINEL_IMAGES_PYTHON="other:1", **through)
    assert up.code == 100
    kinds = {operation.split()[0] for operation in up.operations}
    assert kinds == {"build", "replace"}
    assert site.run("scale", "extractor=3", "--dry-run", **through).operations == [
        "start extractor-2",
        "start extractor-3",
    ]
    assert site.run("restart", "--dry-run", **through).code == 100
    assert "remove volume" in " ".join(site.run("down", "--volumes", "--dry-run", **through).operations)
    assert len(relay.requests) > 20
    assert {line.split()[0] for line in relay.requests} == {"GET"}


def test_a_compose_file_gives_each_container_what_up_gives_it(site: Site) -> None:
    written = site.done("config", "compose").document["compose"]
    volumes = {f"{site.name}-{name}": name for name in written["volumes"]}
    client = docker.APIClient(ADDRESS)
    try:
        made = {name: client.inspect_container(f"{site.name}-{name}-1") for name in written["services"]}
    finally:
        client.close()
    assert made.keys() == {"inference", "extractor", "publisher", "webhook"}
    for name, said in written["services"].items():
        config, host = made[name]["Config"], made[name]["HostConfig"]
        assert config["Image"].startswith(f"{said['image']}-")
        assert (config["Cmd"], config["User"], config["StopSignal"]) == (
            said["command"], said["user"], said["stop_signal"],
        )  # fmt: skip
        assert {one.partition("=")[0]: one.partition("=")[2] for one in config["Env"]}["HOME"] == "/tmp"
        assert settings_of(config["Env"]) == settings_of(
            f"{key}={site.environment[key] if value == f'${{{key}:?}}' else value}"
            for key, value in said["environment"].items()
        )
        health = config["Healthcheck"]
        assert health["Test"] == said["healthcheck"]["test"]
        assert health["Retries"] == said["healthcheck"]["retries"]
        for key in ("interval", "timeout", "start_period"):
            assert f"{health[key.title().replace('_', '')] // 10**9}s" == said["healthcheck"][key]
        assert (host["ReadonlyRootfs"], host["CapDrop"], host["SecurityOpt"], host["Init"]) == (
            said["read_only"], said["cap_drop"], said["security_opt"], said["init"],
        )  # fmt: skip
        assert {f"{host[key] >> 20}m" for key in ("Memory", "MemorySwap")} == {said["mem_limit"]}
        assert said["memswap_limit"] == said["mem_limit"]
        assert (host["PidsLimit"], host["RestartPolicy"]["Name"]) == (said["pids_limit"], said["restart"])
        assert [path + (f":{options}" if options else "") for path, options in host["Tmpfs"].items()] == said["tmpfs"]
        assert host["LogConfig"] == {"Type": said["logging"]["driver"], "Config": said["logging"]["options"]}
        mounts = [f"{volumes[one['Source']]}:{one['Target']}" for one in host.get("Mounts") or ()]
        assert mounts == said.get("volumes", [])
        ports = {key.partition("/")[0]: bound[0]["HostIp"] for key, bound in host["PortBindings"].items()}
        assert [f"{address}::{inside}" for inside, address in ports.items()] == said["ports"]
        assert f"{made[name]['Config']['Labels']['sentinel.grace_s']}s" == said["stop_grace_period"]


def settings_of(env: Iterable[str]) -> Settings:
    """What a role makes of its environment; its own name is no setting."""
    pairs = dict(one.split("=", 1) for one in env)
    return load(None, {name: value for name, value in pairs.items() if name != "SENTINEL_REPLICA"})


def test_build_names_sizes_and_gives_the_name_that_compose_files_have(site: Site) -> None:
    (built,) = site.done("build", "services").document["images"]
    assert built["bytes"] > built["base_bytes"] > 0
    client = docker.APIClient(ADDRESS)
    try:
        name = site.done("config", "compose").document["compose"]["services"]["webhook"]["image"]
        assert client.inspect_image(name)["Id"] == client.inspect_image(built["image"])["Id"]
    finally:
        client.close()


def test_one_services_setting_replaces_that_service_alone(site: Site) -> None:
    before = {name: one["pid"] for name, one in site.rows().items()}
    changed = site.done("up", SENTINEL_PUBLISHER_MAX_COMMENTS="9")
    assert changed.document["operations"] == [
        {"operation": "replace", "replica": "publisher-1", "cause": "changed: SENTINEL_PUBLISHER_MAX_COMMENTS"}
    ]
    after = {name: one["pid"] for name, one in site.rows().items()}
    assert {name for name in before if before[name] != after[name]} == {"publisher-1"}
    site.done("up")


def test_every_delivery_ends_as_one_review_while_replicas_come_go_and_crash(
    site: Site, hub: FakeHub, history: Iterator[Push]
) -> None:
    with sending(site, hub, history, 60) as sender:
        assert site.done("scale", "extractor=3", "inference=2").operations == [
            "start inference-2", "start extractor-2", "start extractor-3",
        ]  # fmt: skip
        eventually(lambda: sender.handled_by(site, "extractor-2") + sender.handled_by(site, "extractor-3") > 0)
        client = docker.APIClient(ADDRESS)
        try:
            client.kill(f"{site.name}-publisher-1")
            client.start(f"{site.name}-publisher-1")
        finally:
            client.close()
        restarted = site.done("restart", "extractor").operations
        assert restarted == ["replace extractor-1", "replace extractor-2", "replace extractor-3"]
        assert site.done("scale", "extractor=1", "inference=1").operations == [
            "stop extractor-3", "stop extractor-2", "stop inference-2",
        ]  # fmt: skip
    assert_each_has_one_review(sender, hub)


def test_extractors_take_new_inference_replicas_in_turn_and_leave_dead_ones(
    site: Site, hub: FakeHub, history: Iterator[Push]
) -> None:
    site.done("scale", "inference=2")
    client = docker.APIClient(ADDRESS)
    ports = {name: one["ports"]["metrics"] for name, one in site.rows().items() if name.startswith("inference")}

    def calls(replica: str) -> float:
        text = httpx2.get(f"http://127.0.0.1:{ports[replica]}/metrics", trust_env=False).text
        return sum(
            float(n) for n in re.findall(r"^sentinel_inference_latency_seconds_count(?:\{.*\})? (\S+)$", text, re.M)
        )

    try:
        began = {name: calls(name) for name in ports}
        with sending(site, hub, history):
            eventually(lambda: all(calls(name) > began[name] for name in ports))
        client.kill(f"{site.name}-inference-1")
        with sending(site, hub, history) as sender:
            before = calls("inference-2")
            eventually(lambda: calls("inference-2") > before + 5)
        assert_each_has_one_review(sender, hub)
    finally:
        client.close()
        site.done("scale", "inference=1")
        site.done("up")


def test_a_container_removed_by_hand_is_missing_and_up_brings_it_back(site: Site) -> None:
    client = docker.APIClient(ADDRESS)
    client.remove_container(f"{site.name}-publisher-1", force=True)
    client.close()
    assert site.done("status").document["missing"] == ["publisher-1"]
    assert site.done("up").operations == ["start publisher-1"]


def test_an_interrupted_up_leaves_a_state_from_which_up_goes_on(site: Site) -> None:
    for go_on in ("up", "down"):
        site.done("down")
        with site.start("up") as command:
            assert command.stderr is not None
            for line in command.stderr:
                if line.startswith("started"):
                    command.send_signal(signal.SIGINT)
                    break
            command.communicate(timeout=60)
        assert command.returncode == 130
        site.done(go_on)
    site.done("up")
    assert {one["health"] for one in site.rows().values()} == {"ready"}


def test_a_killed_up_leaves_no_lock_and_a_state_from_which_up_goes_on(site: Site) -> None:
    site.done("down")
    with site.start("up") as command:
        assert command.stderr is not None
        for line in command.stderr:
            if line.startswith("started"):
                command.kill()
                break
        command.communicate(timeout=60)
    assert f"pid {command.pid} " in (site.folder / "state" / "lock").read_text()
    there = set(site.rows())
    assert there
    started = {one.removeprefix("start ") for one in site.done("up").operations if one.startswith("start ")}
    assert {*there, *started} == {"inference-1", "extractor-1", "publisher-1", "webhook-1"}
    assert {one["health"] for one in site.rows().values()} == {"ready"}


def test_two_commands_do_not_change_it_at_once(site: Site) -> None:
    with StateDir(site.folder / "state").locked():
        refused = site.run("scale", "extractor=2")
    assert refused.code == 5
    assert f"pid {os.getpid()} (" in refused.document["error"]["message"]
    assert "its lock goes with it" in refused.document["error"]["remedy"]


def test_an_engine_that_is_not_there_ends_the_command(site: Site) -> None:
    for command in ("up", "down", "status", "build", "logs"):
        refused = site.run(command, SENTINEL_DOCKER_HOST=f"unix://{site.folder}/none.sock")
        assert refused.code == 3
        assert "no Docker engine answers at unix://" in refused.document["error"]["message"]
        assert "systemctl start docker" in refused.document["error"]["remedy"]


def test_the_containers_log_is_read_by_the_commands(site: Site) -> None:
    topics = site.done("topics", "list").document["topics"]
    assert {one["topic"] for one in topics} == {"push-events", "diff-chunks", "reviews", "reviews-dlq"}
    assert {line["event"] for line in site.log("webhook")} >= {"webhook.started"}


def test_down_keeps_the_log_and_up_goes_on_with_it(site: Site, hub: FakeHub, history: Iterator[Push]) -> None:
    with sending(site, hub, history) as sender:
        eventually(lambda: len(sender.sent) > 2)
    assert_each_has_one_review(sender, hub)
    assert site.run("down", "--volumes").code == 2, "nobody could be asked"
    site.done("down")
    assert site.rows() == {}
    assert (site.folder / "state" / "data" / "log.sqlite").exists()
    site.done("up")
    assert site.done("status").document["lag"][0]["records"] == 0


def test_a_service_that_cannot_start_is_shown_with_its_last_lines(site: Site) -> None:
    refused = site.run("up", "--timeout", "20", SENTINEL_INFERENCE_TARGET="nowhere")
    assert refused.code == 4
    assert "extractor-1 is not ready (crash-loop" in refused.document["error"]["message"]
    assert "inference.target" in refused.document["error"]["message"]
    site.done("up")


def test_no_secret_is_in_any_output_or_label(site: Site) -> None:
    client = docker.APIClient(ADDRESS)
    labels = [one["Labels"] for one in client.containers(all=True, filters={"label": f"sentinel.project={site.name}"})]
    client.close()
    assert labels
    everything = "".join(site.said) + json.dumps(labels)
    for secret in (TOKEN, SECRET):
        assert secret not in everything


def test_a_broker_that_no_hub_has_ends_up_before_anything_starts(tmp_path: Path, hub: FakeHub) -> None:
    with site_in(
        tmp_path, hub.base_url, SENTINEL_STREAM_KIND="kafka", SENTINEL_IMAGES_KAFKA="127.0.0.1:1/no:1"
    ) as site:
        refused = site.run("up")
        assert refused.code == 3
        assert "127.0.0.1:1/no:1" in refused.document["error"]["message"]
        assert 'stream.kind = "sqlite"' in refused.document["error"]["remedy"]
        assert site.rows() == {}


@needs_redis
def test_claims_live_in_a_redis_container_that_outlives_down(
    tmp_path: Path, hub: FakeHub, history: Iterator[Push]
) -> None:
    with site_in(tmp_path, hub.base_url, SENTINEL_CLAIMS_KIND="redis", SENTINEL_DOCKER_REDIS_PORT=str(_free())) as site:
        up = site.done("up")
        assert "start redis-1" in up.operations
        with sending(site, hub, history) as sender:
            eventually(lambda: len(sender.sent) > 2)
        assert_each_has_one_review(sender, hub)
        site.done("down")
        servers_first = [f"start {name}-1" for name in ("redis", "inference", "extractor", "publisher", "webhook")]
        assert site.done("up").operations[-5:] == servers_first
        port = site.rows()["webhook-1"]["ports"]["http"]
        again = Sender(f"http://127.0.0.1:{port}/webhook", hub, sender.pushes[:1])
        again.go()
        assert_each_has_one_review(again, hub)
        eventually(lambda: all(one["records"] == 0 for one in site.done("status").document["lag"]))
        assert account(again.sent, shown_by(hub)).duplicates == 0


@needs_prometheus
def test_prometheus_scrapes_every_replica_by_name(site: Site) -> None:
    own = {"SENTINEL_PROMETHEUS_ENABLED": "true"}
    assert site.done("up", **own).operations == [f"create volume {site.name}-prometheus", "start prometheus-1"]
    assert site.done("up", **own).operations == []
    port = site.rows()["prometheus-1"]["ports"]["http"]

    def up() -> dict[str, str]:
        url = f"http://127.0.0.1:{port}/api/v1/query"
        found = httpx2.get(url, params={"query": "up"}, trust_env=False).json()["data"]["result"]
        return {one["metric"].get("service", ""): one["value"][1] for one in found}

    eventually(lambda: up() == dict.fromkeys(["inference", "extractor", "publisher", "webhook"], "1"))
    assert site.done("up").operations == ["stop prometheus-1"]


WATCHED = {"SENTINEL_PROMETHEUS_ENABLED": "true", "SENTINEL_GRAFANA_ENABLED": "true"}


@needs_prometheus
def test_a_grafana_that_no_hub_has_ends_up_before_anything_starts(site: Site) -> None:
    before = site.rows()
    absent = {"SENTINEL_IMAGES_GRAFANA": "127.0.0.1:1/no/grafana:1"}
    planned = site.run("up", "--dry-run", **WATCHED, **absent)
    assert {"pull 127.0.0.1:1/no/grafana:1", f"create volume {site.name}-grafana", "start grafana-1"} <= set(
        planned.operations
    )
    refused = site.run("up", **WATCHED, **absent)
    assert refused.code == 3
    assert "127.0.0.1:1/no/grafana:1" in refused.document["error"]["message"]
    assert "grafana.enabled = false" in refused.document["error"]["remedy"]
    assert site.rows().keys() == before.keys()


@needs_prometheus
@pytest.mark.grafana_image
@pytest.mark.skipif(not GRAFANA_IMAGE, reason="SENTINEL_TEST_GRAFANA_IMAGE names no image of Grafana")
def test_grafana_shows_the_dashboard_to_whoever_looks_and_lets_nobody_change_it(site: Site) -> None:
    up = site.done("up", "--timeout", "120", **WATCHED)
    assert up.operations[-1] == "start grafana-1"
    assert site.done("up", **WATCHED).operations == []
    url = up.document["dashboard_url"]
    with httpx2.Client(base_url=url, trust_env=False) as anybody:
        assert anybody.get("/api/health").json()["database"] == "ok"
        shown = anybody.get("/api/dashboards/uid/sentinel").json()
        assert (shown["dashboard"]["title"], shown["meta"]["canSave"]) == ("Sentinel", False)
        asked = {"queries": [{"refId": "A", "datasource": {"uid": "prometheus"}, "expr": "up", "instant": True}]}
        eventually(lambda: bool(anybody.post("/api/ds/query", json=asked).json()["results"]["A"]["frames"]))
        assert anybody.post("/api/dashboards/db", json={"dashboard": shown["dashboard"]}).status_code in (401, 403)
        password = (site.folder / "state" / "grafana.password").read_text()
        assert anybody.get("/api/org", auth=("admin", password)).status_code == 200
        assert anybody.get("/api/admin/stats", auth=("admin", "admin")).status_code == 401
    assert site.done("up").operations == ["stop grafana-1", "stop prometheus-1"]


class TestKafka:
    pytestmark = needs_kafka

    def test_the_pipeline_runs_on_it_and_a_second_up_changes_nothing(
        self, tmp_path: Path, hub: FakeHub, history: Iterator[Push]
    ) -> None:
        ports = {"SENTINEL_DOCKER_KAFKA_PORT": str(_free()), "SENTINEL_DOCKER_REDIS_PORT": str(_free())}
        own = {"SENTINEL_STREAM_KIND": "kafka", "SENTINEL_STREAM_LEASE_S": "6"}
        with site_in(tmp_path, hub.base_url, **own, **ports) as site:
            up = site.done("up", "--timeout", "180")
            assert next(one for one in up.operations if one.startswith("start")) == "start kafka-1"
            topics = site.done("topics", "list").document["topics"]
            assert {one["partitions"] for one in topics} == {12}
            assert site.done("up").operations == []
            with sending(site, hub, history) as sender:
                site.done("scale", "extractor=2")
                eventually(lambda: sender.handled_by(site, "extractor-2") > 0)
            assert_each_has_one_review(sender, hub)
            few = site.run("up", SENTINEL_STREAM_PARTITIONS="24")
            assert few.code == 3
            assert "fewer partitions than stream.partitions = 24" in few.document["error"]["message"]
            site.done("down")
            site.done("up", "--timeout", "180")
            assert site.done("status").document["lag"][0]["records"] == 0


def _free() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
