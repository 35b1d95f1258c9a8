"""Deliveries at their own times, whatever became of the ones before: what is sent is drawn from a seed beforehand."""

import random
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final, Literal

import httpx2

from sentinelctl.chaos.history import WIDE_REF, Made
from sentinelctl.errors import UsageError
from sentinelctl.fakehub import hooks
from sentinelctl.fakehub.git import NULL_SHA
from sentinelctl.fakehub.hub import FakeHub, Repository
from sentinelctl.ledger import Facts, Sent, Unit

Kind = Literal["push", "moving", "reordered", "again", "same", "ignored", "wide"]
"""What an arrival brings.

push: a commit on the default branch. moving: a pull request is opened and its head moves at once, which GitHub tells
three times: opened, synchronize, and the push to its branch. reordered: the same, told backwards. again: an earlier
delivery under its own id. same: an earlier head under another id. ignored: a tag. wide: the pull request with thousands
of files.
"""

MIXED: Final[Mapping[Kind, int]] = {"push": 80, "moving": 8, "again": 4, "same": 4, "ignored": 4}
PUSHES: Final[Mapping[Kind, int]] = {"push": 1}
ON_INSTALLED: Final[Mapping[Kind, int]] = {"push": 85, "again": 5, "same": 5, "ignored": 5}
"""Nothing of its forge is changed by it."""

ANSWER_S: Final = 10.0  # GitHub's own patience
_AGAIN_AFTER_S: Final = 0.25
_GIVE_UP_S: Final = 150.0
_SENDERS: Final = 24


@dataclass(frozen=True, slots=True)
class Arrival:
    at_s: float
    kind: Kind
    repository: int
    commit: int
    """Both count from 0; what is pushed goes from this commit to the next."""


def planned(
    mix: Mapping[Kind, int], units: Sequence[tuple[int, int]], *, rate: float, duration_s: float, seed: int
) -> list[Arrival]:
    """Each kind comes once, then by chance and weight. `units`: of pushes, each a commit and a repository.

    Raises UsageError where there are not enough.
    """
    chance = random.Random(seed)  # noqa: S311 - drawn by a seed on purpose
    arrivals: list[Arrival] = []
    wanted = max(1, round(rate * duration_s))
    if wanted > len(units):
        raise UsageError(
            f"{wanted} deliveries are more than {len(units)} changes that are not reviewed yet",
            remedy="lower --rate or --duration",
        )
    kinds, weights = list(mix), list(mix.values())
    for number in range(wanted):
        kind = chance.choices(kinds, weights)[0] if number >= len(kinds) else kinds[number]
        commit, repository = units[number]
        arrivals.append(Arrival(number / rate, kind, repository, commit))
    return arrivals


