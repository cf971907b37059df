"""The database file: one connection that writes, a few that read.

SQLite in WAL mode lets readers work beside one writer, so the writer is one connection behind one lock, and readers
are a small pool that can write nothing (`query_only`). `synchronous=FULL` makes every commit survive a power cut; the
price, one flush to the disk for each commit, is shared by all changes of a batch (events/log.py).

The driver's own transaction control is switched off (`isolation_level=None`): it would begin late, and a write that
begins as a read can fail with "database is locked" half way. The writer says BEGIN IMMEDIATE, a reader BEGIN, so that
each function passed to `read` sees one consistent state.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import anyio
import anyio.to_thread
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import QueuePool, StaticPool

from sysadmd.errors import StateError
from sysadmd.limits import MIB
from sysadmd.store import rows
from sysadmd.store.migrate import bring_to_head

T = TypeVar("T")

DATABASE_FILE = "sysadmd.db"
"""Name of the database in a state directory."""
READERS = 4
"""Connections that read at once: reads are short, and each one costs a page cache."""
BUSY_SECONDS = 5.0
"""How long to wait for the lock of another process, such as `sysadmd backup`."""
LOG_BYTES = 64 * MIB
"""What the write-ahead log keeps on the disk once it is folded in; a burst or a backup makes it larger for a while."""
BACKUP_PAGES = 2048
"""Pages copied between two reports of a backup: 8 MiB."""


class Store:
    """An open database at the schema of this release. `epoch` names the history of its records."""

    def __init__(self, path: Path, writer: Engine, readers: Engine) -> None:
        self.path = path
        self._writer, self._readers = writer, readers
        self._lock = threading.Lock()
        self._limiter: anyio.CapacityLimiter | None = None
        self.epoch = ""

    @classmethod
    def open(cls, path: Path) -> Store:
        """Open, creating or migrating, the database file. Raises StateError, naming it, when it cannot be used."""
        try:
            # Made by us, before SQLite can make it with the umask's mode; its -wal and -shm files inherit 0600.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise StateError(f"{path}: {error.strerror}") from error
        store = cls(path, _engine(path, writes=True), _engine(path, writes=False))
        try:
            with store.transaction() as connection:
                bring_to_head(connection, str(path))
                store.epoch = rows.get_meta(connection, "epoch") or ""
        except DBAPIError as error:
            store.close()
            raise StateError(f"{path}: {error.orig}") from error
        except BaseException:
            store.close()
            raise
        return store

    def close(self) -> None:
        """Close every connection. The last one folds the write-ahead log into the file."""
        self._readers.dispose()
        with self._lock:
            self._writer.dispose()

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """One write transaction, in the calling thread: committed at the end, rolled back when the block raises.

        The running server writes through `EventLog.submit`, so that changes and records share one order; this is what
        the log itself, the start-up and commands on a stopped server's database use.
        """
        with self._lock, self._writer.begin() as connection:
            yield connection

    def write_now(self, function: Callable[[Connection], T]) -> T:
        """Run `function` in one write transaction, in the calling thread."""
        with self.transaction() as connection:
            return function(connection)

    def read_now(self, function: Callable[[Connection], T]) -> T:
        """Run `function` on a read-only connection, in the calling thread."""
        with self._readers.connect() as connection:
            return function(connection)

    async def read(self, function: Callable[[Connection], T]) -> T:
        """Run `function` on a read-only connection, in a worker thread; at most READERS run at once."""
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(READERS)
        return await anyio.to_thread.run_sync(self.read_now, function, limiter=self._limiter)

    def new_epoch(self) -> str:
        """Begin a new history, after a restore: resume tokens of the old one no longer match, and no executor, which
        may have lived on meanwhile, is believed to hold what was leased then (rows.disown_attempts).
        """
        self.epoch = rows.new_epoch()
        with self.transaction() as connection:
            rows.put_meta(connection, "epoch", self.epoch)
            rows.disown_attempts(connection)
        return self.epoch

    def backup(self, target: Path, progress: Callable[[int, int], None] | None = None) -> None:
        """Copy the live database to `target` (mode 0600) while others go on writing.

        `progress` is called with (pages left, pages in all). The copy appears under its name only when complete.
        Raises StateError when the target cannot be written.
        """
        part = target.with_name(target.name + ".part")
        try:
            part.unlink(missing_ok=True)  # made by us or not at all: the directory may be one where others write
            os.close(os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            with closing(sqlite3.connect(self.path, BUSY_SECONDS)) as source, closing(sqlite3.connect(part)) as copy:
                # One state from the first page to the last. Without it SQLite begins anew after each commit of another
                # connection, and never ends beside a busy server.
                source.execute("BEGIN")
                source.execute("SELECT count(*) FROM sqlite_master")
                report = None if progress is None else lambda _status, left, total: progress(left, total)
                source.backup(copy, pages=BACKUP_PAGES, progress=report, sleep=0.01)
            part.replace(target)
        except (OSError, sqlite3.Error) as error:
            part.unlink(missing_ok=True)
            raise StateError(f"{target}: {error}") from error


def _engine(path: Path, *, writes: bool) -> Engine:
    """An engine whose connections are set up as the module's head says."""

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA foreign_keys=ON")
            if writes:
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("PRAGMA synchronous=FULL")
                connection.execute(f"PRAGMA journal_size_limit={LOG_BYTES}")
            else:
                connection.execute("PRAGMA query_only=ON")
        except BaseException:
            connection.close()
            raise
        return connection

    pool: dict[str, Any] = {"poolclass": StaticPool}
    if not writes:
        pool = {"poolclass": QueuePool, "pool_size": READERS, "max_overflow": 0}
    # Parameters hold password hashes, and errors are logged.
    engine = create_engine("sqlite://", creator=connect, hide_parameters=True, **pool)
    begin = "BEGIN IMMEDIATE" if writes else "BEGIN"

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # By the driver's cursor: what SQLAlchemy does around a statement costs more than this one does.
        cursor = connection.connection.cursor()
        cursor.execute(begin)
        cursor.close()

    return engine
