"""One SQLite connection to the log, on a thread of its own so that the event loop never waits for a disk.

A process that writes and does nothing else may do without: two hand-overs between threads cost as much as a commit.
"""

import asyncio
import contextlib
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from services.errors import BusUnavailable

T = TypeVar("T")

_FORMAT: Final = 1
_BUSY_S: Final = 5.0
# Pages, 16 MB: the commit that copies them into the main file takes many times as long as any other. It waits for the
# disk, so it is left to those who do that anyway, while there are any.
_WAL_PAGES_WITH_SYNC: Final = 4000
_WAL_PAGES: Final = 8000
_SCHEMA: Final = (
    "CREATE TABLE topics (name TEXT PRIMARY KEY, partitions INTEGER NOT NULL) WITHOUT ROWID",
    # next_offset outlives the records, so that offsets stay dense and never repeat after the retention.
    """CREATE TABLE partitions (topic TEXT, partition INTEGER, next_offset INTEGER NOT NULL,
       PRIMARY KEY (topic, partition)) WITHOUT ROWID""",
    """CREATE TABLE records (topic TEXT NOT NULL, partition INTEGER NOT NULL, "offset" INTEGER NOT NULL,
       key BLOB NOT NULL, value BLOB NOT NULL, headers TEXT NOT NULL, timestamp_ms INTEGER NOT NULL,
       PRIMARY KEY (topic, partition, "offset"))""",
    "CREATE INDEX records_by_time ON records (timestamp_ms)",
    # generation counts every change of membership or ownership in a group.
    """CREATE TABLE groups ("group" TEXT, topic TEXT, generation INTEGER NOT NULL,
       PRIMARY KEY ("group", topic)) WITHOUT ROWID""",
    """CREATE TABLE members ("group" TEXT, topic TEXT, member TEXT, beat_at REAL NOT NULL, lease_s REAL NOT NULL,
       PRIMARY KEY ("group", topic, member)) WITHOUT ROWID""",
    # epoch is the generation at which the owner got the partition: the same owner twice is told apart.
    """CREATE TABLE owners ("group" TEXT, topic TEXT, partition INTEGER, member TEXT NOT NULL, epoch INTEGER NOT NULL,
       PRIMARY KEY ("group", topic, partition)) WITHOUT ROWID""",
    """CREATE TABLE offsets ("group" TEXT, topic TEXT, partition INTEGER, next_offset INTEGER NOT NULL,
       PRIMARY KEY ("group", topic, partition)) WITHOUT ROWID""",
)
_REMEDIES: Final = (
    ("SQLITE_FULL", "free space on its disk"),
    ("SQLITE_IOERR", "check that its disk works and has space"),
    ("SQLITE_NOTADB", "move the file aside; the next start makes a new one"),
    (
        "SQLITE_CORRUPT",
        "move the file aside (`sqlite3 FILE .recover` gets records out); the next start makes a new one",
    ),
    ("SQLITE_BUSY", f"another process held it for more than {_BUSY_S:g} s; look for a backup or a stopped process"),
    ("SQLITE_CANTOPEN", "check that its folder exists and is writable for this user"),
    ("SQLITE_READONLY", "check that the file and its folder are writable for this user"),
)


class _Job(NamedTuple):
    work: Callable[[sqlite3.Connection], Any]
    done: "asyncio.Future[Any]"


class _Watch(NamedTuple):
    version: int
    changed: "asyncio.Future[None]"


