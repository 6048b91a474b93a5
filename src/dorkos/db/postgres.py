"""`Database` on PostgreSQL: readers of their own, and one writer thread that commits in groups.

Changes are applied one after the other, by one server at a time, as on SQLite: whoever writes takes a lock
before anything else. So positions of events become visible in order, two servers never wait for each other
in a circle, and one commit serves all changes that wait (docs/decisions/0033-one-writer-on-postgresql.md).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, TypeVar

import sqlalchemy as sa

from dorkos.clock import Clock, to_milliseconds
from dorkos.db.batch import (
    Apply,
    Job,
    NotBegunError,
    NotTogetherError,
    Outcome,
    cause_of,
    commit_all,
    return_to_savepoint,
)
from dorkos.db.database import Change, Database, Query
from dorkos.db.engine import postgres_engine, postgres_url
from dorkos.db.faults import connection_lost, is_locked, may_retry
from dorkos.db.writer import Writer
from dorkos.errors import DorkError, ErrorCode

T = TypeVar("T")

_READERS = 7
_ATTEMPTS_MAX = 10
# Held by whoever writes. A reader that has seen the event at position 8 must never find 7 later, so changes
# become visible in the order in which they take positions. The number is arbitrary and ours.
_WRITER = 0x444F524B_0001
# A server that is stopped in the middle of a transaction must not keep the others from writing for ever.
_IDLE_MS = 30_000
# How long a row is waited for that another program has locked; whoever writes next waits as long.
_ROW_MS = 5_000
# The same for the changes of a commit after one that has waited in vain. They may all need that row, and the
# writers of all servers wait for the end of this commit.
_ROW_AGAIN_MS = 50
_TAKE_TURN = sa.text(
    f"SELECT set_config('idle_in_transaction_session_timeout', '{_IDLE_MS}', true), "
    f"pg_advisory_xact_lock({_WRITER})"
)
# clock_timestamp, not now(): the latter is the start of the transaction, which may have waited for its turn
# longer than a lease lasts.
_LOOK_AT_CLOCK = sa.text(f"SELECT clock_timestamp(), set_config('lock_timeout', '{_ROW_MS}', true)")


class PostgresDatabase(Database):
    """See the module. Times come from the database's clock unless a `clock` is given, as tests do."""

    dialect = "postgresql"

    def __init__(self, url: str, *, clock: Clock | None = None) -> None:
        """Bind to a database that `dorkos.db.migrate` has brought up to date."""
        super().__init__()
        self.url = postgres_url(url)
        self._clock = clock
        self.engine = postgres_engine(url, pool_size=_READERS + 1)
        self._read_engine = self.engine.execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True
        )
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="dorkos-read")
        self._writer = Writer(self._apply, self._notify)
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
        self._writer.start()

    async def close(self) -> None:
        """Finish the accepted work and disconnect."""
        self._closed = True
        await self._writer.stop()
        await asyncio.to_thread(self._readers.shutdown)
        self.engine.dispose()

    async def read(self, query: Query[T]) -> T:
        """Run `query` in a read-only REPEATABLE READ transaction."""
        if self._closed:
            raise DorkError(ErrorCode.SHUTTING_DOWN, "The database is closed.")
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, query)

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
        for attempt in range(1, _ATTEMPTS_MAX + 1):
            try:
                return self._commit_once(batch, apply)
            except NotBegunError as fault:
                # A connection that broke while it rested is no reason to refuse anything.
                if attempt > 1 or not connection_lost(cause_of(fault)):
                    raise
            except (sa.exc.DBAPIError, NotTogetherError) as fault:
                if attempt == _ATTEMPTS_MAX or not may_retry(cause_of(fault)):
                    raise
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _commit_once(self, batch: Sequence[Job], apply: Apply) -> list[Outcome]:
        with self._turn() as (connection, now):
            transaction = connection.get_transaction()
            assert transaction is not None
            outcomes = apply(connection, batch, now, _take_back)
            try:
                transaction.commit()
            except sa.exc.DBAPIError as fault:
                if not connection_lost(fault):
                    raise
                return [Outcome(fault=_unknown(fault)) for _ in batch]
            return outcomes

    @contextmanager
    def _turn(self) -> Iterator[tuple[sa.Connection, Callable[[], datetime]]]:
        """A transaction that nobody else writes beside, and its time. Rolled back unless it is committed."""
        try:
            connection = self.engine.connect()
        except sa.exc.DBAPIError as fault:
            raise NotBegunError from fault
        with connection:
            try:
                connection.begin()
                connection.execute(_TAKE_TURN)
                began: datetime = connection.execute(_LOOK_AT_CLOCK).scalar_one()
            except sa.exc.DBAPIError as fault:
                raise NotBegunError from fault
            yield connection, self._clock.now if self._clock else _running_on(began)


def _running_on(began: datetime) -> Callable[[], datetime]:
    """The database's clock, from what it showed just now: asking it again would be a round trip each time."""
    asked = time.monotonic()
    return lambda: to_milliseconds(began + timedelta(seconds=time.monotonic() - asked))


def _take_back(raw: Any, fault: Exception) -> bool:
    if raw.closed or may_retry(fault):
        return False
    return_to_savepoint(raw)
    if is_locked(fault):
        raw.execute(f"SET LOCAL lock_timeout = {_ROW_AGAIN_MS}")
    return True


def _unknown(fault: Exception) -> DorkError:
    unknown = DorkError(
        ErrorCode.OUTCOME_UNKNOWN,
        "The connection broke during COMMIT.",
        hint="The change may or may not be stored. Read it back before you repeat it.",
    )
    unknown.__cause__ = fault
    return unknown
