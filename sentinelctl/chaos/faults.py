"""What goes wrong, as data; each knows how to do it to a stack, how to see that it bit, and how it ends.

`strike` returns when the fault is over and undone. What outlives this process is in the journal first, with an end of
its own; all else (a forge's fault, a lock, a relay) ends with this process.
"""

import contextlib
import os
import random
import signal
import sqlite3
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol

from sentinelctl.chaos.load import Load
from sentinelctl.chaos.stack import Proxied, Stack, eventually
from sentinelctl.fakehub import faults as forge
from sentinelctl.state import Mount, ServiceSpec, Status

FAILURES_BEFORE_REST: Final = 4
"""Of one replica in a row; each doubles the supervisor's pause before the next start."""
_SLACK_S: Final = 10.0
_WAY_S: Final = 0.5
"""About as long as a delivery is under way, with a forge that answers in 100 ms."""
SKEW: Final = Path(__file__).parent / "skew"
"""A sitecustomize that shifts the clock of the process that is given it."""
_NO_SUCH_NAME: Final = 2
"""Of getent(1)."""
_SITE_INSIDE: Final = "/opt/app/sitecustomize.py"
"""On the images' own PYTHONPATH."""


@dataclass(frozen=True, slots=True)
class Window:
    """What one fault may use: how long it lasts at most, and its own chance."""

    for_s: float
    chance: random.Random

    def wait(self, at_most_s: float) -> float:
        """The fault's own length, cut to the window."""
        return min(at_most_s, self.for_s)


class Deviation(Exception):
    """The stack broke its promise during the fault, in a way that the account afterwards does not show."""


class Unsupported(Exception):
    """This runtime or platform cannot do it."""


class Fault(Protocol):
    @property
    def what(self) -> str:
        """For people, as in `kill -9 of extractor`."""

    def strike(self, stack: Stack, load: Load, window: Window) -> str:
        """Does it, and undoes it. Returns what was seen of it at its target; empty where it did not bite."""


@dataclass(frozen=True, slots=True)
class Kill:
    """kill -9, each as soon as the one before has healed, at a moment drawn by chance from those after a delivery was
    taken: on the way from there to its review, everybody has it in hand once."""

    service: str
    rounds: int = 3

    @property
    def what(self) -> str:
        return f"kill -9 of {self.service}"

    def strike(self, stack: Stack, load: Load, window: Window) -> str:
        deadline, seen = time.monotonic() + window.for_s, []
        for number in range(self.rounds):
            if number and time.monotonic() > deadline:
                break
            taken = load.taken
            eventually(lambda: load.taken > taken, within_s=5, every_s=0.005)  # noqa: B023 - called here
            time.sleep(window.chance.uniform(0, _WAY_S))
            seen.append(kill_and_await(stack, self.service))
        return ", ".join(seen) if all(seen) else ""


def kill_and_await(stack: Stack, service: str) -> str:
    """Returns once the runtime has brought it back and it is ready; empty where nothing was seen to die."""
    before = stack.replica(service)
    stack.project.runtime.signal(before, signal.SIGKILL)
    if not eventually(lambda: _restarts(stack, service) > before.restarts):
        return ""
    after = stack.replica(service)
    if after.failures >= FAILURES_BEFORE_REST:
        stack.restart(service)
    stack.await_ready()
    return f"pid {before.pid} ended by {after.last_exit or 'SIGKILL'}, pid {stack.replica(service).pid} took over"


def _restarts(stack: Stack, service: str) -> int:
    found = stack.project.runtime.observe().of(service)
    return found[0].restarts if found and found[0].status is Status.RUNNING else -1


