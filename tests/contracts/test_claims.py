"""What every claims store promises. An implementation joins by a line in STORES."""

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from services.claims import open_claims
from services.claims.base import Claims
from services.claims.sqlite import SqliteClaims
from services.errors import ClaimsUnavailable
from services.settings import ClaimsSettings, Settings

DAY_S = 86400.0


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


Open = Callable[[], Claims]
STORES: dict[str, Callable[[Path, Clock], Claims]] = {
    "sqlite": lambda folder, clock: SqliteClaims(folder / "state" / "claims.sqlite", clock=clock),
}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=STORES)
def open_one(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Open:
    """Each call is another client of the same store."""
    return lambda: STORES[request.param](tmp_path, clock)


@pytest.fixture
async def claims(open_one: Open) -> AsyncIterator[Claims]:
    store = open_one()
    yield store
    await store.close()


async def test_a_free_key_is_granted_and_a_leased_one_is_held_until_the_lease_ends(claims: Claims, clock: Clock):
    first = await claims.claim("k", lease_s=60)
    assert (first.status, first.is_takeover) == ("granted", False)
    clock.advance(20)
    second = await claims.claim("k", lease_s=60)
    assert (second.status, second.retry_after_s) == ("held", 40)


async def test_an_ended_lease_is_taken_over_with_a_larger_token(claims: Claims, clock: Clock):
    first = await claims.claim("k", lease_s=60)
    clock.advance(60)
    second = await claims.claim("k", lease_s=60)
    assert (second.status, second.is_takeover) == ("granted", True)
    assert second.token > first.token


async def test_a_confirmed_key_is_done_until_its_time_is_over(claims: Claims, clock: Clock):
    granted = await claims.claim("k", lease_s=60)
    assert await claims.confirm("k", granted.token, result="review 7", keep_s=5 * DAY_S)
    clock.advance(5 * DAY_S - 1)
    done = await claims.claim("k", lease_s=60)
    assert (done.status, done.result) == ("done", "review 7")
    clock.advance(1)
    again = await claims.claim("k", lease_s=60)
    assert (again.status, again.is_takeover) == ("granted", False)
    assert again.token > granted.token


async def test_a_late_holder_may_confirm_only_while_nobody_took_over(claims: Claims, clock: Clock):
    first = await claims.claim("k", lease_s=60)
    clock.advance(61)
    second = await claims.claim("k", lease_s=60)
    assert not await claims.confirm("k", first.token, result="late", keep_s=60)
    await claims.release("k", first.token)
    assert (await claims.claim("k", lease_s=60)).status == "held"
    clock.advance(61)
    assert await claims.confirm("k", second.token, result="in time", keep_s=60)
    assert (await claims.claim("k", lease_s=60)).result == "in time"


async def test_a_released_key_is_free_at_once_and_no_takeover(claims: Claims):
    first = await claims.claim("k", lease_s=60)
    await claims.release("k", first.token)
    second = await claims.claim("k", lease_s=60)
    assert (second.status, second.is_takeover) == ("granted", False)
    assert second.token > first.token
    assert not await claims.confirm("k", first.token, result="", keep_s=60)


async def test_releasing_a_takeover_leaves_a_takeover(claims: Claims, clock: Clock):
    await claims.claim("k", lease_s=60)
    clock.advance(61)
    second = await claims.claim("k", lease_s=60)
    await claims.release("k", second.token)
    third = await claims.claim("k", lease_s=60)
    assert (third.status, third.is_takeover) == ("granted", True)


async def test_a_release_after_the_confirmation_changes_nothing(claims: Claims):
    granted = await claims.claim("k", lease_s=60)
    await claims.confirm("k", granted.token, result="done", keep_s=60)
    await claims.release("k", granted.token)
    assert (await claims.claim("k", lease_s=60)).status == "done"


async def test_a_grant_says_since_when_the_store_remembers(open_one: Open, clock: Clock):
    began = clock.now
    for _ in range(2):
        store = open_one()
        assert (await store.claim(f"k{clock.now}", lease_s=60)).known_since == began
        await store.close()
        clock.advance(DAY_S)


async def test_values_are_remembered_for_their_time_and_the_last_one_wins(claims: Claims, clock: Clock):
    assert await claims.get("v") is None
    await claims.put("v", b"one", keep_s=10)
    await claims.put("v", b"\x00two", keep_s=10)
    await claims.put("other", b"", keep_s=100)
    assert await claims.get("v") == b"\x00two"
    clock.advance(10)
    assert await claims.get("v") is None
    assert await claims.get("other") == b""


async def test_values_and_claims_of_one_name_are_apart(claims: Claims):
    await claims.put("k", b"value", keep_s=10)
    assert (await claims.claim("k", lease_s=60)).status == "granted"


async def test_a_claim_outlives_its_client(open_one: Open, clock: Clock):
    first = open_one()
    granted = await first.claim("k", lease_s=60)
    await first.close()
    second = open_one()
    assert (await second.claim("k", lease_s=60)).status == "held"
    assert await second.confirm("k", granted.token, result="by another", keep_s=60)
    await second.close()


async def test_sweeping_forgets_what_is_over_but_no_lease_that_may_have_had_its_effect(claims: Claims, clock: Clock):
    await claims.claim("unconfirmed", lease_s=60)
    await claims.put("old", b"x", keep_s=1)
    clock.advance(4 * DAY_S)
    await claims.put("new", b"x", keep_s=60)
    assert (await claims.claim("unconfirmed", lease_s=60)).is_takeover


def test_of_many_threads_claiming_one_key_exactly_one_is_granted(open_one: Open):
    async def claim() -> str:
        store = open_one()
        try:
            return (await store.claim("k", lease_s=60)).status
        finally:
            await store.close()

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: asyncio.run(claim()), range(24)))
    assert sorted(answers) == ["granted"] + ["held"] * 23


