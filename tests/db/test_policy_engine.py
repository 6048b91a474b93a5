"""How a SQLite file is opened: which library, which pragmas, and that none of them is taken on faith."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import sqlalchemy as sa

from dorkos.db import engine
from dorkos.db.engine import SQLITE_FLOOR, SQLITE_LEAST, Role, choose_driver, sqlite_driver, sqlite_engine
from dorkos.errors import DorkError, ErrorCode
from dorkos.testing import create_sqlite_file

_EVERY = {"foreign_keys": 1, "trusted_schema": 0, "busy_timeout": 5000, "journal_mode": "wal"}
_PRAGMAS = {
    Role.WRITER: {**_EVERY, "synchronous": 2, "fullfsync": 1, "journal_size_limit": 64 * 2**20},
    Role.READER: {**_EVERY, "query_only": 1, "wal_autocheckpoint": 0},
}


def _ask(opened: sa.Engine, pragma: str) -> object:
    with opened.connect() as connection:
        return connection.exec_driver_sql(f"PRAGMA {pragma}").scalar_one()


@pytest.mark.parametrize("role", Role)
def test_each_pragma_is_what_it_should_be(tmp_path: Path, role: Role) -> None:
    """Full syncs, a log of bounded size, relations checked, functions of the schema not trusted."""
    path = tmp_path / "dork.db"
    create_sqlite_file(path)
    writer = sqlite_engine(path, Role.WRITER)
    writer.connect().close()
    opened = sqlite_engine(path, role)
    assert {pragma: _ask(opened, pragma) for pragma in _PRAGMAS[role]} == _PRAGMAS[role]
    opened.dispose()
    writer.dispose()


class _DeafCursor:
    """A cursor of a SQLite that takes one setting without a word and keeps its own."""

    def __init__(self, real: Any, setting: str) -> None:
        self._real, self._setting = real, setting

    def execute(self, sql: str) -> Any:
        return self._real.execute("SELECT 1" if sql.startswith(f"PRAGMA {self._setting} =") else sql)

    def close(self) -> None:
        self._real.close()


@pytest.mark.parametrize(
    ("role", "pragma"),
    [(role, pragma) for role in Role for pragma in _PRAGMAS[role] if pragma != "journal_mode"],
)
def test_a_pragma_that_was_not_taken_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, role: Role, pragma: str
) -> None:
    """SQLite answers nothing to a setting that it ignores: whoever does not ask again does not know."""
    path = tmp_path / "dork.db"
    create_sqlite_file(path)
    prepare = engine._prepare_sqlite

    class Deaf:
        def __init__(self, raw: Any) -> None:
            self._raw = raw

        def cursor(self) -> _DeafCursor:
            # What a connection has by itself differs from what we ask for, but for these.
            for same in ("busy_timeout = 1", "synchronous = NORMAL", "journal_size_limit = 1"):
                self._raw.execute(f"PRAGMA {same}")
            self._raw.execute("PRAGMA trusted_schema = ON")
            return _DeafCursor(self._raw.cursor(), pragma)

    monkeypatch.setattr(engine, "_prepare_sqlite", lambda raw, of: prepare(Deaf(raw), of))
    opened = sqlite_engine(path, role)
    with pytest.raises(DorkError) as refusal:
        opened.connect()
    assert refusal.value.code is ErrorCode.DATABASE_READONLY
    assert f"PRAGMA {pragma} =" in refusal.value.message
    opened.dispose()


def test_a_function_in_the_schema_is_not_run_for_whoever_reads(tmp_path: Path) -> None:
    """A file may come from anywhere; a view in it must not call what has side effects."""
    path = tmp_path / "dork.db"
    create_sqlite_file(path)
    opened = sqlite_engine(path, Role.WRITER)
    with opened.connect() as connection:
        raw = connection.connection.dbapi_connection
        assert raw is not None
        raw.create_function("launch", 0, lambda: 1)
        connection.exec_driver_sql("CREATE VIEW trap AS SELECT launch()")
        with pytest.raises(sa.exc.OperationalError, match="unsafe use of launch"):
            connection.exec_driver_sql("SELECT * FROM trap")
    opened.dispose()


def _module(name: str, version: tuple[int, ...]) -> ModuleType:
    module = ModuleType(name)
    module.sqlite_version_info = version  # type: ignore[attr-defined]  # As a driver has it.
    module.sqlite_version = ".".join(map(str, version))  # type: ignore[attr-defined]  # As above.
    return module


_NEW, _OLD, _OLDER, _ANCIENT = SQLITE_FLOOR, (3, 46, 0), SQLITE_LEAST, (3, 36, 9)


@pytest.mark.parametrize(
    ("first", "second", "chosen"),
    [
        (_NEW, _NEW, "first"),
        (_NEW, _OLD, "first"),
        (_OLD, _NEW, "second"),
        (_OLD, _OLDER, "first"),
        (_OLDER, _OLD, "second"),
        (None, _OLD, "second"),
        (None, _NEW, "second"),
        (_OLD, None, "first"),
        (_ANCIENT, _OLDER, "second"),
        (None, _ANCIENT, None),
        (None, None, None),
    ],
)
def test_the_library_past_the_fault_is_preferred(
    monkeypatch: pytest.MonkeyPatch,
    first: tuple[int, ...] | None,
    second: tuple[int, ...] | None,
    chosen: str | None,
) -> None:
    """The wheel before the standard module, unless only that one is mended; too old is refused."""
    for name, version in (("first", first), ("second", second)):
        module = (
            None if version is None else _module(name, version)
        )  # None in sys.modules: cannot be imported.
        monkeypatch.setitem(sys.modules, name, module)
    if chosen is not None:
        assert choose_driver(("first", "second")).__name__ == chosen
        return
    with pytest.raises(DorkError) as refusal:
        choose_driver(("first", "second"))
    assert refusal.value.code is ErrorCode.DRIVER_MISSING


def test_the_driver_stays_the_same() -> None:
    """Two SQLite libraries in one process would undo each other's locks."""
    assert sqlite_driver() is sqlite_driver()


