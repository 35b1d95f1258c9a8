"""What every claims store promises. An implementation joins by a class in STORES."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import pytest

from services.claims import open_claims
from services.claims.base import Claims
from services.claims.redis import RedisClaims
from services.claims.sqlite import SqliteClaims
from services.settings import load
from tests.redis_process import running_redis

DAY_S, MINUTE_S = 86400.0, 60.0


class Store(Protocol):
    environ: dict[str, str]
    """The settings by which another process opens it."""

    def open(self) -> Claims:
        """Another client of the same store."""

    def now(self) -> float: ...

    def advance(self, seconds: float) -> None: ...

    def lose_everything(self) -> None: ...

    def close(self) -> None: ...


class Sqlite:
    on_thread = True

    def __init__(self, folder: Path) -> None:
        self.path = folder / "state" / "claims.sqlite"
        self.environ = {"SENTINEL_CLAIMS_PATH": str(self.path)}
        self._now = 1_700_000_000.0

    def open(self) -> Claims:
        return SqliteClaims(self.path, on_thread=self.on_thread, clock=self.now)

    def now(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        self._now += seconds

    def lose_everything(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)

    def close(self) -> None:
        """Its folder is the test's."""


class SqliteOnLoop(Sqlite):
    on_thread = False


class Redis:
    def __init__(self, folder: Path) -> None:
        self._stack = ExitStack()
        self.server = self._stack.enter_context(running_redis(folder / "redis"))
        self.environ = {"SENTINEL_CLAIMS_KIND": "redis", "SENTINEL_CLAIMS_URL": self.server.url}

    def open(self) -> Claims:
        return RedisClaims(self.server.settings(), "sentinel")

    def now(self) -> float:
        return time.time()

    def advance(self, seconds: float) -> None:
        self.server.age(seconds)

    def lose_everything(self) -> None:
        self.server.flush()

    def close(self) -> None:
        self._stack.close()


STORES: dict[str, Callable[[Path], Store]] = {"sqlite": Sqlite, "sqlite_on_loop": SqliteOnLoop, "redis": Redis}


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    made = STORES[request.param](tmp_path)
    yield made
    made.close()


@pytest.fixture
async def claims(store: Store) -> AsyncIterator[Claims]:
    opened = store.open()
    yield opened
    await opened.close()


async def test_a_free_key_is_granted_and_a_leased_one_is_held_until_the_lease_ends(claims: Claims, store: Store):
    first = await claims.claim("k", lease_s=60)
    assert (first.status, first.is_takeover) == ("granted", False)
    store.advance(20)
    second = await claims.claim("k", lease_s=60)
    assert second.status == "held"
    assert 0 < second.retry_after_s <= 40


async def test_an_ended_lease_is_taken_over_with_a_larger_token(claims: Claims, store: Store):
    first = await claims.claim("k", lease_s=60)
    store.advance(MINUTE_S)
    second = await claims.claim("k", lease_s=60)
    assert (second.status, second.is_takeover) == ("granted", True)
    assert second.token > first.token


async def test_a_confirmed_key_is_done_until_its_time_is_over(claims: Claims, store: Store):
    granted = await claims.claim("k", lease_s=60)
    assert await claims.confirm("k", granted.token, result="review 7", keep_s=5 * DAY_S)
    store.advance(5 * DAY_S - 10 * MINUTE_S)
    done = await claims.claim("k", lease_s=60)
    assert (done.status, done.result) == ("done", "review 7")
    store.advance(10 * MINUTE_S)
    again = await claims.claim("k", lease_s=60)
    assert (again.status, again.is_takeover) == ("granted", False)
    assert again.token > granted.token


async def test_a_late_holder_may_confirm_only_while_nobody_took_over(claims: Claims, store: Store):
    first = await claims.claim("k", lease_s=60)
    store.advance(61)
    second = await claims.claim("k", lease_s=60)
    assert not await claims.confirm("k", first.token, result="late", keep_s=60)
    await claims.release("k", first.token)
    assert (await claims.claim("k", lease_s=60)).status == "held"
    store.advance(61)
    assert await claims.confirm("k", second.token, result="in time", keep_s=60)
    assert (await claims.claim("k", lease_s=60)).result == "in time"


