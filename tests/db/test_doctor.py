"""What the doctor finds in a database: each trouble by its line, with advice, and no byte changed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from dorkos.clock import SystemClock, iso
from dorkos.db import doctor, doctor_postgres
from dorkos.db.backup import back_up_sqlite
from dorkos.db.backup_facts import FAILED_KEY, REHEARSED_KEY
from dorkos.db.connections import migrating_postgres
from dorkos.db.doctor import examine_library, examine_sqlite
from dorkos.db.doctor_postgres import examine_postgres
from dorkos.db.engine import sqlite_driver
from dorkos.db.finding import Finding, Level, age, examined, size
from dorkos.db.hold import FLEET_KEY
from dorkos.db.ledger import revisions
from dorkos.db.migrate import migrate_postgres
from dorkos.db.schema.tables import metadata
from dorkos.db.verify import verify_sqlite
from dorkos.errors import DorkError, ErrorCode
from dorkos.testing import create_sqlite_file, empty_postgres
from tests.db.conftest import Bench

NOW = SystemClock().now()


def by_name(findings: Iterable[Finding]) -> dict[str, Finding]:
    """The findings, of which each must have advice unless all is well."""
    found = {finding.name: finding for finding in findings}
    for finding in found.values():
        assert finding.message
        assert (finding.advice is None) == (finding.level is Level.OK), finding
    json.dumps([dict(finding.facts) for finding in found.values()])
    return found


def look(bench: Bench) -> dict[str, Finding]:
    """What is found in the bench's home, which keeps every byte."""
    before = bench.files()
    found = by_name(examine_sqlite(bench.path, backups=bench.backups, now=NOW))
    assert bench.files() == before
    return found


def execute(path: Path, *statements: str) -> None:
    """Run statements as another program would, with all checks off."""
    with closing(sqlite_driver().connect(str(path), isolation_level=None)) as connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        for statement in statements:
            connection.execute(statement)


def state(path: Path, key: str, value: object) -> None:
    """Store one fact."""
    text = value if isinstance(value, str) else json.dumps(value)
    with closing(sqlite_driver().connect(str(path), isolation_level=None)) as connection:
        connection.execute("INSERT INTO system_state VALUES (?, ?)", (key, text))


@pytest.fixture
def sound(bench: Bench) -> Bench:
    """A database of today with a backup."""
    create_sqlite_file(bench.path)
    bench.path.chmod(0o600)
    back_up_sqlite(bench.path, backups=bench.backups, to=None, now=NOW)
    return bench


def test_a_sound_database_has_no_line_but_ok(sound: Bench) -> None:
    """And each line has the numbers that it speaks of."""
    found = look(sound)
    assert {finding.level for finding in found.values()} == {Level.OK}
    assert set(found) == {
        *("database", "integrity", "relations", "migrations", "schema"),
        *("fleet", "rehearsal", "kept values", "backups"),
    }
    assert found["database"].facts["sizeBytes"] == sound.path.stat().st_size
    assert found["migrations"].facts["pending"] == []
    assert found["backups"].facts["count"] == 1


def test_before_the_first_start_there_is_nothing_to_find(bench: Bench) -> None:
    """That is no fault, and nothing comes about by looking."""
    found = look(bench)
    assert {name: finding.level for name, finding in found.items()} == {"database": Level.OK}


def _damage(bench: Bench) -> None:
    content = bytearray(bench.path.read_bytes())
    content[20 * 4096 : 21 * 4096] = b"\xee" * 4096
    bench.path.write_bytes(content)


def _orphan(bench: Bench) -> None:
    execute(
        bench.path,
        "INSERT INTO pulse_run_output (run_id, seq, stream, at, text) "
        "VALUES ('NONE', 1, 'stdout', '2026-01-01T00:00:00.000Z', 'x')",
    )


def _hold(mode: str) -> Callable[[Bench], None]:
    fleet = {"mode": mode, "reason": "after a restore", "since": iso(NOW - timedelta(hours=3))}
    return lambda bench: state(bench.path, FLEET_KEY, fleet)


def _rehearsed(*, ok: bool, days: int) -> Callable[[Bench], None]:
    done = {
        "at": iso(NOW - timedelta(days=days)),
        "file": "daily-1.db",
        "ok": ok,
        "rows": 1234,
        "problem": "torn",
    }
    return lambda bench: state(bench.path, REHEARSED_KEY, done)


def _no_backups(bench: Bench) -> None:
    for path in bench.backups.iterdir():
        path.unlink()


def _old_backup(bench: Bench) -> None:
    _no_backups(bench)
    back_up_sqlite(bench.path, backups=bench.backups, to=None, now=NOW - timedelta(days=30))