@dataclass(frozen=True, slots=True)
class Pause:
    """SIGSTOP: it is there, holds what it holds, and does nothing."""

    service: str
    for_s: float = 45.0

    @property
    def what(self) -> str:
        return f"{self.service} frozen for {self.for_s:g} s"

    def strike(self, stack: Stack, load: Load, window: Window) -> str:  # noqa: ARG002
        replica, seconds = stack.replica(self.service), window.wait(self.for_s)
        undo = {"do": "resume", "settings": stack.plain, "replica": replica.name}
        with stack.journal.changing(undo, for_s=seconds + _SLACK_S):
            stack.project.runtime.signal(replica, signal.SIGSTOP)
            time.sleep(seconds / 2)
            silence = stack.project.runtime.answer_fault(replica)
            time.sleep(seconds / 2)
        return f"for {seconds:g} s its probe said: {silence}" if silence else ""


@dataclass(frozen=True, slots=True)
class KilledAtPost:
    """The publisher dies while the forge holds back its answer to a post: once written, once not, in turn."""

    rounds: int = 4
    what: str = "kill -9 of publisher between its post and the confirmation"

    def strike(self, stack: Stack, load: Load, window: Window) -> str:  # noqa: ARG002
        deadline, seen = time.monotonic() + window.for_s, 0
        for number in range(self.rounds):
            is_written = number % 2 == 0
            held = stack.hub.faults.put(forge.Fault(kind="stall", method="POST", path="*/comments", late=is_written))
            try:
                if not eventually(lambda: hits(stack, held) > 0, within_s=30):  # noqa: B023 - called here
                    break  # nobody posts any more
                kill_and_await(stack, "publisher")
                seen += 1
            finally:
                stack.hub.faults.clear()
            if time.monotonic() > deadline and number:
                break
        return f"{seen} posts held, and whoever made them killed" if seen else ""


@dataclass(frozen=True, slots=True)
class Forge:
    """The forge's bad day, for the window."""

    what: str
    faults: tuple[Mapping[str, Any], ...]
    for_s: float = 30.0

    def strike(self, stack: Stack, load: Load, window: Window) -> str:  # noqa: ARG002
        seconds = window.wait(self.for_s)
        placed = [stack.hub.faults.put(forge.parse({**one, "for_s": seconds})) for one in self.faults]
        try:
            time.sleep(seconds)
        finally:
            stack.hub.faults.clear()
        met = hits(stack, *placed)
        return f"{met} requests met it" if met else ""


def hits(stack: Stack, *placed: forge.Placed) -> int:
    """Requests that met them, also where the fakehub is in another process."""
    ids = {one.id for one in placed}
    return sum(int(one["hits"]) for one in stack.hub.faults.listed() if one["id"] in ids)


@dataclass(frozen=True, slots=True)
class Locked:
    """A SQLite file that nobody else can write to: what a store's restart or absence means where it has no server."""

    store: str
    for_s: float
    is_restart: bool = False
    """In containers: its server is killed, where it is frozen otherwise."""

    @property
    def what(self) -> str:
        return f"the {self.store} restarts" if self.is_restart else f"the {self.store} cannot be reached"

    def strike(self, stack: Stack, load: Load, window: Window) -> str:
        path = stack.log_path if self.store == "log" else stack.settings.claims_path
        server = "kafka" if self.store == "log" else "redis"
        if stack.project.runtime.observe().of(server):
            return kill_and_await(stack, server) if self.is_restart else self._frozen(server, stack, load, window)
        if not stack.shares_files or not path.exists():
            raise Unsupported(self.what)
        seconds, refused = window.wait(self.for_s), len(load.unanswered)
        db = sqlite3.connect(path, timeout=30, isolation_level=None)
        try:
            db.execute("BEGIN IMMEDIATE")
            began = time.monotonic()
            time.sleep(seconds / 2)
            is_held = _is_locked(path)
            time.sleep(max(0.0, began + seconds - time.monotonic()))
            db.execute("ROLLBACK")
        finally:
            db.close()
        asked_again = len(load.unanswered) - refused
        return f"no other writer got in for {seconds:g} s, {asked_again} attempts were refused" if is_held else ""

    def _frozen(self, server: str, stack: Stack, load: Load, window: Window) -> str:
        """Connections to a process that is frozen still open, so a probe that does no more tells nothing."""
        refused = len(load.unanswered)
        silence = Pause(server, self.for_s).strike(stack, load, window)
        asked_again = len(load.unanswered) - refused
        if not silence and not asked_again:
            return ""
        return f"{server} frozen for {window.wait(self.for_s):g} s, {asked_again} attempts were refused"