_STANDARD = """
import asyncio, logging, sys
sys.modules["pysqlite3"] = None
from pathlib import Path
from dorkos.clock import SystemClock
from dorkos.db.backup import back_up_sqlite
from dorkos.db.engine import sqlite_driver
from dorkos.db.migrate import migrate_sqlite
from dorkos.db.schema.system import system_state
from dorkos.db.sqlite import SqliteDatabase
from dorkos.db.verify import verify_sqlite
logging.basicConfig(stream=sys.stdout, format="%(message)s")
folder = Path(sys.argv[1])
path, clock = folder / "dork.db", SystemClock()
assert migrate_sqlite(path, backups=folder / "b", clock=clock).applied
assert not migrate_sqlite(path, backups=folder / "b", clock=clock).applied
async def work():
    database = SqliteDatabase(path, clock=clock)
    await database.open()
    def put(key):
        return lambda tx: tx.execute(system_state.insert(), {"key": key, "value": "x"}) and key
    await asyncio.gather(*(database.write(put(f"k{n}")) for n in range(300)))
    found = await database.read(lambda c: c.execute(system_state.select()).all())
    assert sum(row.key.startswith("k") for row in found) == 300
    await database.close()
asyncio.run(work())
back_up_sqlite(path, backups=folder / "b", to=None, now=clock.now())
assert verify_sqlite(path) == []
print(sqlite_driver().__name__)
"""


def test_the_standard_module_serves_where_there_is_no_wheel(tmp_path: Path) -> None:
    """Migrate, write, read, back up and verify; below the floor the log says so, and all goes well."""
    done = subprocess.run(
        [sys.executable, "-c", _STANDARD, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "sqlite3.dbapi2"


def test_a_reader_makes_no_file(tmp_path: Path) -> None:
    """What does not exist stays so; only a writer makes a database."""
    opened = sqlite_engine(tmp_path / "none.db", Role.READER)
    with pytest.raises(sa.exc.OperationalError):
        opened.connect()
    assert list(tmp_path.iterdir()) == []
    opened.dispose()
