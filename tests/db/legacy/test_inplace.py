"""Opening a home of DorkOS for Node itself: its database is replaced by ours, whole or not at all."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from dorkos import storage
from dorkos.clock import ManualClock
from dorkos.db.engine import sqlite_driver
from dorkos.db.legacy.collecting import Rules
from dorkos.db.legacy.inplace import take_over
from dorkos.db.migrate import MigrationReport
from dorkos.db.retention import CopyKind, evict
from dorkos.db.verify import verify_sqlite
from dorkos.errors import DorkError, ErrorCode
from dorkos.home import Home
from tests.db.legacy.adopt_kit import (
    NOW,
    Target,
    brought,
    content_of,
    copy_of,
    dump_of,
    new_target,
    rows_of,
)
from tests.db.legacy.relay_kit import expected

TAKEN_OVER = ("home-node-0002", "home-wal", "home-upgraded-by-server")
RULES = Rules(lambda _cron, _zone: None, None)


def _open(home: Path) -> MigrationReport:
    """What every start does before it uses the database."""
    return storage.migrate(Home(home), None, ManualClock(NOW), lambda _: None)


def _kept(home: Path) -> list[Path]:
    return sorted((home / "backups").glob("lineage-*.db"))


def _old_rows(database: Path) -> dict[str, list[str]]:
    """The rows of the lineage's tables in a file, to be compared."""
    names = [row["name"] for row in rows_of(database, "SELECT name FROM sqlite_schema WHERE type = 'table'")]
    return {name: sorted(map(repr, rows_of(database, f'SELECT * FROM "{name}"'))) for name in names}


def _is_whole_old(home: Path, name: str) -> bool:
    """Whether what lies there is the old database with every row, read as any program would."""
    tables = expected(name)["databases"]["dork.db"]["tables"]
    found = _old_rows(home / "dork.db")
    return {table: len(rows) for table, rows in found.items()} == {
        table: content["row_count"] for table, content in tables.items()
    }


@pytest.mark.parametrize("name", TAKEN_OVER)
def test_it_holds_then_what_an_import_elsewhere_would_bring(name: str, tmp_path: Path) -> None:
    """Row for row, and sound, in one file with nothing of the old one beside it."""
    home = copy_of(name, tmp_path)
    report = _open(home)
    assert dump_of(home / "dork.db") == brought(name).dump()
    assert verify_sqlite(home / "dork.db") == []
    assert sorted(path.name for path in home.glob("dork.db*")) == ["dork.db"]
    assert report.adopted is not None
    assert report.snapshot == _kept(home)[0]
    assert any("Brought over from DorkOS for Node: " in note for note in report.notes)


@pytest.mark.parametrize("name", TAKEN_OVER)
def test_the_old_database_is_kept_with_what_its_log_held(name: str, tmp_path: Path) -> None:
    """Every row of every table is in the one file, which no cleaning up of backups touches."""
    home = copy_of(name, tmp_path)
    _open(home)
    (kept,) = _kept(home)
    for table, content in expected(name)["databases"]["dork.db"]["tables"].items():
        assert len(rows_of(kept, f'SELECT * FROM "{table}"')) == content["row_count"]
    for kind in CopyKind:
        evict(home / "backups", kind, keep=0, now=NOW)
    assert _kept(home) == [kept]


@pytest.mark.parametrize("name", TAKEN_OVER)
def test_the_files_beside_it_stay_as_they_are(name: str, tmp_path: Path) -> None:
    """They were read, and are nobody's to delete."""
    home = copy_of(name, tmp_path)
    before = content_of(home)
    _open(home)
    after = content_of(home)
    assert {path for path in before if after.get(path) != before[path]} <= {
        "dork.db",
        "dork.db-wal",
        "dork.db-shm",
    }


