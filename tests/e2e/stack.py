"""What the fault tests share: a stack under load on either log, and the account of what became of each push."""

import asyncio
import contextlib
import os
import sqlite3
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, Final

import httpx2

from sentinelctl.chaos.faults import kill_and_await
from sentinelctl.chaos.history import Made, make_history
from sentinelctl.chaos.journal import Journal
from sentinelctl.chaos.stack import Stack as Observed
from sentinelctl.demo.history import Push, read_history
from sentinelctl.fakehub import hooks
from sentinelctl.fakehub.hub import FakeHub, Repository
from sentinelctl.fakehub.server import running_fakehub
from sentinelctl.ledger import Account, Sent, Unit, account
from sentinelctl.lifecycle import Project
from services.contract import READERS, Topic
from services.settings import StreamSettings, load

from .test_lifecycle import SECRET, TOKEN, Site, eventually, shown_by, site_in

BROKER: Final = os.environ.get("SENTINEL_TEST_KAFKA", "")
LEAST_LEASE_S: Final = 6  # of a Kafka broker that nobody configured
SETTLE_S: Final = 90.0
"""Longest wait for the last review: a claim's lease, a consumer's, and a pause between attempts."""

Change = tuple[Push, Repository]


@dataclass
class Stack:
    """All four services over a fakehub, and all that was pushed to them."""

    site: Site
    observed: Observed
    """The same as chaos has it: brought up by a command, looked at and broken from here."""
    stream: StreamSettings
    changes: list[Change]
    """Not yet pushed; each is a unit of review of its own."""
    sent: list[Sent] = field(default_factory=list)
    """Acknowledged, each once."""
    unanswered: int = 0
    """Attempts that met a refusal or nobody, and were made again under the same delivery id."""

    @property
    def hub(self) -> FakeHub:
        return self.observed.hub

    @property
    def log_path(self) -> Path:
        return self.observed.log_path

    def next(self, count: int) -> list[Change]:
        taken, self.changes = self.changes[:count], self.changes[count:]
        assert len(taken) == count, "the served history is too short for this test"
        return taken

    def push(self, changes: Iterable[Change], *, every_s: float = 0.0) -> None:
        """Each until it is acknowledged, as whoever redelivers what GitHub shows as failed."""
        with httpx2.Client(trust_env=False, timeout=30) as client:
            for change in changes:
                at_ns, delivery = time.time_ns(), self.delivery(change)
                while (status := self.post(delivery, client)) != 202:
                    assert status in (0, 503), status
                    assert time.time_ns() - at_ns < SETTLE_S * 1e9, f"{delivery.id} was never taken"
                    self.unanswered += 1
                    time.sleep(0.05)
                self.took(change, delivery, at_ns)
                time.sleep(every_s)

    def delivery(self, change: Change) -> hooks.Delivery:
        push, repository = change
        payload = hooks.push(repository, "refs/heads/main", push.before, push.after, self.hub.base_url)
        return hooks.delivery("push", payload, SECRET)

    def took(self, change: Change, delivery: hooks.Delivery, at_ns: int) -> None:
        push, repository = change
        self.sent.append(Sent(delivery.id, Unit(repository.id, None, push.after), at_ns, 202, "accepted"))

    @property
    def url(self) -> str:
        return self.observed.url()

    def post(self, delivery: hooks.Delivery, client: httpx2.Client) -> int:
        """The answer's status, 0 where nobody answered."""
        try:
            return client.post(self.url, content=delivery.body, headers=delivery.headers()).status_code
        except (httpx2.HTTPError, LookupError):  # the receiver is being replaced
            return 0

    def kill_and_await(self, service: str) -> None:
        """kill -9; returns once the supervisor has brought it back and it is ready."""
        self.site.observe()  # which has every process noted
        assert kill_and_await(self.observed, service)
        self.site.observe()

    def await_ready(self, service: str) -> None:
        eventually(lambda: not self.site.probe_fault(f"{service}-1"))

    def settle(self) -> Account:
        """Once everything that was pushed is shown and every record is committed, or time is up."""
        with contextlib.suppress(AssertionError):  # the account says what is missing
            eventually(lambda: self.account().count("lost") == 0, within_s=SETTLE_S)
        eventually(lambda: sum(self.lag().values()) == 0)
        return self.account()

    def account(self) -> Account:
        return account(self.sent, shown_by(self.hub))

    def letters(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.site.done("dlq", "list").document["letters"]
        return found

    def lag(self) -> dict[str, int]:
        return self.observed.lag()

    def logged(self) -> set[str]:
        """The delivery ids in push-events."""
        return {one["delivery_id"] for one in self.observed.stages() if one["topic"] == Topic.PUSH_EVENTS}

    def owners(self) -> list[tuple[Any, ...]]:
        """Who has which partition since when: another after any rebalance."""
        if self.stream.kind == "sqlite":
            with contextlib.closing(sqlite3.connect(f"file:{self.log_path}?mode=ro", uri=True)) as db:
                return sorted(db.execute("SELECT * FROM owners"))
        from kafka import KafkaAdminClient

        client = KafkaAdminClient(bootstrap_servers=self.stream.bootstrap)
        try:
            found = client.describe_groups([self.stream.prefix + group for group in READERS.values()])
        finally:
            client.close()
        groups = found.values() if isinstance(found, dict) else found
        return sorted((str(group),) for group in groups)

    def row(self, fault: str, *, rounds: int, dead_letters: int, seconds: float) -> dict[str, Any]:
        """Of the report."""
        found = self.account()
        return {
            "fault": fault,
            "log": self.stream.kind,
            "rounds": rounds,
            "pushes": len(self.sent),
            "lost": found.count("lost"),
            "duplicates": found.duplicates,
            "dead letters": dead_letters,
            "seconds": round(seconds),
        }


@contextlib.contextmanager
def running_stack(
    folder: Path, kind: str, *, commits: int, copies: int, settings: dict[str, str] | None = None
) -> Iterator[Stack]:
    """`copies` repositories over one history of `commits`: commits × copies changes to push."""
    served, home = folder / "served", folder / "site"
    make_history(served, commits)
    home.mkdir()
    stream = StreamSettings(kind="sqlite", lease_s=1)
    if kind == "kafka":
        prefix = f"test-{uuid.uuid4().hex[:12]}-"
        stream = StreamSettings(kind="kafka", bootstrap=BROKER, prefix=prefix, lease_s=LEAST_LEASE_S)
    own = {
        "SENTINEL_STREAM_KIND": stream.kind,
        "SENTINEL_STREAM_BOOTSTRAP": stream.bootstrap,
        "SENTINEL_STREAM_PREFIX": stream.prefix,
        "SENTINEL_STREAM_LEASE_S": str(stream.lease_s),
        "SENTINEL_CLAIMS_LEASE_S": "10",
        **(settings or {}),
    }
    with running_fakehub([served], copies=copies, token=TOKEN, latency_ms=5) as hub:
        try:
            with site_in(home, hub.hub.base_url, **own) as site:
                site.done("up")
                project = Project(load(None, site.environment))
                observed = Observed(project, hub.hub, Made(served, ()), Journal.begun(folder / "journal"), {})
                pushes = read_history(served, commits).pushes
                yield Stack(site, observed, stream, list(product(pushes, hub.hub.repositories)))
        finally:
            if kind == "kafka":
                asyncio.run(delete_topics(stream))


async def delete_topics(stream: StreamSettings) -> None:
    """All under its prefix."""
    from services.stream.kafka import KafkaAdmin

    admin = KafkaAdmin(stream)
    await admin.delete_topics(await admin.topics())
    await admin.close()


def endings(found: Account) -> Sequence[str]:
    """Each that is not a review."""
    return sorted(f"{delivery}: {ending}" for delivery, ending in found.endings.items() if ending != "reviewed")
