"""Opening connections: the one place that names drivers, sets pragmas and reads them back.

SQLite 3.7.0 to 3.51.2 can lose committed WAL transactions when two connections write or checkpoint at
once (fixed in 3.51.3). `Database` avoids it by construction, with one connection that writes and
checkpoints; the `pysqlite3` wheel brings a newer SQLite besides. Where there is no wheel, or Python's own
SQLite is the one past that fault, the standard module serves, behind the same rules.
"""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Sequence
from enum import StrEnum
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.pool import NullPool, QueuePool

from dorkos.db.filesystem import refuse_network_filesystem
from dorkos.errors import DorkError, ErrorCode

# "DORK" in ASCII: tells our files from any other SQLite file.
APPLICATION_ID = 0x444F524B
SQLITE_FLOOR = (3, 51, 3)
# The first that knows STRICT tables: below it not even the schema can be made.
SQLITE_LEAST = (3, 37, 0)
BUSY_TIMEOUT_MS = 5000
_JOURNAL_LIMIT_BYTES = 64 * 1024 * 1024


class Role(StrEnum):
    """What a SQLite connection is for."""

    WRITER = "writer"
    READER = "reader"


@cache
def sqlite_driver() -> ModuleType:
    """The SQLite driver, the same one for the life of the process. See `choose_driver`.

    Two SQLite libraries in one process would undo each other's locks on a file that both have open.
    """
    return choose_driver(("pysqlite3.dbapi2", "sqlite3.dbapi2"))


def choose_driver(names: Sequence[str]) -> ModuleType:
    """The first of the modules whose SQLite is past the fault, else the one with the newest SQLite.

    A module that is not there, or was built for another Python, is passed over. Raises `driver_missing`
    when none is left that is new enough to be used at all.
    """
    found: list[ModuleType] = []
    for name in names:
        try:
            driver = importlib.import_module(name)
        except ImportError:
            continue
        if driver.sqlite_version_info >= SQLITE_FLOOR:
            return driver
        found.append(driver)
    newest = max(found, key=lambda driver: tuple(driver.sqlite_version_info), default=None)
    if newest is not None and newest.sqlite_version_info >= SQLITE_LEAST:
        return newest
    raise DorkError(
        ErrorCode.DRIVER_MISSING,
        "This Python has no SQLite at all."
        if newest is None
        else f"SQLite {newest.sqlite_version} is too old: {version_text(SQLITE_LEAST)} is the least.",
        hint="Use a Python that was built with a newer SQLite, or install the package pysqlite3.",
    )


def sqlite_version() -> tuple[int, ...]:
    """The version of the SQLite library in use, such as (3, 51, 3)."""
    version: tuple[int, ...] = sqlite_driver().sqlite_version_info
    return version


def version_text(version: Sequence[int]) -> str:
    """`3.51.3` for (3, 51, 3)."""
    return ".".join(map(str, version))


def sqlite_engine(path: Path, role: Role) -> sa.Engine:
    """An engine over one SQLite file, which must exist unless `role` is WRITER.

    Raises `network_filesystem` to a writer. Connecting sets every pragma and reads it back, and raises
    `database_readonly` where SQLite did not take one.

    Transactions are begun by hand with BEGIN (reader) or BEGIN IMMEDIATE (writer): the driver's own
    rules would begin them late and commit behind our back before DDL.
    """
    if role is Role.WRITER:
        refuse_network_filesystem(path)
    driver = sqlite_driver()
    mode = "rwc" if role is Role.WRITER else "rw"
    uri = sqlite_uri(path, mode)

    def connect() -> object:
        # The transaction is ours to begin, hence no isolation level; threads are kept apart by the pool.
        return driver.connect(
            uri, uri=True, isolation_level=None, check_same_thread=False, timeout=BUSY_TIMEOUT_MS / 1000
        )

    engine = sa.create_engine(
        "sqlite://",
        module=driver,
        creator=connect,
        poolclass=NullPool if role is Role.WRITER else QueuePool,
        **({} if role is Role.WRITER else {"pool_size": 4, "max_overflow": 0}),
    )
    event.listen(engine, "connect", lambda raw, _record: _prepare_sqlite(raw, role))
    begin = "BEGIN IMMEDIATE" if role is Role.WRITER else "BEGIN"

    def on_begin(connection: sa.Connection) -> None:
        # On the driver: by way of SQLAlchemy it costs as much as a whole small query.
        raw: Any = connection.connection.dbapi_connection
        try:
            raw.execute(begin)
        except driver.Error as fault:
            raise sa.exc.DBAPIError.instance(begin, None, fault, driver.Error) from fault

    event.listen(engine, "begin", on_begin)
    return engine


def sqlite_uri(path: Path, mode: str) -> str:
    """The file as SQLite's URI. `mode` is `ro`, `rw` or `rwc`.

    A path may hold `?`, `#` or `%`, which mean something there, and bytes that are no text at all.
    """
    return f"file:{quote(os.fsencode(path))}?mode={mode}"


