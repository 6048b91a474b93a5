"""Rows for every table that its constraints allow, with values that are odd but legal."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from dorkos.clock import iso
from dorkos.db.connections import migrating_postgres, migrating_sqlite
from dorkos.db.ledger import revisions
from dorkos.db.rows import Kind, PlainRow, Shape, Value, insert, shapes, stream
from dorkos.db.schema.tables import metadata
from dorkos.db.types import Choice
from dorkos.testing import create_sqlite_file

Rows = Mapping[str, list[PlainRow]]

# The newest migration, whose name every export and backup bears.
NEWEST = revisions()[-1].id
# What escapes, ends, separates or sorts oddly somewhere between two engines and a line of JSON.
ODD_TEXTS = (
    "", " ", "plain", "\\N", "\\.", "\\", "a\tb\nc\r\nd", '"quoted" \'and\'', "null", "NULL", "{}",
    "\x01\x1f\x7f", "Grüße", "\u00e9", "e\u0301", "日本語", "🙂🏽", "\u2028\u2029", "\ufeff", "\uffff",
    "\U0010ffff", "\u202eabc", "%s ? :name $1", "0", "-1", "true", "x" * 3000, "2026-03-01T09:00:00.000Z",
)  # fmt: skip
ODD_JSON = (
    "null", "0", "-0", "1e400", "[]", "{}", '""', '"\\u0000"', '"\\ud800"', '{ "b" : 1,\n"a" : [ ] }',
    '{"a":1,"a":2}', "12345678901234567890123", '"日本"', "[1.10]",
)  # fmt: skip
ODD_INTEGERS = (0, 1, -1, 2**31, -(2**31) - 1, 2**53 + 1, 2**63 - 1, -(2**63))
_FIRST = datetime(1000, 1, 1, tzinfo=UTC)
_SECONDS = int((datetime(9999, 12, 31, tzinfo=UTC) - _FIRST).total_seconds())

Fields = dict[str, Value]


def any_rows(seed: int, *, per_table: int = 4) -> Rows:
    """Up to `per_table` rows of every table, the same for the same seed."""
    chance = random.Random(seed)
    found: dict[str, list[PlainRow]] = {}
    for shape in shapes():
        table = metadata.tables[shape.table]
        rows: list[PlainRow] = []
        taken: set[tuple[Value, ...]] = set()
        for number in range(chance.randint(0, per_table) if seed else per_table):
            fields = _row(chance, table, shape, number, found)
            if fields is None:
                continue
            if shape.table in _MEND:
                _MEND[shape.table](fields, number)
            if not _is_taken(table, fields, taken):
                rows.append(tuple(fields[name] for name in shape.names))
        found[shape.table] = rows
    return found


def filled_sqlite(path: Path, rows: Rows) -> Path:
    """A migrated database at `path` with these rows."""
    create_sqlite_file(path)
    with migrating_sqlite(path) as connection, connection.begin():
        store(connection, rows)
    return path


def filled_postgres(url: str, rows: Rows) -> str:
    """Put these rows into a migrated, empty database."""
    with migrating_postgres(url) as connection, connection.begin():
        store(connection, rows)
    return url


def store(connection: sa.Connection, rows: Rows) -> None:
    for shape in shapes():
        insert(connection, shape, rows[shape.table])


def stored(place: Path | str) -> dict[str, list[PlainRow]]:
    """Every row that is there, in key order."""
    opened = migrating_sqlite(place) if isinstance(place, Path) else migrating_postgres(place)
    with opened as connection, connection.begin():
        return {shape.table: list(stream(connection, shape)) for shape in shapes()}


def _row(chance: random.Random, table: sa.Table, shape: Shape, number: int, parents: Rows) -> Fields | None:
    fields: Fields = {}
    for name, kind in shape.columns:
        column = table.columns[name]
        if column.foreign_keys:
            parent = next(iter(column.foreign_keys)).column.table
            keys = [row[0] for row in parents[parent.name]]
            # Different children of different parents, so that pairs are unique, too.
            key = keys[number % len(keys)] if keys else None
            if key is None and not column.nullable:
                return None
            if column.primary_key and number >= len(keys):
                return None
            fields[name] = None if column.nullable and chance.random() < 0.3 else key
        elif column.nullable and chance.random() < 0.3:
            fields[name] = None
        else:
            fields[name] = _value(chance, column, kind, number)
    return fields


def _value(chance: random.Random, column: sa.Column[Any], kind: Kind, number: int) -> Value:
    if isinstance(column.type, Choice):
        words: list[str] = [member.value for member in column.type.enum.__members__.values()]
        return chance.choice(words)
    if kind is Kind.FLAG:
        return chance.random() < 0.5
    if kind is Kind.INTEGER:
        return number + 1 if column.primary_key else chance.choice(ODD_INTEGERS)
    if kind is Kind.JSON:
        return chance.choice(ODD_JSON)
    if kind is Kind.INSTANT:
        return iso(
            _FIRST + timedelta(seconds=chance.randrange(_SECONDS), milliseconds=chance.randrange(1000))
        )
    text = chance.choice(ODD_TEXTS)
    # What must be unique gets a number, and what stands in an index of PostgreSQL must not be long.
    return f"{text[:40]}{number}" if column.primary_key or _is_indexed(column) else text


def _is_taken(table: sa.Table, fields: Fields, taken: set[tuple[Value, ...]]) -> bool:
    """Whether a row before has the same values where they must be unique."""
    unique = [list(c.columns) for c in table.constraints if isinstance(c, sa.UniqueConstraint)]
    unique += [list(index.columns) for index in table.indexes if index.unique]
    for columns in unique:
        values = tuple(fields[column.name] for column in columns)
        key = (*(column.name for column in columns), *values)
        if None not in values and key in taken:
            return True
        taken.add(key)
    return False


def _is_indexed(column: sa.Column[Any]) -> bool:
    indexed = [index.columns for index in column.table.indexes]
    indexed += [c.columns for c in column.table.constraints if isinstance(c, sa.UniqueConstraint)]
    return any(column.name in columns for columns in indexed)


def _mend_schedule(fields: Fields, number: int) -> None:
    for name in ("cron", "every_ms", "run_at")[: number % 4]:
        fields[name] = None
    if fields["cron"] is not None:
        fields["every_ms"] = fields["run_at"] = None
    if fields["every_ms"] is not None:
        fields["run_at"] = None
    fields["anchor_at"] = None if fields["every_ms"] is None else "2026-03-01T09:00:00.000Z"


def _mend_slot(fields: Fields, number: int) -> None:
    fields["due_at"] = f"2026-03-01T09:00:{number:02}.999Z"
    fields["count"] = 1 if fields["verdict"] == "run" else 2**40


def _mend_run(fields: Fields, number: int) -> None:
    fields["attempt"] = number
    fields["lease_token"] = f"token {number}" if fields["status"] == "running" else None


def _mend_delivery(fields: Fields, number: int) -> None:
    if fields["status"] != "pending":
        fields["lease_token"] = fields["run_id"] = None


def _mend_endpoint(fields: Fields, number: int) -> None:
    fields["pending_count"] = fields["pending_bytes"] = 2**62


def _mend_approval(fields: Fields, number: int) -> None:
    decided = None if fields["status"] == "pending" else "2026-03-01T09:00:00.001Z"
    fields["decided_at"] = decided


_MEND: Mapping[str, Callable[[Fields, int], None]] = {
    "pulse_schedules": _mend_schedule,
    "pulse_slots": _mend_slot,
    "pulse_runs": _mend_run,
    "relay_index": _mend_delivery,
    "relay_endpoints": _mend_endpoint,
    "approvals": _mend_approval,
}