def _is_locked(path: Path) -> bool:
    with contextlib.closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as db:
        try:
            db.execute("BEGIN IMMEDIATE")
            db.execute("ROLLBACK")
        except sqlite3.OperationalError as exc:
            return "locked" in str(exc)
    return False


@dataclass(frozen=True, slots=True)
class ClaimsLost:
    """The claims store is gone with all it knew, and begins anew. for_s: for which its loss is watched."""

    what: str = "the claims are lost"
    for_s: float = 10.0

    def strike(self, stack: Stack, load: Load, window: Window) -> str:  # noqa: ARG002
        if stack.settings.claims.kind == "redis":
            return self._flush(stack, window)
        path = stack.settings.claims_path
        if not stack.shares_files or not path.exists():
            raise Unsupported(self.what)
        known = _count(path)
        inode = path.stat().st_ino
        for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
            path.with_name(name).unlink(missing_ok=True)
        is_anew = eventually(lambda: path.exists() and path.stat().st_ino != inode, within_s=30)
        time.sleep(window.wait(self.for_s))
        return f"{known} claims gone, and a new store in their place" if is_anew and known else ""

    def _flush(self, stack: Stack, window: Window) -> str:
        """The Redis that the run's own stack has."""
        from redis import Redis

        with Redis.from_url(stack.settings.claims.url, socket_timeout=10) as client:
            known = int(client.dbsize())
            client.flushall()
        time.sleep(window.wait(self.for_s))
        return f"{known} keys flushed" if known else ""


@dataclass(frozen=True, slots=True)
class RedisKilled:
    """kill -9 of the Redis that holds the claims; it comes back after a while, with what it had or with nothing."""

    what: str = "the claims' Redis is killed and comes back"
    is_lost: bool = False
    down_s: float = 5.0

    def strike(self, stack: Stack, load: Load, window: Window) -> str:  # noqa: ARG002
        server = stack.redis
        if stack.project.runtime.observe().of("redis"):
            return self._in_container(stack)
        if server is None:
            raise Unsupported(f"{self.what}: the engine has no image of Redis (images.redis)")
        known = server.keys()
        pid = server.kill()
        is_gone = server.keys() is None
        if self.is_lost:
            server.lose()
        time.sleep(window.wait(self.down_s))
        server.start()
        found = server.keys() or 0
        time.sleep(window.wait(self.down_s))
        return f"pid {pid} gone for {self.down_s:g} s with {known} keys, back with {found}" if known and is_gone else ""

    def _in_container(self, stack: Stack) -> str:
        """The engine brings it back at once, with what its volume has."""
        from redis import Redis

        with Redis.from_url(stack.settings.claims.url, socket_timeout=10) as client:
            known = int(client.dbsize())
            if self.is_lost:
                client.flushall()
            took_over = kill_and_await(stack, "redis")
            found = int(client.dbsize())
        return f"{took_over}, with {known} keys before and {found} after" if known and took_over else ""


def _count(path: Path) -> int:
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        (found,) = db.execute("SELECT count(*) FROM claims").fetchone()
        return int(found)


@dataclass(frozen=True, slots=True)
class Poison:
    """One push that the forge knows nothing of, ever."""

    what: str = "one record that cannot succeed"

    def strike(self, stack: Stack, load: Load, window: Window) -> str:
        (unit,) = load.poisoned
        eventually(lambda: bool(load.facts.poisoned & _lettered(stack)), within_s=window.for_s + 60)
        found = [one for one in stack.letters() if one.delivery_id in load.facts.poisoned]
        if not found:
            return ""
        content = found[0].content
        return f"{unit.sha[:10]} set aside after {content.attempts} attempts: {content.reason}"