def postgres_engine(url: str, *, pool_size: int = 8) -> sa.Engine:
    """An engine over a PostgreSQL URL. Raises `driver_missing` when psycopg is not installed."""
    try:
        importlib.import_module("psycopg")
    except ImportError as fault:
        raise DorkError(
            ErrorCode.DRIVER_MISSING,
            "PostgreSQL needs the psycopg driver, which is not installed.",
            hint="Install it with: pip install 'dorkos[postgres]'",
        ) from fault
    parsed = postgres_url(url)
    engine = sa.create_engine(
        parsed,
        poolclass=QueuePool,
        pool_size=pool_size,
        max_overflow=0,
        isolation_level="READ COMMITTED",
        connect_args={
            "connect_timeout": 10,
            "application_name": "dorkos",
            # A network that died silently is noticed, and no statement waits for ever.
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 20_000,
            # What the URL sets comes after, and counts: given here, it would replace ours or be replaced.
            "options": " ".join(["-c statement_timeout=60000", *parsed.normalized_query.get("options", ())]),
        },
    )
    event.listen(engine, "connect", lambda raw, _record: _prepare_postgres(raw))
    return engine


def postgres_url(url: str) -> URL:
    """The URL with our driver, whichever of the usual schemes it was given with.

    Raises `invalid_setting` for a host that holds an `@`: then part of the password was read as the host,
    and the driver's own message would show it.
    """
    parsed = make_url(url)
    if parsed.host is not None and "@" in parsed.host:
        raise DorkError(
            ErrorCode.INVALID_SETTING,
            "database.url cannot be read: it holds more than one `@` before its path.",
            hint="Write an `@` in the user or the password as %40.",
        )
    return parsed.set(drivername="postgresql+psycopg")


def is_postgres(url: str) -> bool:
    """Whether a `database.url` setting names PostgreSQL."""
    return url.split(":", 1)[0].split("+", 1)[0] in ("postgres", "postgresql")


def not_postgres(url: str) -> DorkError:
    """The refusal of a `database.url` that names something else. Repeats no more of it than its scheme."""
    # Without one it may be of the form `host=… password=…`, which would be shown as a whole.
    scheme = re.match(r"[A-Za-z][A-Za-z0-9+.-]*(?=://)", url)
    return DorkError(
        ErrorCode.INVALID_SETTING,
        f"database.url names no PostgreSQL: {scheme.group()}://…" if scheme else "database.url is no URL.",
        hint="Use postgresql://user@host/name, or leave it empty for SQLite in the data directory.",
    )


def _prepare_sqlite(raw: object, role: Role) -> None:
    cursor = raw.cursor()  # type: ignore[attr-defined]  # The driver's connection has no common type.
    cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    if role is Role.WRITER:
        cursor.execute("PRAGMA journal_mode = WAL")
        # A file that was in another mode, such as a backup that somebody put there, gets its log with the
        # first read. It has to be there before anybody remembers which files were opened.
        cursor.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA fullfsync = ON")  # macOS: fsync alone stops at the drive's cache.
        cursor.execute(f"PRAGMA journal_size_limit = {_JOURNAL_LIMIT_BYTES}")
    else:
        cursor.execute("PRAGMA query_only = ON")
        # Only the writer checkpoints; see the module.
        cursor.execute("PRAGMA wal_autocheckpoint = 0")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute("PRAGMA trusted_schema = OFF")
    for pragma, expected in _expected_pragmas(role).items():
        actual = cursor.execute(f"PRAGMA {pragma}").fetchone()[0]
        if actual != expected:
            raise DorkError(
                ErrorCode.DATABASE_READONLY,
                f"SQLite did not accept PRAGMA {pragma} = {expected} (it answers {actual}).",
                hint="A network file system or a read-only directory does this; use a local disk.",
            )
    cursor.close()


def _expected_pragmas(role: Role) -> dict[str, object]:
    expected: dict[str, object] = {"foreign_keys": 1, "trusted_schema": 0, "busy_timeout": BUSY_TIMEOUT_MS}
    if role is Role.WRITER:
        expected |= {"journal_mode": "wal", "synchronous": 2, "fullfsync": 1}
        expected |= {"journal_size_limit": _JOURNAL_LIMIT_BYTES}
    else:
        expected |= {"query_only": 1, "wal_autocheckpoint": 0}
    return expected


def _prepare_postgres(raw: object) -> None:
    """Times come back in UTC, and commits are synced, whatever the server's or the client's defaults are."""
    cursor = raw.cursor()  # type: ignore[attr-defined]  # The driver's connection has no common type.
    cursor.execute("SET TIME ZONE 'UTC'")
    # Acknowledged means on disk, whatever the server's default; stronger settings than `on` stay.
    cursor.execute(
        "SELECT set_config('synchronous_commit', 'on', false)"
        " WHERE current_setting('synchronous_commit') = 'off'"
    )
    cursor.close()
    raw.commit()  # type: ignore[attr-defined]  # As above.
