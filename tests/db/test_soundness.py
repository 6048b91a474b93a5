"""Values that no reader understands: which they are, and who is told of them before it is too late."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from dorkos.clock import ManualClock
from dorkos.db.backup import back_up_sqlite
from dorkos.db.connections import migrating_postgres, reading_sqlite
from dorkos.db.engine import sqlite_driver
from dorkos.db.exporting import export_to_file
from dorkos.db.migrate import migrate_postgres
from dorkos.db.rehearse import rehearse
from dorkos.db.restore import prepared_restore
from dorkos.db.soundness import wrong_values
from dorkos.db.verify import verify_postgres, verify_sqlite
from dorkos.errors import DorkError, ErrorCode
from dorkos.testing import create_sqlite_file, empty_postgres
from tests.db.any_rows import any_rows, filled_postgres, filled_sqlite

EVENT = "INSERT INTO events (position, kind, entity_id, at, data) VALUES (?, 'k', 'e', ?, ?)"
AT = "2026-03-01T09:00:00.000Z"
NO_INSTANTS = (
    "yesterday",
    "",
    "2026-03-01T09:00:00Z",
    "2026-03-01 09:00:00.000Z",
    "2026-03-01T09:00:00.000",
    "2026-03-01T09:00:00.000+00:00",
    "2026-02-30T09:00:00.000Z",
    "2026-03-01T24:00:00.000Z",
    "2026-03-01T09:00:60.000Z",
    "0000-03-01T09:00:00.000Z",
    "12026-03-01T09:00:00.000Z",
    "now",
    "2461000.5",
)
# The last two are JSON to SQLite, and a fault to whoever reads them here.
NO_JSON = ("", "{", "{'a': 1}", "nul", "[1,]", "[" * 1000 + "]" * 1000, "[" + "1" * 5000 + "]")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A migrated, empty database."""
    file = tmp_path / "dork.db"
    create_sqlite_file(file)
    return file


def put(path: Path, sql: str, *values: object) -> None:
    with closing(sqlite_driver().connect(str(path), isolation_level=None)) as connection:
        connection.execute(sql, values)


@contextmanager
def looking(path: Path) -> Iterator[sa.Connection]:
    with reading_sqlite(path) as connection:
        yield connection


@pytest.mark.parametrize("seed", range(4))
def test_odd_values_are_no_wrong_ones(seed: int, tmp_path: Path) -> None:
    """Everything that our own columns may hold is understood."""
    path = filled_sqlite(tmp_path / "dork.db", any_rows(seed, per_table=8))
    assert verify_sqlite(path) == []


def test_on_postgresql_json_is_looked_at(clock: ManualClock) -> None:
    """Its types guard the rest."""
    with empty_postgres() as url:
        migrate_postgres(url, clock=clock)
        filled_postgres(url, any_rows(0))
        assert verify_postgres(url) == []
        with migrating_postgres(url) as connection, connection.begin():
            key = (
                connection.exec_driver_sql("UPDATE events SET data = '{' RETURNING position")
                .scalars()
                .first()
            )
        assert f"values: events.data of row {key} is no JSON" in verify_postgres(url)


@pytest.mark.parametrize("at", NO_INSTANTS)
def test_an_instant_that_is_none_is_named(at: str, path: Path) -> None:
    """By table, column and key. What stands there is not shown."""
    put(path, EVENT, 1, AT, "{}")
    put(path, EVENT, 2, at, "{}")
    assert verify_sqlite(path) == ["values: events.at of row 2 is no instant"]


@pytest.mark.parametrize("data", NO_JSON)
def test_json_that_is_none_is_named(data: str, path: Path) -> None:
    """Also what SQLite takes and no reader of ours does."""
    put(path, EVENT, 1, AT, '{"a": 1}')
    put(path, EVENT, 2, AT, data)
    assert verify_sqlite(path) == ["values: events.data of row 2 is no JSON"]


@pytest.mark.parametrize("value", ["X'FF'", "X'61FF00'", "X'EDA080'"])
def test_a_text_that_is_none_is_named(value: str, path: Path) -> None:
    """Bytes that somebody forced into a text column; the key may be such a text itself."""
    put(path, f"INSERT INTO system_state VALUES ('k', CAST({value} AS TEXT)), (CAST(X'6BFF' AS TEXT), 'v')")
    assert verify_sqlite(path) == [
        "values: system_state.value of row k is not UTF-8",
        r"values: system_state.key of row k\xff is not UTF-8",
    ]