def test_what_an_interrupted_import_left_is_not_built_upon(tmp_path: Path) -> None:
    """Not a file that cannot be read, and not one that holds what the old database has no longer."""
    home = copy_of("home-wal", tmp_path)
    (home / "dork.db.adopting").write_bytes(b"half of a file")
    (home / "dork.db.adopting-wal").write_bytes(b"and of its log")
    _open(home)
    stale, other = copy_of("home-wal", tmp_path / "stale"), copy_of("home-node-0002", tmp_path / "other")
    _open(other)
    (other / "dork.db").rename(stale / "dork.db.adopting")
    _open(stale)
    for taken_over in (home, stale):
        assert dump_of(taken_over / "dork.db") == brought("home-wal").dump()


def test_it_is_done_once(tmp_path: Path) -> None:
    """From then on it is a database of ours like any other."""
    home = copy_of("home-wal", tmp_path)
    _open(home)
    stored = (home / "dork.db").read_bytes()
    assert _open(home) == MigrationReport()
    assert (home / "dork.db").read_bytes() == stored
    assert len(_kept(home)) == 1


def test_a_home_from_before_dork_db_is_taken_over_as_well(tmp_path: Path) -> None:
    """Else a start would make an empty database and leave everything unseen."""
    home = copy_of("home-three-databases", tmp_path)
    before = content_of(home)
    _open(home)
    assert dump_of(home / "dork.db") == brought("home-three-databases").dump()
    assert _kept(home) == []
    assert {path: stored for path, stored in content_of(home).items() if path != "dork.db"} == before


def test_a_database_that_appears_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    """Where there was none, nothing was read of it and nothing is kept."""
    home = copy_of("home-three-databases", tmp_path)

    def appear(step: str) -> None:
        if step == "merged":
            (home / "dork.db").write_bytes(b"somebody's")

    with pytest.raises(DorkError) as refusal:
        take_over(
            home,
            backups=home / "backups",
            clock=ManualClock(NOW),
            rules=RULES,
            say=lambda _: None,
            reached=appear,
        )
    assert refusal.value.code is ErrorCode.DATABASE_BUSY
    assert (home / "dork.db").read_bytes() == b"somebody's"
    assert not (home / "dork.db.adopting").exists()


@pytest.mark.parametrize("name", [*TAKEN_OVER, "home-three-databases"])
def test_a_rehearsal_says_what_would_come_and_changes_no_byte(name: str, tmp_path: Path) -> None:
    """The same report, of a database that is thrown away."""
    home = copy_of(name, tmp_path)
    before = content_of(home)
    rehearsed = storage.rehearse(Home(home), ManualClock(NOW), lambda _: None)
    assert content_of(home) == before
    assert rehearsed.snapshot is None
    assert rehearsed.adopted == _open(home).adopted


@pytest.mark.parametrize(
    ("edit", "number"),
    [
        ("UPDATE __drizzle_migrations SET hash = 'edited' WHERE created_at = 1772142245164", 3),
        ("UPDATE __drizzle_migrations SET created_at = 1772142245165 WHERE created_at = 1772142245164", 3),
        ("DELETE FROM __drizzle_migrations WHERE created_at = 1772143064263", 2),
        ("INSERT INTO __drizzle_migrations (hash, created_at) VALUES ('later', 1772999999999)", 4),
    ],
    ids=["edited", "another time", "one missing", "one more"],
)
def test_a_ledger_other_than_the_known_one_is_refused(edit: str, number: int, tmp_path: Path) -> None:
    """Nobody knows what its tables mean then; the hint names the way that asks for less."""
    home = copy_of("home-node-0002", tmp_path)
    with closing(sqlite_driver().connect(str(home / "dork.db"), isolation_level=None)) as connection:
        connection.execute(edit)
    before = content_of(home)
    with pytest.raises(DorkError) as refusal:
        _open(home)
    assert refusal.value.code is ErrorCode.DATABASE_LINEAGE
    assert f"({number} are noted in it)" in refusal.value.message
    assert f"dorkos db adopt '{home}' --home" in (refusal.value.hint or "")
    assert content_of(home) == before


