"""Writing what was collected, in the caller's transaction: all of it, or nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime

import sqlalchemy as sa

# The construct of the PostgreSQL dialect compiles for SQLite as well; there is no neutral one.
from sqlalchemy.dialects.postgresql import insert

from dorkos.db.hold import hold_fleet
from dorkos.db.legacy.placing import fit, recount
from dorkos.db.legacy.report import PART, Report
from dorkos.db.legacy.rows import Row, Rows
from dorkos.db.savepoint import savepoint
from dorkos.db.schema.system import system_state
from dorkos.db.schema.tables import metadata

_CHUNK = 500
# "DORK" and a number of ours among advisory locks.
ADOPT_LOCK = 0x444F524B_000A
# What belongs to one row of a table besides its id; whoever is there first stands. Of agents on several
# machines more than one may have it.
_UNIQUE = (("agents", "project_path"), ("agent_denials", "path"))


def write(connection: sa.Connection, rows: Rows, report: Report, *, reason: str, now: datetime) -> int:
    """Add what the target has not, and put the fleet on hold if that is anything. Returns how many rows.

    What the target has under the same key stands as it is, so running it twice adds nothing.
    """
    _one_at_a_time(connection)
    report.before = row_counts(connection)
    rows = {table: list(each) for table, each in rows.items()}
    for table, column in _UNIQUE:
        rows[table] = _without_taken(connection, rows, table, column, report)
    added = _insert(connection, ("agents",), rows, report)
    # Mailboxes of the target keep their ids, which only shows once the agents are in.
    fitted = fit(connection, {table: each for table, each in rows.items() if table.startswith("relay_")})
    rows.update(fitted)
    added += _insert(connection, (table.name for table in metadata.sorted_tables), rows, report)
    recount(connection, fitted)
    if added:
        hold_fleet(connection, reason=reason, now=now)
    report.after = row_counts(connection)
    return added


def _one_at_a_time(connection: sa.Connection) -> None:
    """Two that write at once would not see what of theirs belongs together. On SQLite there is one writer."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(ADOPT_LOCK)))


def row_counts(connection: sa.Connection) -> dict[str, int]:
    """The rows of each declared table."""
    return {
        table.name: connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
        for table in metadata.sorted_tables
    }


def _without_taken(
    connection: sa.Connection, rows: Rows, table: str, column: str, report: Report
) -> list[Row]:
    """The rows of a table but those whose `column` is another row's in the target, which are kept aside."""
    stored = metadata.tables[table].c
    taken: dict[object, set[object]] = {}
    for row_id, value in connection.execute(sa.select(stored.id, stored[column])):
        taken.setdefault(value, set()).add(row_id)
    free: list[Row] = []
    for row in rows.get(table, []):
        if row["id"] in taken.get(row[column], {row["id"]}):
            free.append(row)
            continue
        part = str(row.get(PART, table))
        report.already(part)
        report.kept(part, row["id"], column, "is another row's here, which stands; this one was kept aside")
        value = json.dumps({name: each for name, each in row.items() if name != PART}, default=str)
        rows["system_state"].append({"key": f"lineage:{table}:{row['id']}:row", "value": value})
    return free


def _insert(
    connection: sa.Connection, tables: Iterator[str] | Sequence[str], rows: Rows, report: Report
) -> int:
    """Insert table by table, parents first. A table's rows are taken out of `rows` when they were."""
    return sum(_insert_rows(connection, metadata.tables[name], rows.pop(name, []), report) for name in tables)


def _insert_rows(connection: sa.Connection, table: sa.Table, rows: Sequence[Row], report: Report) -> int:
    count = 0
    for batch in _batches(rows):
        inserted = _insert_batch(connection, table, batch, report)
        count += len(inserted)
        for row in batch:
            # What was kept aside belongs to a row that is counted itself.
            if PART not in row or table is system_state:
                continue
            # One row may be what two sources tell of, such as a file and its index.
            parts = row[PART] if isinstance(row[PART], tuple) else (row[PART],)
            for part in parts:
                if _key(table, row) in inserted:
                    report.added(part)
                else:
                    report.already(part)
    return count


def _insert_batch(
    connection: sa.Connection, table: sa.Table, batch: Sequence[Row], report: Report
) -> set[tuple[object, ...]]:
    """The keys of the rows that were not there before."""
    try:
        with savepoint(connection):
            return _execute(connection, table, batch)
    except sa.exc.IntegrityError:
        pass  # One of them breaks a rule. Which one shows alone, and the others are not its fault.
    inserted: set[tuple[object, ...]] = set()
    for row in batch:
        try:
            with savepoint(connection):
                inserted |= _execute(connection, table, [row])
        except sa.exc.IntegrityError as fault:
            report.unreadable(
                str(row.get(PART, table.name)),
                f"{table.name} {'/'.join(map(str, _key(table, row)))}",
                # Its first line alone: PostgreSQL goes on to show the row, which may hold a secret.
                f"the database does not take it: {str(fault.orig).partition(chr(10))[0]}",
            )
    return inserted


def _execute(connection: sa.Connection, table: sa.Table, batch: Sequence[Row]) -> set[tuple[object, ...]]:
    statement = insert(table).on_conflict_do_nothing().returning(*table.primary_key.columns)
    values = [{name: value for name, value in row.items() if name != PART} for row in batch]
    return {tuple(row) for row in connection.execute(statement, values)}


def _key(table: sa.Table, row: Row) -> tuple[object, ...]:
    return tuple(row[column.name] for column in table.primary_key.columns)


def _batches(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """Rows of one statement: with the same columns, and not too many."""
    by_columns: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        by_columns.setdefault(tuple(sorted(row.keys() - {PART})), []).append(row)
    for alike in by_columns.values():
        for start in range(0, len(alike), _CHUNK):
            yield alike[start : start + _CHUNK]
