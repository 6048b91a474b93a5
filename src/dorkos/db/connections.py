"""The connections of a migrator: they wait for another one, and explain what goes wrong."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from dorkos.db.engine import Role, postgres_engine, sqlite_driver, sqlite_engine
from dorkos.db.faults import connection_lost, explain
from dorkos.db.probe import connect_to_ours
from dorkos.errors import DorkError, ErrorCode

WAIT_MS = 60_000


@contextmanager
def migrating_sqlite(path: Path) -> Iterator[sa.Connection]:
    """A writing connection that waits a minute for another migrator and reads any bytes as text."""
    engine = sqlite_engine(path, Role.WRITER)
    try:
        with _connect_patiently(engine) as connection:
            raw = connection.connection.dbapi_connection
            assert raw is not None
            # Another process may be migrating the same file right now: wait for it, then find it done.
            raw.execute(f"PRAGMA busy_timeout = {WAIT_MS}")
            # The lineage cut texts in the middle of a character; such bytes must be readable to be mended.
            raw.text_factory = _lenient_text
            yield connection
    except sa.exc.DBAPIError as fault:
        if "unable to open" in str(fault.orig):
            raise DorkError(
                ErrorCode.HOME_UNWRITABLE,
                f"{path} cannot be made or opened.",
                hint="Check that its folder exists and that you may write there.",
            ) from fault
        raise explain(fault) from fault
    finally:
        engine.dispose()


def _connect_patiently(engine: sa.Engine) -> sa.Connection:
    """Connect; on a file being born SQLite refuses at once to wait for the other's switch to WAL."""
    deadline = time.monotonic() + WAIT_MS / 1000
    while True:
        try:
            return engine.connect()
        except sa.exc.OperationalError as fault:
            if "locked" not in str(fault.orig) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _lenient_text(stored: bytes) -> str:
    return stored.decode("utf-8", "surrogateescape")


@contextmanager
def migrating_postgres(url: str) -> Iterator[sa.Connection]:
    """A connection of its own, closed at the end of the block, and with it any lock it holds.

    No statement is cut short for taking long; a lock is waited for a minute, then it is `database_busy`.
    Raises `database_unreachable`, `invalid_setting` for a URL that cannot be used, and what
    `dorkos.db.faults` makes of the rest.
    """
    try:
        engine = postgres_engine(url, pool_size=1)
    except (sa.exc.ArgumentError, ValueError) as fault:
        # The URL itself is not shown: it may hold a password.
        raise DorkError(
            ErrorCode.INVALID_SETTING,
            "database.url is not a URL that can be read.",
            hint="Use postgresql://user@host/name; special characters of a password are written as %XX.",
        ) from fault
    try:
        with engine.connect() as connection:
            _wait_for_locks_alone(connection)
            yield connection
    except sa.exc.DBAPIError as fault:
        state = getattr(fault.orig, "sqlstate", None)
        if state == "55P03":
            raise DorkError(
                ErrorCode.DATABASE_BUSY,
                "Another server has been migrating this database, or using a table of it, for a minute.",
                hint="Stop the servers of the older version, then start again.",
            ) from fault
        if state is None and isinstance(fault, sa.exc.ProgrammingError):
            raise DorkError(
                ErrorCode.INVALID_SETTING,
                f"database.url is not taken by PostgreSQL's driver: {str(fault.orig).strip()}.",
                hint="After the `?` may stand what libpq knows, such as sslmode=require.",
            ) from fault
        explained = explain(fault)
        if isinstance(explained, DorkError) and not connection_lost(fault):
            raise explained from fault
        if not isinstance(fault, sa.exc.OperationalError | sa.exc.InterfaceError):
            raise
        raise DorkError(
            ErrorCode.DATABASE_UNREACHABLE,
            f"PostgreSQL does not answer: {str(fault.orig).strip()}",
            hint="Check `database.url` and that the server is running.",
        ) from fault
    finally:
        engine.dispose()


def _wait_for_locks_alone(connection: sa.Connection) -> None:
    """A migration may take its time; only what waits for somebody else is given up after a minute."""
    with connection.begin():
        connection.exec_driver_sql("SET statement_timeout = 0")
        connection.exec_driver_sql(f"SET lock_timeout = {WAIT_MS}")


@contextmanager
def reading_sqlite(path: Path) -> Iterator[sa.Connection]:
    """A connection that cannot write, to a database of ours, whether or not a server has it open."""
    engine = sa.create_engine(
        "sqlite://", module=sqlite_driver(), creator=lambda: connect_to_ours(path), poolclass=NullPool
    )
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()