def test_release_0_4_is_refused_in_place(tmp_path: Path) -> None:
    """It had migrations 0003 and 0004; `db adopt` reads it."""
    home = copy_of("home-node-0004", tmp_path)
    with pytest.raises(DorkError) as refusal:
        _open(home)
    assert refusal.value.code is ErrorCode.DATABASE_LINEAGE
    assert content_of(home) == content_of(copy_of("home-node-0004", tmp_path / "again"))


def test_a_migration_that_is_only_in_the_log_counts(tmp_path: Path) -> None:
    """The ledger is read with the log, not from the file alone."""
    home = copy_of("home-node-0002", tmp_path)
    writer = sqlite_driver().connect(str(home / "dork.db"), isolation_level=None)
    writer.execute("INSERT INTO __drizzle_migrations (hash, created_at) VALUES ('later', 1772999999999)")
    crashed = copy_of_files(home, tmp_path / "crashed")
    writer.close()
    with pytest.raises(DorkError) as refusal:
        _open(crashed)
    assert refusal.value.code is ErrorCode.DATABASE_LINEAGE


def copy_of_files(home: Path, folder: Path) -> Path:
    """What a crash would leave of a home, log and all."""
    folder.mkdir()
    for name, stored in content_of(home).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(stored)
    return folder


def _a_page_of_noise(stored: bytes) -> bytes:
    return stored[:8192] + b"\xff" * 4096 + stored[12288:]


