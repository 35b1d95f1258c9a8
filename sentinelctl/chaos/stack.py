"""The stack that an experiment runs on: a fakehub in this process, services by the runtime, nothing of anybody's."""

import asyncio
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import urlsplit
from urllib.request import urlopen

from sentinelctl.catalog import SERVICES
from sentinelctl.chaos.history import Made
from sentinelctl.chaos.journal import Journal
from sentinelctl.chaos.own_redis import OwnRedis, running_redis
from sentinelctl.chaos.proxy import Proxy
from sentinelctl.demo.run import demo_settings, documents, read_log
from sentinelctl.fakehub.hub import FakeHub
from sentinelctl.fakehub.server import running_fakehub
from sentinelctl.ledger import Unit, Visible, Word
from sentinelctl.lifecycle import Project
from sentinelctl.log import letters as dead
from sentinelctl.log.reading import since
from sentinelctl.readiness import probe_fault
from sentinelctl.runtime.base import Progress, unseen
from sentinelctl.runtime.process import free_ports
from sentinelctl.state import Kind, Operation, Plan, Replica, ServiceSpec
from services.contract import READERS, Header, Role, Topic
from services.stream import open_admin, open_producer

if TYPE_CHECKING:
    from services.settings import Settings

NAME: Final = "sentinel-chaos"
Proxied = Literal["", "inference", "forge"]
"""What is reached through a relay."""
_OWN: Final[Mapping[str, Mapping[str, Any]]] = {
    "github": {"pacing": "off"},
    "claims": {"lease_s": 10.0},
    "autoscaler": {"metrics_port": 0},
}
_WAIT_S: Final = 60.0
_POLL_S: Final = 0.05


@dataclass
class Stack:
    """Everything a fault and the account may touch."""

    project: Project
    hub: FakeHub
    made: Made
    journal: Journal
    proxies: Mapping[str, Proxy]
    redis: OwnRedis | None = None
    shares_files: bool = True
    """A lock on a file, or a file that is gone, is one for the services too."""
    followed: list[Mapping[str, Any]] | None = None
    """What the services wrote, where a replica's log goes with it."""

    @property
    def settings(self) -> "Settings":
        return self.project.settings

    @property
    def plain(self) -> dict[str, Any]:
        """Enough of the settings to find it again; no secret."""
        settings = self.settings
        project = {**settings.project.model_dump(), "state_dir": str(settings.state_dir.absolute())}
        return {"project": project, "stream": {"kind": settings.stream.kind}, "docker": {"host": settings.docker.host}}

    @property
    def log_path(self) -> Path:
        return self.settings.stream_path

    def replica(self, service: str) -> Replica:
        """The first of them. Raises LookupError where it is not there (it is being replaced)."""
        found = self.project.runtime.observe().of(service)
        if not found:
            raise LookupError(f"no {service} runs")
        return found[0]

    def url(self) -> str:
        return f"http://127.0.0.1:{self.replica('webhook').ports['http']}/webhook"

    def not_ready(self) -> dict[str, str]:
        """Each replica that does not answer, and what it says."""
        runtime = self.project.runtime
        faults = {one.name: probe_fault(runtime, one) for one in runtime.observe().replicas}
        return {name: fault for name, fault in faults.items() if fault}

    def await_ready(self, within_s: float = _WAIT_S) -> bool:
        return eventually(lambda: not self.not_ready(), within_s=within_s)

    def restart(self, service: str, change: Callable[[ServiceSpec], ServiceSpec] = lambda spec: spec) -> None:
        """With another environment, where `change` gives one; ready when this returns."""
        with self.project.locked():
            operations = tuple(
                replace(one, kind=Kind.REPLACE, spec=change(one.spec)) if one.spec else one
                for one in self.project.plan_restart([service]).operations
            )
            self.project.apply(Plan(operations))

    def scale(self, service: str, count: int) -> tuple[Operation, ...]:
        with self.project.locked():
            plan = self.project.plan_scale({service: count})
            self.project.apply(plan)
            self.project.remember_scale({service: count})
        return plan.operations

    def metrics(self, service: str) -> str:
        ports = self.replica(service).ports
        url = f"http://127.0.0.1:{ports['http'] if service == Role.WEBHOOK else ports['metrics']}/metrics"
        with urlopen(url, timeout=10) as answer:
            text: str = answer.read().decode()
            return text

    def log(self) -> list[Mapping[str, Any]]:
        return read_log(self.project) if self.followed is None else list(self.followed)

    def visible(self) -> list[Visible]:
        return [
            Visible(Unit(one["repository"]["id"], one["pull_number"], one["commit_id"]), one["visible_at_ns"])
            for one in self.hub.visible()
        ]

    def letters(self) -> list[dead.Letter]:
        """Dead letters that nobody settled."""
        return asyncio.run(self._with_admin(dead.waiting))

    def retry_letters(self) -> int:
        letters = self.letters()

        async def put_back() -> None:
            producer = open_producer(self.settings.stream, self.log_path)
            try:
                for letter in letters:
                    await producer.append(dead.put_back(letter))
            finally:
                await producer.close()

        asyncio.run(put_back())
        return len(letters)

    def lag(self) -> dict[str, int]:
        """Records that each topic's readers have yet to commit."""

        async def look(admin: Any) -> dict[str, int]:
            return {
                topic.value: sum(one.records for one in await admin.lag(group, topic))
                for topic, group in READERS.items()
            }

        return asyncio.run(self._with_admin(look))

    def stages(self) -> list[dict[str, Any]]:
        """Every record that carries a delivery's id: which, where, when."""

        async def look(admin: Any) -> list[dict[str, Any]]:
            return [
                {
                    "delivery_id": record.headers.get(Header.DELIVERY_ID, b"").decode(errors="replace"),
                    "topic": record.topic,
                    "partition": record.partition,
                    "offset": record.offset,
                    "at": record.timestamp_ms / 1000,
                }
                for topic in Topic
                for record in await since(admin, topic)
            ]

        return asyncio.run(self._with_admin(look))

    async def _with_admin(self, work: Callable[[Any], Any]) -> Any:
        admin = open_admin(self.settings.stream, self.log_path)
        try:
            return await work(admin)
        finally:
            await admin.close()

    def words(self) -> dict[str, Word]:
        """What services say of deliveries that leave nothing to see on the forge; the last word counts."""
        found: dict[str, Word] = {}
        for line in self.log():
            if line.get("event") == "delivery.ended" and line.get("outcome") in ("superseded", "covered"):
                found[line["delivery_id"]] = Word(line["outcome"], line["reason"], int(line["ts"] * 1e9))
        for letter in self.letters():
            content = letter.content
            reason = f"{content.reason}: {content.message[:200]}"
            found[letter.delivery_id] = Word("dead-lettered", reason, content.last_failed_at_ns)
        return found


