"""`Database` on one SQLite file: readers of their own, and one writer thread that commits in groups.

The writer is the only connection that writes or checkpoints. It applies the changes that wait in one
transaction, and commits once: a single sync for the whole batch is what makes durable writes fast. Nobody
is answered before that commit.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa

from dorkos.clock import Clock
from dorkos.db.batch import Apply, Job, NotBegunError, Outcome, commit_all, return_to_savepoint
from dorkos.db.database import Change, Database, Query
from dorkos.db.engine import BUSY_TIMEOUT_MS, SQLITE_FLOOR, Role, sqlite_engine, sqlite_version, version_text
from dorkos.db.open_files import OpenFiles
from dorkos.db.writer import Writer
from dorkos.errors import DorkError, ErrorCode

log = logging.getLogger("dorkos.db")

T = TypeVar("T")

_READERS = 4
# A change waits five seconds for another program's lock, in steps: between two of them a stop is noticed,
# which must be over in five seconds itself, with several changes at its end.
_STEPS = 25
_STEP_MS = BUSY_TIMEOUT_MS // _STEPS


class SqliteDatabase(Database):
    """See the module. `clock` is what `Transaction.now` answers."""

    dialect = "sqlite"

    def __init__(self, path: Path, *, clock: Clock) -> None:
        """Bind to a file that `dorkos.db.migrate` has brought up to date."""
        super().__init__()
        self.path = path
        self._clock = clock
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="dorkos-read")
        self._read_engine = sqlite_engine(path, Role.READER)
        self._write_engine = sqlite_engine(path, Role.WRITER)
        self._writer = Writer(self._apply, self._notify)
        self._connection: sa.Connection | None = None
        self._files: OpenFiles | None = None
        self._closing = False

    async def open(self) -> None:
        """Open the writing connection and start its thread."""
        if sqlite_version() < SQLITE_FLOOR:
            log.warning(
                "SQLite %s has a fault that %s mends; DorkOS writes in a way that avoids it",
                version_text(sqlite_version()),
                version_text(SQLITE_FLOOR),
            )
        self._connection = await asyncio.to_thread(self._write_engine.connect)
        _wait_at_most(self._connection, _STEP_MS)
        self._files = OpenFiles(self.path)
        self._writer.start()

    async def close(self) -> None:
        """Finish what was accepted, checkpoint, close. Readers go first: only the writer checkpoints."""
        if self._closing:
            return
        self._closing = True
        await self._writer.stop()
        await asyncio.to_thread(self._readers.shutdown)
        self._read_engine.dispose()
        if self._connection is not None:
            await asyncio.to_thread(self._checkpoint_and_close, self._connection)
        self._write_engine.dispose()

    async def read(self, query: Query[T]) -> T:
        """Run `query` on a reading connection, in a transaction of its own."""
        try:
            reading = asyncio.get_running_loop().run_in_executor(self._readers, self._read, query)
        except RuntimeError as fault:  # Its threads were told to end.
            raise DorkError(ErrorCode.SHUTTING_DOWN, "The database is closed.") from fault
        return await reading

    async def write(self, change: Change[T]) -> T:
        """Hand `change` to the writer and wait for its commit. See `Database.write`."""
        return await self._writer.write(change)

    def _read(self, query: Query[T]) -> T:
        try:
            with self._read_engine.connect() as connection, connection.begin():
                return query(connection)
        except sa.exc.DBAPIError as fault:
            raise self._explained(fault) from fault

    def _apply(self, batch: Sequence[Job]) -> list[Outcome]:
        return commit_all(batch, self._commit, self._explained)

    def _commit(self, batch: Sequence[Job], apply: Apply) -> list[Outcome]:
        connection, files = self._connection, self._files
        assert connection is not None
        assert files is not None
        if files.gone is not None:
            return [Outcome(fault=_file_is_gone(files.gone)) for _ in batch]
        transaction = self._begin(connection)
        try:
            outcomes = apply(connection, batch, self._clock.now, _take_back)
            # A file that was removed or replaced takes commits all the same, and they end with the process.
            # Asked before the commit, since what was refused must not be there when the file is put back.
            if (gone := files.missing()) is not None:
                transaction.rollback()
                self._save_log(connection, files)
                return [Outcome(fault=_file_is_gone(gone)) for _ in batch]
            transaction.commit()
            if (gone := files.missing()) is not None:
                return [Outcome(fault=_gone_meanwhile(gone)) for _ in batch]
        except BaseException:
            # Covers a COMMIT that failed, too: SQLite keeps the transaction open then.
            transaction.rollback()
            raise
        return outcomes

    def _begin(self, connection: sa.Connection) -> sa.RootTransaction:
        for step in itertools.count(1):
            try:
                return connection.begin()
            except sa.exc.DBAPIError as fault:
                if step >= _STEPS or self._stopping or "database is locked" not in str(fault.orig):
                    raise NotBegunError from fault
        raise AssertionError("unreachable: the last step returns or raises")

    def _save_log(self, connection: sa.Connection, files: OpenFiles) -> None:
        """Bring what the lost log holds into the database, while this process still has it open.

        Those commits were acknowledged, and would end with the process if it is killed.
        """
        if not files.only_log_is_gone:
            return
        raw = connection.connection.dbapi_connection
        assert raw is not None
        try:
            raw.execute("PRAGMA wal_checkpoint(PASSIVE)")
        except Exception as fault:  # noqa: BLE001  # Closing tries it again; the refusal is told in any case.
            log.error("what the lost log of %s holds could not be saved: %s", self.path, fault)

    def _checkpoint_and_close(self, connection: sa.Connection) -> None:
        # Neither is worth waiting for a lock of another program, nor a traceback in front of a refusal.
        _wait_at_most(connection, 0)
        raw = connection.connection.dbapi_connection
        assert raw is not None
        for pragma in ("optimize", "wal_checkpoint(TRUNCATE)"):
            try:
                raw.execute(f"PRAGMA {pragma}")
            except Exception as fault:  # noqa: BLE001  # Closing goes on: the WAL holds all for the next start.
                log.warning("PRAGMA %s failed on closing %s: %s", pragma, self.path, fault)
        connection.close()


def _wait_at_most(connection: sa.Connection, milliseconds: int) -> None:
    raw = connection.connection.dbapi_connection
    assert raw is not None
    raw.execute(f"PRAGMA busy_timeout = {milliseconds}")


def _take_back(raw: Any, _fault: Exception) -> bool:
    if not raw.in_transaction:
        return False
    return_to_savepoint(raw)
    return True


def _file_is_gone(path: Path) -> DorkError:
    return DorkError(
        ErrorCode.DATABASE_UNREACHABLE,
        f"{path} was moved, removed or replaced while the server ran.",
        hint="Nothing is stored any more. Stop the server, put the file back, then start it again.",
    )


def _gone_meanwhile(path: Path) -> DorkError:
    return DorkError(
        ErrorCode.OUTCOME_UNKNOWN,
        f"{path} was moved, removed or replaced during the commit, so the change may or may not be stored.",
        hint="Stop the server, put the file back, start it again, and look before you repeat the change.",
    )