def _decoys(bench: Bench) -> None:
    _no_backups(bench)
    (bench.backups / "daily-20990101T000000Z-0004_full_schema.db").touch()


def _newer_decoy(bench: Bench) -> None:
    (bench.backups / "daily-20990101T000000Z-0004_full_schema.db").write_bytes(b"SQLite format 3\0" * 300)


def _readable_by_others(bench: Bench) -> None:
    bench.home.chmod(0o755)
    bench.path.chmod(0o644)


CASES: dict[str, tuple[Callable[[Bench], object], str, Level, str]] = {
    "a damaged page": (_damage, "integrity", Level.FAULT, "damaged"),
    "a broken relation": (_orphan, "relations", Level.FAULT, "pulse_run_output"),
    "a schema changed by hand": (
        lambda bench: execute(bench.path, "ALTER TABLE agents ADD COLUMN nickname TEXT"),
        "schema",
        Level.FAULT,
        "not as the last migration left them",
    ),
    "tables beside ours": (
        lambda bench: execute(bench.path, "CREATE TABLE notes (x)"),
        "schema",
        Level.OK,
        "others lie beside them",
    ),
    "no facts any more": (
        lambda bench: execute(bench.path, "DROP TABLE system_state"),
        "schema",
        Level.FAULT,
        "table system_state",
    ),
    "an emptied ledger": (
        lambda bench: execute(bench.path, "DELETE FROM schema_ledger"),
        "database",
        Level.FAULT,
        "record of its migrations",
    ),
    "an import half done": (
        lambda bench: state(bench.path, "import", "{}"),
        "rows",
        Level.FAULT,
        "is not finished",
    ),
    "a transfer half done": (
        lambda bench: state(bench.path, "transfer", "{}"),
        "rows",
        Level.FAULT,
        "is not finished",
    ),
    "a link to nothing": (
        lambda bench: bench.path.rename(bench.home / "old.db").with_name("dork.db").symlink_to("gone.db"),
        "database",
        Level.FAULT,
        "link to gone.db",
    ),
    "a newer database": (
        lambda bench: execute(
            bench.path,
            "INSERT INTO schema_ledger VALUES ('9999_x', 'x', '2026-01-01T00:00:00.000Z', '9.9.9', 1)",
        ),
        "database",
        Level.FAULT,
        "9.9.9",
    ),
    "no database at all": (
        lambda bench: bench.path.write_bytes(b"hello" * 99),
        "database",
        Level.FAULT,
        "not a SQLite",
    ),
    "a log without its file": (
        lambda bench: bench.path.rename(bench.path.with_name("dork.db-wal")),
        "database",
        Level.FAULT,
        "write-ahead log",
    ),
    "others may read it": (_readable_by_others, "database", Level.WARNING, "0644"),
    "a fleet on hold": (_hold("hold"), "fleet", Level.WARNING, "on hold, set 3 hours ago: after a restore"),
    "a fleet that drains": (_hold("drain"), "fleet", Level.WARNING, "draining"),
    "a fleet that is stopped": (_hold("stop"), "fleet", Level.WARNING, "stopped"),
    "a fleet that runs again": (_hold("running"), "fleet", Level.OK, "running"),
    "a mode that is unknown": (_hold("party"), "fleet", Level.FAULT, "cannot be read"),
    "a mode that is no JSON": (
        lambda bench: state(bench.path, FLEET_KEY, "[1]"),
        "fleet",
        Level.FAULT,
        "cannot be read",
    ),
    "a daily backup that fails": (
        lambda bench: state(
            bench.path,
            FAILED_KEY,
            {"at": iso(NOW), "ok": False, "file": None, "rows": None, "problem": "No space left on device"},
        ),
        "daily backup",
        Level.FAULT,
        "No space left",
    ),
    "a rehearsal that went well": (_rehearsed(ok=True, days=2), "rehearsal", Level.OK, "1,234 rows"),
    "a rehearsal that failed": (_rehearsed(ok=False, days=2), "rehearsal", Level.FAULT, "torn"),
    "a rehearsal long ago": (_rehearsed(ok=True, days=40), "rehearsal", Level.WARNING, "40 days ago"),
    "a rehearsal that says nothing": (
        lambda bench: state(bench.path, REHEARSED_KEY, "{}"),
        "rehearsal",
        Level.WARNING,
        "cannot be read",
    ),
    "no rehearsal in a long time": (
        lambda bench: execute(bench.path, "UPDATE schema_ledger SET applied_at = '2020-01-01T00:00:00.000Z'"),
        "rehearsal",
        Level.WARNING,
        "no backup was ever restored",
    ),
    "kept values": (
        lambda bench: state(bench.path, "lineage:agents:A:name", "x"),
        "kept values",
        Level.OK,
        "1 value of older versions",
    ),
    "no backup": (_no_backups, "backups", Level.WARNING, "there is none"),
    "an old backup": (_old_backup, "backups", Level.WARNING, "30 days ago"),
    "only decoys": (_decoys, "backups", Level.FAULT, "none that is whole"),
    "a decoy that is newer": (_newer_decoy, "backups", Level.WARNING, "not whole"),
}


