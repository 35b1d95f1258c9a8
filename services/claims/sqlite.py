"""Claims in one SQLite file, shared by many processes of one machine.

Leases run on wall-clock time, which those processes share. Tokens come from AUTOINCREMENT, so they grow across all keys
and a deleted row never gives its token to a later holder.
"""

import asyncio
import json
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from services.claims.base import ENDED_LEASE_KEPT_S, Claim
from services.disk import sync_wal
from services.errors import ClaimsUnavailable

T = TypeVar("T")

_FORMAT = 1
_BUSY_S = 5.0
_BUSY_ON_LOOP_S = 1.0
_SWEEP_EVERY_S = 600.0
_ROWS_AT_ONCE = 64  # of one REPLACE: sqlite3 keeps the last 128 statements prepared, one for each length

_SCHEMA = """
CREATE TABLE IF NOT EXISTS claims (
    token INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL UNIQUE,
    is_done INTEGER NOT NULL,
    is_takeover INTEGER NOT NULL,
    ends_at REAL NOT NULL,
    result TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS remembered (
    key TEXT PRIMARY KEY,
    value BLOB NOT NULL,
    ends_at REAL NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS store (id INTEGER PRIMARY KEY CHECK (id = 1), since REAL NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS claims_by_end ON claims (ends_at);
CREATE INDEX IF NOT EXISTS remembered_by_end ON remembered (ends_at);
"""


