"""What `dorkos up` and `dorkos db` refuse, on the way that users take: by code, with every byte kept."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from dorkos.clock import SystemClock
from dorkos.db.engine import APPLICATION_ID, sqlite_driver
from dorkos.db.ledger import revisions
from dorkos.db.migrate import migrate_sqlite, status_sqlite
from dorkos.db.verify import verify_sqlite
from dorkos.errors import DorkError, ErrorCode
from dorkos.serving import run
from dorkos.testing import create_sqlite_file
from tests.cli.terminal import call
from tests.db.conftest import Bench
from tests.db.room import no_room_beyond
from tests.db.test_lineage_rows import ROWS

ALL = [revision.id for revision in revisions()]


def _execute(path: Path, *statements: str) -> None:
    with closing(sqlite_driver().connect(str(path), isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def _ledger(*statements: str) -> Callable[[Path], None]:
    """A database of ours whose ledger tells another story than the migration files."""

    def make(path: Path) -> None:
        create_sqlite_file(path)
        _execute(path, *statements)

    return make


def _truncated(keep: float) -> Callable[[Path], None]:
    """A database of ours cut after so many bytes: a share of them, their number, or counted from the end."""

    def make(path: Path) -> None:
        create_sqlite_file(path)
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * keep if 0 < keep < 1 else keep)])

    return make


def _garbage(path: Path) -> None:
    path.write_bytes(b"these are not the pages of a database" * 200)


def _foreign(path: Path) -> None:
    _execute(path, "CREATE TABLE notes (id)", "INSERT INTO notes VALUES (1)")


def _foreign_in_wal_mode(path: Path) -> None:
    _execute(path, "PRAGMA journal_mode = WAL", "CREATE TABLE notes (id)")


def _foreign_by_its_mark(path: Path) -> None:
    create_sqlite_file(path)
    content = bytearray(path.read_bytes())
    struct.pack_into(">I", content, 68, 77)
    path.write_bytes(content)


def _zero_byte_beside_its_log(path: Path) -> None:
    path.touch()
    path.with_name("dork.db-wal").write_bytes(b"pages")


def _log_without_main_file(path: Path) -> None:
    """As after `mv dork.db elsewhere` beside the log of a killed server, its committed rows in the log."""
    program = (
        "import os, sys\n"
        "from dorkos.db.engine import sqlite_driver\n"
        "connection = sqlite_driver().connect(sys.argv[1], isolation_level=None)\n"
        "connection.execute('PRAGMA journal_mode = WAL')\n"
        "connection.execute('CREATE TABLE t (id)')\n"
        "os._exit(0)\n"
    )
    subprocess.run([sys.executable, "-c", program, str(path)], check=True)
    path.unlink()


def _mark_without_ledger(path: Path) -> None:
    _execute(path, f"PRAGMA application_id = {APPLICATION_ID}", "CREATE TABLE agents (id)")


_ENTRY = "INSERT INTO schema_ledger VALUES ('{}', 'x', '2026-01-01T00:00:00.000Z', '9.9.9', 1)"


@dataclass(frozen=True)
class Case:
    """A state of the data directory, and how it is refused: the code, and a word that must be told."""

    make: Callable[[Path], object]
    code: ErrorCode
    told: str


CASES = {
    "edited migration": Case(
        _ledger(f"UPDATE schema_ledger SET checksum = 'x' WHERE id = '{ALL[1]}'"),
        ErrorCode.MIGRATION_CHANGED,
        ALL[1],
    ),
    "deleted migration": Case(
        _ledger(_ENTRY.format("0001_deleted")), ErrorCode.MIGRATION_MISSING, "0001_deleted"
    ),
    "inserted migration": Case(
        _ledger(f"DELETE FROM schema_ledger WHERE id = '{ALL[1]}'"), ErrorCode.MIGRATION_MISSING, ALL[1]
    ),
    "reordered migrations": Case(
        _ledger(
            f"UPDATE schema_ledger SET id = 'aside' WHERE id = '{ALL[1]}'",
            f"UPDATE schema_ledger SET id = '0001{ALL[2][4:]}' WHERE id = '{ALL[2]}'",
            f"UPDATE schema_ledger SET id = '0002{ALL[1][4:]}' WHERE id = 'aside'",
        ),
        ErrorCode.MIGRATION_MISSING,
        f"0002{ALL[1][4:]}",
    ),
    "newer database": Case(_ledger(_ENTRY.format("9999_future")), ErrorCode.DATABASE_NEWER, "9.9.9"),
    "schema changed by hand": Case(
        _ledger("ALTER TABLE agents ADD COLUMN nickname TEXT"), ErrorCode.DATABASE_DRIFT, "nickname"
    ),
    "no SQLite file": Case(_garbage, ErrorCode.DATABASE_CORRUPT, "not a SQLite database"),
    "foreign SQLite file": Case(_foreign, ErrorCode.DATABASE_FOREIGN, "another program"),
    "foreign file in WAL mode": Case(_foreign_in_wal_mode, ErrorCode.DATABASE_FOREIGN, "another program"),
    "foreign by its mark": Case(_foreign_by_its_mark, ErrorCode.DATABASE_FOREIGN, "another program"),
    "zero bytes beside a log": Case(_zero_byte_beside_its_log, ErrorCode.DATABASE_CORRUPT, "write-ahead log"),
    "WAL without main file": Case(_log_without_main_file, ErrorCode.DATABASE_CORRUPT, "write-ahead log"),
    "one byte": Case(lambda path: path.write_bytes(b"S"), ErrorCode.DATABASE_CORRUPT, "not a SQLite"),
    "truncated in the header": Case(_truncated(99), ErrorCode.DATABASE_CORRUPT, "not a SQLite"),
    "truncated by one byte": Case(_truncated(-1), ErrorCode.DATABASE_CORRUPT, "cut short"),
    "truncated in page one": Case(_truncated(1000), ErrorCode.DATABASE_CORRUPT, "cut short"),
    "truncated to page one": Case(_truncated(4096), ErrorCode.DATABASE_CORRUPT, "cut short"),
    "truncated in the middle": Case(_truncated(0.5), ErrorCode.DATABASE_CORRUPT, "cut short"),
    "truncated by a little": Case(_truncated(0.999), ErrorCode.DATABASE_CORRUPT, "cut short"),
    "marked, but without ledger": Case(_mark_without_ledger, ErrorCode.DATABASE_CORRUPT, "no record"),
    "a folder": Case(Path.mkdir, ErrorCode.DATABASE_UNREACHABLE, "cannot be read"),
    "a link to nowhere near": Case(
        lambda path: path.symlink_to(path.parent / "no" / "such" / "folder"),
        ErrorCode.DATABASE_UNREACHABLE,
        "",
    ),
}

# Made by whoever takes the directory, and gone or empty afterwards.
_OF_THE_LOCK = ("lock", "lock.pid")


def _files(home: Path) -> dict[str, bytes | None]:
    """Every entry with its content; None for what is no file."""
    return {
        str(path.relative_to(home)): path.read_bytes() if path.is_file() else None
        for path in sorted(home.rglob("*"))
        if path.name not in _OF_THE_LOCK
    }


def _start(home: Path) -> DorkError:
    """Start a server in this process; it must not come to that."""

    def echo(line: str) -> None:
        assert "ready" not in line

    with pytest.raises(DorkError) as refusal:
        run(home, {"server.port": 0}, echo=echo)
    return refusal.value


@pytest.mark.parametrize("name", CASES)
def test_what_cannot_be_trusted_is_refused_and_every_byte_kept(tmp_path: Path, name: str) -> None:
    """Starting the server, `db migrate`, `db migrate --dry-run` and `db backup` refuse with one code."""
    home = tmp_path / "a hömé"
    home.mkdir()
    case = CASES[name]
    case.make(home / "dork.db")
    before = _files(home)

    refusal = _start(home)
    assert (refusal.code, case.told in refusal.message) == (case.code, True), refusal.message
    assert refusal.hint
    assert _files(home) == before

    environment = {"DORK_HOME": str(home)}
    done = call("db", "migrate", "--json", environment=environment)
    assert (done.code, done.json["code"]) == (refusal.exit_code, case.code)
    assert _files(home) == before

    for words in (("db", "migrate", "--dry-run"), ("db", "status")):
        if case.code in (ErrorCode.DATABASE_DRIFT, ErrorCode.HOME_UNWRITABLE):
            continue  # To those two a copy and a look are as good as ever.
        done = call(*words, "--json", environment=environment)
        assert (done.code, done.json["code"]) == (refusal.exit_code, case.code), words
        assert _files(home) == before

    done = call("db", "verify", "--json", environment=environment)
    assert (done.code, done.json["ok"]) == (1, False)
    assert _files(home) == before


def test_a_zero_byte_file_becomes_a_new_database(tmp_path: Path) -> None:
    """Nothing is in it, and no log lies beside it that could hold anything."""
    (tmp_path / "dork.db").touch()
    environment = {"DORK_HOME": str(tmp_path)}
    assert call("db", "migrate", environment=environment).code == 0
    assert verify_sqlite(tmp_path / "dork.db") == []


def test_two_migrating_commands_at_once_end_well(tmp_path: Path) -> None:
    """Together they apply each migration once; one that came too early says who holds the directory."""
    environment = {**os.environ, "DORK_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "dorkos", "db", "migrate", "--json"]
    processes = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        for _ in range(3)
    ]
    answers = [json.loads(process.communicate()[0]) for process in processes]
    applied = [migration["id"] for answer in answers for migration in answer.get("applied", ())]
    assert sorted(applied) == ALL
    assert {answer["code"] for answer in answers if "code" in answer} <= {"home_locked"}
    assert verify_sqlite(tmp_path / "dork.db") == []


def _fill_lineage(bench: Bench) -> None:
    bench.copy_revisions(3)
    bench.migrate()
    with bench.raw() as connection:
        for table, rows in ROWS.items():
            for row in rows:
                names, marks = ", ".join(f'"{name}"' for name in row), ", ".join("?" * len(row))
                connection.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(row.values()))


@pytest.mark.parametrize("spare", [0, 3, 10, 25, 50])
def test_a_disk_that_fills_during_an_upgrade_stops_it_between_two_versions(bench: Bench, spare: int) -> None:
    """Code `disk_full`; the database is sound, at a version that the ledger tells; with room it goes on."""
    _fill_lineage(bench)
    rows = {table: len(bench.rows(f"SELECT 1 FROM {table}")) for table in ROWS}
    ((pages,),) = bench.rows("PRAGMA page_count")
    with no_room_beyond(pages + spare):
        refusal = _start(bench.home)
    assert refusal.code is ErrorCode.DISK_FULL
    assert refusal.hint

    status = status_sqlite(bench.path)
    assert [entry.id for entry in status.applied] + list(status.pending) == ALL
    assert len(status.applied) >= 3
    assert status.pending
    assert bench.rows("PRAGMA integrity_check") == [("ok",)]
    assert bench.rows("PRAGMA foreign_key_check") == []
    assert {table: len(bench.rows(f"SELECT 1 FROM {table}")) for table in ROWS} == rows
    (snapshot,) = bench.backups.glob("dork-*.db")
    assert [entry.id for entry in status_sqlite(snapshot).applied] == ALL[:3]

    report = migrate_sqlite(bench.path, backups=bench.backups, clock=SystemClock())
    assert [applied.id for applied in report.applied] == list(status.pending)
    assert verify_sqlite(bench.path) == []


def test_a_disk_that_is_full_for_a_new_database_leaves_none_that_serves(tmp_path: Path) -> None:
    """The first start fails with `disk_full`, and the next one makes the database."""
    home = tmp_path / "home"
    with no_room_beyond(4):
        assert _start(home).code is ErrorCode.DISK_FULL
    assert status_sqlite(home / "dork.db").applied == ()
    migrate_sqlite(home / "dork.db", backups=home / "backups", clock=SystemClock())
    assert verify_sqlite(home / "dork.db") == []
