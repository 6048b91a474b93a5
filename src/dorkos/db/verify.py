"""Whether a database is sound: its file, relations, schema, ledger and values. Reads only."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from dorkos.db.connections import migrating_postgres, reading_sqlite
from dorkos.db.copying import STEPS_AT_ONCE, Halt
from dorkos.db.drift import live_differences
from dorkos.db.marks import refuse_unfinished
from dorkos.db.migrate import MigrationStatus, Plan, status_postgres, status_sqlite
from dorkos.db.moving import read_facts
from dorkos.db.side_files import own_place
from dorkos.db.soundness import wrong_values
from dorkos.errors import DorkError


def verify_sqlite(path: Path, *, plan: Plan | None = None, halt: Halt | None = None) -> list[str]:
    """Every problem in words; an empty list says that all checks ran and passed.

    A server may be running meanwhile. Reads the whole file, which takes a while when it is large; soon
    after `halt` said so it gives up, which counts as a problem.
    """
    try:
        if not own_place(path).exists():
            return [f"{path} does not exist"]
        problems = _ledger_problems(status_sqlite(path, plan=plan))
        with reading_sqlite(path) as connection:
            damaged = damage(connection, halt)
            problems += damaged
            try:
                problems += broken_references(connection) + _drift_problems(connection, plan)
                return problems + wrong_values(connection, (plan or Plan()).declared)
            except sa.exc.DBAPIError:
                if not damaged:
                    raise
                return problems  # It cannot be read any further, and what is known must not be lost.
    except (DorkError, sa.exc.DBAPIError) as fault:
        return [_told(fault)]


def verify_postgres(url: str, *, plan: Plan | None = None) -> list[str]:
    """As `verify_sqlite`. PostgreSQL itself guards file, relations and most values."""
    try:
        problems = _ledger_problems(status_postgres(url, plan=plan))
        with migrating_postgres(url) as connection, connection.begin() as transaction:
            problems += _drift_problems(connection, plan) + wrong_values(
                connection, (plan or Plan()).declared
            )
            transaction.rollback()
            return problems
    except (DorkError, sa.exc.DBAPIError) as fault:
        return [_told(fault)]


def _told(fault: DorkError | sa.exc.DBAPIError) -> str:
    return fault.message if isinstance(fault, DorkError) else str(fault.orig)


def damage(connection: sa.Connection, halt: Halt | None = None) -> list[str]:
    """What is wrong with the pages and indexes of a SQLite file. Reads all of it."""
    if halt is not None:
        raw = connection.connection.dbapi_connection
        assert raw is not None
        raw.set_progress_handler(halt, STEPS_AT_ONCE)
    problems: list[str] = []
    try:
        for (text,) in connection.exec_driver_sql("PRAGMA integrity_check"):
            if text != "ok":
                problems.append(f"integrity: {text}")
    except sa.exc.DBAPIError as fault:
        # The check itself may stumble over what is wrong; what it found before that counts as well.
        if "malformed" not in str(fault.orig):
            raise
        problems.append(f"integrity: {fault.orig}")
    return problems


def broken_references(connection: sa.Connection) -> list[str]:
    """Which rows of a SQLite file refer to nothing."""
    return [
        f"foreign keys: row {rowid} of {table} refers to a row of {parent} that does not exist"
        for table, rowid, parent, _ in connection.exec_driver_sql("PRAGMA foreign_key_check")
    ]


def _ledger_problems(status: MigrationStatus) -> list[str]:
    return [f"migrations: {name} is not applied" for name in status.pending]


def _move_problems(connection: sa.Connection) -> list[str]:
    try:
        refuse_unfinished(read_facts(connection))
    except DorkError as unfinished:
        return [f"rows: {unfinished.message}"]
    return []


def _drift_problems(connection: sa.Connection, plan: Plan | None) -> list[str]:
    differences = live_differences(connection, (plan or Plan()).declared)
    return _move_problems(connection) + [f"schema: {text}" for text in differences]
