"""`Database` on one SQLite file: readers of their own, and one writer thread that commits in groups.

The writer is the only connection that writes or checkpoints. It drains the changes that wait (up to
256) into one transaction, a savepoint each, and commits once: a single sync for the whole batch is
what makes durable writes fast. Nobody is answered before that commit.
"""

from __future__ import annotations

import asyncio
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
from dorkos.db.engine import SQLITE_FLOOR, Role, sqlite_engine, sqlite_version
from dorkos.db.faults import explain
from dorkos.errors import DorkError, ErrorCode

log = logging.getLogger("dorkos.db")

T = TypeVar("T")

BATCH_MAX = 256
QUEUE_MAX = 10_000
_READERS = 4


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
        self._file: tuple[int, int] | None = None
        self._closing = False

    async def open(self) -> None:
        """Open the writing connection and start its thread."""
        if sqlite_version() < SQLITE_FLOOR:
            log.warning(
                "SQLite %s has a fault that %s mends; DorkOS writes in a way that avoids it",
                ".".join(map(str, sqlite_version())),
                ".".join(map(str, SQLITE_FLOOR)),
            )
        self._connection = await asyncio.to_thread(self._write_engine.connect)
        self._file = _identity(self.path)
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
            raise explain(fault) from fault

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
        except Exception as fault:  # noqa: BLE001  # The batch failed as a whole; who is to blame shows alone.
            if len(batch) == 1:
                return [_Outcome(fault=explain(_cause(fault)))]
            return [outcome for job in batch for outcome in self._apply([job])]

    def _commit_together(self, batch: list[_Job]) -> list[_Outcome]:
        connection = self._connection
        assert connection is not None
        transaction = connection.begin()
        try:
            outcomes = [self._apply_one(connection, job) for job in batch]
            transaction.commit()
            # A file that was removed or replaced takes commits all the same, and they end with the process.
            if _identity(self.path) != self._file:
                return [_Outcome(fault=_file_is_gone(self.path)) for _ in batch]
        except BaseException:
            # Covers a COMMIT that failed, too: SQLite keeps the transaction open then.
            transaction.rollback()
            raise
        return outcomes

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
            return _Outcome(fault=explain(fault))
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

    def _checkpoint_and_close(self, connection: sa.Connection) -> None:
        raw = connection.connection.dbapi_connection
        assert raw is not None
        for pragma in ("optimize", "wal_checkpoint(TRUNCATE)"):
            try:
                raw.execute(f"PRAGMA {pragma}")
            except Exception:  # Closing goes on: the WAL holds everything, the next start reads it.
                log.warning("PRAGMA %s failed on closing %s", pragma, self.path, exc_info=True)
        connection.close()


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file it is, whatever it is called; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _file_is_gone(path: Path) -> DorkError:
    return DorkError(
        ErrorCode.DATABASE_UNREACHABLE,
        f"{path} was moved, removed or replaced while the server ran.",
        hint="Nothing is stored any more. Stop the server, put the file back, then start it again.",
    )


def _cause(fault: Exception) -> Exception:
    if isinstance(fault, _TransactionLostError) and isinstance(fault.__cause__, Exception):
        return fault.__cause__
    return fault