class SqliteClaims:
    """`clock` gives Unix seconds. The file is opened by the first call and again after a fault.

    on_thread: else the event loop waits for the file, and for a lock on it no longer than a second.
    """

    def __init__(self, path: Path, *, on_thread: bool = True, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="claims") if on_thread else None
        self._busy_s = _BUSY_S if on_thread else _BUSY_ON_LOOP_S
        self._open: sqlite3.Connection | None = None
        self._inode = 0
        self._since = 0.0
        self._sweep_at = 0.0

    async def known_since(self) -> float:
        return await self._run(lambda _: self._since, writes=False)

    async def claim(self, key: str, *, lease_s: float) -> Claim:
        def claim(db: sqlite3.Connection) -> Claim:
            now = self._clock()
            row = db.execute(
                "SELECT is_done, is_takeover, ends_at, result FROM claims WHERE key = ?", (key,)
            ).fetchone()
            is_takeover = False
            if row is not None:
                is_done, _, ends_at, result = row
                if ends_at > now:
                    if is_done:
                        return Claim("done", result=result)
                    return Claim("held", retry_after_s=ends_at - now)
                is_takeover = not is_done
            token = db.execute(
                "REPLACE INTO claims (key, is_done, is_takeover, ends_at, result) VALUES (?, 0, ?, ?, '')",
                (key, is_takeover, now + lease_s),
            ).lastrowid
            return Claim("granted", token=token or 0, is_takeover=is_takeover, known_since=self._since)

        return await self._run(claim)

    async def confirm(self, key: str, token: int, *, result: str, keep_s: float) -> bool:
        def confirm(db: sqlite3.Connection) -> bool:
            ends_at = self._clock() + keep_s
            done = db.execute(
                "UPDATE claims SET is_done = 1, ends_at = ?, result = ? WHERE key = ? AND token = ?",
                (ends_at, result, key, token),
            )
            if done.rowcount:
                return True
            lost = db.execute(
                "INSERT OR IGNORE INTO claims (key, is_done, is_takeover, ends_at, result) VALUES (?, 1, 0, ?, ?)",
                (key, ends_at, result),
            )
            return lost.rowcount == 1

        return await self._run(confirm)

    async def release(self, key: str, token: int) -> None:
        def release(db: sqlite3.Connection) -> None:
            mine = (key, token)
            db.execute("DELETE FROM claims WHERE key = ? AND token = ? AND NOT is_done AND NOT is_takeover", mine)
            db.execute(
                "UPDATE claims SET ends_at = ? WHERE key = ? AND token = ? AND NOT is_done", (self._clock(), *mine)
            )

        await self._run(release)

    async def get(self, key: str) -> bytes | None:
        return (await self.get_many([key]))[0]

    async def put(self, key: str, value: bytes, *, keep_s: float) -> None:
        await self.put_many({key: value}, keep_s=keep_s)

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        def get(db: sqlite3.Connection) -> list[bytes | None]:
            rows = db.execute(
                "SELECT key, value FROM remembered WHERE key IN (SELECT value FROM json_each(?)) AND ends_at > ?",
                (json.dumps(list(keys)), self._clock()),
            )
            found: dict[str, bytes] = dict(rows.fetchall())
            return [found.get(key) for key in keys]

        return await self._run(get, writes=False)

    async def put_many(self, values: Mapping[str, bytes], *, keep_s: float) -> None:
        def put(db: sqlite3.Connection) -> None:
            ends_at, rows = self._clock() + keep_s, list(values.items())
            for start in range(0, len(rows), _ROWS_AT_ONCE):
                part = rows[start : start + _ROWS_AT_ONCE]
                places = ", ".join(["(?, ?, ?)"] * len(part))
                db.execute(
                    f"REPLACE INTO remembered VALUES {places}",  # noqa: S608
                    [given for key, value in part for given in (key, value, ends_at)],
                )

        await self._run(put, is_durable=False)

    async def close(self) -> None:
        if self._thread is None:
            self._drop()
            return
        await asyncio.get_running_loop().run_in_executor(self._thread, self._drop)
        self._thread.shutdown()

    async def _run(self, work: Callable[[sqlite3.Connection], T], *, writes: bool = True, is_durable: bool = True) -> T:
        if self._thread is None:
            await asyncio.sleep(0)  # whoever else waits for the loop gets it between two pieces of work
            return self._in_transaction(work, writes, is_durable)
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, self._in_transaction, work, writes, is_durable
        )

    def _in_transaction(self, work: Callable[[sqlite3.Connection], T], writes: bool, is_durable: bool) -> T:
        try:
            db = self._connection()
            if not writes:
                return work(db)
            db.execute("BEGIN IMMEDIATE")
            try:
                answer = work(db)
                self._sweep(db)
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise
            if is_durable:  # of the rest a power cut takes the last few values
                sync_wal(self._path)
            return answer
        except (sqlite3.Error, OSError) as exc:
            self._drop()
            raise ClaimsUnavailable(f"the claims store at {self._path} did not answer: {exc}; {_remedy(exc)}") from exc

    def _connection(self) -> sqlite3.Connection:
        """The open file, while it is still the one at the path: nobody would see writes to a removed file."""
        if self._open is not None:
            if self._path.stat().st_ino == self._inode:
                return self._open
            self._drop()
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        db = sqlite3.connect(self._path, timeout=self._busy_s, isolation_level=None, check_same_thread=False)
        try:
            self._prepare(db)
            self._inode = self._path.stat().st_ino
        except BaseException:
            db.close()
            raise
        self._open = db
        return db

    def _prepare(self, db: sqlite3.Connection) -> None:
        _enter_wal(db)
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("PRAGMA fullfsync = ON")  # macOS: its fsync leaves data in the drive's cache; elsewhere no effect
        db.execute("BEGIN IMMEDIATE")
        (found,) = db.execute("PRAGMA user_version").fetchone()
        if found not in (0, _FORMAT):
            raise sqlite3.DatabaseError(f"its format is {found}, this version reads {_FORMAT}")
        if not found:
            for statement in _SCHEMA.split(";"):
                db.execute(statement)
            db.execute("INSERT INTO store VALUES (1, ?)", (self._clock(),))
            db.execute(f"PRAGMA user_version = {_FORMAT}")
        db.execute("COMMIT")
        (self._since,) = db.execute("SELECT since FROM store").fetchone()

    def _sweep(self, db: sqlite3.Connection) -> None:
        now = self._clock()
        if now < self._sweep_at:
            return
        self._sweep_at = now + _SWEEP_EVERY_S
        db.execute("DELETE FROM remembered WHERE ends_at <= ?", (now,))
        db.execute("DELETE FROM claims WHERE ends_at <= ? AND is_done", (now,))
        db.execute("DELETE FROM claims WHERE ends_at <= ?", (now - ENDED_LEASE_KEPT_S,))

    def _drop(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None


def _enter_wal(db: sqlite3.Connection) -> None:
    """Several processes may do this to a new file at once, and SQLite does not wait here by itself."""
    deadline = time.monotonic() + _BUSY_S
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as exc:
            if exc.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _remedy(exc: Exception) -> str:
    code = getattr(exc, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return "free some space on its disk"
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return (
            "stop the services, move the file away and start them again: a new store looks on GitHub before it posts "
            "the review of an older event"
        )
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return "see which process holds it open (`lsof` on the file)"
    if isinstance(exc, sqlite3.Error) and not code:
        return "run the version that wrote it, or set claims.path to another file"
    return "make sure that the file is there and that its folder may be written; a removed file is made anew"