@pytest.mark.parametrize("name", CASES)
def test_each_trouble_has_its_line(sound: Bench, name: str) -> None:
    """With its level and words, and advice; the backups are looked at whatever the database is like."""
    make, line, level, told = CASES[name]
    make(sound)
    found = look(sound)
    assert found[line].level is level, found
    assert told in found[line].message
    assert "backups" in found


@pytest.mark.parametrize("name", ["a schema changed by hand", *(list(CASES)[3:9])])
def test_doctor_verification_and_start_agree(sound: Bench, name: str) -> None:
    """Where one finds fault the others do, and a start makes nothing new."""
    make, line, level, _ = CASES[name]
    make(sound)
    assert look(sound)[line].level is level
    assert bool(verify_sqlite(sound.path)) is (level is Level.FAULT)
    if level is Level.FAULT:
        before = set(sound.files())
        with pytest.raises(DorkError):
            sound.migrate(declared=metadata)
        assert set(sound.files()) == before
    else:
        assert sound.migrate(declared=metadata).applied == ()


def test_waiting_migrations_are_a_warning_and_drift_is_not_guessed(bench: Bench) -> None:
    """At every historical version; what does not exist yet in it is not asked for."""
    for count in range(1, len(revisions())):
        bench.path.unlink(missing_ok=True)
        bench.copy_revisions(count)
        bench.migrate()
        found = look(bench)
        assert found["migrations"].level is Level.WARNING
        assert revisions()[count].id in found["migrations"].message
        assert found["integrity"].level is Level.OK
        assert Level.FAULT not in {finding.level for finding in found.values()}


def test_a_killed_servers_log_is_read_and_kept(bench: Bench) -> None:
    """Rows that are only in the log count; neither it nor the file is touched by looking."""
    create_sqlite_file(bench.path)
    program = (
        "import os, sys\n"
        "from dorkos.db.engine import sqlite_driver\n"
        "connection = sqlite_driver().connect(sys.argv[1], isolation_level=None)\n"
        "connection.execute('PRAGMA journal_mode = WAL')\n"
        "connection.execute(\"INSERT INTO system_state VALUES ('lineage:a:b:c', 'x')\")\n"
        "os._exit(0)\n"
    )
    subprocess.run([sys.executable, "-c", program, str(bench.path)], check=True)
    before = {name: content for name, content in bench.files().items() if not name.endswith("-shm")}
    found = by_name(examine_sqlite(bench.path, backups=bench.backups, now=NOW))
    assert found["kept values"].facts["count"] == 1
    walled = found["database"].facts["walBytes"]
    assert isinstance(walled, int)
    assert walled > 0
    assert {name: content for name, content in bench.files().items() if not name.endswith("-shm")} == before


