"""The backup that a running server makes by itself."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dorkos.db.backup import back_up_sqlite
from dorkos.db.backup_facts import BackupFacts, read_backup_facts
from dorkos.db.daily import DailyBackup
from dorkos.db.database import Transaction
from dorkos.db.retention import CopyKind, copies, copy_names
from dorkos.db.schema.system import events, system_state
from dorkos.db.schema.tables import metadata
from dorkos.db.sqlite import SqliteDatabase
from dorkos.db.verify import verify_sqlite
from dorkos.setting_groups.database import BackupSettings
from dorkos.testing import create_test_db
from tests.db.conftest import Bench
from tests.db.room import largest_file


@pytest.fixture
async def database(bench: Bench) -> AsyncIterator[SqliteDatabase]:
    """The bench's database as a server has it open."""
    bench.migrate(declared=metadata)
    database = SqliteDatabase(bench.path, clock=bench.clock)
    await database.open()
    yield database
    await database.close()


def daily(bench: Bench, database: SqliteDatabase, **settings: Any) -> DailyBackup:
    """The loop of a server that has been up for a while."""
    made = BackupSettings(**{"rehearse_days": 0, **settings})
    loop = DailyBackup(database, bench.path, bench.backups, clock=bench.clock, settings=made)
    loop._is_settled = True
    return loop


def names(bench: Bench) -> list[str]:
    """The daily copies, the newest first."""
    return [copy.path.name for copy in copies(bench.backups, CopyKind.DAILY)]


async def told(database: SqliteDatabase) -> list[str]:
    """The kinds of the events so far."""
    kinds = sa.select(events.c.kind).order_by(events.c.position)
    return await database.read(lambda connection: list(connection.execute(kinds).scalars()))


async def facts(database: SqliteDatabase) -> BackupFacts:
    """What is remembered."""
    return await database.read(read_backup_facts)


async def test_the_first_is_made_at_once_and_the_next_when_it_is_due(
    bench: Bench, database: SqliteDatabase
) -> None:
    """It is a sound database of its own; its event and what is remembered say the same."""
    loop = daily(bench, database)
    await loop.work()
    (name,) = names(bench)
    assert name.startswith("daily-20260301T090000Z-")
    assert verify_sqlite(bench.backups / name) == []
    made = (await facts(database)).made
    assert made is not None
    assert (made.ok, made.file, made.at) == (True, name, bench.clock.now())
    assert await told(database) == ["system.backup.made"]

    bench.clock.advance(timedelta(hours=23, minutes=59))
    await loop.work()
    assert names(bench) == [name]
    bench.clock.advance(timedelta(minutes=1))
    await loop.work()
    assert len(names(bench)) == 2


async def test_a_server_that_starts_goes_by_what_lies_there(bench: Bench, database: SqliteDatabase) -> None:
    """Not by its own uptime: one that is started each morning backs up all the same, and not each time."""
    await daily(bench, database).work()
    bench.clock.advance(timedelta(hours=5))
    await daily(bench, database).work()
    assert len(names(bench)) == 1
    bench.clock.advance(timedelta(hours=20))
    await daily(bench, database).work()
    assert len(names(bench)) == 2


async def test_it_waits_after_a_start(bench: Bench, database: SqliteDatabase) -> None:
    """What people wait for comes first; then it looks at once."""
    loop = daily(bench, database)
    loop._is_settled = False
    assert await loop.work() == 10.0
    assert not bench.backups.exists()
    assert await loop.work() is None
    assert len(names(bench)) == 1


