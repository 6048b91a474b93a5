"""Migrating a copy that is thrown away, to see what a migration would do."""

from __future__ import annotations

import os
import tempfile
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from dorkos.db.apply import RowCount
from dorkos.db.engine import sqlite_driver
from dorkos.db.migrate import MigrationReport, Plan, rehearse_sqlite
from dorkos.db.schema.tables import metadata
from dorkos.errors import DorkError, ErrorCode
from tests.db.conftest import Bench

MOVE = """
step.connection.exec_driver_sql("CREATE TABLE moved (key TEXT)")
step.connection.exec_driver_sql("INSERT INTO moved SELECT key FROM system_state WHERE key = 'mine'")
step.note("one was moved")
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The system's folder for temporary files, of this test alone."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def _rehearse(bench: Bench) -> MigrationReport:
    return rehearse_sqlite(bench.path, clock=bench.clock, plan=Plan(bench.directory, sa.MetaData()))


def _data(bench: Bench) -> dict[str, bytes]:
    """Every file but the -shm, in which readers note where they read."""
    return {name: content for name, content in bench.files().items() if not name.endswith("-shm")}


def _with_work_to_do(bench: Bench) -> None:
    bench.migrate()
    with bench.raw() as connection:
        connection.execute("INSERT INTO system_state VALUES ('mine', 'x')")
    bench.add_revision("0099_move", MOVE)


def test_it_reports_what_migrating_would_and_changes_no_byte(bench: Bench, temporary: Path) -> None:
    """Rows are counted before and after; no side file is left, nor the copy."""
    _with_work_to_do(bench)
    before = bench.files()
    report = _rehearse(bench)
    assert bench.files() == before
    assert list(temporary.iterdir()) == []
    (applied,) = report.applied
    assert (applied.id, applied.notes) == ("0099_move", ("one was moved",))
    assert RowCount("moved", None, 1) in applied.rows
    assert RowCount("agents", 0, 0) in applied.rows
    assert report.snapshot is None
    assert bench.migrate().applied[0].rows == applied.rows


def test_a_log_that_a_crash_left_is_read_and_stays(bench: Bench, tmp_path: Path) -> None:
    """Its rows are in the copy; the file is not merged into the original."""
    bench.migrate()
    bench.add_revision("0099_move", MOVE)
    crashed = tmp_path / "crashed"
    with bench.raw() as connection:
        connection.execute("INSERT INTO system_state VALUES ('mine', 'x')")
        crashed.mkdir()
        for suffix in ("", "-wal", "-shm"):
            file = bench.path.with_name(bench.path.name + suffix)
            (crashed / file.name).write_bytes(file.read_bytes())
    bench.home, bench.path = crashed, crashed / bench.path.name
    before, names = _data(bench), bench.files().keys()
    assert RowCount("moved", None, 1) in _rehearse(bench).applied[0].rows
    assert _data(bench) == before
    assert bench.files().keys() == names


def test_it_works_beside_whoever_has_the_database_open(bench: Bench) -> None:
    """A running server needs not be stopped for it, and its log stays its own."""
    _with_work_to_do(bench)
    with closing(sqlite_driver().connect(str(bench.path), isolation_level=None)) as server:
        server.execute("INSERT INTO system_state VALUES ('later', 'y')")
        before = _data(bench)
        assert len(_rehearse(bench).applied) == 1
        assert _data(bench) == before


def test_a_migration_that_would_fail_says_so_and_nothing_happened(bench: Bench, temporary: Path) -> None:
    """The refusal is that of the real migration."""
    bench.migrate()
    bench.add_revision("0099_broken", "raise RuntimeError('no')")
    before = bench.files()
    with pytest.raises(DorkError, match="0099_broken failed") as refusal:
        _rehearse(bench)
    assert refusal.value.code is ErrorCode.MIGRATION_FAILED
    assert bench.files() == before
    assert list(temporary.iterdir()) == []


def test_with_nothing_pending_nothing_is_copied(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer is that of a migration with nothing to do."""
    bench.migrate(declared=metadata)
    monkeypatch.setattr("dorkos.db.migrate.copy_untouched", pytest.fail)
    assert rehearse_sqlite(bench.path, clock=bench.clock) == MigrationReport()


def test_without_a_database_every_migration_is_rehearsed_and_none_is_made(bench: Bench) -> None:
    """The directory stays as empty as it was."""
    assert len(_rehearse(bench).applied) > 3
    assert bench.files() == {}


def test_a_database_that_is_opened_meanwhile_is_not_trusted(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read without locks must not have changed while it was read."""
    _with_work_to_do(bench)

    def copy_while_another_writes(source: object, target: Path, halt: object) -> dict[str, int]:
        os.utime(bench.path, ns=(1, 1))
        return {}

    monkeypatch.setattr("dorkos.db.copying._copy_from", copy_while_another_writes)
    with pytest.raises(DorkError, match="opened by another program") as refusal:
        _rehearse(bench)
    assert refusal.value.code is ErrorCode.SNAPSHOT_FAILED
