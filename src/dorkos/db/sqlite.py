"""`Database` on one SQLite file: readers of their own, and one writer thread that commits in groups.

The writer is the only connection that writes or checkpoints. It drains the changes that wait (up to
256) into one transaction, a savepoint each, and commits once: a single sync for the whole batch is
what makes durable writes fast. Nobody is answered before that commit.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa

from dorkos.clock import Clock
from dorkos.db.database import Change, Database, Query, Transaction
from dorkos.db.engine import BUSY_TIMEOUT_MS, SQLITE_FLOOR, Role, sqlite_engine, sqlite_version, version_text
from dorkos.db.open_files import OpenFiles
from dorkos.errors import DorkError, ErrorCode

log = logging.getLogger("dorkos.db")

T = TypeVar("T")

BATCH_MAX = 256
QUEUE_MAX = 10_000
_READERS = 4
# A change waits five seconds for another program's lock, in steps: between two of them a stop is noticed,
# which must be over in five seconds itself, with several changes at its end.
_STEPS = 25
_STEP_MS = BUSY_TIMEOUT_MS // _STEPS


@dataclass(frozen=True, slots=True)
class _Job:
    change: Change[Any]
    loop: asyncio.AbstractEventLoop
    answer: asyncio.Future[Any]


@dataclass(frozen=True, slots=True)
class _Outcome:
    value: Any = None
    fault: Exception | None = None
    has_events: bool = False


class _TransactionLostError(Exception):
    """SQLite itself ended the transaction, so no change of this batch is stored."""


class _NotBegunError(Exception):
    """No transaction could be begun, such as for a lock that another program holds."""


class SqliteDatabase(Database):
    """See the module. `clock` is what `Transaction.now` answers."""

    dialect = "sqlite"

    def __init__(self, path: Path, *, clock: Clock) -> None:
        """Bind to a file that `dorkos.db.migrate` has brought up to date."""
        super().__init__()
        self.path = path
        self._clock = clock
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="dorkos-read")
        self._read_engine = sqlite_engine(path, Role.READER)
        self._write_engine = sqlite_engine(path, Role.WRITER)
        self._writer: threading.Thread | None = None
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
        self._writer = threading.Thread(target=self._write_loop, name="dorkos-write", daemon=True)
        self._writer.start()

    async def close(self) -> None:
        """Finish what was accepted, checkpoint, close. Readers go first: only the writer checkpoints."""
        if self._closing:
            return
        self._closing = True
        if self._writer is not None:
            self._jobs.put(None)
            await asyncio.to_thread(self._writer.join)
        await asyncio.to_thread(self._readers.shutdown)
        self._read_engine.dispose()
        if self._connection is not None:
            await asyncio.to_thread(self._checkpoint_and_close, self._connection)
        self._write_engine.dispose()

    async def read(self, query: Query[T]) -> T:
        """Run `query` on a reading connection, in a transaction of its own."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, query)

    async def write(self, change: Change[T]) -> T:
        """Hand `change` to the writer and wait for its commit. See `Database.write`."""
        if self._closing or self._writer is None:
            raise DorkError(ErrorCode.SHUTTING_DOWN, "The database is closed.")
        if self._jobs.qsize() >= QUEUE_MAX:
            raise DorkError(
                ErrorCode.DATABASE_BUSY,
                f"{QUEUE_MAX} changes wait to be written already.",
                hint="The disk is slower than the load; try again in a moment.",
            )
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        self._jobs.put(_Job(change, loop, answer))
        return await answer

    def _read(self, query: Query[T]) -> T:
        try:
            with self._read_engine.connect() as connection, connection.begin():
                return query(connection)
        except sa.exc.DBAPIError as fault:
            raise self._explained(fault) from fault

    def _write_loop(self) -> None:
        while (job := self._jobs.get()) is not None:
            batch, closing = self._drain(job)
            self._answer(batch, self._apply(batch))
            if closing:
                return

    def _drain(self, first: _Job) -> tuple[list[_Job], bool]:
        batch = [first]
        while len(batch) < BATCH_MAX:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                return batch, False
            if job is None:
                return batch, True
            batch.append(job)
        return batch, False

    def _apply(self, batch: list[_Job]) -> list[_Outcome]:
        try:
            return self._commit_together(batch)
        except _NotBegunError as fault:
            # Nobody of the batch is to blame, and each alone would wait as long for whoever holds the file.
            return [_Outcome(fault=self._explained(_cause(fault))) for _ in batch]
        except Exception as fault:  # noqa: BLE001  # The batch failed as a whole; who is to blame shows alone.
            if len(batch) == 1:
                return [_Outcome(fault=self._explained(_cause(fault)))]
            return [outcome for job in batch for outcome in self._apply([job])]

    def _commit_together(self, batch: list[_Job]) -> list[_Outcome]:
        connection, files = self._connection, self._files
        assert connection is not None
        assert files is not None
        if files.gone is not None:
            return [_Outcome(fault=_file_is_gone(files.gone)) for _ in batch]
        transaction = self._begin(connection)
        try:
            outcomes = [self._apply_one(connection, job) for job in batch]
            # A file that was removed or replaced takes commits all the same, and they end with the process.
            # Asked before the commit, since what was refused must not be there when the file is put back.
            if (gone := files.missing()) is not None:
                transaction.rollback()
                self._save_log(connection, files)
                return [_Outcome(fault=_file_is_gone(gone)) for _ in batch]
            transaction.commit()
            if (gone := files.missing()) is not None:
                return [_Outcome(fault=_gone_meanwhile(gone)) for _ in batch]
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
                    raise _NotBegunError from fault
        raise AssertionError("unreachable: the last step returns or raises")

    def _apply_one(self, connection: sa.Connection, job: _Job) -> _Outcome:
        raw = connection.connection.dbapi_connection
        assert raw is not None
        execute: Callable[[str], object] = raw.execute
        execute("SAVEPOINT change")
        tx = Transaction(connection, self._clock.now)
        try:
            value = job.change(tx)
            tx.store_events()
        except Exception as fault:  # It rolls back alone; the others of the batch go on.
            # A full disk may end the whole transaction. The next SAVEPOINT would silently open a new
            # one, and this batch's earlier changes would be answered without being stored.
            if not raw.in_transaction:
                raise _TransactionLostError from fault
            execute("ROLLBACK TO change")
            execute("RELEASE change")
            return _Outcome(fault=self._explained(fault))
        execute("RELEASE change")
        return _Outcome(value=value, has_events=bool(tx.events))

    def _answer(self, batch: list[_Job], outcomes: list[_Outcome]) -> None:
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_Job, _Outcome]]] = {}
        for job, outcome in zip(batch, outcomes, strict=True):
            by_loop.setdefault(job.loop, []).append((job, outcome))
        for loop, answers in by_loop.items():
            try:
                loop.call_soon_threadsafe(self._settle, answers)
            except RuntimeError:  # The loop is closed: nobody is left to be told.
                log.debug("the event loop closed before %d changes were answered", len(answers))

    def _settle(self, answers: list[tuple[_Job, _Outcome]]) -> None:
        for job, outcome in answers:
            if job.answer.done():  # The caller was cancelled; its change is stored all the same.
                continue
            if outcome.fault is not None:
                job.answer.set_exception(outcome.fault)
            else:
                job.answer.set_result(outcome.value)
        if any(outcome.has_events for _, outcome in answers):
            self._notify()

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


def _cause(fault: Exception) -> Exception:
    if isinstance(fault, _TransactionLostError | _NotBegunError) and isinstance(fault.__cause__, Exception):
        return fault.__cause__
    return fault