def test_a_text_with_a_zero_is_sound_and_cannot_be_moved(path: Path, clock: ManualClock) -> None:
    """A lineage database may have it, and everything here reads it; PostgreSQL and exports cannot hold it."""
    put(path, "INSERT INTO system_state VALUES ('k', CAST(X'6100' AS TEXT))")
    assert verify_sqlite(path) == []
    with pytest.raises(DorkError) as refusal:
        export_to_file(path, to=path.parent / "out", folder=path.parent, clock=clock)
    assert refusal.value.code is ErrorCode.DATABASE_CORRUPT
    assert "system_state.value of row k holds U+0000" in refusal.value.message
    # As this is sound otherwise, the refusal alone can say where.
    assert refusal.value.details == {
        "problems": ["values: system_state.value of row k holds U+0000, which PostgreSQL has not"]
    }


def test_the_record_of_migrations_is_looked_at(path: Path) -> None:
    """Status and doctor read it; it stays with its database, so it hinders no move."""
    put(path, "UPDATE schema_ledger SET applied_at = 'x' WHERE id = '0000_initial'")
    problem = "values: schema_ledger.applied_at of row 0000_initial is no instant"
    assert verify_sqlite(path) == [problem]
    with looking(path) as connection:
        assert wrong_values(connection, to_move=True) == []


def test_twenty_are_told(path: Path) -> None:
    """A whole table of them would drown what else was found."""
    for number in range(30):
        put(path, EVENT, number, "yesterday", "{}")
    with looking(path) as connection:
        assert len(wrong_values(connection)) == 20


def test_of_a_damaged_file_the_damage_is_told(path: Path) -> None:
    """Values that can no longer be read must not hide it."""
    put(path, EVENT, 1, "yesterday", "{}")
    with closing(sqlite_driver().connect(str(path), isolation_level=None)) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'events'").fetchone()
    stored = bytearray(path.read_bytes())
    stored[(page - 1) * 4096 + 8 : (page - 1) * 4096 + 12] = b"\x7f\xff\xff\xff"
    path.write_bytes(stored)
    assert verify_sqlite(path)[0].startswith("integrity: ")


def test_an_export_is_refused_before_a_file_is_made(path: Path, clock: ManualClock) -> None:
    """What it would write, no import takes."""
    put(path, EVENT, 7, "yesterday", "{}")
    before = sorted(path.parent.iterdir())
    with pytest.raises(DorkError) as refusal:
        export_to_file(path, to=None, folder=path.parent / "backups", clock=clock)
    assert refusal.value.code is ErrorCode.DATABASE_CORRUPT
    assert "events.at of row 7 is no instant" in refusal.value.message
    assert sorted(path.parent.iterdir()) == before


@pytest.mark.parametrize("at", ["'yesterday'", "CAST(X'FF' AS TEXT)", "'9999-12-31T23:59:59.999-23:59'"])
def test_a_damaged_database_can_be_replaced(at: str, path: Path, clock: ManualClock) -> None:
    """A value that cannot be read is a reason to restore, and no hindrance."""
    backups = path.parent / "backups"
    file = back_up_sqlite(path, backups=backups, to=None, now=clock.now()).path
    put(path, f"INSERT INTO events (position, kind, entity_id, at, data) VALUES (9, 'k', 'e', {at}, '{{}}')")
    with prepared_restore(file, path, backups=backups, clock=clock, say=lambda _: None) as ready:
        assert ready.replaced is not None
        assert (ready.replaced.problem, ready.replaced.as_of) == (None, None)
        ready.carry_out()
    assert verify_sqlite(path) == []


@pytest.mark.parametrize("at", ["'yesterday'", "CAST(X'FF' AS TEXT)"])
def test_a_backup_with_a_wrong_value_is_refused_by_name(at: str, path: Path, clock: ManualClock) -> None:
    """A rehearsal finds it while the original can still be mended; a restore says it before anything else."""
    put(path, f"INSERT INTO events (position, kind, entity_id, at, data) VALUES (9, 'k', 'e', {at}, '{{}}')")
    backups = path.parent / "backups"
    file = back_up_sqlite(path, backups=backups, to=None, now=clock.now()).path
    note = rehearse(file, scratch=backups, clock=clock, say=lambda _: None)
    assert not note.ok
    assert "events.at of row 9" in str(note.problem)
    with (
        pytest.raises(DorkError) as refusal,
        prepared_restore(file, path, backups=backups, clock=clock, say=lambda _: None),
    ):
        pass
    assert refusal.value.code is ErrorCode.DATABASE_CORRUPT
    assert "events.at of row 9" in refusal.value.message
    # The way out where there is no other: it opens as it is, and takes a value in that place.
    assert "copy it into an empty directory" in str(refusal.value.hint)
    mended = path.parent / "mended.db"
    shutil.copyfile(file, mended)
    put(mended, f"UPDATE events SET at = '{AT}' WHERE position = 9")
    with prepared_restore(mended, path, backups=backups, clock=clock, say=lambda _: None) as ready:
        assert ready.staged.rows > 0