async def test_of_many_tasks_of_one_client_exactly_one_is_granted(claims: Claims):
    answers = await asyncio.gather(*(claims.claim("k", lease_s=60) for _ in range(20)))
    assert sorted(answer.status for answer in answers) == ["granted"] + ["held"] * 19


CLAIMER = """
import asyncio, sys
from pathlib import Path
from services.claims.sqlite import SqliteClaims

async def main():
    claims = SqliteClaims(Path(sys.argv[1]))
    sys.stdin.readline()
    for key in range(50):
        sys.stdout.write((await claims.claim(f"k{key}", lease_s=600)).status + "\\n")
    await claims.close()

asyncio.run(main())
"""


def test_of_many_processes_claiming_the_same_keys_each_key_is_granted_to_one(tmp_path: Path):
    """Real processes on a file that none of them finds ready, released together by a line on stdin."""
    command = [sys.executable, "-W", "error", "-c", CLAIMER, str(tmp_path / "claims.sqlite")]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path.cwd())
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    answers = [process.communicate()[0].split() for process in processes]
    assert [process.returncode for process in processes] == [0] * 4
    for each in zip(*answers, strict=True):
        assert sorted(each) == ["granted", "held", "held", "held"]


async def test_a_file_that_is_no_database_is_refused_with_what_to_do(tmp_path: Path):
    path = tmp_path / "claims.sqlite"
    path.write_bytes(b"not a database, but long enough to look like one" * 100)
    store = SqliteClaims(path)
    with pytest.raises(
        ClaimsUnavailable, match=r"claims\.sqlite did not answer: file is not a database; .*move the file"
    ):
        await store.claim("k", lease_s=60)
    path.unlink()
    assert (await store.claim("k", lease_s=60)).status == "granted"
    await store.close()


async def test_a_damaged_file_is_noticed_before_anything_is_granted(tmp_path: Path):
    path = tmp_path / "claims.sqlite"
    store = SqliteClaims(path)
    for number in range(200):
        await store.put(f"v{number}", b"x" * 500, keep_s=60)
    await store.close()
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))
    store = SqliteClaims(path)
    with pytest.raises(ClaimsUnavailable, match="malformed"):
        await store.claim("k", lease_s=60)
    await store.close()


async def test_a_removed_file_is_reported_and_then_begun_anew_with_a_later_known_since(tmp_path: Path, clock: Clock):
    path = tmp_path / "claims.sqlite"
    store = SqliteClaims(path, clock=clock)
    before = await store.claim("k", lease_s=60)
    path.unlink()
    clock.advance(5)
    with pytest.raises(ClaimsUnavailable, match="No such file"):
        await store.claim("k", lease_s=60)
    after = await store.claim("k", lease_s=60)
    assert (after.status, after.known_since) == ("granted", before.known_since + 5)
    await store.close()


async def test_a_folder_that_cannot_be_made_is_reported(tmp_path: Path):
    (tmp_path / "state").write_text("a file where the folder should be")
    store = SqliteClaims(tmp_path / "state" / "claims.sqlite")
    with pytest.raises(ClaimsUnavailable, match="make sure that the file is there"):
        await store.get("v")
    await store.close()


async def test_a_store_of_a_later_format_is_left_alone(tmp_path: Path):
    path = tmp_path / "claims.sqlite"
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()
    store = SqliteClaims(path)
    with pytest.raises(
        ClaimsUnavailable, match="its format is 99, this version reads 1; run the version that wrote it"
    ):
        await store.claim("k", lease_s=60)
    await store.close()


async def test_the_factory_opens_the_file_the_settings_name(tmp_path: Path):
    store = open_claims(Settings(claims=ClaimsSettings(path=str(tmp_path / "here.sqlite"))))
    await store.claim("k", lease_s=60)
    await store.close()
    assert (tmp_path / "here.sqlite").exists()
