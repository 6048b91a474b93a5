"""The crash laboratory in short, with a fixed seed, so that every test run has been through it."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from dorkos.db.engine import sqlite_driver
from tests.crash.laboratory.disturbances import (
    checkpointed,
    full_disk,
    kill,
    read_only,
    torn_log,
    wrong_clock,
)
from tests.crash.laboratory.experiment import experiment
from tests.crash.laboratory.world import SqliteWorld

PLAN = (kill, torn_log, wrong_clock, full_disk, read_only)


@pytest.mark.timeout(600)
def test_every_promise_is_kept_through_whatever_is_done_to_a_server(tmp_path: Path) -> None:
    """Nothing that was answered is lost, done twice or unexplained, and each promise had its cases."""
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)  # Whoever has no rights must be able to come here.
    report = experiment(SqliteWorld(tmp_path), kills=len(PLAN), seed=1, say=print, plan=PLAN)
    assert report.broken == []
    idle = [promise.words for promise in report.promises[:-1] if not promise.kept]
    assert idle == []


def test_a_log_is_cut_where_a_crash_may(tmp_path: Path) -> None:
    """What a checkpoint has copied was synced before: without it a database is torn indeed."""
    path = tmp_path / "dork.db"
    with contextlib.closing(sqlite_driver().connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE t (x)")
        assert checkpointed(path) == 0
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        assert checkpointed(path) == Path(f"{path}-wal").stat().st_size
        connection.execute("INSERT INTO t VALUES (1)")
        assert checkpointed(path) == 0  # The log has begun anew.
