"""A disk that fills, a file that somebody locks, a page that rots: while serving, none loses anything."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from dorkos import serving
from dorkos.app import System, build
from dorkos.clock import ManualClock, SystemClock
from dorkos.db import engine, sqlite
from dorkos.db.database import Transaction
from dorkos.db.engine import sqlite_driver
from dorkos.db.faults import explain
from dorkos.db.schema.system import system_state
from dorkos.db.sqlite import SqliteDatabase
from dorkos.db.verify import verify_sqlite
from dorkos.errors import DorkError, ErrorCode
from dorkos.home import Home
from dorkos.settings import Settings, given
from dorkos.testing import create_sqlite_file, create_test_db

PAGE = 4096


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[SqliteDatabase]:
    """An open database."""
    create_sqlite_file(tmp_path / "dork.db")
    database = SqliteDatabase(tmp_path / "dork.db", clock=ManualClock())
    await database.open()
    yield database
    await database.close()


def put(key: str, value: str = "x") -> Callable[[Transaction], str]:
    """A change that stores one row."""

    def change(tx: Transaction) -> str:
        tx.execute(system_state.insert(), {"key": key, "value": value})
        return key

    return change


async def keys(database: SqliteDatabase) -> set[str]:
    """What was stored by `put`."""
    query = sa.select(system_state.c.key).where(system_state.c.key.startswith("k"))
    return set(await database.read(lambda connection: connection.execute(query).scalars().all()))


async def limit(database: SqliteDatabase, spare: int) -> None:
    """Leave so many pages of room on the disk, as far as the writer can tell."""

    def change(tx: Transaction) -> None:
        pages = tx.execute(sa.text("PRAGMA page_count")).scalar_one()
        tx.execute(sa.text(f"PRAGMA max_page_count = {pages + spare}"))

    await database.write(change)


async def code_of(database: SqliteDatabase, change: Callable[[Transaction], object]) -> ErrorCode:
    """How the change was refused."""
    with pytest.raises(DorkError) as refusal:
        await database.write(change)
    assert refusal.value.hint
    return refusal.value.code


async def test_a_full_disk_refuses_writes_serves_reads_and_recovers(database: SqliteDatabase) -> None:
    """What was acknowledged stays readable; with room again the next change is taken, with no restart."""
    await database.write(put("k-before"))
    await limit(database, spare=0)
    for number in range(3):
        assert await code_of(database, put(f"k{number}", "x" * 3 * PAGE)) is ErrorCode.DISK_FULL
        assert await keys(database) == {"k-before"}
    # What needs no more room is still taken.
    await database.write(lambda tx: tx.execute(system_state.update().values(value="y")))
    await limit(database, spare=100)
    await database.write(put("k-after", "x" * 3 * PAGE))

    assert await keys(database) == {"k-before", "k-after"}
    assert database.damage is None
    assert verify_sqlite(database.path) == []


async def test_a_locked_file_is_told_after_the_wait_and_recovers(
    database: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another program holds the file: reads go on, the change is refused as busy, then taken again."""
    monkeypatch.setattr(sqlite, "_STEPS", 1)
    with closing(sqlite_driver().connect(str(database.path), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert await code_of(database, put("k1")) is ErrorCode.DATABASE_BUSY
        assert await keys(database) == set()
        other.execute("ROLLBACK")
    assert await database.write(put("k1")) == "k1"


def test_what_the_migrations_library_tells_is_not_for_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """A first start on PostgreSQL says which migrations it applies, in words of ours."""
    chatty = [logging.getLogger(name) for name in ("alembic", "asyncio", "filelock", "httpx", "mcp")]
    for logger in (*chatty, logging.getLogger("uvicorn.access")):
        monkeypatch.setattr(logger, "level", logger.level)
    serving._log_to_stderr("info")
    assert {logger.level for logger in chatty} == {logging.WARNING}


async def test_a_lock_of_another_program_does_not_hold_up_a_stop(
    database: SqliteDatabase, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What waits is refused soon, what comes after at its first try, and closing tells it in a line each."""
    # So many steps that no test would outlast them.
    monkeypatch.setattr(sqlite, "_STEPS", 1_000_000)
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()

    def watch(tx: Transaction) -> None:
        assert database._connection is not None
        raw = database._connection.connection.dbapi_connection
        assert raw is not None
        raw.set_trace_callback(
            lambda text: loop.call_soon_threadsafe(begun.set) if text.startswith("BEGIN") else None
        )

    await database.write(watch)
    with closing(sqlite_driver().connect(str(database.path), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        waiting = asyncio.ensure_future(code_of(database, put("k1")))
        await asyncio.wait_for(begun.wait(), timeout=30)
        database.begin_to_stop()
        assert await asyncio.wait_for(waiting, timeout=30) is ErrorCode.DATABASE_BUSY
        assert await asyncio.wait_for(code_of(database, put("k2")), 30) is ErrorCode.DATABASE_BUSY
        await database.close()
        other.execute("ROLLBACK")
    assert "database is locked" in caplog.text
    assert "Traceback" not in caplog.text


def _settings(directory: Path) -> Settings:
    """A port of its own, and a boundary that is there even where the user has no home directory."""
    return Settings.model_validate({"server": {"port": 0, "boundary": str(directory.parent)}})


async def test_a_stopping_system_says_so_before_it_stores_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else each change at its end would wait its full time behind another program's lock."""
    home = Home(tmp_path)
    create_sqlite_file(home.database_path)
    database = SqliteDatabase(home.database_path, clock=SystemClock())
    await database.open()
    system = build(home, given(_settings(tmp_path)), database, SystemClock())
    await system.start()
    monkeypatch.setattr(sqlite, "_STEPS", 1_000_000)
    with closing(sqlite_driver().connect(str(database.path), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        stopping = asyncio.ensure_future(system.stop())
        done, _ = await asyncio.wait({stopping}, timeout=30)
        other.execute("ROLLBACK")
    await stopping
    await database.close()
    assert done


async def test_changes_that_wait_together_wait_for_a_lock_once(
    database: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch that could not begin is answered as a whole: each alone would take 256 times as long."""
    monkeypatch.setattr(sqlite, "_STEPS", 1)
    begun: list[str] = []

    def watch(tx: Transaction) -> None:
        assert database._connection is not None
        raw = database._connection.connection.dbapi_connection
        assert raw is not None
        raw.set_trace_callback(lambda text: begun.append(text) if text.startswith("BEGIN") else None)

    await database.write(watch)
    with closing(sqlite_driver().connect(str(database.path), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        answers = await asyncio.gather(
            *(database.write(put(f"k{number}")) for number in range(200)), return_exceptions=True
        )
        other.execute("ROLLBACK")

    assert {answer.code for answer in answers if isinstance(answer, DorkError)} == {ErrorCode.DATABASE_BUSY}
    assert len(answers) == sum(isinstance(answer, DorkError) for answer in answers)
    # One batch for the first that came, one for all that waited meanwhile, perhaps one between.
    assert 1 <= len(begun) <= 5
    assert await keys(database) == set()
    assert await database.write(put("k1")) == "k1"


def _rot(path: Path, table: str) -> None:
    """Overwrite every page but the first that a table's rows lie on."""
    with closing(sqlite_driver().connect(f"file:{path}?mode=ro", uri=True)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        (root,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)).fetchone()
    with path.open("r+b") as file:
        file.seek((root - 1) * PAGE)
        file.write(b"\xee" * PAGE)


async def rotten(path: Path) -> SqliteDatabase:
    """An open database in whose file the page at the top of `agents` was destroyed."""
    create_sqlite_file(path)
    _rot(path, "agents")
    database = SqliteDatabase(path, clock=SystemClock())
    await database.open()
    return database


async def test_a_page_that_cannot_be_read_is_told_and_remembered(tmp_path: Path) -> None:
    """Reading and writing it are refused as damage; the rest goes on; the file is left as it is."""
    database = await rotten(tmp_path / "dork.db")
    before = database.path.read_bytes()
    with pytest.raises(DorkError) as refusal:
        await database.read(lambda c: c.exec_driver_sql("SELECT * FROM agents").all())
    assert refusal.value.code is ErrorCode.DATABASE_CORRUPT
    assert "restore" in (refusal.value.hint or "")
    assert database.damage is not None
    assert await code_of(database, lambda tx: tx.execute(sa.text("DELETE FROM agents"))) is (
        ErrorCode.DATABASE_CORRUPT
    )
    assert database.path.read_bytes() == before
    assert await database.write(put("k1")) == "k1"
    assert await keys(database) == {"k1"}
    await database.close()


async def test_damage_makes_readiness_red_until_the_next_start(tmp_path: Path) -> None:
    """A running system says that its database is damaged, whichever part met the damage."""
    home = Home(tmp_path)
    create_sqlite_file(home.database_path)
    _rot(home.database_path, "agent_denials")
    database = SqliteDatabase(home.database_path, clock=SystemClock())
    await database.open()
    system = build(home, given(_settings(tmp_path)), database, SystemClock())
    await system.start()
    try:
        assert await _not_ready(system) == {}
        with pytest.raises(DorkError):
            await system.mesh.denials.list()
        wrong = await _not_ready(system)
        assert set(wrong) == {"database"}
        assert "damaged" in wrong["database"]
    finally:
        await system.stop()
        await database.close()


async def test_a_lost_log_makes_readiness_red(tmp_path: Path) -> None:
    """A running system says so by itself, also while nobody sends it anything."""
    home = Home(tmp_path)
    create_sqlite_file(home.database_path)
    database = SqliteDatabase(home.database_path, clock=SystemClock())
    await database.open()
    system = build(home, given(_settings(tmp_path)), database, SystemClock())
    await system.start()
    try:
        assert await _not_ready(system) == {}
        (tmp_path / "dork.db-wal").unlink()
        assert "dork.db-wal was moved" in (await _not_ready(system))["database"]
    finally:
        await system.stop()
        await database.close()


async def _not_ready(system: System) -> dict[str, str]:
    found = {}
    for readiness in system.readiness:
        try:
            await readiness.check()
        except DorkError as refusal:
            found[readiness.name] = refusal.message
    return found


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("database or disk is full", ErrorCode.DISK_FULL),
        ("attempt to write a readonly database", ErrorCode.DATABASE_READONLY),
        ("database is locked", ErrorCode.DATABASE_BUSY),
        ("locking protocol", ErrorCode.DATABASE_BUSY),
        ("database disk image is malformed", ErrorCode.DATABASE_CORRUPT),
        ("file is not a database", ErrorCode.DATABASE_CORRUPT),
        ("disk I/O error", ErrorCode.DATABASE_UNREACHABLE),
        ("unable to open database file", ErrorCode.DATABASE_UNREACHABLE),
    ],
)
def test_what_sqlite_reports_has_one_meaning(text: str, code: ErrorCode) -> None:
    """The same for a statement through SQLAlchemy and one on the driver; unreadable is never damaged."""
    raw = sqlite_driver().OperationalError(text)
    for fault in (raw, sa.exc.OperationalError("SELECT 1", {}, raw)):
        explained = explain(fault)
        assert isinstance(explained, DorkError)
        assert explained.code is code
        assert explained.hint


@pytest.mark.parametrize(
    ("state", "code"),
    [
        ("53100", ErrorCode.DISK_FULL),
        ("XX001", ErrorCode.DATABASE_CORRUPT),
        ("XX002", ErrorCode.DATABASE_CORRUPT),
        ("53300", ErrorCode.DATABASE_BUSY),
        ("57014", ErrorCode.DATABASE_BUSY),
        ("55P03", ErrorCode.DATABASE_BUSY),
        ("25006", ErrorCode.DATABASE_READONLY),
    ],
)
async def test_what_postgres_reports_has_the_same_meanings(state: str, code: ErrorCode) -> None:
    """Raised by the server itself, while a change runs."""
    raising = f"DO $$ BEGIN RAISE EXCEPTION 'on purpose' USING ERRCODE = '{state}'; END $$"
    async with create_test_db("postgresql") as db:
        with pytest.raises(DorkError) as refusal:
            await db.write(lambda tx: tx.execute(sa.text(raising)))
        assert refusal.value.code is code
        assert refusal.value.hint
        assert (db.damage is not None) == (code is ErrorCode.DATABASE_CORRUPT)


def test_a_fault_of_ours_is_not_dressed_up() -> None:
    """A statement that is wrong stays what it is, for the log."""
    raw = sqlite_driver().OperationalError("no such table: nothing")
    for fault in (raw, sa.exc.OperationalError("SELECT 1", {}, raw), LookupError("x")):
        assert explain(fault) is fault


def test_the_wait_for_a_lock_is_bounded() -> None:
    """Five seconds: shorter than a person's patience, longer than any commit of ours."""
    assert engine.BUSY_TIMEOUT_MS == 5000