def eventually(holds: Callable[[], bool], *, within_s: float = _WAIT_S, every_s: float = _POLL_S) -> bool:
    """Whether it came true in time."""
    deadline = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(every_s)
    return True


@contextmanager
def running(
    base: "Settings",
    made: Made,
    journal: Journal,
    *,
    own: Mapping[str, Mapping[str, Any]],
    proxied: Proxied = "",
    has_redis: bool = False,
    copies: int,
    latency_ms: float,
    progress: Progress = unseen,
) -> Iterator[Stack]:
    """Up and ready; nothing of it runs afterwards. Its state folder, logs included, stays in the journal's.

    own: settings of the experiment, by section. has_redis: keeps the claims in a Redis of its own.
    """
    token = secrets.token_hex(20)
    folder = journal.folder / "state"
    with ExitStack() as stack:
        place = None
        if base.project.runtime == "docker":
            from sentinelctl.demo.place import Containers

            place = Containers(base, progress, needs_redis=has_redis)
        fakehub = stack.enter_context(
            running_fakehub([made.path], copies=copies, token=token, latency_ms=latency_ms)
            if place is None
            else place.fakehub(made.path, token=token, latency_ms=latency_ms, copies=copies)
        )
        api_url = place.api_url(fakehub) if place is not None else fakehub.url
        own, proxies = _with_proxies(own, proxied, api_url, fakehub.url, is_contained=place is not None)
        for proxy in proxies.values():
            stack.callback(proxy.close)
        redis = None
        if has_redis and place is None:
            redis = stack.enter_context(running_redis(journal.folder / "redis", journal))
            own = {**own, "claims": {"kind": "redis", "url": redis.url}}
        elif place is not None and place.has_redis:
            own = {**own, "claims": {"kind": "redis"}}
        log = place.log if place is not None else "sqlite"
        settings = demo_settings(base, api_url, token, folder, runtime=base.project.runtime, log=log)
        # Containers are told apart by it: another run may be on the same engine.
        name = {"project": {"name": f"{NAME}-{journal.folder.name.rpartition('-')[2]}"}}
        settings = _changed(settings, name, _OWN, own)
        project = Project(settings)
        stack.callback(project.runtime.close)
        running = Stack(project, fakehub.hub, made, journal, proxies, redis)
        if place is not None:
            running.shares_files = place.is_here
            running.followed = stack.enter_context(_following(settings, folder / "logs" / "services.jsonl"))
        entry = journal.note({"do": "stack", "folder": str(folder), "settings": running.plain})
        try:
            project.bring_up(progress=progress)
            yield running
        finally:
            project.take_down(with_volumes=True)
            journal.undone(entry)


@contextmanager
def _following(settings: "Settings", path: Path) -> Iterator[list[Mapping[str, Any]]]:
    """Every line as it is written, and in `path` at the end: the engine drops a container's log with the container."""
    project, stop = Project(settings), threading.Event()
    found: list[Mapping[str, Any]] = []

    def follow() -> None:
        lines = project.runtime.logs(SERVICES, lines=1_000_000, follow=True, until=stop.is_set)
        found.extend(documents(lines))

    thread = threading.Thread(target=follow, name="logs", daemon=True)
    thread.start()
    try:
        yield found
    finally:
        stop.set()
        thread.join()
        project.runtime.close()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{json.dumps(line)}\n" for line in found), encoding="utf-8")


def _with_proxies(
    own: Mapping[str, Mapping[str, Any]], proxied: Proxied, api_url: str, forge: str, *, is_contained: bool
) -> tuple[Mapping[str, Mapping[str, Any]], dict[str, Proxy]]:
    """forge: where this machine reaches it. What is between two containers no relay of this process can stand in."""
    if proxied == "inference" and not is_contained:
        port = free_ports({"grpc": "127.0.0.1"}, but=())["grpc"]
        proxy = Proxy(port)
        target = {"port": port, "target": f"127.0.0.1:{proxy.port}"}
        return {**own, "inference": {**own.get("inference", {}), **target}}, {proxied: proxy}
    if proxied == "forge":
        host, number = urlsplit(forge).netloc.rsplit(":", 1)
        proxy = Proxy(int(number), host)
        target = {"api_url": f"{api_url.rpartition(':')[0]}:{proxy.port}"}
        return {**own, "github": {**own.get("github", {}), **target}}, {proxied: proxy}
    return own, {}


def _changed(settings: "Settings", *changes: Mapping[str, Mapping[str, Any]]) -> "Settings":
    plain = settings.model_dump()
    for change in changes:
        for section, values in change.items():
            plain[section] = {**plain[section], **values}
    return type(settings).model_validate(plain)
