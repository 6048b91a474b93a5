"""Rows for the tables of any revision: every column used, with values that are legal there and odd."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import sqlalchemy as sa

from dorkos.clock import ManualClock, iso
from dorkos.db.apply import apply_pending
from dorkos.db.connections import migrating_postgres
from dorkos.db.drift import Catalogue
from dorkos.db.ledger import MIGRATIONS, revisions
from dorkos.db.replay import replay
from dorkos.db.schema.tables import metadata
from dorkos.db.types import Json
from dorkos.testing import EngineName, empty_postgres

Row = dict[str, Any]


class Cut(bytes):
    """Bytes that SQLite stores as a text although they are none, as the lineage's cut summaries are."""


_AT = datetime(2026, 2, 27, 8, 7, 0, 1000, tzinfo=UTC)
_TEXTS = ("plain", "", "Zoë: “standup” ☕", "two\nlines\t", 'it\'s `$HOME` "q" \\ %s', "NULL", "x" * 9000)
_NO_TEXTS = (b"\xff\x00bytes", Cut(b"x\xed\xa0\xbd"), "nul\x00inside", 7, 1.5)
_JSON = ('{"a": [1, null, "☕"]}', "[]", '["a", "b"]', "null", '"text"', "18446744073709551616", '"\\ud83d"')
_NO_JSON = ("css, a11y", '{"x": NaN}', "[" * 3000, "")
_NUMBERS = (0, 1, 7, 2**31, 2**63 - 1, -(2**63))
_NO_NUMBERS = ("soon", 1.5, b"\x00", "")
_INSTANTS = (_AT, datetime(1000, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC))
_NO_INSTANTS = (
    "2026-02-27T08:07:00Z",
    "2026-02-27T08:07:00.123456Z",
    "2026-02-27T13:37:00.001+05:30",
    "2026-02-27",
    "1772141678848",
    "yesterday",
    "",
    "0001-01-01T00:00:00+23:00",
)
# The words of the lineage, whose columns no CHECK holds to them.
_WORDS = {
    "pulse_schedules.status": "active paused pending_approval",
    "pulse_schedules.permission_mode": "default plan acceptEdits bypassPermissions",
    "pulse_runs.status": "running completed failed cancelled timeout",
    "pulse_runs.trigger": "scheduled manual agent",
    "relay_index.status": "pending delivered failed",
    "relay_traces.status": "sent delivered failed timeout",
    "agents.runtime": "claude-code cursor codex other",
    "agents.status": "active inactive",
}
_JSON_COLUMNS = {
    f"{table.name}.{column.name}"
    for table in metadata.sorted_tables
    for column in table.columns
    if isinstance(column.type, Json)
} | {"relay_index.payload", "relay_messages.payload"}


class Revision:
    """The tables after the first `count` migrations.

    Types and references are PostgreSQL's, where a column has one type; `loose` names the tables that on
    SQLite are not STRICT and have no CHECKs, so that anything may stand in them.
    """

    def __init__(self, count: int) -> None:
        self.known = revisions()[:count]
        catalogue: Catalogue = replay(MIGRATIONS)[count]
        self.loose = {table for table, facts in catalogue.items() if "STRICT" not in facts["kind"]}
        self.words: dict[str, list[str]] = {}
        reflected = sa.MetaData()
        with empty_postgres() as url, migrating_postgres(url) as connection:
            apply_pending(connection, self.known, clock=ManualClock(), say=_silent)
            with connection.begin():
                reflected.reflect(connection)
                for table in reflected.sorted_tables:
                    for check in sa.inspect(connection).get_check_constraints(table.name):
                        if found := re.fullmatch(r"\(*(\w+) = ANY \(ARRAY\[(.*)\]\)\)*", check["sqltext"]):
                            words = re.findall(r"'([\w-]*)'::text", found[2])
                            self.words[f"{table.name}.{found[1]}"] = words
        self.tables = [
            table for table in reflected.sorted_tables if table.name not in ("schema_ledger", "system_state")
        ]

    def rows(self, engine: EngineName) -> dict[str, list[Row]]:
        """Rows for every table, parents first, as the driver of `engine` takes them."""
        made: dict[str, list[Row]] = {}
        for table in self.tables:
            values = {column.name: self._values(table, column, engine, made) for column in table.columns}
            count = max(map(len, values.values()))
            key = [column for column in table.primary_key if column.foreign_keys]
            if key and len(key) == len(table.primary_key.columns):
                # Each parent can have one such row.
                (parent,) = key[0].foreign_keys
                count = min(count, len(made[parent.column.table.name]))
            made[table.name] = [
                _legal(table.name, self._row(table, values, number), number) for number in range(count)
            ]
        return made

    def _row(self, table: sa.Table, values: Mapping[str, Sequence[Any]], number: int) -> Row:
        row = {name: those[number % len(those)] for name, those in values.items()}
        for name in _identifying(table):
            row[name] = _told_apart(row[name], number)
        return row

    def _values(
        self, table: sa.Table, column: sa.Column[Any], engine: EngineName, made: Mapping[str, list[Row]]
    ) -> Sequence[Any]:
        name = f"{table.name}.{column.name}"
        # PostgreSQL holds every value to its type, also where nothing else did.
        anything = engine == "sqlite" and table.name in self.loose
        empty = (None,) if column.nullable else ()
        if column.foreign_keys:
            (key,) = column.foreign_keys
            parents = [row[key.column.name] for row in made[key.column.table.name]]
            return (*parents, *empty, *(("nobody", b"\xff") if anything else ()))
        if name in self.words:
            return (*self.words[name], *empty)
        if name in _WORDS:
            return (*_WORDS[name].split(), "exploded", "", *empty, *(_NO_TEXTS if anything else ()))
        if isinstance(column.type, sa.Boolean):
            return (True, False, *empty, *((7, "yes") if anything else ()))
        if isinstance(column.type, sa.DateTime):
            return (*_INSTANTS, *empty, *(_NO_INSTANTS if anything else ()))
        if isinstance(column.type, sa.BigInteger):
            return (*_NUMBERS, *empty, *(_NO_NUMBERS if anything else ()))
        if name in _JSON_COLUMNS:
            free = table.name in self.loose
            return (*_JSON, *empty, *(_NO_JSON if free else ()), *(_NO_TEXTS if anything else ()))
        if column.primary_key:
            return ("01JZZZZZZZZZZZZZZZZZZZZZZZ", "0f8fad5b-d9cb-469f-a165-70867728950e", "☕ id", "'")
        return (*_TEXTS, *empty, *(_NO_TEXTS if anything else ()))