@pytest.mark.parametrize("left", [0, 100_000])
async def test_a_decoy_is_no_reason_to_make_none(bench: Bench, database: SqliteDatabase, left: int) -> None:
    """It is not taken for a backup, nor deleted; the good ones are counted without it."""
    loop = daily(bench, database, keep=1)
    await loop.work()
    (good,) = names(bench)
    bench.clock.advance(timedelta(days=1))
    decoy = bench.backups / next(copy_names(CopyKind.DAILY, bench.clock.now(), "0004_decoy"))
    decoy.write_bytes((bench.backups / good).read_bytes())
    os.truncate(decoy, left)
    await loop.work()
    assert len(names(bench)) == 2
    assert decoy.name in names(bench)
    assert good not in names(bench)


async def test_one_from_a_wrong_clock_does_not_stop_it(bench: Bench, database: SqliteDatabase) -> None:
    """A clock that was ahead for an hour must not mean years without a backup, nor one every five minutes."""
    bench.clock.advance(timedelta(days=4000))
    await daily(bench, database, keep=1).work()
    bench.clock.advance(timedelta(days=-4000))
    loop = daily(bench, database, keep=1)
    for _ in range(3):
        await loop.work()
        bench.clock.advance(timedelta(minutes=5))
    assert [name[6:14] for name in names(bench)] == ["20370211", "20260301"]
    assert (await told(database)).count("system.backup.made") == 2


async def test_only_so_many_are_kept(bench: Bench, database: SqliteDatabase) -> None:
    """The oldest go, and no other kind is touched."""
    by_hand = back_up_sqlite(bench.path, backups=bench.backups, to=None, now=bench.clock.now()).path
    loop = daily(bench, database, keep=3)
    for _ in range(5):
        await loop.work()
        bench.clock.advance(timedelta(days=1))
    assert [name[:14] for name in names(bench)] == [f"daily-2026030{day}" for day in (5, 4, 3)]
    assert by_hand.exists()


async def test_a_full_disk_leaves_what_was_there(bench: Bench, database: SqliteDatabase) -> None:
    """No partial file; the failure is remembered, told once, tried again in an hour, and then forgotten."""
    loop = daily(bench, database, keep=1)
    await loop.work()
    before = names(bench)
    bench.clock.advance(timedelta(days=1))
    with largest_file(200_000):
        for _ in range(3):
            await loop.work()
            assert loop.failure is None
            bench.clock.advance(timedelta(hours=1))
        failed = (await facts(database)).failed
    assert failed is not None
    assert failed.problem
    assert [path.name for path in bench.backups.iterdir()] == before
    assert await told(database) == ["system.backup.made", "system.backup.failed"]

    await loop.work()
    assert (await facts(database)).failed is None
    assert names(bench) != before


async def test_between_failures_it_waits(bench: Bench, database: SqliteDatabase) -> None:
    """A full disk is not filled again each time it looks; a clock that was set back ends the wait."""
    bench.backups.write_text("a file where the folder should be", encoding="utf-8")
    loop = daily(bench, database)
    await loop.work()
    bench.backups.unlink()
    bench.clock.advance(timedelta(minutes=59))
    await loop.work()
    assert not bench.backups.exists()
    bench.clock.advance(timedelta(days=-2))
    await loop.work()
    assert len(names(bench)) == 1


async def test_writers_go_on_meanwhile(bench: Bench, database: SqliteDatabase) -> None:
    """What was answered before is in it, what is written in one change is in it together, or not at all."""

    def pair(tx: Transaction, number: int) -> None:
        for side in ("left", "right"):
            tx.execute(system_state.insert(), {"key": f"{side} {number:05}", "value": "x" * 500})

    for number in range(1000):
        await database.write(partial(pair, number=number))
    done = asyncio.Event()

    async def write_on() -> int:
        number = 1000
        while not done.is_set():
            await database.write(partial(pair, number=number))
            number += 1
        return number

    writing = asyncio.create_task(write_on())
    await daily(bench, database).work()
    done.set()
    assert await writing > 1001
    (name,) = names(bench)
    assert verify_sqlite(bench.backups / name) == []
    engine = sa.create_engine(f"sqlite:///{bench.backups / name}")
    with engine.connect() as connection:
        keys = list(
            connection.exec_driver_sql("SELECT key FROM system_state WHERE value LIKE 'xx%'").scalars()
        )
    engine.dispose()
    left, right = (sorted(key[-5:] for key in keys if key.startswith(side)) for side in ("left", "right"))
    assert left == right
    assert len(left) >= 1000