def poison(stack: Stack, load: Load, unit: Any) -> None:
    """Before it is sent: nothing on the forge answers for this push."""
    load.poisoned.add(unit)
    name = next(one.full_name for one in stack.hub.repositories if one.id == unit.repository_id)
    for path in (f"compare/*...{unit.sha}", f"commits/{unit.sha}"):
        stack.hub.faults.put(forge.Fault(kind="status", status=404, path=f"/repos/{name}/{path}", count=10_000))


def _lettered(stack: Stack) -> frozenset[str]:
    return frozenset(one.delivery_id for one in stack.letters())


@dataclass(frozen=True, slots=True)
class AllPoison:
    """Every push fails, as after a bad deploy: the consumer has to halt. Then it is mended as an operator would."""

    letters_before_halt: int = 10
    what: str = "every record fails"

    def strike(self, stack: Stack, load: Load, window: Window) -> str:  # noqa: ARG002
        for path in ("/repos/*/compare/*", f"/repos/*/commits/{'[0-9a-f]' * 40}"):  # and no comment of a commit
            stack.hub.faults.put(forge.Fault(kind="status", status=404, path=path, for_s=window.for_s + 60))
        try:
            is_halted = eventually(
                lambda: "sentinel_consumer_halted 1.0" in stack.metrics("extractor"), within_s=window.for_s + 45
            )
            letters = len(stack.letters())
        finally:
            stack.hub.faults.clear()
        stack.restart("extractor")
        put_back = stack.retry_letters()
        if not is_halted and letters < self.letters_before_halt:
            return ""  # too few to tell
        if not is_halted or letters > self.letters_before_halt:
            raise Deviation(
                f"it {'halted' if is_halted else 'did not halt'}, with {letters} dead letters where "
                f"{self.letters_before_halt} are the most"
            )
        return f"the extractor halted after {letters} dead letters, {put_back} were put back"


@contextlib.contextmanager
def no_room(stack: Stack, *, for_s: float) -> Iterator[None]:
    """No file of the receiver's may be longer than the log now is: what anybody can do to a process of their own."""
    wal = stack.log_path.with_name(f"{stack.log_path.name}-wal")
    if not stack.shares_files or not wal.exists():
        raise Unsupported("the receiver writes to no file of this machine")
    receiver = stack.replica("webhook")
    undo = {"do": "limit", "settings": stack.plain, "replica": receiver.name}
    with stack.journal.changing(undo, for_s=for_s + _SLACK_S):
        if not stack.project.runtime.limit_files(receiver, wal.stat().st_size):
            raise Unsupported("a limit on the size of the receiver's files")
        yield


@dataclass(frozen=True, slots=True)
class NoRoom:
    """No file of the receiver's may grow: what a full disk looks like to it, and nobody else's disk is touched."""

    for_s: float = 10.0
    what: str = "the receiver's disk is full"

    def strike(self, stack: Stack, load: Load, window: Window) -> str:  # noqa: ARG002
        seconds = window.wait(self.for_s)
        with no_room(stack, for_s=seconds):
            time.sleep(seconds)
        refused = [line for line in stack.log() if line.get("event") == "delivery.not_appended"]
        return f"{len(refused)} attempts refused: {str(refused[-1]['error'])[:120]}" if refused else ""


@dataclass(frozen=True, slots=True)
class Storm:
    """Replicas come and go: each joins the group, takes partitions over, and leaves."""

    service: str
    counts: tuple[int, ...] = (4, 1)

    @property
    def what(self) -> str:
        return f"{self.service} scaled 1 → {' → '.join(map(str, self.counts))}"

    def strike(self, stack: Stack, load: Load, window: Window) -> str:  # noqa: ARG002
        deadline, steps = time.monotonic() + window.for_s, 0
        while True:
            for count in self.counts:
                steps += len(stack.scale(self.service, count))
            if time.monotonic() > deadline:
                break
        return f"{steps} replicas started or drained" if steps else ""


