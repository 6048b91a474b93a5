"""The copy that is made before a migration, and the folder it lies in."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from dorkos.db.engine import sqlite_driver
from dorkos.db.ledger import revisions
from dorkos.db.snapshot import KEEP, take_snapshot
from dorkos.errors import DorkError, ErrorCode
from tests.db.conftest import Bench


def _read(path: Path, sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite_driver().connect(str(path))) as connection:
        rows: list[tuple[object, ...]] = connection.execute(sql).fetchall()
        return rows


def _names(bench: Bench) -> list[str]:
    return sorted(path.name for path in bench.backups.iterdir())


def test_an_upgrade_takes_a_snapshot_of_the_state_before(bench: Bench) -> None:
    """It holds the rows of the moment, also those still in the log, and is named by time and version."""
    bench.migrate()
    with bench.raw() as connection:
        connection.execute("INSERT INTO system_state VALUES ('mine', 'x')")
        assert bench.path.with_name("dork.db-wal").stat().st_size > 0
        bench.add_revision("0099_more", "pass")
        report = bench.migrate()
    assert report.snapshot is not None
    assert report.snapshot.name == f"dork-20260301T090000Z-{revisions()[-1].id}.db"
    assert _read(report.snapshot, "SELECT value FROM system_state WHERE key = 'mine'") == [("x",)]
    assert ("0099_more",) not in _read(report.snapshot, "SELECT id FROM schema_ledger")
    assert _names(bench) == [report.snapshot.name]


def test_a_start_with_nothing_pending_takes_none(bench: Bench) -> None:
    """Neither a new database nor one that is up to date has anything to lose."""
    bench.migrate()
    bench.migrate()
    assert not bench.backups.exists()


def test_a_snapshot_that_fails_stops_the_migration(bench: Bench) -> None:
    """Where no copy can be made nothing is applied."""
    bench.migrate()
    bench.add_revision("0099_more", "pass")
    bench.backups.write_text("a file where the folder should be", encoding="utf-8")
    with pytest.raises(DorkError) as refusal:
        bench.migrate()
    assert refusal.value.code is ErrorCode.SNAPSHOT_FAILED
    assert ("0099_more",) not in bench.rows("SELECT id FROM schema_ledger")


def test_a_copy_that_does_not_read_back_is_thrown_away(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupted copy is an empty file, which is a valid empty database; it never gets a name."""
    bench.migrate()

    def interrupted(_database: Path, target: Path, _halt: object) -> dict[str, int]:
        target.touch()
        return {"agents": 0}

    monkeypatch.setattr("dorkos.db.copying._copy", interrupted)
    with pytest.raises(DorkError) as refusal:
        take_snapshot(bench.path, bench.backups, now=bench.clock.now(), last_id="x")
    assert refusal.value.code is ErrorCode.SNAPSHOT_FAILED
    assert _names(bench) == []


def test_a_copy_with_other_rows_is_thrown_away(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables and row counts of the copy must be those of the original."""
    bench.migrate()
    monkeypatch.setattr("dorkos.db.copying.row_counts", _counting({"agents": 1}, {"agents": 0}))
    with pytest.raises(DorkError, match="differs in agents"):
        take_snapshot(bench.path, bench.backups, now=bench.clock.now(), last_id="x")
    assert _names(bench) == []


def _counting(*answers: dict[str, int]) -> object:
    waiting = list(answers)

    def count(_connection: sqlite3.Connection) -> dict[str, int]:
        return waiting.pop(0)

    return count


def test_ten_are_kept_and_decoys_neither_counted_nor_touched(bench: Bench) -> None:
    """An empty file of the right name pushes no real snapshot out, and is not deleted either."""
    bench.migrate()
    bench.backups.mkdir()
    decoy = bench.backups / "dork-99991231T235959Z-0003_x.db"
    decoy.touch()
    taken = []
    for _ in range(KEEP + 2):
        taken.append(take_snapshot(bench.path, bench.backups, now=bench.clock.now(), last_id="0003_x"))
        bench.clock.advance(timedelta(minutes=1))
    assert _names(bench) == sorted([decoy.name, *(path.name for path in taken[2:])])


def test_a_snapshot_that_a_person_named_is_never_deleted(bench: Bench) -> None:
    """Only what bears the name of a snapshot is counted among the ten, and backups bear another."""
    bench.migrate()
    taken = take_snapshot(bench.path, bench.backups, now=bench.clock.now(), last_id="0003_x")
    mine = {"dork-before-the-move.db", "backup-20200101T000000Z-0003_x.db"}
    for name in mine:
        shutil.copy(taken, bench.backups / name)
    for _ in range(KEEP + 1):
        bench.clock.advance(timedelta(minutes=1))
        take_snapshot(bench.path, bench.backups, now=bench.clock.now(), last_id="0003_x")
    assert mine < set(_names(bench))
    assert len(_names(bench)) == KEEP + len(mine)


def test_two_in_one_second_do_not_replace_one_another(bench: Bench) -> None:
    """The second gets a name of its own."""
    bench.migrate()
    paths = {
        take_snapshot(bench.path, bench.backups, now=bench.clock.now(), last_id="0003_x") for _ in range(2)
    }
    assert len(paths) == 2
    assert len(_names(bench)) == 2
