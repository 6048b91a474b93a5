"""Whether a database is sound: its file, its relations, its schema and its ledger. Reads only."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from dorkos.db.connections import migrating_postgres, reading_sqlite
from dorkos.db.drift import live_differences
from dorkos.db.migrate import MigrationStatus, Plan, status_postgres, status_sqlite
from dorkos.errors import DorkError


def verify_sqlite(path: Path, *, plan: Plan | None = None) -> list[str]:
    """Every problem in words; an empty list says that all checks ran and passed.

    A server may be running meanwhile. Reads the whole file, which takes a while when it is large.
    """
    if not path.exists():
        return [f"{path} does not exist"]
    try:
        problems = _ledger_problems(status_sqlite(path, plan=plan))
        with reading_sqlite(path) as connection:
            run = connection.exec_driver_sql
            problems += [f"integrity: {text}" for (text,) in run("PRAGMA integrity_check") if text != "ok"]
            problems += [
                f"foreign keys: row {rowid} of {table} refers to a row of {parent} that does not exist"
                for table, rowid, parent, _ in run("PRAGMA foreign_key_check")
            ]
            return problems + _drift_problems(connection, plan)
    except (DorkError, sa.exc.DBAPIError) as fault:
        return [str(fault)]


def verify_postgres(url: str, *, plan: Plan | None = None) -> list[str]:
    """As `verify_sqlite`. PostgreSQL itself guards file and relations; schema and ledger are compared."""
    try:
        problems = _ledger_problems(status_postgres(url, plan=plan))
        with migrating_postgres(url) as connection, connection.begin() as transaction:
            problems += _drift_problems(connection, plan)
            transaction.rollback()
            return problems
    except (DorkError, sa.exc.DBAPIError) as fault:
        return [str(fault)]


def _ledger_problems(status: MigrationStatus) -> list[str]:
    return [f"migrations: {name} is not applied" for name in status.pending]


def _drift_problems(connection: sa.Connection, plan: Plan | None) -> list[str]:
    return [f"schema: {text}" for text in live_differences(connection, (plan or Plan()).declared)]