async def test_a_stop_does_not_wait_for_it(bench: Bench, database: SqliteDatabase) -> None:
    """The copy under way is given up, and nothing of it stays; nor is that a failure."""
    loop = daily(bench, database, rehearse_days=1)
    await loop.stop()
    await loop.work()
    assert list(bench.backups.iterdir()) == []
    assert await told(database) == []
    assert await facts(database) == BackupFacts(None, None, None)


async def test_the_newest_is_rehearsed_weekly(bench: Bench, database: SqliteDatabase) -> None:
    """The first at once: whether backups are of any use should not take a week to find out."""
    loop = daily(bench, database, rehearse_days=7, every_hours=48)
    await loop.work()
    first = (await facts(database)).rehearsed
    assert first is not None
    assert (first.ok, first.file) == (True, names(bench)[0])
    for days in range(1, 7):
        bench.clock.advance(timedelta(days=1))
        await loop.work()
        assert (await facts(database)).rehearsed == first, days
    bench.clock.advance(timedelta(days=1))
    await loop.work()
    last = (await facts(database)).rehearsed
    assert last is not None
    assert (last.at, last.file) == (bench.clock.now(), names(bench)[0])
    assert not list(bench.backups.glob(".dorkos-*"))


async def test_a_rehearsal_that_fails_is_told_and_the_next_backup_tried(
    bench: Bench, database: SqliteDatabase
) -> None:
    """The same file is not tried over and over."""
    bench.backups.mkdir()
    bad = bench.backups / next(copy_names(CopyKind.BACKUP, bench.clock.now() + timedelta(hours=1), "0004_x"))
    bad.write_bytes(b"no database" * 1000)
    loop = daily(bench, database, rehearse_days=7)
    for _ in range(3):
        await loop.work()
    failed = (await facts(database)).rehearsed
    assert failed is not None
    assert (failed.ok, failed.file) == (False, bad.name)
    assert (await told(database)).count("system.backup.rehearsed") == 1
    bench.clock.advance(timedelta(days=1))
    await loop.work()
    after = (await facts(database)).rehearsed
    assert after is not None
    assert (after.ok, after.file) == (True, names(bench)[0])


async def test_what_is_switched_off_does_not_run(bench: Bench, database: SqliteDatabase) -> None:
    """No loop, no file; and each of the two by itself."""
    off = daily(bench, database, every_hours=0, rehearse_days=0)
    await off.start()
    assert not off.is_running
    await off.stop()
    await daily(bench, database, every_hours=0, rehearse_days=1).work()
    assert not bench.backups.exists()
    await daily(bench, database, rehearse_days=0).work()
    assert (await facts(database)).rehearsed is None


async def test_postgresql_is_left_to_its_own_tools(bench: Bench, tmp_path: Path) -> None:
    """There is no file to copy: the loop never starts."""
    async with create_test_db("postgresql") as db:
        loop = DailyBackup(
            db, bench.path, bench.backups, clock=bench.clock, settings=BackupSettings(), settle_s=0
        )
        await loop.start()
        assert not loop.is_running
        await loop.stop()


async def test_it_runs_as_a_loop(bench: Bench, database: SqliteDatabase) -> None:
    """Started and stopped as all loops are."""
    loop = DailyBackup(
        database, bench.path, bench.backups, clock=bench.clock, settings=BackupSettings(), settle_s=0
    )
    loop.worked.enable()
    await loop.start()
    await loop.worked.wait()
    await loop.worked.wait()
    await loop.stop()
    assert loop.failure is None
    assert len(names(bench)) == 1
