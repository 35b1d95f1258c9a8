"""The main job: serve a repository, start the stack, send the webhooks, watch the reviews arrive, stop everything."""

import asyncio
import json
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpx2

from sentinelctl.demo.history import History, Push
from sentinelctl.demo.show import Arrival, Result
from sentinelctl.fakehub import hooks
from sentinelctl.fakehub.git import NULL_SHA
from sentinelctl.fakehub.hub import FakeHub, Repository
from sentinelctl.ledger import Sent, Unit, Visible, account
from sentinelctl.lifecycle import Project
from sentinelctl.runtime.base import LogLine
from sentinelctl.runtime.process import free_ports
from sentinelctl.state import ObservedState
from services import codec
from services.contract import Topic
from services.stream import open_admin
from services.stream.base import Admin
from services.stream.types import TopicPartition

if TYPE_CHECKING:
    from services.settings import Settings

_PULL_COMMITS: Final = 3
_LOOK_EVERY_S: Final = 0.05
_READ_RECORDS: Final = 500


@dataclass(frozen=True, slots=True)
class Pace:
    """pushes_per_s: deliveries sent, each at its own time whatever came of the one before."""

    pushes_per_s: float = 1.0
    wait_s: float = 90.0  # for the last review, after the last delivery


def demo_settings(
    settings: "Settings", api_url: str, token: str, state_dir: Path, *, runtime: str = "embedded", log: str = "sqlite"
) -> "Settings":
    """The user's settings on free ports, in a folder of their own, with secrets nobody else has."""
    ports = free_ports({"kafka_port": "127.0.0.1", "redis_port": "127.0.0.1"}, but=())
    own: dict[str, dict[str, Any]] = {
        "project": {"name": "sentinel-demo", "state_dir": str(state_dir), "runtime": runtime},
        "stream": {
            "kind": log,
            "path": "",
            "prefix": "",
            "security_protocol": "PLAINTEXT",
            "lease_s": 6.0 if log == "kafka" else 3.0,  # a Kafka broker takes no less
            "bootstrap": f"127.0.0.1:{ports['kafka_port']}",
        },
        "claims": {
            "kind": "redis" if log == "kafka" else "sqlite",
            "path": "",
            "lease_s": 15.0,
            "url": f"redis://127.0.0.1:{ports['redis_port']}/0",
            "password": "",
            "ca_file": "",
        },
        "docker": ports,
        "github": {"api_url": api_url, "token": token, "app_id": 0, "app_key": "", "timeout_s": 5.0},
        "webhook": {"bind": "127.0.0.1", "port": 0, "secret": secrets.token_hex(32), "secret_previous": ""},
        "extractor": {"metrics_port": 0},
        "inference": {"bind": "127.0.0.1", "port": 0, "metrics_port": 0, "target": "127.0.0.1:50051"},
        "publisher": {"metrics_port": 0},
        "prometheus": {"enabled": False},
    }
    plain = {
        section: {**getattr(settings, section).model_dump(), **own.get(section, {})}
        for section in type(settings).model_fields
    }
    return type(settings).model_validate(plain)


