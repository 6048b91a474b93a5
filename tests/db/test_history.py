"""Every revision with data upgrades to head: each row arrives, and each value or its original is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dorkos.clock import ManualClock
from dorkos.db.apply import apply_pending
from dorkos.db.connections import migrating_postgres, migrating_sqlite
from dorkos.db.drift import catalogue, declared_catalogue, differences
from dorkos.db.ledger import revisions
from dorkos.db.migrate import MigrationReport, migrate_postgres, migrate_sqlite
from dorkos.db.schema.tables import metadata
from dorkos.db.verify import verify_postgres, verify_sqlite
from dorkos.errors import DorkError, ErrorCode
from dorkos.testing import ENGINES, EngineName, empty_postgres
from tests.db.specimens import Cut, Row, insert, revision

ALL = [revision.id for revision in revisions()]
LINEAGE = ALL[:3]
_NOW = ManualClock().now()

# What a migration says on purpose instead of what stood there. Everything else is the same, or kept.
_MEANT: dict[str, Callable[[Row, Any], bool]] = {
    # Whether a process that ran then ended nobody knows any more.
    "pulse_runs.status": lambda row, new: row["status"] == "running" and new == "interrupted",
    "pulse_runs.finished_at": lambda row, new: row["status"] == "running" and _instant(new) == _NOW,
    "pulse_runs.error": lambda row, new: (
        row["status"] == "running" and new == "Interrupted by server restart"
    ),
}


class Place:
    """An empty database of one engine, and how it is led to head and verified."""

    def __init__(self, engine: EngineName, where: str) -> None:
        self.engine = engine
        self.where = where

    @contextmanager
    def connect(self) -> Iterator[sa.Connection]:
        """A connection in a transaction, without foreign keys on SQLite: the lineage had orphans."""
        opened = (
            migrating_sqlite(Path(self.where)) if self.engine == "sqlite" else migrating_postgres(self.where)
        )
        with opened as connection:
            if self.engine == "sqlite":
                raw = connection.connection.dbapi_connection
                assert raw is not None
                raw.cursor().execute("PRAGMA foreign_keys = OFF")
            with connection.begin():
                yield connection

    def begin_at(self, count: int) -> None:
        """Apply the first migrations with the runner."""
        with (
            migrating_sqlite(Path(self.where)) if self.engine == "sqlite" else migrating_postgres(self.where)
        ) as connection:
            apply_pending(connection, revisions()[:count], clock=ManualClock(), say=print)

    def migrate(self) -> MigrationReport:
        """Lead it to the declared schema."""
        if self.engine == "sqlite":
            path = Path(self.where)
            return migrate_sqlite(path, backups=path.parent / "backups", clock=ManualClock())
        return migrate_postgres(self.where, clock=ManualClock())

    def verify(self) -> list[str]:
        """What is wrong with it."""
        return verify_sqlite(Path(self.where)) if self.engine == "sqlite" else verify_postgres(self.where)

    def read(self, connection: sa.Connection, table: str) -> list[Row]:
        """Every row, as it is stored."""
        result = connection.exec_driver_sql(f"SELECT * FROM {table}")
        return [dict(row) for row in result.mappings()]


@pytest.fixture(params=ENGINES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """An empty database on each engine."""
    if request.param == "sqlite":
        yield Place("sqlite", str(tmp_path / "dork.db"))
    else:
        with empty_postgres() as url:
            yield Place("postgresql", url)


@pytest.mark.parametrize("count", range(1, len(ALL) + 1), ids=ALL)
def test_every_revision_with_data_upgrades_to_head(place: Place, count: int) -> None:
    """As many rows as before, and of each the value of every column, or its original word for word."""
    place.begin_at(count)
    made = revision(count)
    with place.connect() as connection:
        for table, rows in made.rows(place.engine).items():
            insert(connection, table, rows)
        before = {table.name: place.read(connection, table.name) for table in made.tables}
    report = place.migrate()
    assert [applied.id for applied in report.applied] == ALL[count:]
    assert place.verify() == []
    with place.connect() as connection:
        after = {table.name: place.read(connection, table.name) for table in metadata.sorted_tables}
        # Also through the declared types, as the program reads them.
        for declared in metadata.sorted_tables:
            assert len(connection.execute(sa.select(declared)).fetchall()) == len(after[declared.name])
    kept = {row["key"]: row["value"] for row in after["system_state"]}
    tables = {table.name: table for table in made.tables}
    for name, rows in before.items():
        assert len(rows) > 3
        assert len(after[name]) == len(rows)
        _compare(tables[name], rows, _by_identity(name, after), kept)
    counted = {row.table: row.after for applied in report.applied for row in applied.rows}
    assert {name: counted.get(name, len(rows)) for name, rows in before.items()} == {
        name: len(rows) for name, rows in before.items()
    }


def test_migrations_from_nothing_lead_to_what_is_declared(place: Place) -> None:
    """On both engines, compared fact by fact with a database made from the declaration."""
    place.migrate()
    with place.connect() as connection:
        assert differences(catalogue(connection), declared_catalogue(metadata, connection)) == []


def test_a_bucket_that_is_there_twice_is_refused_with_nothing_lost(place: Place) -> None:
    """The lineage's third migration makes buckets unique; nothing ever wrote one twice. If so, it waits."""
    place.begin_at(2)
    twice = [{"agent_id": "A", "bucket_minute": 1, "count": number} for number in (3, 4)]
    with place.connect() as connection:
        insert(connection, "rate_limit_buckets", twice)
    with pytest.raises(DorkError) as refusal:
        place.migrate()
    assert refusal.value.code is ErrorCode.MIGRATION_FAILED
    assert ALL[2] in refusal.value.message
    with place.connect() as connection:
        assert place.read(connection, "rate_limit_buckets") == twice


