"""`Database` on PostgreSQL: a change is one READ COMMITTED transaction in a worker thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import TypeVar

import sqlalchemy as sa

from dorkos.clock import Clock, to_milliseconds
from dorkos.db.database import Change, Database, Query, Transaction
from dorkos.db.engine import postgres_engine, postgres_url
from dorkos.db.faults import connection_lost, may_retry
from dorkos.errors import DorkError, ErrorCode

T = TypeVar("T")

_THREADS = 8
_ATTEMPTS_MAX = 10
# Serialises the insertion of events, so that their positions become visible in order: a reader that
# has seen position 8 must never find 7 later. The number is arbitrary and ours.
_EVENTS_LOCK = 0x444F524B_0001


class PostgresDatabase(Database):
    """See the module. Times come from the database's clock unless a `clock` is given, as tests do."""

    dialect = "postgresql"

    def __init__(self, url: str, *, clock: Clock | None = None) -> None:
        """Bind to a database that `dorkos.db.migrate` has brought up to date."""
        super().__init__()
        self.url = postgres_url(url)
        self._clock = clock
        self.engine = postgres_engine(url, pool_size=_THREADS)
        self._read_engine = self.engine.execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True
        )
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="dorkos-pg")
        self._closed = False

    async def open(self) -> None:
        """Prove that the database answers. Raises `database_unreachable`."""
        try:
            await self.read(lambda connection: connection.execute(sa.select(1)).one())
        except sa.exc.DBAPIError as fault:
            raise DorkError(
                ErrorCode.DATABASE_UNREACHABLE,
                f"PostgreSQL does not answer: {str(fault.orig).strip()}",
                hint="Check `database.url` and that the server is running.",
            ) from fault

    async def close(self) -> None:
        """Finish the accepted work and disconnect."""
        self._closed = True
        await asyncio.to_thread(self._threads.shutdown)
        self.engine.dispose()

    async def read(self, query: Query[T]) -> T:
        """Run `query` in a read-only REPEATABLE READ transaction."""
        return await self._in_thread(lambda: self._read(query))

    async def write(self, change: Change[T]) -> T:
        """Run `change`, again after a serialisation failure or a deadlock. See `Database.write`."""
        # Shielded: a cancelled caller must not leave the change half awaited.
        value, has_events = await asyncio.shield(self._in_thread(lambda: self._write(change)))
        if has_events:
            self._notify()
        return value

    def _in_thread(self, work: Callable[[], T]) -> asyncio.Future[T]:
        if self._closed:
            raise DorkError(ErrorCode.SHUTTING_DOWN, "The database is closed.")
        return asyncio.get_running_loop().run_in_executor(self._threads, work)

    def _read(self, query: Query[T]) -> T:
        try:
            with self._read_engine.connect() as connection, connection.begin():
                return query(connection)
        except sa.exc.DBAPIError as fault:
            raise self._explained(fault) from fault

    def _write(self, change: Change[T]) -> tuple[T, bool]:
        for attempt in range(1, _ATTEMPTS_MAX + 1):
            try:
                return self._write_once(change)
            except sa.exc.DBAPIError as fault:
                if may_retry(fault) and attempt < _ATTEMPTS_MAX:
                    continue
                raise self._explained(fault) from fault
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _write_once(self, change: Change[T]) -> tuple[T, bool]:
        with self.engine.connect() as connection:
            transaction = connection.begin()
            tx = Transaction(connection, self._time_of(connection))
            try:
                value = change(tx)
                if tx.events:
                    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_EVENTS_LOCK)))
                tx.store_events()
            except BaseException:
                transaction.rollback()
                raise
            try:
                transaction.commit()
            except sa.exc.DBAPIError as fault:
                if connection_lost(fault):
                    raise DorkError(
                        ErrorCode.OUTCOME_UNKNOWN,
                        "The connection broke during COMMIT.",
                        hint="The change may or may not be stored. Read it back before you repeat it.",
                    ) from fault
                raise
            return value, bool(tx.events)

    def _time_of(self, connection: sa.Connection) -> Callable[[], datetime]:
        if self._clock is not None:
            return self._clock.now
        known: list[datetime] = []

        def now() -> datetime:
            # clock_timestamp, not now(): the latter is the start of the transaction, which may have
            # waited for a lock longer than a lease lasts.
            if not known:
                known.append(
                    to_milliseconds(connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one())
                )
            return known[0]

        return now