@dataclass
class Run:
    """One demo over a stack that is up. `tell` is given each review as it becomes visible."""

    hub: FakeHub
    history: History
    settings: "Settings"
    observed: ObservedState
    tell: Callable[[Arrival], None]
    pace: Pace = field(default_factory=Pace)
    sent: list[Sent] = field(default_factory=list)
    arrivals: list[Arrival] = field(default_factory=list)
    model: Mapping[str, str] = field(default_factory=dict)

    async def go(self) -> list[Visible]:
        """Sends everything and waits until each acknowledged delivery has its review, or time is up."""
        receiver = self.observed.of("webhook")[0].ports["http"]
        url = f"http://127.0.0.1:{receiver}/webhook"
        watcher = asyncio.create_task(self._watch())
        try:
            async with httpx2.AsyncClient(trust_env=False) as client:
                await self._send_all(url, client)
            async with asyncio.timeout(self.pace.wait_s):
                await self._all_visible()
        except TimeoutError:
            pass  # what is missing is in the account
        finally:
            await asyncio.sleep(4 * _LOOK_EVERY_S)  # a repeated review would show now
            watcher.cancel()
        return self._visible()

    async def _all_visible(self) -> None:
        awaited = {one.unit for one in self.sent if one.is_acknowledged}
        while awaited - {one.unit for one in self._visible()}:  # noqa: ASYNC110 - what is waited for is behind HTTP
            await asyncio.sleep(_LOOK_EVERY_S)

    def result(self, visible: list[Visible], log: list[Mapping[str, Any]]) -> Result:
        pulls = sum(one.unit.number is not None for one in self.sent)
        published = [line for line in log if line.get("event") == "review.published"]
        stages: dict[str, list[float]] = {}
        for line in published:
            for name, seconds in line["stages"].items():
                stages.setdefault(name.removesuffix("_s"), []).append(seconds * 1000)
        ended = {line["delivery_id"]: line["outcome"] for line in log if "outcome" in line and "delivery_id" in line}
        outcomes: dict[str, int] = {}
        for one in self.sent:
            outcome = ended.get(one.delivery_id, "unknown")
            outcomes[outcome] = outcomes.get(outcome, 0) + 1
        return Result(
            repository=str(self.history.path),
            pushes=len(self.sent) - pulls,
            pull_requests=pulls,
            account=account(self.sent, visible),
            arrivals=self.arrivals,
            stages_ms=stages,
            github_latency_ms=self.hub.latency_ms,
            model=self.model,
            outcomes=outcomes,
        )

    async def _send_all(self, url: str, client: httpx2.AsyncClient) -> None:
        loop = asyncio.get_running_loop()
        repository = self.hub.repositories[0]
        start = loop.time()
        deliveries = [*self._pushes(repository), self._pull_request(repository)]
        async with asyncio.TaskGroup() as tasks:
            for number, (unit, delivery) in enumerate(one for one in deliveries if one is not None):
                await asyncio.sleep(max(0.0, start + number / self.pace.pushes_per_s - loop.time()))
                tasks.create_task(self._send(url, unit, delivery, client))

    async def _send(self, url: str, unit: Unit, delivery: hooks.Delivery, client: httpx2.AsyncClient) -> None:
        sent_at_ns = time.time_ns()
        try:
            answer = await hooks.deliver(url, delivery, client)
            status, word = answer.status_code, str(answer.json().get("status", ""))
        except (httpx2.HTTPError, ValueError):
            status, word = 0, ""
        self.sent.append(Sent(delivery.id, unit, sent_at_ns, status, word))

    def _pushes(self, repository: Repository) -> list[tuple[Unit, hooks.Delivery]]:
        return [self._push(repository, one) for one in self.history.pushes]

    def _push(self, repository: Repository, push: Push) -> tuple[Unit, hooks.Delivery]:
        ref = f"refs/heads/{repository.git.default_branch}"
        payload = hooks.push(repository, ref, push.before, push.after, self.hub.base_url)
        return Unit(repository.id, None, push.after), self._signed("push", payload)

    def _pull_request(self, repository: Repository) -> tuple[Unit, hooks.Delivery] | None:
        """The last few commits, on a branch of their own; None where history has no commit to start it from."""
        bases = [one.before for one in self.history.pushes[-_PULL_COMMITS:] if one.before != NULL_SHA]
        if not bases:
            return None
        head = self.history.pushes[-1].after
        pull = self.hub.create_pull(repository, base=bases[0], head=head, head_ref="sentinel-demo")
        payload = hooks.pull_request(repository, pull, "opened", self.hub.base_url)
        return Unit(repository.id, pull.number, pull.head_sha), self._signed("pull_request", payload)

    def _signed(self, event: str, payload: Any) -> hooks.Delivery:
        return hooks.delivery(event, payload, self.settings.webhook.secret.get_secret_value())

    def _visible(self) -> list[Visible]:
        return [
            Visible(Unit(one["repository"]["id"], one["pull_number"], one["commit_id"]), one["visible_at_ns"])
            for one in self.hub.visible()
        ]

    async def _watch(self) -> None:
        """Tells of each review as it becomes visible, with what the log says of it."""
        told: set[Unit] = set()
        async with aclosing(self._reviews()) as reviews:
            async for ready in reviews:
                for one in self._visible():
                    if one.unit in told or one.unit not in ready:
                        continue
                    if (sent_at_ns := self._sent_at_ns(one.unit)) is not None:
                        told.add(one.unit)
                        self.arrivals.append(self._arrival(one, sent_at_ns, ready[one.unit]))
                        self.tell(self.arrivals[-1])

    def _sent_at_ns(self, unit: Unit) -> int | None:
        return min((one.sent_at_ns for one in self.sent if one.unit == unit), default=None)

    def _arrival(self, visible: Visible, sent_at_ns: int, ready: Mapping[str, Any]) -> Arrival:
        repository = self.hub.repositories[0]
        coverage = ready.get("coverage") or {}
        self.model = ready.get("model") or self.model
        least = self.settings.publisher.min_confidence  # what is less sure is posted by nobody
        return Arrival(
            number=visible.unit.number,
            sha=visible.unit.sha,
            subject=repository.git.commit(visible.unit.sha).message.partition("\n")[0],
            ms=(visible.at_ns - sent_at_ns) / 1e6,
            hunks=coverage.get("hunks", 0),
            hunks_reviewed=coverage.get("hunks_reviewed", 0),
            skipped=coverage.get("skipped", {}),
            findings=[one for one in ready.get("findings", []) if one.get("confidence", 0.0) >= least],
        )

    async def _reviews(self) -> AsyncGenerator[dict[Unit, Mapping[str, Any]]]:
        """Everything the log's reviews topic holds so far, again and again."""
        admin = open_admin(self.settings.stream, self.settings.stream_path)
        found: dict[Unit, Mapping[str, Any]] = {}
        offsets = dict.fromkeys(range(self.settings.stream.partitions), 0)
        try:
            while True:
                await self._read_new(admin, offsets, found)
                yield found
                await asyncio.sleep(_LOOK_EVERY_S)
        finally:
            await admin.close()

    async def _read_new(self, admin: Admin, offsets: dict[int, int], found: dict[Unit, Mapping[str, Any]]) -> None:
        for partition, offset in offsets.items():
            for record in await admin.read(TopicPartition(Topic.REVIEWS, partition), offset, _READ_RECORDS):
                ready = codec.to_json(record.topic, record.value)
                event = ready["event"]
                number = int(event["pull_request"]["number"]) if "pull_request" in event else None
                found[Unit(int(event["repository"]["id"]), number, ready["commit_sha"])] = ready
                offsets[partition] = record.offset + 1


def keep_logs(project: Project) -> None:
    """In the state folder, where those of processes lie already: a container's go with it."""
    project.state_dir.create()
    for line in project.runtime.logs(project.runtime.logged(), lines=1_000_000):
        with project.state_dir.log_of(line.replica).open("a", encoding="utf-8") as file:
            file.write(f"{line.text}\n")


def read_log(project: Project) -> list[Mapping[str, Any]]:
    """Every structured line the services wrote."""
    return list(documents(project.runtime.logs(project.runtime.logged(), lines=1_000_000)))


def documents(lines: Iterable[LogLine]) -> Iterator[Mapping[str, Any]]:
    """Those that are structured."""
    for line in lines:
        try:
            document = json.loads(line.text)
        except ValueError:
            continue
        if isinstance(document, dict):
            yield document
