"""What is no sound backup is refused: told by name, and nothing is changed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from dorkos.db import filesystem
from dorkos.db.migrate import Plan, migrate_sqlite
from dorkos.errors import ErrorCode
from tests.db.conftest import Bench
from tests.db.restoring import NEWER, back_up, damage_page, execute, foreign, lineage, refusal


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _newborn(path: Path) -> None:
    path.unlink()
    execute(path, "CREATE TABLE t (a)", "DROP TABLE t")


_DANGLING = (
    "INSERT INTO pulse_run_output (run_id, seq, stream, at, text) "
    "VALUES ('01ARZ3NDEKTSV4RRFFQ69G5FAV', 1, 'stdout', '2026-01-01T00:00:00.000Z', 'x')"
)
_DENIAL = (
    "INSERT INTO agent_denials (id, path, denier, created_at) "
    "VALUES ('01ARZ3NDEKTSV4RRFFQ69G5FAV', '/srv/x', 'ada', '2026-01-01T00:00:00.000Z')"
)
_WRONG_INDEX = (
    "CREATE INDEX mine ON agent_denials (path)",
    _DENIAL,
    "PRAGMA writable_schema = ON",
    "UPDATE sqlite_schema SET sql = 'CREATE INDEX mine ON agent_denials (denier)' WHERE name = 'mine'",
)
BAD: dict[str, tuple[Callable[[Path], object], ErrorCode, str]] = {
    "missing": (Path.unlink, ErrorCode.NOT_FOUND, "no file"),
    "folder": (_folder, ErrorCode.VALIDATION_FAILED, "not a file"),
    "empty": (lambda path: os.truncate(path, 0), ErrorCode.DATABASE_CORRUPT, "is empty"),
    "only a header": (lambda path: os.truncate(path, 50), ErrorCode.DATABASE_CORRUPT, "SQLite"),
    "half": (lambda path: os.truncate(path, 40 * 4096), ErrorCode.DATABASE_CORRUPT, ""),
    "cut within a page": (
        lambda path: os.truncate(path, path.stat().st_size - 100),
        ErrorCode.DATABASE_CORRUPT,
        "",
    ),
    "damaged pages": (damage_page, ErrorCode.DATABASE_CORRUPT, ""),
    "text": (lambda path: path.write_text("a note\n" * 100), ErrorCode.DATABASE_CORRUPT, "SQLite"),
    "other program": (foreign, ErrorCode.DATABASE_FOREIGN, "another program"),
    "lineage": (lineage("home-node-0004"), ErrorCode.DATABASE_LINEAGE, "Node"),
    "older lineage": (lineage("home-node-0002"), ErrorCode.DATABASE_LINEAGE, "Node"),
    "newer": (lambda path: execute(path, NEWER), ErrorCode.DATABASE_NEWER, "9.9.9"),
    "edited migration": (
        lambda path: execute(path, "UPDATE schema_ledger SET checksum = 'x' WHERE id = '0000_initial'"),
        ErrorCode.MIGRATION_CHANGED,
        "0000_initial",
    ),
    "broken reference": (
        lambda path: execute(path, "PRAGMA foreign_keys = OFF", _DANGLING),
        ErrorCode.DATABASE_CORRUPT,
        "pulse_run_output",
    ),
    "other tables": (
        lambda path: execute(path, "ALTER TABLE agents ADD COLUMN mood TEXT"),
        ErrorCode.DATABASE_DRIFT,
        "mood",
    ),
    "half an import": (
        lambda path: execute(path, "INSERT INTO system_state VALUES ('import', '{}')"),
        ErrorCode.MOVE_UNFINISHED,
        "not finished",
    ),
    "a database of ours without tables": (
        _newborn,
        ErrorCode.DATABASE_FOREIGN,
        "no database",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_sound_backup_is_refused_and_nothing_is_changed(
    filled: Bench, tmp_path: Path, kind: str
) -> None:
    """Each is told by the name of its file and its code; every byte of the data directory stays."""
    spoil, code, words = BAD[kind]
    file = back_up(filled, tmp_path / "bäckup 1.db")
    spoil(file)
    before, was = filled.files(), file.read_bytes() if file.is_file() else None
    refused = refusal(filled, file)
    assert refused.code is code
    assert words in refused.message
    assert str(file) in refused.message
    assert ".restoring" not in refused.message
    assert filled.files() == before
    assert (file.read_bytes() if file.is_file() else None) == was
    assert [path.name for path in tmp_path.glob("bäckup*")] == ([] if kind == "missing" else [file.name])


def test_a_network_file_system_is_told_of_the_database_not_of_the_backup(
    filled: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The backup lies on a local disk, and another would be refused as well."""
    file = back_up(filled, tmp_path / "good.db")
    table = tmp_path / "mountinfo"
    table.write_text(
        "1 0 0:1 / / rw - ext4 /dev/x rw\n"
        f"2 1 0:2 / {str(filled.home).replace(' ', chr(92) + '040')} rw - nfs4 srv:/x rw\n",
        encoding="utf-8",
    )
    monkeypatch.setattr(filesystem, "MOUNT_TABLE", table)
    refused = refusal(filled, file)
    assert refused.code is ErrorCode.NETWORK_FILESYSTEM
    assert str(filled.path) in refused.message
    assert str(file) not in refused.message


def test_a_link_to_nothing_gets_no_database(filled: Bench, tmp_path: Path) -> None:
    """The disk that it lies on may just not be mounted."""
    file = back_up(filled, tmp_path / "good.db")
    filled.path.unlink()
    filled.path.symlink_to(tmp_path / "disk.db")
    assert refusal(filled, file).code is ErrorCode.DATABASE_UNREACHABLE
    assert not (tmp_path / "disk.db").exists()


def test_the_database_itself_is_no_backup(filled: Bench, tmp_path: Path) -> None:
    """Not by another name either."""
    (tmp_path / "link.db").symlink_to(filled.path)
    before = filled.files()
    for file in (filled.path, tmp_path / "link.db"):
        assert refusal(filled, file).code is ErrorCode.VALIDATION_FAILED
    assert filled.files() == before


@pytest.mark.parametrize("wrong", ["a reference", "pages", "an index"])
def test_an_older_backup_is_checked_before_it_is_migrated(filled: Bench, tmp_path: Path, wrong: str) -> None:
    """A migration would fail on it with a message about itself, or rebuild the table and hide the damage."""
    (tmp_path / "old").mkdir()
    old = Bench(tmp_path / "old", filled.clock)
    old.copy_revisions(4)
    old.migrate()
    file = back_up(old)
    if wrong == "pages":
        damage_page(file)
    elif wrong == "a reference":
        execute(file, "PRAGMA foreign_keys = OFF", _DANGLING)
    else:
        execute(file, *_WRONG_INDEX)
    before = filled.files()
    refused = refusal(filled, file)
    assert refused.code is ErrorCode.DATABASE_CORRUPT
    assert str(file) in refused.message
    assert filled.files() == before


def test_a_backup_of_a_migration_that_was_never_landed_is_refused(bench: Bench, tmp_path: Path) -> None:
    """Such as of a developer's own branch."""
    bench.add_revision("0002_zz", "pass")
    migrate_sqlite(
        bench.path, backups=bench.backups, clock=bench.clock, plan=Plan(bench.directory, sa.MetaData())
    )
    file = back_up(bench, tmp_path / "copy.db")
    assert refusal(bench, file).code is ErrorCode.MIGRATION_MISSING