def test_rows_that_bytes_alone_told_apart_both_stay(tmp_path: Path) -> None:
    """Once what is no text is taken out, two paths or two buckets may be equal, and neither is lost."""
    place = Place("sqlite", str(tmp_path / "dork.db"))
    place.begin_at(len(LINEAGE))
    paths: tuple[str | bytes, ...] = (Cut(b"/srv/\xff"), "/srv/\ufffd", b"/srv/\xfe")
    agents: tuple[str | bytes, ...] = (Cut(b"A\xff"), "A\ufffd", b"A\xfe")
    with place.connect() as connection:
        for number, (path, agent) in enumerate(zip(paths, agents, strict=True)):
            denial = {"id": f"D{number}", "path": path, "reason": None, "denier": None, "created_at": _NOW}
            insert(connection, "agent_denials", [denial])
            insert(
                connection, "rate_limit_buckets", [{"agent_id": agent, "bucket_minute": 5, "count": number}]
            )
    place.migrate()
    with place.connect() as connection:
        found = [row["path"] for row in place.read(connection, "agent_denials")]
        counts = sorted(row["count"] for row in place.read(connection, "rate_limit_buckets"))
        kept = {row["key"]: row["value"] for row in place.read(connection, "system_state")}
    assert found == ["/srv/\ufffd", "/srv/\ufffd\ufffdD1", "/srv/\ufffd\ufffdD2"]
    assert [kept[f"lineage:agent_denials:D{number}:path"] for number in range(3)] == [
        "X'2f7372762fff'",
        "/srv/\ufffd",
        "X'2f7372762ffe'",
    ]
    assert counts == [0, 1, 2]


def _compare(was: sa.Table, rows: list[Row], after: Mapping[str, Row], kept: Mapping[str, str]) -> None:
    table, lost = was.name, []
    for row in rows:
        identity = _identity(table, row)
        new = after.get(_key(table, row), {})
        for column, value in row.items():
            if _same(was.columns[column], value, new.get(column, _Missing)):
                continue
            if kept.get(f"lineage:{table}:{identity}:{column}") == _literal(value):
                continue
            meant = _MEANT.get(f"{table}.{column}")
            if not (meant and meant(row, new.get(column))):
                lost.append(f"{table} {identity}: {column} was {value!r} and is {new.get(column)!r}")
    assert not lost, lost[:10]


class _Missing:
    """No such row or column any more."""


def _identity(table: str, row: Row) -> str:
    if table == "rate_limit_buckets":
        return f"{_plain(row['agent_id'])}:{_plain(row['bucket_minute'])}"
    # A table of today by its key of today; those of the lineage have an id.
    key = metadata.tables[table].primary_key.columns.keys() if table in metadata.tables else ("id",)
    return ":".join(_plain(row[name]) for name in key)


def _key(table: str, row: Row) -> str:
    # Here each agent has one bucket, which is found also where its minute was none.
    return _plain(row["agent_id"]) if table == "rate_limit_buckets" else _identity(table, row)


def _by_identity(table: str, after: Mapping[str, list[Row]]) -> dict[str, Row]:
    """The rows of head. A delivery of the lineage was a message as well, and named its mailbox by a hash."""
    found = {_key(table, row): row for row in after[table]}
    if table == "relay_index":
        messages = {row["id"]: row for row in after["relay_messages"]}
        mailboxes = {row["id"]: row for row in after["relay_endpoints"]}
        for row in found.values():
            message = messages[row["message_id"]]
            row.update(
                subject=message["subject"],
                payload=message["payload"],
                metadata=message["metadata"],
                endpoint_hash=mailboxes[row["endpoint_id"]]["hash"],
            )
    return found


def _same(column: sa.Column[Any], old: Any, new: Any) -> bool:
    if isinstance(column.type, sa.DateTime) and old is not None:
        return _instant(old) is not None and _instant(old) == _instant(new)
    if isinstance(old, bool) or isinstance(new, bool):
        return old in (0, 1) and bool(old) == bool(new)
    return type(old) is type(new) and bool(old == new)


def _instant(value: Any) -> datetime | None:
    try:
        found = value if isinstance(value, datetime) else datetime.fromisoformat(value)
        return found if found.tzinfo else None
    except (TypeError, ValueError):
        return None


def _plain(value: Any) -> str:
    if isinstance(value, str):
        value = value.encode("utf-8", "surrogateescape")
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _literal(value: Any) -> str:
    """How an original is kept: text as it is, bytes as a SQL literal, also those that stood as text."""
    if isinstance(value, str):
        encoded = value.encode("utf-8", "surrogateescape")
        return value if encoded.decode("utf-8", "replace") == value else f"X'{encoded.hex()}'"
    return f"X'{value.hex()}'" if isinstance(value, bytes) else str(value)