async def test_a_released_key_is_free_at_once_and_no_takeover(claims: Claims):
    first = await claims.claim("k", lease_s=60)
    await claims.release("k", first.token)
    second = await claims.claim("k", lease_s=60)
    assert (second.status, second.is_takeover) == ("granted", False)
    assert second.token > first.token
    assert not await claims.confirm("k", first.token, result="", keep_s=60)


async def test_releasing_a_takeover_leaves_a_takeover(claims: Claims, store: Store):
    await claims.claim("k", lease_s=60)
    store.advance(61)
    second = await claims.claim("k", lease_s=60)
    await claims.release("k", second.token)
    third = await claims.claim("k", lease_s=60)
    assert (third.status, third.is_takeover) == ("granted", True)


async def test_a_release_after_the_confirmation_changes_nothing(claims: Claims):
    granted = await claims.claim("k", lease_s=60)
    await claims.confirm("k", granted.token, result="done", keep_s=60)
    await claims.release("k", granted.token)
    assert (await claims.claim("k", lease_s=60)).status == "done"


async def test_a_grant_says_since_when_the_store_remembers(store: Store):
    since = []
    for key in ("one", "two"):
        client = store.open()
        granted = await client.claim(key, lease_s=60)
        assert granted.known_since == await client.known_since()
        since.append(granted.known_since)
        await client.close()
        store.advance(DAY_S)
    assert since[0] == since[1] <= store.now()


async def test_a_store_begins_when_it_is_first_asked_since_when_it_remembers(store: Store):
    asked, later = store.open(), store.open()
    since = await asked.known_since()
    assert (await later.claim("k", lease_s=60)).known_since == since
    await asyncio.gather(asked.close(), later.close())


async def test_a_store_that_lost_everything_begins_anew_and_says_so(store: Store):
    before = store.open()
    granted = await before.claim("k", lease_s=60)
    await before.close()
    store.lose_everything()
    store.advance(MINUTE_S)
    after = store.open()
    again = await after.claim("k", lease_s=60)
    assert (again.status, again.is_takeover) == ("granted", False)
    assert again.known_since > granted.known_since
    await after.close()


async def test_the_confirmation_of_a_claim_that_was_lost_is_kept(store: Store):
    before = store.open()
    granted = await before.claim("k", lease_s=60)
    await before.close()
    store.lose_everything()
    after = store.open()
    assert await after.confirm("k", granted.token, result="review 7", keep_s=60)
    found = await after.claim("k", lease_s=60)
    assert (found.status, found.result) == ("done", "review 7")
    await after.close()


async def test_values_are_remembered_for_their_time_and_the_last_one_wins(claims: Claims, store: Store):
    assert await claims.get("v") is None
    await claims.put("v", b"one", keep_s=10 * MINUTE_S)
    await claims.put("v", b"\x00two", keep_s=10 * MINUTE_S)
    await claims.put("other", b"", keep_s=DAY_S)
    assert await claims.get("v") == b"\x00two"
    store.advance(10 * MINUTE_S)
    assert await claims.get("v") is None
    assert await claims.get("other") == b""


async def test_many_values_are_kept_and_found_in_one_go(claims: Claims, store: Store):
    values = {f"ключ {number}:{'x' * 300}": bytes([number % 256]) * 1000 for number in range(2000)}
    await claims.put_many(values, keep_s=10 * MINUTE_S)
    await claims.put_many({}, keep_s=MINUTE_S)
    keys = [*values, "never kept"]
    assert await claims.get_many(keys) == [*values.values(), None]
    assert await claims.get_many([]) == []
    store.advance(10 * MINUTE_S)
    assert await claims.get_many(keys) == [None] * len(keys)


async def test_values_and_claims_of_one_name_are_apart(claims: Claims):
    await claims.put("k", b"value", keep_s=10)
    assert (await claims.claim("k", lease_s=60)).status == "granted"