class Connection:
    """Opens on first use (folder 0700, file 0600), and again after an error.

    A commit survives the death of the process at once, and power loss from the next sync_wal() of anybody on. A power
    cut before leaves a prefix of all commits, whoever made them: WAL frames count up to the first that is missing.

    has_syncs: its owner calls sync_wal(). on_thread: else the event loop waits for the disk. interval_s: time between
    looks for a change while somebody watches, which takes the thread.
    """

    def __init__(
        self, path: Path, *, has_syncs: bool = False, on_thread: bool = True, interval_s: float = 0.005
    ) -> None:
        self._path = path
        self._on_thread = on_thread
        self._wal_pages = _WAL_PAGES_WITH_SYNC if has_syncs else _WAL_PAGES
        self._interval_s = interval_s
        self._jobs: queue.SimpleQueue[_Job | _Watch | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._is_closed = False
        self._db: sqlite3.Connection | None = None

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """`work(connection)`, in order of the calls. Raises BusUnavailable for every failure of SQLite.

        Cancelling the call does not stop work that has begun.
        """
        if self._is_closed:
            raise BusUnavailable(f"the log at {self._path} was closed by this process; it is shutting down")
        if not self._on_thread:
            await asyncio.sleep(0)  # whoever else waits for the loop gets it between two pieces of work
            return self._do(work)
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="log", daemon=True)
            self._thread.start()
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._jobs.put(_Job(work, done))
        return await done

    def watch(self, version: int, changed: "asyncio.Future[None]") -> None:
        """Resolves `changed` once another connection has committed since data_version() was `version`."""
        self._jobs.put(_Watch(version, changed))

    async def close(self) -> None:
        self._is_closed = True
        if self._thread is not None:
            self._jobs.put(None)
            await asyncio.to_thread(self._thread.join)
        elif not self._on_thread:
            self._drop()

    def _serve(self) -> None:
        watch: _Watch | None = None
        while True:
            try:
                job = self._jobs.get(timeout=self._interval_s if watch else None)
            except queue.Empty:
                pass
            else:
                if job is None:
                    break
                if isinstance(job, _Watch):
                    watch = job
                elif not job.done.cancelled():
                    self._perform(job)
            if watch and (watch.changed.done() or self._has_changed(watch.version)):
                settle(watch.changed, None, None)
                watch = None
        self._drop()

    def _perform(self, job: _Job) -> None:
        try:
            result = self._do(job.work)
        except BaseException as exc:  # noqa: BLE001 - it belongs to the caller, who gets it
            settle(job.done, None, exc)
        else:
            settle(job.done, result, None)

    def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return work(self._open())
        except (sqlite3.Error, OSError) as exc:
            self._drop()
            raise BusUnavailable(_explain(self._path, exc)) from exc

    def _has_changed(self, version: int) -> bool:
        try:
            return data_version(self._open()) != version
        except (sqlite3.Error, OSError):
            self._drop()
            return True

    def _drop(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

    def _open(self) -> sqlite3.Connection:
        if self._db is None:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # O_EXCL: opening and closing a live database outside SQLite would drop this process's locks on it.
            with contextlib.suppress(FileExistsError):
                os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
            self._db = sqlite3.connect(self._path, timeout=_BUSY_S, isolation_level=None)
            self._prepare(self._db)
        return self._db

    def _prepare(self, db: sqlite3.Connection) -> None:
        deadline = time.monotonic() + _BUSY_S
        while True:
            try:
                db.execute("PRAGMA journal_mode = WAL")
                break
            except sqlite3.OperationalError as exc:
                # Two first openers collide here without SQLite's own waiting.
                if exc.sqlite_errorname != "SQLITE_BUSY" or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute(f"PRAGMA wal_autocheckpoint = {self._wal_pages}")
        db.execute("PRAGMA fullfsync = ON")  # macOS: its fsync leaves data in the drive's cache; elsewhere no effect
        if _format(db) != _FORMAT:
            with transaction(db):
                if _format(db) == 0:
                    for statement in _SCHEMA:
                        db.execute(statement)
                    db.execute(f"PRAGMA user_version = {_FORMAT}")
        if (found := _format(db)) != _FORMAT:
            raise sqlite3.DatabaseError(f"its format is {found}, this version reads {_FORMAT}")


def data_version(db: sqlite3.Connection) -> int:
    """Changes when another connection commits."""
    return int(db.execute("PRAGMA data_version").fetchone()[0])


@contextlib.contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """Takes the write lock at once, so that what was read still holds when it is written."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _format(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def _explain(path: Path, exc: Exception) -> str:
    name = getattr(exc, "sqlite_errorname", "")
    remedy = next((remedy for prefix, remedy in _REMEDIES if name.startswith(prefix)), "see `sentinelctl doctor`")
    return f"the log at {path} failed: {exc}{f' ({name})' if name else ''}; {remedy}"


def settle(future: "asyncio.Future[Any]", result: object, error: BaseException | None) -> None:
    """From any thread: the error where there is one, else the result."""

    def set_it() -> None:
        if future.done():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    with contextlib.suppress(RuntimeError):  # the loop is gone, and with it whoever waited
        future.get_loop().call_soon_threadsafe(set_it)
