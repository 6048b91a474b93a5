"""`verify`: a sound database has no findings, and each kind of damage has one."""

from __future__ import annotations

import pytest

from dorkos.clock import SystemClock
from dorkos.db.connections import migrating_postgres
from dorkos.db.migrate import migrate_postgres
from dorkos.db.schema.tables import metadata
from dorkos.db.verify import verify_postgres, verify_sqlite
from dorkos.testing import empty_postgres
from tests.db.conftest import Bench

AT = "2026-01-01T00:00:00.000Z"


def test_a_sound_database_has_no_findings_and_stays_untouched(bench: Bench) -> None:
    """Looking leaves no file behind and changes no byte."""
    bench.migrate(declared=metadata)
    before = bench.files()
    assert verify_sqlite(bench.path) == []
    assert bench.files() == before


def test_a_database_in_use_can_be_verified(bench: Bench) -> None:
    """Rows that are still in the log are seen."""
    bench.migrate(declared=metadata)
    with bench.raw() as connection:
        connection.execute(
            "INSERT INTO pulse_runs (id, schedule_id, status, prompt, chain_id, created_at) "
            f"VALUES ('R', 'nobody', 'completed', 'p', 'R', '{AT}')"
        )
        assert verify_sqlite(bench.path) == [
            "foreign keys: row 1 of pulse_runs refers to a row of pulse_schedules that does not exist"
        ]


def test_a_missing_file_is_a_finding(bench: Bench) -> None:
    """Nothing there is not the same as nothing wrong."""
    assert verify_sqlite(bench.path) == [f"{bench.path} does not exist"]


def test_damage_inside_the_file_is_found(bench: Bench) -> None:
    """A page that was overwritten, the header being whole."""
    bench.migrate(declared=metadata)
    ((page,),) = bench.rows("SELECT rootpage FROM sqlite_schema WHERE name = 'schema_ledger'")
    content = bytearray(bench.path.read_bytes())
    start = (page - 1) * 4096
    content[start + 8 : start + 16] = b"\xff" * 8
    bench.path.write_bytes(content)
    assert verify_sqlite(bench.path)


def test_an_index_that_lost_an_entry_is_found(bench: Bench) -> None:
    """What still answers every query may be wrong all the same."""
    bench.migrate(declared=metadata)
    with bench.raw() as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("DELETE FROM sqlite_schema WHERE name = 'ix_relay_messages_chain_id'")
        connection.execute(
            "INSERT INTO relay_messages (id, subject, bytes, chain_id, hop_count, max_hops, created_at) "
            f"VALUES ('M', 's', 0, 'c', 0, 5, '{AT}')"
        )
    found = verify_sqlite(bench.path)
    assert any(text.startswith("integrity:") for text in found)
    assert any("index ix_relay_messages_chain_id" in text for text in found)


def test_a_schema_changed_by_hand_is_found(bench: Bench) -> None:
    """The column is named."""
    bench.migrate(declared=metadata)
    with bench.raw() as connection:
        connection.execute("ALTER TABLE agents ADD COLUMN nickname TEXT")
    (found,) = verify_sqlite(bench.path)
    assert found.startswith("schema: agents: column nickname")


def test_a_migration_that_waits_is_found(bench: Bench) -> None:
    """An old database is told by what it lacks, and by the schema that follows from it."""
    bench.copy_revisions(3)
    bench.migrate()
    found = verify_sqlite(bench.path)
    assert "migrations: 0003_leases_and_mailboxes is not applied" in found
    assert any(text.startswith("schema: ") for text in found)


@pytest.mark.parametrize("content", [b"no database", b""])
def test_what_is_no_database_of_ours_is_a_finding(bench: Bench, content: bytes) -> None:
    """Refusals are findings, too."""
    bench.path.write_bytes(content)
    assert verify_sqlite(bench.path)


def test_postgres_is_compared_with_the_declaration() -> None:
    """Sound: no findings. A column dropped by hand: named. No tables: all is pending."""
    with empty_postgres() as url:
        assert "migrations: 0000_initial is not applied" in verify_postgres(url)
        migrate_postgres(url, clock=SystemClock())
        assert verify_postgres(url) == []
        with migrating_postgres(url) as connection, connection.begin():
            connection.exec_driver_sql("ALTER TABLE agents DROP COLUMN version")
        (found,) = verify_postgres(url)
        assert found.startswith("schema: agents: column version")