@cache
def revision(count: int) -> Revision:
    """The tables after the first `count` migrations; read once."""
    return Revision(count)


def insert(connection: sa.Connection, table: str, rows: Sequence[Row]) -> None:
    """Store rows as they are, whatever they hold. All have the same keys."""
    is_sqlite = connection.dialect.name == "sqlite"
    mark = "?" if is_sqlite else "%s"
    names = ", ".join(f'"{name}"' for name in rows[0])
    for row in rows:
        marks = ", ".join(
            f"CAST({mark} AS TEXT)" if isinstance(value, Cut) else mark for value in row.values()
        )
        connection.exec_driver_sql(
            f"INSERT INTO {table} ({names}) VALUES ({marks})",
            tuple(
                iso(value) if is_sqlite and isinstance(value, datetime) else value for value in row.values()
            ),
        )


def _identifying(table: sa.Table) -> set[str]:
    """One column of each set of columns that must differ between rows, and no reference to another table."""
    if table.name == "rate_limit_buckets":
        return {"agent_id"}  # It has no key before its third migration.
    keys: list[list[str]] = [[column.name for column in table.primary_key]]
    keys += [list(index.columns.keys()) for index in table.indexes if index.unique]
    keys += [
        list(constraint.columns.keys())
        for constraint in table.constraints
        if isinstance(constraint, sa.UniqueConstraint)
    ]
    found = set()
    for key in keys:
        own = [name for name in key if not table.columns[name].foreign_keys]
        found.update(own[:1])
    return found


def _told_apart(value: Any, number: int) -> Any:
    if value is None:
        return None
    if isinstance(value, datetime):
        return value.replace(year=2026) + timedelta(seconds=number)
    if isinstance(value, bytes):
        return type(value)(value + b"%d" % number)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"{value}#{number}"
    return number + 1


def _legal(table: str, row: Row, number: int) -> Row:
    """Mend what a CHECK over several columns forbids, differently from row to row."""
    if table == "pulse_schedules" and "run_at" in row:
        triggers = [name for name in ("cron", "every_ms", "run_at") if name in row]
        kept = [*triggers, ""][number % (len(triggers) + 1)]
        row.update({name: None for name in triggers if name != kept})
        if "anchor_at" in row:
            row["anchor_at"] = None if row["every_ms"] is None else row["created_at"]
    elif table == "pulse_runs" and "lease_token" in row:
        row["lease_token"] = f"lease {number}" if row["status"] == "running" else None
    elif table == "pulse_slots":
        row["count"] = 1 if row["verdict"] == "run" else number + 1
    elif table == "relay_endpoints":
        row.update(pending_count=number, pending_bytes=2**40 + number)
    elif table == "relay_index" and "lease_token" in row and row["status"] != "pending":
        row.update(lease_token=None, run_id=None)
    elif table == "approvals":
        row["decided_at"] = None if row["status"] == "pending" else row["created_at"]
    return row


def _silent(_: str) -> None:
    pass