def _cut(stored: bytes) -> bytes:
    return stored[: len(stored) // 2]


@pytest.mark.parametrize("damage", [_a_page_of_noise, _cut])
def test_a_damaged_database_is_refused_in_place(damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    """What can be read of it comes by `db adopt`, which the hint says; here it stays as it is."""
    home = copy_of("home-node-0002", tmp_path)
    (home / "dork.db").write_bytes(damage((home / "dork.db").read_bytes()))
    before = content_of(home)
    with pytest.raises(DorkError) as refusal:
        _open(home)
    assert refusal.value.code is ErrorCode.DATABASE_CORRUPT
    assert content_of(home) == before
    target = new_target(tmp_path / "target")
    report = target.adopt(home).report
    assert report.after["relay_rules"] == 28


def test_it_is_not_replaced_while_another_program_has_it_open(tmp_path: Path) -> None:
    """DorkOS for Node would go on writing into a file that has no name any more."""
    home = copy_of("home-wal", tmp_path)
    with closing(sqlite_driver().connect(str(home / "dork.db"), isolation_level=None)) as node:
        node.execute("SELECT count(*) FROM agents").fetchall()
        with pytest.raises(DorkError) as refusal:
            _open(home)
        assert refusal.value.code is ErrorCode.DATABASE_BUSY
        assert _kept(home) == []
        assert not (home / "dork.db.adopting").exists()
    assert _is_whole_old(home, "home-wal")


def test_what_was_written_after_it_was_read_is_not_lost(tmp_path: Path) -> None:
    """The import is given up, and the next one reads that, too."""
    home = copy_of("home-node-0002", tmp_path)

    def write_late(step: str) -> None:
        if step == "kept":
            with closing(sqlite_driver().connect(str(home / "dork.db"), isolation_level=None)) as node:
                node.execute("UPDATE agents SET name = 'late' WHERE id = '01HZZZZZZZLEGACYTOOL000001'")

    with pytest.raises(DorkError) as refusal:
        take_over(
            home,
            backups=home / "backups",
            clock=ManualClock(NOW),
            rules=RULES,
            say=lambda _: None,
            reached=write_late,
        )
    assert refusal.value.code is ErrorCode.DATABASE_BUSY
    assert _kept(home) == []
    _open(home)
    assert Target(Home(home)).by_id("agents")["01HZZZZZZZLEGACYTOOL000001"]["name"] == "late"


_CHILD = """
import os, signal, sys
from pathlib import Path
from dorkos.clock import ManualClock
from dorkos.db.legacy.collecting import Rules
from dorkos.db.legacy.inplace import take_over
home, point = Path(sys.argv[1]), sys.argv[2]
def die(step):
    if step == point:
        os.kill(os.getpid(), signal.SIGKILL)
take_over(
    home,
    backups=home / "backups",
    clock=ManualClock(),
    rules=Rules(lambda cron, zone: die("reading"), None),
    say=lambda text: die("building") if text.startswith("Building") else None,
    reached=die,
)
"""


@pytest.mark.parametrize("point", ["reading", "building", "built", "kept", "merged", "replaced"])
@pytest.mark.parametrize("name", ["home-wal", "home-upgraded-by-server"])
def test_a_kill_at_any_step_leaves_the_old_or_the_new(name: str, point: str, tmp_path: Path) -> None:
    """Whole, each time; and the next start arrives where it would have arrived without the kill."""
    home = copy_of(name, tmp_path)
    before = content_of(home)
    child = subprocess.run([sys.executable, "-c", _CHILD, str(home), point], capture_output=True, check=False)
    assert child.returncode == -signal.SIGKILL, child.stderr
    seen = copy_of_files(home, tmp_path / "seen")
    if point == "replaced":
        assert verify_sqlite(seen / "dork.db") == []
        assert not (seen / "dork.db-wal").exists()
    else:
        assert _is_whole_old(seen, name)
    if point in ("reading", "building", "built", "kept"):
        after = content_of(home)
        assert {path: after.get(path) for path in before} == before
    _open(home)
    assert verify_sqlite(home / "dork.db") == []
    assert {table: len(rows) for table, rows in dump_of(home / "dork.db").items()} == {
        table: len(rows) for table, rows in brought(name).dump().items()
    }
    assert sorted(path.name for path in home.glob("dork.db*")) == ["dork.db"]
    assert _kept(home)


@pytest.mark.parametrize("name", ["home-three-databases", "home-upgraded-by-server"])
def test_a_store_that_cannot_be_read_stops_it(name: str, tmp_path: Path) -> None:
    """Once replaced, nothing could bring it over later: so nothing is replaced, and mending it is enough."""
    home = copy_of(name, tmp_path)
    (home / "pulse.db").rename(home / "aside")
    (home / "pulse.db").mkdir()
    before = sorted(path.name for path in home.glob("dork.db*"))
    with pytest.raises(DorkError) as refusal:
        _open(home)
    assert refusal.value.code is ErrorCode.DATABASE_UNREACHABLE
    assert "pulse.db" in refusal.value.message
    assert sorted(path.name for path in home.glob("dork.db*")) == before
    assert _kept(home) == []

    (home / "pulse.db").rmdir()
    (home / "aside").rename(home / "pulse.db")
    _open(home)
    assert dump_of(home / "dork.db") == brought(name).dump()


def _write_to_a_database(home: Path) -> None:
    with closing(sqlite_driver().connect(str(home / "pulse.db"), isolation_level=None)) as old:
        old.execute("UPDATE runs SET error = 'late'")


def _write_to_a_file(home: Path) -> None:
    # As DorkOS for Node wrote it: a new file under the name of the old one.
    (home / "new").write_text((home / "schedules.json").read_text("utf-8"), "utf-8")
    (home / "new").replace(home / "schedules.json")


def _make_a_file(home: Path) -> None:
    (home / "relay" / "adapters.json").write_text("{}", "utf-8")


@pytest.mark.parametrize("write", [_write_to_a_database, _write_to_a_file, _make_a_file])
def test_a_store_that_is_written_meanwhile_stops_it(write: Callable[[Path], None], tmp_path: Path) -> None:
    """What DorkOS for Node adds after it was read would stay behind."""
    home = copy_of("home-three-databases", tmp_path)
    (home / "relay" / "adapters.json").unlink()

    def work_on(step: str) -> None:
        if step == "built":
            write(home)

    with pytest.raises(DorkError) as refusal:
        take_over(
            home,
            backups=home / "backups",
            clock=ManualClock(NOW),
            rules=RULES,
            say=lambda _: None,
            reached=work_on,
        )
    assert refusal.value.code is ErrorCode.DATABASE_BUSY
    assert not (home / "dork.db").exists()