@dataclass(frozen=True, slots=True)
class Skew:
    """The clock of one service is off; this machine's is not touched."""

    service: str
    offset_s: float
    for_s: float = 20.0

    @property
    def what(self) -> str:
        return f"the clock of {self.service} is off by {self.offset_s:+g} s"

    def strike(self, stack: Stack, load: Load, window: Window) -> str:  # noqa: ARG002
        stack.restart(self.service, self._skewed)
        began = time.time()
        try:
            time.sleep(window.wait(self.for_s))
            stamps = [float(one["ts"]) for one in stack.log() if one.get("service") == self.service]
        finally:
            stack.restart(self.service)
        off = [stamp for stamp in stamps if abs(stamp - began - self.offset_s) < abs(self.offset_s) / 2]
        return f"{len(off)} lines of its log bear the wrong time" if off else ""

    def _skewed(self, spec: ServiceSpec) -> ServiceSpec:
        offset = {"CHAOS_CLOCK_OFFSET_S": str(self.offset_s)}
        if spec.container is not None:
            mounts = (*spec.container.mounts, Mount(str(SKEW / "sitecustomize.py"), _SITE_INSIDE, is_read_only=True))
            container = replace(spec.container, mounts=mounts)
            return replace(spec, container=container, env={**spec.env, **offset})
        paths = [str(SKEW), *filter(None, [os.environ.get("PYTHONPATH")])]
        return replace(spec, env={**spec.env, **offset, "PYTHONPATH": os.pathsep.join(paths)})


@dataclass(frozen=True, slots=True)
class Cut:
    """No byte passes between two services, and every connection between them breaks."""

    proxied: Proxied
    what: str
    for_s: float = 15.0

    def strike(self, stack: Stack, load: Load, window: Window) -> str:  # noqa: ARG002
        seconds = window.wait(self.for_s)
        if self.proxied not in stack.proxies:
            return self._off_network(stack, seconds)
        proxy = stack.proxies[self.proxied]
        with proxy.cut():
            time.sleep(seconds)
        return f"{proxy.cut_count} connections broken or refused in {seconds:g} s" if proxy.cut_count else ""

    def _off_network(self, stack: Stack, seconds: float) -> str:
        """In containers the one leaves the network that they share: packets vanish, and its name with them."""
        from sentinelctl.runtime.docker import DockerRuntime

        runtime, target = stack.project.runtime, stack.replica(self.proxied)
        if not isinstance(runtime, DockerRuntime):
            raise Unsupported(self.what)
        undo = {"do": "connect", "settings": stack.plain, "replica": target.name}
        with stack.journal.changing(undo, for_s=seconds + _SLACK_S):
            runtime.leave_network(target)
            time.sleep(seconds)
            code, _ = runtime.inside(stack.replica("extractor"), ["getent", "hosts", self.proxied])
        is_cut = code == _NO_SUCH_NAME  # any other failure is of the asking
        return f"{target.name} had no network for {seconds:g} s, and nobody found its name" if is_cut else ""


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Nothing is broken: what arrives is the fault. `seen` is what the receiver or the account must have met of it."""

    what: str
    seen: str

    def strike(self, stack: Stack, load: Load, window: Window) -> str:
        time.sleep(window.for_s)
        if self.seen == "wide":
            pulls = [one for one in load.snapshot() if one.unit.sha == stack.made.wide]
            return f"{stack.made.wide[:10]} was taken" if any(one.is_acknowledged for one in pulls) else ""
        met = [one for one in load.snapshot() if one.answer == "duplicate" or one.unit in load.moved_at_ns]
        return f"{len(met)} arrivals were duplicates or of a head that had moved" if met else ""