async def test_a_claim_outlives_its_client(store: Store):
    first = store.open()
    granted = await first.claim("k", lease_s=60)
    await first.close()
    second = store.open()
    assert (await second.claim("k", lease_s=60)).status == "held"
    assert await second.confirm("k", granted.token, result="by another", keep_s=60)
    await second.close()


async def test_sweeping_forgets_what_is_over_but_no_lease_that_may_have_had_its_effect(claims: Claims, store: Store):
    await claims.claim("unconfirmed", lease_s=60)
    await claims.put("old", b"x", keep_s=1)
    store.advance(4 * DAY_S)
    await claims.put("new", b"x", keep_s=60)
    assert (await claims.claim("unconfirmed", lease_s=60)).is_takeover


def test_of_many_threads_claiming_one_key_exactly_one_is_granted(store: Store):
    async def claim() -> str:
        claims = store.open()
        try:
            return (await claims.claim("k", lease_s=60)).status
        finally:
            await claims.close()

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: asyncio.run(claim()), range(24)))
    assert sorted(answers) == ["granted"] + ["held"] * 23


async def test_of_many_tasks_of_one_client_exactly_one_is_granted(claims: Claims):
    answers = await asyncio.gather(*(claims.claim("k", lease_s=60) for _ in range(20)))
    assert sorted(answer.status for answer in answers) == ["granted"] + ["held"] * 19


CLAIMER = """
import asyncio, json, sys
from services.claims import open_claims
from services.settings import load

async def main():
    claims = open_claims(load())
    for line in sys.stdin:
        key, lease_s = json.loads(line)
        claim = await claims.claim(key, lease_s=lease_s)
        print(json.dumps([claim.status, claim.token, claim.is_takeover]), flush=True)
    await claims.close()

asyncio.run(main())
"""


def claimer(store: Store) -> "subprocess.Popen[str]":
    """A process that claims what it is told on stdin, a line each, and says what came of it."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", CLAIMER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **store.environ},
    )


def test_of_many_processes_claiming_the_same_keys_each_key_is_granted_to_one(store: Store):
    """Real processes on a store that none of them finds ready, given the same keys in one go."""
    processes = [claimer(store) for _ in range(4)]
    orders = "".join(f"{json.dumps([f'k{key}', 600])}\n" for key in range(50))
    with ThreadPoolExecutor(len(processes)) as threads:
        said = list(threads.map(lambda process: process.communicate(orders)[0], processes))
    assert [process.returncode for process in processes] == [0] * 4
    tokens = []
    for each in zip(*(text.splitlines() for text in said), strict=True):
        answers = [json.loads(answer) for answer in each]
        assert sorted(status for status, _, _ in answers) == ["granted", "held", "held", "held"]
        tokens += [token for status, token, _ in answers if status == "granted"]
    assert len(set(tokens)) == 50


def ask(process: "subprocess.Popen[str]", key: str, lease_s: float) -> tuple[str, int, bool]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{json.dumps([key, lease_s])}\n")
    process.stdin.flush()
    status, token, is_takeover = json.loads(process.stdout.readline())
    return status, token, is_takeover


def test_what_a_killed_process_held_is_taken_over_when_its_lease_ends_and_is_no_longer_its_to_confirm(store: Store):
    """Real processes and a real lease, which is short: the heir asks until it is granted."""
    with claimer(store) as holder, claimer(store) as heir:
        status, first, is_takeover = ask(holder, "k", 0.5)
        assert (status, is_takeover) == ("granted", False)
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        while (answer := ask(heir, "k", 600))[0] == "held":
            pass
        status, second, is_takeover = answer
        assert (status, is_takeover) == ("granted", True)
        assert second > first

        async def confirm() -> tuple[bool, bool]:
            claims = open_claims(load(environ=store.environ))
            answers = [await claims.confirm("k", token, result="", keep_s=60) for token in (first, second)]
            await claims.close()
            return answers[0], answers[1]

        assert asyncio.run(confirm()) == (False, True)
        assert ask(heir, "k", 600)[0] == "done"
        heir.stdin.close()  # type: ignore[union-attr]
        assert heir.wait() == 0