@dataclass
class Load:
    """One run's deliveries to the receiver at `url()`, which may change its port.

    What GitHub would redeliver, because nobody answered or with 5xx, is sent again under its id until it is taken.
    """

    hub: FakeHub
    made: Made
    secret: str
    url: Any
    seed: int
    sent: list[Sent] = field(default_factory=list)
    unanswered: list[tuple[float, int]] = field(default_factory=list)
    """Unix time and status (0: nobody answered) of each attempt that was made again."""
    moved_at_ns: dict[Unit, int] = field(default_factory=dict)
    covered: set[str] = field(default_factory=set)
    poisoned: set[Unit] = field(default_factory=set)
    started: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _done: list[tuple[hooks.Delivery, Unit]] = field(default_factory=list)
    _branches: Any = field(default_factory=lambda: count(1))

    def __post_init__(self) -> None:
        self._chance = random.Random(f"load {self.seed}")  # noqa: S311 - drawn by a seed on purpose
        self._client = httpx2.Client(trust_env=False, timeout=ANSWER_S)
        self._threads = ThreadPoolExecutor(_SENDERS, thread_name_prefix="sender")
        self._futures: list[Future[None]] = []
        self._stop = threading.Event()

    @property
    def facts(self) -> Facts:
        with self._lock:
            poisoned = frozenset(one.delivery_id for one in self.sent if one.unit in self.poisoned)
            return Facts(dict(self.moved_at_ns), frozenset(self.covered), poisoned)

    @property
    def taken(self) -> int:
        """Acknowledged so far."""
        with self._lock:
            return sum(one.is_acknowledged for one in self.sent)

    def snapshot(self) -> list[Sent]:
        with self._lock:
            return list(self.sent)

    def run(self, arrivals: Sequence[Arrival]) -> None:
        """Returns when the last is answered, or given up."""
        began = time.monotonic()
        for one in arrivals:
            if self._stop.wait(max(0.0, began + one.at_s - time.monotonic())):
                break
            for unit, delivery in self._deliveries(one):
                self.send(unit, delivery)
        self.wait()

    def send(self, unit: Unit, delivery: hooks.Delivery) -> None:
        self.started += 1
        self._futures.append(self._threads.submit(self._deliver, unit, delivery))

    def wait(self) -> None:
        for future in list(self._futures):
            future.result()

    def stop(self) -> None:
        """Sends nothing any more; what is under way ends soon."""
        self._stop.set()

    def close(self) -> None:
        self.stop()
        self._threads.shutdown(cancel_futures=True)
        self._client.close()

    def unit(self, one: Arrival) -> Unit:
        """Of a push."""
        return Unit(self.hub.repositories[one.repository].id, None, self.made.shas[one.commit + 1])

    def _deliveries(self, one: Arrival) -> list[tuple[Unit, hooks.Delivery]]:
        repository = self.hub.repositories[one.repository]
        with self._lock:
            earlier = self._chance.choice(self._done) if self._done else None
        match one.kind:
            case "again" if earlier:
                return [(earlier[1], earlier[0])]
            case "same" if earlier:
                delivery, unit = earlier
                return [(unit, hooks.Delivery(_new_id(), delivery.event, delivery.body, delivery.signature))]
            case "ignored":
                return [self._tag(repository, one)]
            case "moving" | "reordered":
                told = self._moving(repository, one)
                return told if one.kind == "moving" else told[::-1]
            case "wide" if self.made.wide:
                pull = self.hub.create_pull(repository, base="main", head=self.made.wide, head_ref=WIDE_REF)
                payload = hooks.pull_request(repository, pull, "opened", self.hub.base_url)
                return [(Unit(repository.id, pull.number, pull.head_sha), self._signed("pull_request", payload))]
        return [self._push(repository, one)]

    def _push(self, repository: Repository, one: Arrival) -> tuple[Unit, hooks.Delivery]:
        before, after = self.made.shas[one.commit : one.commit + 2]
        payload = hooks.push(repository, "refs/heads/main", before, after, self.hub.base_url)
        return self.unit(one), self._signed("push", payload)

    def _tag(self, repository: Repository, one: Arrival) -> tuple[Unit, hooks.Delivery]:
        sha = self.made.shas[one.commit]
        payload = hooks.push(repository, f"refs/tags/v{one.commit}", NULL_SHA, sha, self.hub.base_url)
        return Unit(repository.id, None, f"refs/tags/v{one.commit}"), self._signed("push", payload)

    def _moving(self, repository: Repository, one: Arrival) -> list[tuple[Unit, hooks.Delivery]]:
        base, old, new = self.made.shas[one.commit : one.commit + 3]
        branch = f"chaos-{next(self._branches)}"
        pull = self.hub.create_pull(repository, base=base, head=old, head_ref=branch)
        first, second = (Unit(repository.id, pull.number, sha) for sha in (old, new))
        opened = self._signed("pull_request", hooks.pull_request(repository, pull, "opened", self.hub.base_url))
        before, _ = self.hub.push(repository, branch, new)
        moved = hooks.pull_request(repository, pull, "synchronize", self.hub.base_url, before)
        pushed = hooks.push(repository, f"refs/heads/{branch}", before, new, self.hub.base_url)
        told = [(first, opened), (second, self._signed("pull_request", moved))]
        covered = self._signed("push", pushed)
        with self._lock:
            self.moved_at_ns[first] = time.time_ns()
            self.covered.add(covered.id)
        return [*told, (Unit(repository.id, None, f"{branch}@{new}"), covered)]

    def _signed(self, event: str, payload: Any) -> hooks.Delivery:
        return hooks.delivery(event, payload, self.secret)

    def _deliver(self, unit: Unit, delivery: hooks.Delivery) -> None:
        at_ns, attempts = time.time_ns(), 0
        while True:
            attempts += 1
            status, answer = self._post(delivery)
            now_ns = time.time_ns()
            is_over = status not in (0, 500, 502, 503, 504) or (now_ns - at_ns) / 1e9 > _GIVE_UP_S
            if is_over or self._stop.wait(_AGAIN_AFTER_S):
                break
            self.unanswered.append((now_ns / 1e9, status))
        taken_ns = now_ns if status == 202 else 0
        word, reason = str(answer.get("status", "")), str(answer.get("reason", ""))
        with self._lock:
            self.sent.append(Sent(delivery.id, unit, at_ns, status, word, reason, taken_ns, attempts))
            if status == 202 and word == "accepted":
                self._done.append((delivery, unit))

    def _post(self, delivery: hooks.Delivery) -> tuple[int, dict[str, Any]]:
        """The answer's status, 0 where nobody answered, and what it says."""
        try:
            answer = self._client.post(self.url(), content=delivery.body, headers=delivery.headers())
            return answer.status_code, answer.json()
        except (httpx2.HTTPError, ValueError, LookupError):
            return 0, {}


def _new_id() -> str:
    import uuid

    return str(uuid.uuid4())
