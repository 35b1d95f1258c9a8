import asyncio
import sqlite3
import threading
from pathlib import Path

import pytest

from services.claims import open_claims, sqlite
from services.claims.sqlite import SqliteClaims
from services.errors import ClaimsUnavailable
from services.settings import ClaimsSettings, Settings


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


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


async def test_a_claim_waits_for_the_disk_and_nobody_waits_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    is_asked, has_answered = threading.Event(), threading.Event()

    def disk(_: Path) -> None:
        is_asked.set()
        has_answered.wait()

    first, second = SqliteClaims(tmp_path / "claims.sqlite"), SqliteClaims(tmp_path / "claims.sqlite")
    await second.put("before", b"", keep_s=60)
    monkeypatch.setattr(sqlite, "sync_wal", disk)
    waiting = asyncio.create_task(first.claim("k", lease_s=60))
    try:
        await asyncio.to_thread(is_asked.wait)
        await second.put("v", b"remembered", keep_s=60)
        assert not waiting.done()
    finally:
        has_answered.set()
    assert (await waiting).status == "granted"
    assert (await second.claim("k", lease_s=60)).status == "held"
    await first.close()
    await second.close()


async def test_a_claim_that_the_disk_did_not_take_is_not_granted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def disk(_: Path) -> None:
        raise OSError("Input/output error")

    store = SqliteClaims(tmp_path / "claims.sqlite")
    monkeypatch.setattr(sqlite, "sync_wal", disk)
    with pytest.raises(ClaimsUnavailable, match="Input/output error"):
        await store.claim("k", lease_s=60)
    await store.close()