def test_a_log_that_does_not_shrink_is_told(sound: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Something reads without an end, and the disk fills."""
    monkeypatch.setattr(doctor, "_WAL_LARGE", -1)
    assert look(sound)["database"].level is Level.WARNING


def test_a_library_below_the_floor_is_told_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """A warning: what is written here is safe, and other programs are not."""
    assert by_name([examine_library()])["sqlite"].facts["driver"] in ("pysqlite3", "sqlite3")
    monkeypatch.setattr(doctor, "sqlite_version", lambda: (3, 40, 1))
    finding = by_name([examine_library()])["sqlite"]
    assert finding.level is Level.WARNING
    assert "lose" in finding.message


def test_a_library_that_is_too_old_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """The doctor lives on."""

    def none() -> None:
        raise DorkError(ErrorCode.DRIVER_MISSING, "SQLite 3.1 is too old.", hint="Install another.")

    monkeypatch.setattr(doctor, "sqlite_driver", none)
    assert by_name([examine_library()])["sqlite"].level is Level.FAULT


def test_what_breaks_while_looking_becomes_a_line() -> None:
    """One broken thing must not hide the others."""

    def look() -> Finding:
        raise OSError(5, "Input/output error")

    finding = examined("disk", look)
    assert finding.level is Level.FAULT
    assert "Input/output error" in finding.message


def test_a_sound_postgres_has_no_line_but_ok(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reachable, UTF-8, synced commits, the schema as it should be."""
    with empty_postgres() as url:
        migrate_postgres(url, clock=SystemClock())
        found = by_name(examine_postgres(url, now=NOW))
        # The tests' own server syncs nothing, which is what this line is for.
        commits = found.pop("commits")
        assert {finding.level for finding in found.values()} == {Level.OK}, found
        assert set(found) == {
            *("database", "latency", "migrations", "schema", "fleet", "kept values", "backups"),
        }
        assert found["database"].facts["encoding"] == "UTF8"
        assert (commits.level, commits.facts["fsync"]) == (Level.FAULT, "off")
        assert commits.facts["synchronousCommit"] == "on"
        monkeypatch.setattr(doctor_postgres, "_SLOW_MS", 0)
        assert by_name(examine_postgres(url, now=NOW))["latency"].level is Level.WARNING


@pytest.mark.parametrize(
    ("statement", "line", "told"),
    [
        ("ALTER TABLE agents ADD COLUMN nickname text", "schema", "column nickname"),
        ("DROP TABLE system_state", "schema", "table system_state"),
        ("DELETE FROM schema_ledger", "migrations", "is empty"),
        ("INSERT INTO system_state VALUES ('import', '{}')", "rows", "is not finished"),
        (
            "INSERT INTO schema_ledger VALUES ('9999_x', 'x', '2026-01-01T00:00:00Z', '9.9.9', 1)",
            "migrations",
            "9.9.9",
        ),
        (f"INSERT INTO system_state VALUES ('{FLEET_KEY}', '{{\"mode\": \"hold\"}}')", "fleet", "on hold"),
    ],
)
def test_trouble_in_postgres_has_its_line(statement: str, line: str, told: str) -> None:
    """As on SQLite."""
    with empty_postgres() as url:
        migrate_postgres(url, clock=SystemClock())
        with migrating_postgres(url) as connection, connection.begin():
            connection.exec_driver_sql(statement)
        found = by_name(examine_postgres(url, now=NOW))
        assert found[line].level is not Level.OK
        assert told in found[line].message


def test_tables_of_others_in_postgres_are_no_fault() -> None:
    """As a start sees it, which passes them over; and nothing was made by comparing."""
    with empty_postgres() as url:
        migrate_postgres(url, clock=SystemClock())
        with migrating_postgres(url) as connection, connection.begin():
            connection.exec_driver_sql("CREATE TABLE notes (x int)")
        assert by_name(examine_postgres(url, now=NOW))["schema"].level is Level.OK


def test_an_empty_postgres_is_no_fault() -> None:
    """The first start makes what is missing; nothing was made by looking."""
    with empty_postgres() as url:
        found = by_name(examine_postgres(url, now=NOW))
        assert found["migrations"].level is Level.OK
        with migrating_postgres(url) as connection, connection.begin():
            tables = connection.exec_driver_sql("SELECT * FROM pg_tables WHERE schemaname = 'public'").all()
        assert tables == []


@pytest.mark.parametrize("url", ["postgresql://u:secret@127.0.0.1:1/none", "postgresql://u:secret@h:port/x"])
def test_a_postgres_that_cannot_be_had_is_a_fault_without_its_password(url: str) -> None:
    """Unreachable, or a URL that cannot be read."""
    found = by_name(examine_postgres(url, now=NOW))
    assert found["database"].level is Level.FAULT
    assert "secret" not in repr(found)


def test_nothing_is_written_to_postgres() -> None:
    """A database that refuses every change is looked at as well as any other."""
    with empty_postgres() as url:
        migrate_postgres(url, clock=SystemClock())
        with migrating_postgres(url) as connection, connection.begin():
            name = connection.exec_driver_sql("SELECT current_database()").scalar_one()
            connection.exec_driver_sql(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        found = by_name(examine_postgres(url, now=NOW))
        assert {name for name, finding in found.items() if finding.level is not Level.OK} == {"commits"}


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (48_000, "48 kB"),
        (1_234_567, "1.2 MB"),
        (3.4e9, "3.4 GB"),
        (2e12, "2.0 TB"),
    ],
)
def test_sizes_in_words(number: float, words: str) -> None:
    """As the rest of the command line writes them."""
    assert size(int(number)) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-5, "just now"),
        (59, "just now"),
        (60, "1 minute ago"),
        (7199, "119 minutes ago"),
        (7200, "2 hours ago"),
        (172_800, "2 days ago"),
        (200 * 86_400, "200 days ago"),
    ],
)
def test_ages_in_words(seconds: int, words: str) -> None:
    """In the unit that tells most."""
    assert age(timedelta(seconds=seconds)) == words
