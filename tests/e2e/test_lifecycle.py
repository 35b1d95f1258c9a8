"""The embedded runtime as its user meets it: real commands, real services, a fakehub as GitHub.

One stack serves most of the tests. It is brought up by hand in a terminal that is then closed.
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
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from sentinelctl.demo.history import Push, read_history
from sentinelctl.fakehub import hooks
from sentinelctl.fakehub.hub import FakeHub, Repository
from sentinelctl.fakehub.server import running_fakehub
from sentinelctl.ledger import Sent, Unit, Visible, account
from sentinelctl.readiness import probe_fault
from sentinelctl.runtime.embedded import EmbeddedRuntime
from sentinelctl.runtime.process import is_same, start_token
from sentinelctl.runtime.supervisor import delay_s
from sentinelctl.state import Replica
from services.settings import secret_keys, variable

from ..contracts.test_metrics import DESIGN
from .conftest import git

pytestmark = pytest.mark.e2e

TOKEN, SECRET = "a-forge-token-of-this-test", "a-hook-secret-of-this-test"
TERMINAL = "import pty; pty.spawn(['/bin/sh', '-i'])"


@dataclass(frozen=True)
class Ran:
    """What a command under --json answered."""

    code: int
    document: dict[str, Any]
    err: str

    @property
    def operations(self) -> list[str]:
        return [f"{one['operation']} {one['replica']}" for one in self.document["operations"]]


@dataclass
class Site:
    """One installation in a folder of its own, on free ports."""

    folder: Path
    hub_url: str
    settings: Mapping[str, str] = field(default_factory=dict)
    """As the environment says them, beside those that every site has."""
    said: list[str] = field(default_factory=list)
    """Everything any command printed."""
    seen: set[tuple[int, str]] = field(default_factory=set)
    """Every process that was ever observed, with its start."""

    @property
    def environment(self) -> dict[str, str]:
        """Port 0 takes a free one."""
        ports = ("WEBHOOK_PORT", "INFERENCE_PORT", "INFERENCE_METRICS_PORT", "EXTRACTOR_METRICS_PORT")
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("SENTINEL_")},
            **{f"SENTINEL_{name}": "0" for name in (*ports, "PUBLISHER_METRICS_PORT")},
            "SENTINEL_PROJECT_STATE_DIR": str(self.folder / "state"),
            "SENTINEL_PROMETHEUS_ENABLED": "false",
            "SENTINEL_PROJECT_RUNTIME": "embedded",
            "SENTINEL_STREAM_LEASE_S": "3",
            "SENTINEL_GITHUB_API_URL": self.hub_url,
            "SENTINEL_GITHUB_PACING": "off",
            "SENTINEL_GITHUB_TOKEN": TOKEN,
            "SENTINEL_WEBHOOK_SECRET": SECRET,
            **self.settings,
        }

    def run(self, *words: str, **settings: str) -> Ran:
        done = subprocess.run(
            [sys.executable, "-m", "sentinelctl", *words, "--json"],
            cwd=self.folder, env=self.environment | settings, capture_output=True, text=True, timeout=120, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        self.said += [done.stdout, done.stderr]
        return Ran(done.returncode, json.loads(done.stdout), done.stderr)

    def done(self, *words: str, **settings: str) -> Ran:
        ran = self.run(*words, **settings)
        assert ran.code == 0, f"{words} exits {ran.code}\n{ran.err}"
        return ran

    def observe(self) -> dict[str, Replica]:
        """By name, without the price of a command."""
        observed = EmbeddedRuntime(self.folder / "state").observe()
        pids = [observed.supervisor_pid, *(one.pid for one in observed.replicas)]
        self.seen |= {(pid, token) for pid in pids if pid is not None and (token := start_token(pid)) is not None}
        return {one.name: one for one in observed.replicas}

    def probe_fault(self, name: str) -> str:
        return probe_fault(EmbeddedRuntime(self.folder / "state"), self.observe()[name])

    def pids(self) -> dict[str, int | None]:
        return {name: one.pid for name, one in self.observe().items()}

    def alive(self) -> set[int]:
        return {pid for pid, started in self.seen if is_same(pid, started)}

    def log(self, *names: str) -> list[dict[str, Any]]:
        done = subprocess.run(
            [sys.executable, "-m", "sentinelctl", "--json", "logs", "-n", "10000", *names],
            cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        self.said.append(done.stdout)
        return [json.loads(line) for line in done.stdout.splitlines()]


@contextlib.contextmanager
def site_in(folder: Path, hub_url: str, **settings: str) -> Iterator[Site]:
    """Nothing of it runs afterwards; what had to be killed by hand is a failure."""
    site = Site(folder, hub_url, settings)
    try:
        yield site
    finally:
        site.observe()
        down = site.run("down")
        left = site.alive()
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        assert (down.code, left) == (0, set()), down.err


def eventually(holds: Callable[[], bool], *, within_s: float = 60.0) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeHub]:
    """Six repositories over one history of a dozen commits."""
    path = tmp_path_factory.mktemp("hub") / "served"
    path.mkdir()
    git(path, "init", "-q", "-b", "main")
    for number in range(12):
        (path / "app.py").write_text(f"import os\nLIMIT = {number}\ndef load(path):\n    return open(path).read()\n")
        git(path, "add", ".")
        git(path, "commit", "-qm", f"step {number}")
    with running_fakehub([path], copies=6, token=TOKEN, latency_ms=5) as running:
        yield running.hub


@dataclass(frozen=True)
class Closed:
    """What a terminal showed until it was closed, the pid of the shell in it, and what a second `up` did then."""

    text: str
    shell_pid: int
    after: Ran


@pytest.fixture(scope="module")
def closed(stack: tuple[Site, Closed]) -> Closed:
    return stack[1]


@pytest.fixture(scope="module")
def site(stack: tuple[Site, Closed]) -> Site:
    return stack[0]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, hub: FakeHub) -> Iterator[tuple[Site, Closed]]:
    with site_in(tmp_path_factory.mktemp("site"), hub.base_url) as site:
        yield site, up_in_a_terminal(site)


def up_in_a_terminal(site: Site) -> Closed:
    """Types `up` into a shell, and kills what draws the window once all is started and `up` waits in the foreground,
    so that the kernel hangs up on all of them."""
    with subprocess.Popen(
        [sys.executable, "-c", TERMINAL],
        cwd=site.folder, env=site.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as terminal:  # fmt: skip
        assert terminal.stdin is not None
        assert terminal.stdout is not None
        typed = f"echo shell=$$; {sys.executable} -m sentinelctl up\n"
        terminal.stdin.write(typed.encode())
        terminal.stdin.flush()
        lines: list[str] = []
        for line in terminal.stdout:
            lines.append(line.decode())
            if re.search("started  webhook|error: ", lines[-1]):  # what turns beside it may stand before
                break
        text = "".join(lines)
        shell = int(re.findall(r"shell=(\d+)", text)[-1])
        started = start_token(shell)
        assert started is not None, text
        terminal.kill()
    eventually(lambda: not is_same(shell, started))
    return Closed(text, shell, site.run("up"))


def test_what_up_started_outlives_its_terminal(site: Site, closed: Closed) -> None:
    shown = {name: int(pid) for name, pid in re.findall(r"started +(\S+) +pid (\d+)", closed.text)}
    assert list(shown) == ["inference-1", "extractor-1", "publisher-1", "webhook-1"], closed.text
    assert closed.after.operations == [], "something had to be started anew"
    rows = site.done("status").document["services"]
    assert {one["replica"]: (one["pid"], one["health"]) for one in rows} == {
        name: (pid, "ready") for name, pid in shown.items()
    }
    for pid in shown.values():
        os.kill(pid, 0)
        assert os.getsid(pid) != closed.shell_pid


def test_a_second_up_changes_nothing(site: Site) -> None:
    before = site.pids()
    assert site.done("up").operations == []
    assert site.done("up", "--dry-run").operations == []
    assert site.pids() == before


def test_a_changed_setting_replaces_the_one_service_that_reads_it(site: Site) -> None:
    before = site.pids()
    changed = {"SENTINEL_PUBLISHER_MAX_COMMENTS": "9"}
    plan = site.run("up", "--dry-run", **changed)
    assert plan.code == 100
    assert plan.document["operations"] == [
        {"operation": "replace", "replica": "publisher-1", "cause": "changed: SENTINEL_PUBLISHER_MAX_COMMENTS"}
    ]
    assert site.pids() == before, "a dry run changed something"
    assert site.done("up", **changed).operations == plan.operations
    after = site.pids()
    assert {name for name in before if before[name] != after[name]} == {"publisher-1"}
    assert site.done("up").operations == plan.operations, "and back"


def test_what_crashes_comes_back_after_growing_pauses(site: Site) -> None:
    failures = 3
    earlier = len(site.log("extractor-1"))
    for number in range(1, failures + 1):
        before = site.observe()["extractor-1"]
        assert before.pid is not None
        os.kill(before.pid, signal.SIGKILL)
        eventually(lambda: site.observe()["extractor-1"].restarts == before.restarts + 1)  # noqa: B023 - called here
        after = site.observe()["extractor-1"]
        assert (after.failures, after.last_exit, after.ports) == (number, "SIGKILL", before.ports)
    pauses = [line["restart_in_s"] for line in site.log("extractor-1")[earlier:] if line["event"] == "replica.exited"]
    assert len(pauses) == failures
    for number, pause in enumerate(pauses, 1):
        assert round(delay_s(number, 1.0), 2) <= pause <= delay_s(number, 0.0)
    eventually(lambda: not site.probe_fault("extractor-1"))


@dataclass
class Sender:
    """Signed pushes to every repository in turn until told to stop, one each 50 ms."""

    url: str
    hub: FakeHub
    pushes: tuple[Push, ...]
    sent: list[Sent] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def go(self) -> None:
        for push, repository in product(self.pushes, self.hub.repositories):
            if self.stop.wait(0.05):
                return
            self.sent.append(self._send(push, repository))

    def _send(self, push: Push, repository: Repository) -> Sent:
        payload = hooks.push(repository, "refs/heads/main", push.before, push.after, self.hub.base_url)
        delivery = hooks.delivery("push", payload, SECRET)
        at_ns = time.time_ns()
        answer = httpx2.post(self.url, content=delivery.body, headers=delivery.headers(), trust_env=False, timeout=30)
        return Sent(delivery.id, Unit(repository.id, None, push.after), at_ns, answer.status_code, answer.text)

    def handled_by(self, site: Site, replica: str) -> int:
        ids = {one.delivery_id for one in list(self.sent)}
        return sum(line.get("delivery_id") in ids for line in site.log(replica))


def shown_by(hub: FakeHub) -> list[Visible]:
    return [
        Visible(Unit(one["repository"]["id"], one["pull_number"], one["commit_id"]), one["visible_at_ns"])
        for one in hub.visible()
    ]


def test_scaling_to_three_and_back_to_one_loses_no_event(site: Site, hub: FakeHub) -> None:
    (served,) = {one.git.folder for one in hub.repositories}
    port = site.observe()["webhook-1"].ports["http"]
    sender = Sender(f"http://127.0.0.1:{port}/webhook", hub, read_history(served, 100).pushes)
    thread = threading.Thread(target=sender.go)
    thread.start()
    try:
        assert site.done("scale", "extractor=3").operations == ["start extractor-2", "start extractor-3"]
        site.observe()
        eventually(lambda: sender.handled_by(site, "extractor-2") + sender.handled_by(site, "extractor-3") > 0)
        assert site.done("scale", "extractor=1").operations == ["stop extractor-3", "stop extractor-2"]
    finally:
        sender.stop.set()
        thread.join()

    def ended() -> bool:
        return account(sender.sent, shown_by(hub)).count("lost") == 0

    with contextlib.suppress(AssertionError):  # the account below says which
        eventually(ended)
    result = account(sender.sent, shown_by(hub))
    assert {one: ending for one, ending in result.endings.items() if ending != "reviewed"} == {}
    assert result.duplicates == 0
    for drained in ("extractor-2", "extractor-3"):
        assert site.log(drained)[-1] | {"ts": 0} == {
            "replica": drained, "event": "replica.stopped", "how": "exit 0", "level": "info", "service": "supervisor",
            "ts": 0,
        }  # fmt: skip
    assert set(site.pids()) == {"inference-1", "extractor-1", "publisher-1", "webhook-1"}


def send(site: Site, event: str, payload: Any, secret: str = SECRET, **headers: str) -> httpx2.Response:
    delivery = hooks.delivery(event, payload, secret)
    url = f"http://127.0.0.1:{site.observe()['webhook-1'].ports['http']}/webhook"
    return httpx2.post(url, content=delivery.body, headers={**delivery.headers(), **headers}, trust_env=False)


def test_each_line_about_a_delivery_has_its_id_and_its_trace(site: Site, hub: FakeHub) -> None:
    """One that is reviewed, one that comes again, one that is nothing to us, one that lies and one that cannot be."""
    repository = hub.repositories[0]
    first = hub.repositories[0].git.run("rev-list", "--max-parents=0", "HEAD").decode().strip()
    pull = hub.create_pull(repository, base=first, head="main", head_ref="traced")
    payload = hooks.pull_request(repository, pull, "opened", hub.base_url)
    trace = {"traceparent": f"00-{'a1' * 16}-{'b2' * 8}-01"}
    ids = {"X-GitHub-Delivery": "traced"}
    assert send(site, "pull_request", payload, **ids, **trace).json()["status"] == "accepted"
    assert send(site, "pull_request", payload, **ids, **trace).json()["status"] == "duplicate"
    assert send(site, "issues", {"action": "opened"}).json()["status"] == "ignored"
    assert send(site, "pull_request", payload, "another secret").status_code == 401
    assert send(site, "push", {"ref": 1}).status_code == 400
    eventually(lambda: any(one.unit.number == pull.number for one in shown_by(hub)))
    lines = [line for line in site.log() if line["service"] != "supervisor"]
    own = ("delivery.", "event.", "hunks.", "chunks.", "overflow.", "record.", "review.", "claim.")
    about = [line for line in lines if line["event"].startswith(own)]
    events = {line["event"] for line in about}
    assert events >= {"delivery.received", "delivery.refused", "delivery.ended", "event.extracted", "review.published"}
    for line in about:
        assert re.fullmatch(r"[A-Za-z0-9._:-]{1,128}", line["delivery_id"]), line
        assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", line["traceparent"]), line
    traced = [line for line in about if line["delivery_id"] == "traced"]
    assert {line["service"] for line in traced} == {"webhook", "extractor", "inference", "publisher"}
    assert {line["traceparent"].split("-")[1] for line in traced} == {"a1" * 16}


def pages(site: Site) -> dict[str, str]:
    """What each service says of itself at /metrics."""
    return {
        name: httpx2.get(replica.probe.replace("/ready", "/metrics"), trust_env=False).text
        for name, replica in site.observe().items()
    }


def test_each_service_says_every_metric_of_the_design_and_no_label_names_what_it_works_on(
    site: Site, hub: FakeHub
) -> None:
    ids = {line["delivery_id"] for line in site.log() if line.get("delivery_id")}
    named = {word for one in hub.repositories for word in (str(one.id), one.full_name)} | ids
    for replica, page in pages(site).items():
        families = {one.name: one for one in text_string_to_metric_families(page)}
        assert {name.removesuffix("_total") for name in DESIGN} <= families.keys(), replica
        own = [one for one in families.values() if one.name.startswith("sentinel_")]
        labels = {(name, value) for one in own for sample in one.samples for name, value in sample.labels.items()}
        assert {name for name, _ in labels} <= {
            "le", "method", "operation", "outcome", "reason", "result", "severity", "stage", "status", "topic",
        }  # fmt: skip
        for name, value in labels:
            assert value not in named, f"{replica}: {name}={value}"
            assert re.fullmatch(r"[A-Za-z0-9_.+-]{1,40}", value), f"{replica}: {name}={value}"
            assert not re.search(r"[0-9a-f]{12}", value), f"{replica}: {name}={value}"


def test_no_secret_is_printed_planned_logged_or_written(site: Site) -> None:
    """Nor on a page, in a label or in what a process was started with; whichever secret there is."""
    secrets = {variable(*one): f"{'-'.join(one)}-of-this-test" for one in secret_keys()}
    (site.folder / "token").write_text(TOKEN)
    site.run("config", "show", **secrets)
    site.run("config", "validate", **secrets)
    site.run("doctor", **secrets)
    site.run("up", "--dry-run", **secrets)
    elsewhere = {"SENTINEL_CLAIMS_KIND": "redis", "SENTINEL_CLAIMS_URL": "redis://127.0.0.1:1/0"}
    assert site.run("up", **secrets, **elsewhere).code == 3, "no Redis is there"
    kafka = {"SENTINEL_STREAM_KIND": "kafka", "SENTINEL_STREAM_BOOTSTRAP": "127.0.0.1:1"}
    login = {"SENTINEL_STREAM_SECURITY_PROTOCOL": "SASL_PLAINTEXT", "SENTINEL_STREAM_SASL_USERNAME": "u"}
    assert site.run("topics", "list", **secrets, **kafka, **login).code != 0, "no Kafka is there"
    assert send(site, "push", {}, "a wrong secret").status_code == 401
    site.log()
    site.said += pages(site).values()
    site.said += [
        Path(f"/proc/{pid}/cmdline").read_text() for pid in site.pids().values() if Path("/proc/self").exists()
    ]
    held = {str(path): path.read_bytes() for path in (site.folder / "state").rglob("*") if path.is_file()}
    assert any(path.endswith("state.json") for path in held)
    assert any(path.endswith(".log") for path in held)
    for secret in (TOKEN, SECRET, *secrets.values()):
        assert not [text for text in site.said if secret in text]
        assert not [path for path, body in held.items() if secret.encode() in body]


def test_down_leaves_no_process_and_keeps_the_data(tmp_path: Path, hub: FakeHub) -> None:
    with site_in(tmp_path, hub.base_url) as site:
        assert site.done("up", "--only", "webhook,publisher").operations == ["start publisher-1", "start webhook-1"]
        site.observe()
        assert len(site.seen) == 3, "two services and their supervisor"
        assert site.done("down").operations == ["stop webhook-1", "stop publisher-1"]
        assert site.alive() == set()
        assert site.done("status").document["services"] == []
        assert (tmp_path / "state/data/log.sqlite").exists()
        assert site.run("down", "--volumes").code == 2, "nobody can be asked"
        assert site.done("down", "--volumes", "--yes").operations == []
        assert [path.name for path in (tmp_path / "state").iterdir()] == ["lock"]


def test_a_taken_port_is_named_with_its_holder_and_nothing_is_started(tmp_path: Path, hub: FakeHub) -> None:
    with site_in(tmp_path, hub.base_url) as site, socket.create_server(("127.0.0.1", 0)) as holder:
        taken = str(holder.getsockname()[1])
        refused = site.run("up", SENTINEL_WEBHOOK_PORT=taken)
        assert refused.code == 3
        assert f"webhook needs port {taken} (http), which is taken by pid {os.getpid()} (" in refused.err
        assert refused.document["error"]["exit_code"] == 3
        assert site.observe() == {}


def test_without_a_secret_it_refuses_to_start_and_says_how_to_set_one(tmp_path: Path, hub: FakeHub) -> None:
    with site_in(tmp_path, hub.base_url) as site:
        refused = site.run("up", SENTINEL_WEBHOOK_SECRET="")
        assert refused.code == 3
        assert "no webhook secret is set" in refused.err
        assert "export SENTINEL_WEBHOOK_SECRET=" in refused.document["error"]["remedy"]
