"""What must be harmless, on real processes under load: kill -9 of each service at random moments and between a post and
its confirmation, poison, a full disk, a damaged log, a forge that stalls.

Every push that was acknowledged is held against what GitHub shows, by an account that shares nothing with the services.
`make test` runs a few rounds with short timers on the SQLite log; SENTINEL_TEST_FULL (`make test-full`) runs all of
them, and on Kafka too where SENTINEL_TEST_KAFKA=HOST:PORT names a broker. Each test adds a row to the report.
"""

import contextlib
import os
import random
import secrets
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Final
from urllib.request import urlopen

import httpx2
import pytest

from sentinelctl.chaos.faults import no_room
from sentinelctl.fakehub.faults import Fault

from .stack import BROKER, Change, Stack, endings, running_stack
from .test_lifecycle import eventually

FULL: Final = bool(os.environ.get("SENTINEL_TEST_FULL"))
KILLS: Final = 20 if FULL else 5
HELD: Final = 25 if FULL else 5
PUSHES_A_ROUND: Final = 20
STALL_S: Final = 300 if FULL else 10
LETTERS_BEFORE_HALT: Final = 10

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(1800 if FULL else 180)]
Record = Callable[[str, object], None]


@pytest.fixture(
    params=[
        "sqlite",
        pytest.param(
            "kafka",
            marks=pytest.mark.skipif(
                not (FULL and BROKER), reason="SENTINEL_TEST_KAFKA=HOST:PORT names no Kafka broker for `make test-full`"
            ),
        ),
    ]
)
def log(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def chance() -> random.Random:
    """Of the moments; SENTINEL_TEST_SEED draws the same ones again."""
    seed = os.environ.get("SENTINEL_TEST_SEED") or secrets.token_hex(4)
    sys.stdout.write(f"SENTINEL_TEST_SEED={seed}\n")  # pytest shows it where the test fails
    return random.Random(seed)


@pytest.mark.parametrize("victim", ["webhook", "extractor", "inference", "publisher"])
def test_kill_9_at_random_moments_under_load_loses_nothing_and_posts_nothing_twice(
    tmp_path: Path, log: str, victim: str, chance: random.Random, record_property: Record
) -> None:
    began = time.monotonic()
    with running_stack(tmp_path, log, commits=KILLS, copies=PUSHES_A_ROUND) as stack, ThreadPoolExecutor(1) as sender:
        for number in range(KILLS):
            pushed = sender.submit(stack.push, stack.next(PUSHES_A_ROUND), every_s=0.05)
            moment = number * PUSHES_A_ROUND + chance.randrange(1, PUSHES_A_ROUND)
            eventually(lambda: len(stack.sent) >= moment or pushed.done())  # noqa: B023 - called here
            time.sleep(chance.uniform(0, 0.1))  # the moment itself, not a wait for something
            stack.kill_and_await(victim)
            pushed.result()
        found, letters = stack.settle(), stack.letters()
        seconds = time.monotonic() - began
        record_property(
            "fault", stack.row(f"kill -9 of {victim}", rounds=KILLS, dead_letters=len(letters), seconds=seconds)
        )
        assert (endings(found), found.duplicates, letters) == ([], 0, [])
        assert len(found.endings) == KILLS * PUSHES_A_ROUND


def test_kill_9_between_the_post_and_its_confirmation_leaves_one_review(
    tmp_path: Path, log: str, record_property: Record
) -> None:
    """GitHub has the review and holds its answer back; the publisher dies waiting for it."""
    began = time.monotonic()
    with running_stack(tmp_path, log, commits=1, copies=HELD) as stack:
        for number in range(1, HELD + 1):
            held = stack.hub.faults.put(Fault(kind="stall", method="POST", path="*/comments", late=True))
            stack.push(stack.next(1))
            eventually(lambda: len(stack.hub.visible()) == number)  # noqa: B023 - called here
            assert held.hits == 1
            stack.kill_and_await("publisher")
        found, letters = stack.settle(), stack.letters()
        seconds = time.monotonic() - began
        fault = "kill -9 between post and confirmation"
        record_property("fault", stack.row(fault, rounds=HELD, dead_letters=len(letters), seconds=seconds))
        assert (endings(found), found.duplicates, letters) == ([], 0, [])
        assert len(stack.hub.visible()) == HELD
        markers = [
            line for line in stack.site.log("publisher") if line.get("reason") == "its marker was found on GitHub"
        ]
        assert len(markers) == HELD, "each was found there by whoever took over"


def test_one_poison_record_of_two_hundred_is_set_aside_and_posted_once_its_cause_is_gone(
    tmp_path: Path, log: str, chance: random.Random, record_property: Record
) -> None:
    began = time.monotonic()
    with running_stack(tmp_path, log, commits=10, copies=20) as stack:
        changes = stack.next(200)
        push, repository = changes[chance.randrange(0, 180)]  # not of the last commits: its repository has later ones
        for path in (f"compare/*...{push.after}", f"commits/{push.after}"):
            stack.hub.faults.put(
                Fault(kind="status", status=404, path=f"/repos/{repository.full_name}/{path}", count=10_000)
            )
        stack.push(changes)
        eventually(lambda: len(stack.hub.visible()) == 199)
        eventually(lambda: sum(stack.lag().values()) == 0)
        (letter,) = stack.letters()
        (lost,) = endings(stack.account())
        assert lost == f"{letter['delivery_id']}: lost", "what is missing is what was set aside"
        assert (letter["reason"], letter["attempts"], letter["topic"]) == ("attempts_exhausted", 4, "push-events")
        assert "404" in letter["message"]
        stack.hub.faults.clear()
        stack.site.done("dlq", "retry", letter["id"])
        found = stack.settle()
        seconds = time.monotonic() - began
        fault = "one poison record of 200, then `dlq retry`"
        record_property("fault", stack.row(fault, rounds=1, dead_letters=1, seconds=seconds))
        assert (endings(found), found.duplicates, len(found.endings)) == ([], 0, 200)
        assert stack.letters() == []


def test_when_everything_is_poison_the_consumer_halts_and_the_backlog_waits(
    tmp_path: Path, log: str, record_property: Record
) -> None:
    began = time.monotonic()
    with running_stack(tmp_path, log, commits=3, copies=20) as stack:
        for path in ("/repos/*/compare/*", "/repos/*/commits/*"):
            stack.hub.faults.put(Fault(kind="status", status=404, path=path, count=10_000))
        stack.push(stack.next(40))
        extractor = stack.site.observe()["extractor-1"]
        eventually(lambda: "sentinel_consumer_halted 1.0" in metrics(extractor.probe))
        assert len(stack.letters()) == LETTERS_BEFORE_HALT
        (halt,) = [line for line in stack.site.log("extractor") if line["event"] == "consumer.halted"]
        assert (halt["topic"], halt["dead_letters_in_row"]) == ("push-events", LETTERS_BEFORE_HALT)
        assert "mend the cause and restart this service" in halt["remedy"]
        status = stack.site.run("status")
        (shown,) = [one for one in status.document["services"] if one["replica"] == "extractor-1"]
        assert (status.code, shown["health"]) == (4, "not-ready")
        stack.push(stack.next(20))
        assert len(stack.letters()) == LETTERS_BEFORE_HALT, "what comes later is taken and waits"
        assert stack.site.observe()["extractor-1"].pid == extractor.pid, "it did not crash"
        stack.hub.faults.clear()
        stack.site.done("restart", "extractor")
        stack.site.done("dlq", "retry", "--all")
        found = stack.settle()
        seconds = time.monotonic() - began
        fault = "every record poison, then mended"
        record_property("fault", stack.row(fault, rounds=1, dead_letters=LETTERS_BEFORE_HALT, seconds=seconds))
        assert (endings(found), found.duplicates, len(found.endings)) == ([], 0, 60)
        assert stack.letters() == []


def test_a_forge_that_stalls_costs_time_and_neither_a_partition_nor_a_review(
    tmp_path: Path, log: str, record_property: Record
) -> None:
    began = time.monotonic()
    settings = {"SENTINEL_GITHUB_TIMEOUT_S": "2"}
    with running_stack(tmp_path, log, commits=3, copies=20, settings=settings) as stack:
        stack.push(stack.next(20))
        assert endings(stack.settle()) == []
        owners = stack.owners()
        stall = stack.hub.faults.put(Fault(kind="stall", for_s=STALL_S))
        stack.push(stack.next(40), every_s=STALL_S / 80)
        eventually(lambda: stall.is_over(stack.hub.clock_ns() / 1e9), within_s=STALL_S + 30)
        assert (len(stack.hub.visible()), stall.hits > 0) == (20, True)
        assert stack.owners() == owners, "a partition changed hands"
        found, letters = stack.settle(), stack.letters()
        assert stack.owners() == owners, "a partition changed hands"
        seconds = time.monotonic() - began
        fault = f"forge stalls for {STALL_S} s"
        record_property("fault", stack.row(fault, rounds=1, dead_letters=len(letters), seconds=seconds))
        assert (endings(found), found.duplicates, len(found.endings), letters) == ([], 0, 60, [])
        assert [one.restarts for one in stack.site.observe().values()] == [0, 0, 0, 0]


@contextmanager
def full_disk(stack: Stack) -> Iterator[None]:
    """The disk that holds the log, the claims and every service's own log lines has not a byte left."""
    ballast = stack.log_path.with_name("ballast")
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(b"\0" * 4096):
            pass
    try:
        yield
    finally:
        ballast.unlink()


def no_room_for_the_receiver(stack: Stack) -> AbstractContextManager[None]:
    return no_room(stack.observed, for_s=120)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mounting a file system of 16 MB needs root on Linux")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_refuses_pushes_and_loses_none_that_was_taken(small_disk: Path, record_property: Record) -> None:
    refuses_and_goes_on(small_disk, full_disk, "disk full", record_property)


def test_a_log_that_cannot_grow_refuses_pushes_and_loses_none_that_was_taken(
    tmp_path: Path, record_property: Record
) -> None:
    refuses_and_goes_on(tmp_path, no_room_for_the_receiver, "log cannot grow", record_property)


def refuses_and_goes_on(
    folder: Path, fault: Callable[[Stack], AbstractContextManager[None]], name: str, record_property: Record
) -> None:
    began = time.monotonic()
    with running_stack(folder, "sqlite", commits=3, copies=10) as stack:
        stack.push(stack.next(10))
        with fault(stack):
            statuses, body = refused(stack, stack.next(10))
            assert set(statuses) <= {202, 503}
            assert statuses[-1] == 503
            assert body["status"] == "unavailable"
            assert "the log does not take records; redeliver" in body["reason"]
            assert {one.delivery_id for one in stack.sent} <= stack.logged(), "all that was taken can be read"
            stack.await_ready("webhook")
            publisher = stack.site.observe()["publisher-1"]
            stack.observed.project.runtime.signal(publisher, signal.SIGKILL)
            eventually(lambda: not exists(publisher.pid))
        eventually(lambda: stack.site.observe()["publisher-1"].restarts > publisher.restarts)
        stack.await_ready("publisher")
        stack.push(stack.next(10))
        found, letters = stack.settle(), stack.letters()
        errors = [line["error"] for line in stack.site.log("webhook") if line["event"] == "delivery.not_appended"]
        assert errors or fault is full_disk, "whose own lines have no room either"
        assert all("space" in error and str(stack.log_path) in error for error in errors)
        seconds = time.monotonic() - began
        record_property("fault", stack.row(name, rounds=1, dead_letters=len(letters), seconds=seconds))
        assert (endings(found), found.duplicates, letters) == ([], 0, [])
        assert len(found.endings) >= 20


def test_a_damaged_log_refuses_pushes_and_still_gives_out_what_it_has(tmp_path: Path, record_property: Record) -> None:
    """A page of the index that every append writes to is overwritten, as a bad sector would."""
    began = time.monotonic()
    with running_stack(tmp_path, "sqlite", commits=3, copies=10) as stack:
        stack.push(stack.next(10))
        assert endings(stack.settle()) == []
        stack.site.done("down")
        whole = damage(stack.log_path, "records_by_time")
        stack.site.done("up", "--only", "webhook")
        statuses, body = refused(stack, stack.next(10), at_once=True)
        assert (set(statuses), body["status"]) == ({503}, "unavailable")
        (error, *_) = [line["error"] for line in stack.site.log("webhook") if line["event"] == "delivery.not_appended"]
        assert str(stack.log_path) in error
        assert "SQLITE_CORRUPT" in error
        assert ".recover` gets records out" in error
        assert {one.delivery_id for one in stack.sent} == stack.logged()
        stack.site.done("down")
        damage(stack.log_path, "records_by_time", put=whole)
        stack.site.done("up")
        stack.push(stack.next(10))
        found, letters = stack.settle(), stack.letters()
        seconds = time.monotonic() - began
        fault = "a page of the log overwritten"
        record_property("fault", stack.row(fault, rounds=1, dead_letters=len(letters), seconds=seconds))
        assert (endings(found), found.duplicates, len(found.endings), letters) == ([], 0, 20, [])


def refused(stack: Stack, changes: Sequence[Change], *, at_once: bool = False) -> tuple[list[int], dict[str, str]]:
    """Sends each once; the statuses up to the end, and the body of the last. What was taken is in `stack.sent`."""
    statuses = []
    with httpx2.Client(trust_env=False, timeout=30) as client:
        for change in changes:
            at_ns, delivery = time.time_ns(), stack.delivery(change)
            answer = client.post(stack.url, content=delivery.body, headers=delivery.headers())
            statuses.append(answer.status_code)
            if answer.status_code == 202:
                assert not at_once, "a damaged log took a push"
                stack.took(change, delivery, at_ns)
    return statuses, answer.json()


def damage(log: Path, name: str, put: bytes = b"") -> bytes:
    """Overwrites the first page of a table or an index with `put`, or with garbage; what stood there."""
    with contextlib.closing(sqlite3.connect(log)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (size,) = db.execute("PRAGMA page_size").fetchone()
        (page,) = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (name,)).fetchone()
    with log.open("r+b") as file:
        file.seek((page - 1) * size)
        was = file.read(size)
        file.seek((page - 1) * size)
        file.write(put or b"\xff" * size)
    return was


def exists(pid: int | None) -> bool:
    """Also while nobody has asked how it ended."""
    assert pid is not None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def metrics(probe: str) -> str:
    with urlopen(probe.replace("/ready", "/metrics"), timeout=10) as answer:
        text: str = answer.read().decode()
        return text
