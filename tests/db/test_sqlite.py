"""The group-committing SQLite writer: what holds when a change, a batch or the disk fails."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from dorkos.clock import ManualClock, SystemClock
from dorkos.db import sqlite
from dorkos.db.database import Transaction
from dorkos.db.engine import Role, sqlite_driver, sqlite_engine
from dorkos.db.schema.system import system_state
from dorkos.db.sqlite import SqliteDatabase
from dorkos.errors import DorkError, ErrorCode
from dorkos.testing import create_sqlite_file


@pytest.fixture
async def database(tmp_path: Path) -> SqliteDatabase:
    """An open database on a path with a space and non-ASCII letters."""
    path = tmp_path / "dörk home" / "dork.db"
    path.parent.mkdir()
    create_sqlite_file(path)
    database = SqliteDatabase(path, clock=ManualClock())
    await database.open()
    return database


def put(key: str, value: str = "x") -> Callable[[Transaction], str]:
    """A change that stores one row."""

    def change(tx: Transaction) -> str:
        tx.execute(system_state.insert(), {"key": key, "value": value})
        return key

    return change


async def keys(database: SqliteDatabase, prefix: str) -> set[str]:
    """The stored keys with a prefix."""
    return set(
        await database.read(
            lambda c: (
                c.execute(sa.select(system_state.c.key).where(system_state.c.key.startswith(prefix)))
                .scalars()
                .all()
            )
        )
    )


async def test_changes_that_wait_together_share_a_commit_and_all_are_stored(database: SqliteDatabase) -> None:
    """A thousand at once, more than one batch; each caller gets its own answer."""
    answers = await asyncio.gather(*[database.write(put(f"k{n}")) for n in range(1000)])

    assert [f"k{n}" for n in range(1000)] == answers
    assert len(await keys(database, "k")) == 1000
    await database.close()


async def test_a_change_that_raises_rolls_back_alone(database: SqliteDatabase) -> None:
    """Its neighbours in the same batch are stored, and only its caller hears of it."""

    def broken(tx: Transaction) -> None:
        tx.execute(system_state.insert(), {"key": "k-broken", "value": "x"})
        raise LookupError("on purpose")

    answers = await asyncio.gather(
        database.write(put("k1")), database.write(broken), database.write(put("k2")), return_exceptions=True
    )

    assert [answers[0], answers[2]] == ["k1", "k2"]
    assert isinstance(answers[1], LookupError)
    assert {"k1", "k2"} == await keys(database, "k")
    await database.close()


async def test_nobody_is_told_yes_when_the_disk_is_full(database: SqliteDatabase) -> None:
    """Whoever was answered is stored and whoever was refused is not, though the transaction broke between."""

    def fill_up(tx: Transaction) -> None:
        pages = tx.execute(sa.text("PRAGMA page_count")).scalar_one()
        tx.execute(sa.text(f"PRAGMA max_page_count = {pages + 4}"))

    await database.write(fill_up)

    answers = await asyncio.gather(
        *[database.write(put(f"k{n:02}", "x" * (3000 if n % 2 else 10))) for n in range(40)],
        return_exceptions=True,
    )

    stored = {answer for answer in answers if isinstance(answer, str)}
    refused = [answer for answer in answers if not isinstance(answer, str)]
    assert stored == await keys(database, "k")
    assert stored
    assert {ErrorCode.DISK_FULL} == {fault.code for fault in refused if isinstance(fault, DorkError)}
    assert len(refused) == sum(isinstance(fault, DorkError) for fault in refused)
    await database.close()


async def test_a_transaction_that_sqlite_ended_itself_loses_no_neighbour(database: SqliteDatabase) -> None:
    """After a forced ROLLBACK in the middle of a batch every other change is run again and stored."""
    release = threading.Event()

    def hold(tx: Transaction) -> None:
        release.wait(30)

    def end_transaction(tx: Transaction) -> None:
        # INSERT OR ROLLBACK is the one statement that ends the whole transaction on demand.
        tx.execute(sa.text("INSERT OR ROLLBACK INTO system_state (key, value) VALUES ('epoch', NULL)"))

    holding = asyncio.ensure_future(database.write(hold))
    waiting = [
        asyncio.ensure_future(database.write(put("k1"))),
        asyncio.ensure_future(database.write(end_transaction)),
        asyncio.ensure_future(database.write(put("k2"))),
    ]
    await asyncio.wait([holding, *waiting], timeout=0)
    release.set()
    answers = await asyncio.gather(holding, *waiting, return_exceptions=True)

    assert [answers[1], answers[3]] == ["k1", "k2"]
    assert isinstance(answers[2], sa.exc.IntegrityError)
    assert {"k1", "k2"} == await keys(database, "k")
    await database.close()


async def test_a_cancelled_caller_does_not_cancel_its_change(database: SqliteDatabase) -> None:
    """The change was accepted; whether somebody waits for the answer makes no difference."""
    release = threading.Event()
    holding = asyncio.ensure_future(database.write(lambda tx: release.wait(30)))
    waiting = asyncio.ensure_future(database.write(put("k1")))
    await asyncio.wait([waiting], timeout=0)
    waiting.cancel()
    release.set()
    await holding
    await database.write(put("k2"))

    assert {"k1", "k2"} == await keys(database, "k")
    await database.close()


async def test_closing_stores_what_was_accepted_and_leaves_no_wal(database: SqliteDatabase) -> None:
    """The file alone holds everything afterwards, and whoever writes or reads later is refused."""
    accepted = [asyncio.ensure_future(database.write(put(f"k{n}"))) for n in range(300)]
    await asyncio.wait(accepted, timeout=0)
    await database.close()
    await asyncio.gather(*accepted)
    await database.close()

    for late in (database.write(put("late")), keys(database, "k")):
        with pytest.raises(DorkError) as refusal:
            await late
        assert refusal.value.code == ErrorCode.SHUTTING_DOWN
    assert not database.path.with_name("dork.db-wal").exists()
    engine = sqlite_engine(database.path, Role.READER)
    with engine.connect() as connection:
        assert (
            connection.exec_driver_sql("SELECT count(*) FROM system_state WHERE key LIKE 'k%'").scalar()
            == 300
        )
    engine.dispose()


async def _gone(database: SqliteDatabase, key: str) -> DorkError:
    """Why the change is refused."""
    with pytest.raises(DorkError) as refusal:
        await database.write(put(key))
    return refusal.value


@pytest.mark.parametrize("how", ["removed", "replaced"])
async def test_nobody_is_told_yes_when_the_file_is_gone(database: SqliteDatabase, how: str) -> None:
    """SQLite goes on writing into a file without a name; its commits would end with the process.

    What was refused is not there when the file is put back, and all is refused until the next start.
    """
    moved = database.path.with_name("moved.db")
    await database.write(put("k1"))
    database.path.rename(moved)
    if how == "replaced":
        create_sqlite_file(database.path)

    refusal = await _gone(database, "k2")
    assert refusal.code is ErrorCode.DATABASE_UNREACHABLE
    database.path.unlink(missing_ok=True)
    moved.rename(database.path)
    assert (await _gone(database, "k3")).code is ErrorCode.DATABASE_UNREACHABLE
    assert await keys(database, "k") == {"k1"}
    await database.close()
    assert await _keys_after_a_start(database.path) == {"k1"}


async def test_a_link_that_leads_elsewhere_counts_as_replaced(tmp_path: Path) -> None:
    """The next start would open the other file, and miss what was written since."""
    create_sqlite_file(tmp_path / "one.db")
    create_sqlite_file(tmp_path / "two.db")
    link = tmp_path / "dork.db"
    link.symlink_to("one.db")
    database = SqliteDatabase(link, clock=ManualClock())
    await database.open()
    assert await database.write(put("k1")) == "k1"
    link.unlink()
    link.symlink_to("two.db")
    assert (await _gone(database, "k2")).code is ErrorCode.DATABASE_UNREACHABLE
    await database.close()


@pytest.mark.parametrize("linked", [False, True])
@pytest.mark.parametrize("how", ["removed", "replaced"])
async def test_nobody_is_told_yes_when_the_log_is_gone(tmp_path: Path, how: str, linked: bool) -> None:
    """Commits go on into a log without a name. What was acknowledged before is brought into the file."""
    path = tmp_path / "real.db"
    create_sqlite_file(path)
    if linked:
        (tmp_path / "dork.db").symlink_to(path)
    database = SqliteDatabase(tmp_path / "dork.db" if linked else path, clock=ManualClock())
    await database.open()
    await database.write(put("k1"))
    log = path.with_name("real.db-wal")
    log.rename(tmp_path / "lost")
    if how == "replaced":
        log.touch()

    for key in ("k2", "k3"):
        refusal = await _gone(database, key)
        assert refusal.code is ErrorCode.DATABASE_UNREACHABLE
        assert str(log) in refusal.message
    if how == "removed":
        # As a kill would leave it now: the file alone, without what only this process still sees.
        copy = tmp_path / "left.db"
        copy.write_bytes(path.read_bytes())
        assert await _keys_after_a_start(copy) == {"k1"}
    await database.close()


async def test_a_file_that_goes_during_the_commit_leaves_the_outcome_unknown(
    database: SqliteDatabase,
) -> None:
    """It was committed into a file that may be put back, so "nothing is stored" would be a lie."""
    moved = database.path.with_name("moved.db")
    await database.write(put("k1"))
    assert database._connection is not None
    raw = database._connection.connection.dbapi_connection
    assert raw is not None

    def move(text: str) -> None:
        if text == "COMMIT":
            database.path.rename(moved)

    raw.set_trace_callback(move)
    refusal = await _gone(database, "k2")
    raw.set_trace_callback(None)
    assert refusal.code is ErrorCode.OUTCOME_UNKNOWN
    assert refusal.hint
    assert (await _gone(database, "k3")).code is ErrorCode.DATABASE_UNREACHABLE
    await database.close()


async def _keys_after_a_start(path: Path) -> set[str]:
    """What the next process finds."""
    database = SqliteDatabase(path, clock=ManualClock())
    await database.open()
    found = await keys(database, "k")
    await database.close()
    return found


async def test_a_file_in_another_journal_mode_is_served(tmp_path: Path) -> None:
    """Such as a backup that somebody put in the place of the database by hand: its log is made at once."""
    create_sqlite_file(tmp_path / "dork.db")
    with closing(sqlite_driver().connect(str(tmp_path / "dork.db"), isolation_level=None)) as connection:
        assert connection.execute("PRAGMA journal_mode = DELETE").fetchone() == ("delete",)
    database = SqliteDatabase(tmp_path / "dork.db", clock=SystemClock())
    await database.open()
    try:
        await database.write(lambda tx: tx.execute(system_state.insert(), {"key": "k", "value": "v"}))
    finally:
        await database.close()


async def test_a_reader_cannot_write(database: SqliteDatabase) -> None:
    """Only the writer thread's connection may: it is what keeps the WAL fault away."""
    with pytest.raises(DorkError) as refusal:
        await database.read(lambda c: c.execute(system_state.insert(), {"key": "k", "value": "x"}))

    assert refusal.value.code == ErrorCode.DATABASE_READONLY
    await database.close()


async def test_an_sqlite_below_the_floor_is_told_at_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It works, since only one connection writes, but whoever runs it should know."""
    create_sqlite_file(tmp_path / "dork.db")
    for version in ((3, 51, 3), (3, 40, 1)):
        monkeypatch.setattr(sqlite, "sqlite_version", lambda version=version: version)
        database = SqliteDatabase(tmp_path / "dork.db", clock=ManualClock())
        await database.open()
        await database.close()

    assert [record.message.split()[1] for record in caplog.records] == ["3.40.1"]
