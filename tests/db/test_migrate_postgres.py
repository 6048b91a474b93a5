"""The runner on PostgreSQL: as on SQLite, with the means of that engine."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from dorkos.clock import SystemClock
from dorkos.db.connections import migrating_postgres
from dorkos.db.ledger import revisions
from dorkos.db.migrate import Plan, migrate_postgres, status_postgres
from dorkos.db.verify import verify_postgres
from dorkos.errors import DorkError, ErrorCode
from dorkos.testing import empty_postgres
from tests.db.conftest import Bench

ALL = [revision.id for revision in revisions()]


def test_postgres_gets_every_migration_once() -> None:
    """A new database is led to the declared schema; the second call does nothing; status agrees."""
    with empty_postgres() as url:
        assert list(status_postgres(url).pending) == ALL
        report = migrate_postgres(url, clock=SystemClock())
        assert [applied.id for applied in report.applied] == ALL
        assert migrate_postgres(url, clock=SystemClock()).applied == ()
        status = status_postgres(url)
        assert [entry.id for entry in status.applied] == ALL
        assert status.pending == ()


def test_postgres_servers_that_start_together_apply_each_migration_once() -> None:
    """The second waits for the lock and finds the work done."""
    with empty_postgres() as url, ThreadPoolExecutor(3) as threads:
        reports = list(threads.map(lambda _: migrate_postgres(url, clock=SystemClock()), range(3)))
    assert sum(len(report.applied) for report in reports) == len(ALL)


@pytest.mark.parametrize(
    ("statement", "code", "named"),
    [
        (
            "INSERT INTO schema_ledger VALUES ('9999_future', 'x', '2026-01-01T00:00:00.000Z', '9.9.9', 1)",
            ErrorCode.DATABASE_NEWER,
            "9999_future",
        ),
        (
            f"UPDATE schema_ledger SET checksum = 'x' WHERE id = '{ALL[1]}'",
            ErrorCode.MIGRATION_CHANGED,
            ALL[1],
        ),
        (
            "ALTER TABLE agents ALTER COLUMN name DROP NOT NULL",
            ErrorCode.DATABASE_DRIFT,
            "agents: column name",
        ),
        ("ALTER TABLE schema_ledger ADD COLUMN other text", ErrorCode.DATABASE_FOREIGN, "schema_ledger"),
        ("DROP TABLE schema_ledger", ErrorCode.DATABASE_FOREIGN, "agents"),
    ],
)
def test_postgres_refuses_as_sqlite_does(statement: str, code: ErrorCode, named: str) -> None:
    """Newer, edited, changed by hand, or with tables of our names that are not ours."""
    with empty_postgres() as url:
        migrate_postgres(url, clock=SystemClock())
        _run_postgres(url, statement)
        with pytest.raises(DorkError) as refusal:
            migrate_postgres(url, clock=SystemClock())
        assert refusal.value.code is code
        assert named in refusal.value.message


def test_postgres_lets_other_tables_live_beside_ours() -> None:
    """Only names that collide make a database foreign."""
    with empty_postgres() as url:
        _run_postgres(url, "CREATE TABLE notes (id int)")
        assert len(migrate_postgres(url, clock=SystemClock()).applied) == len(ALL)


def test_postgres_rolls_a_failed_migration_back(bench: Bench) -> None:
    """DDL is part of the transaction: nothing of it stays. An upgrade that works says it took no snapshot."""
    plan = Plan(bench.directory, sa.MetaData())
    with empty_postgres() as url:
        migrate_postgres(url, clock=SystemClock())
        path = bench.add_revision(
            "0099_bad",
            "step.connection.exec_driver_sql('CREATE TABLE half (id int)')\nraise RuntimeError('stop')",
        )
        with pytest.raises(DorkError) as refusal:
            migrate_postgres(url, clock=SystemClock(), plan=plan)
        assert refusal.value.code is ErrorCode.MIGRATION_FAILED
        path.unlink()
        bench.add_revision("0099_mended", "step.connection.exec_driver_sql('CREATE TABLE half (id int)')")
        report = migrate_postgres(url, clock=SystemClock(), plan=plan)
        assert [applied.id for applied in report.applied] == ["0099_mended"]
        assert "no snapshot" in report.notes[0]


def test_postgres_that_does_not_answer_is_explained() -> None:
    """The refusal names the setting to look at."""
    with pytest.raises(DorkError) as refusal:
        migrate_postgres("postgresql://nobody@127.0.0.1:1/none", clock=SystemClock())
    assert refusal.value.code is ErrorCode.DATABASE_UNREACHABLE
    assert "database.url" in (refusal.value.hint or "")


@pytest.mark.parametrize("url", ["postgresql://u:secret@[::1/x", "postgresql://u:secret@h:port/x"])
def test_a_url_that_cannot_be_read_is_refused_without_repeating_it(url: str) -> None:
    """It may hold a password, which must not end in a log."""
    with pytest.raises(DorkError) as refusal:
        status_postgres(url)
    assert refusal.value.code is ErrorCode.INVALID_SETTING
    assert "secret" not in refusal.value.message


def test_postgres_needs_no_right_beyond_its_own_database() -> None:
    """A role that may only use its schema and make temporary tables can migrate and verify."""
    with empty_postgres() as url:
        _run_postgres(url, "CREATE ROLE plain LOGIN")
        try:
            _run_postgres(url, "GRANT CREATE, USAGE ON SCHEMA public TO plain")
            own = url.replace("postgres:@", "plain:@")
            assert len(migrate_postgres(own, clock=SystemClock()).applied) == len(ALL)
            assert verify_postgres(own) == []
        finally:
            _run_postgres(url, "DROP OWNED BY plain")
            _run_postgres(url, "DROP ROLE plain")


def _run_postgres(url: str, statement: str) -> None:
    with migrating_postgres(url) as connection, connection.begin():
        connection.exec_driver_sql(statement)
