"""The copy that a person asks for."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from dorkos.db.backup import Backup, back_up_sqlite
from dorkos.db.ledger import revisions
from dorkos.db.schema.tables import metadata
from dorkos.db.verify import verify_sqlite
from dorkos.errors import DorkError, ErrorCode
from tests.db.conftest import Bench

LAST = revisions()[-1].id


def _back_up(bench: Bench, to: Path | None = None) -> Backup:
    return back_up_sqlite(bench.path, backups=bench.backups, to=to, now=bench.clock.now())


def _refusal(bench: Bench, to: Path | None = None) -> DorkError:
    with pytest.raises(DorkError) as refusal:
        _back_up(bench, to)
    return refusal.value


def _looks(path: Path) -> tuple[int, ...]:
    """All of it but when it was last read."""
    found = path.lstat()
    return (found.st_ino, found.st_mode, found.st_size, found.st_mtime_ns)


def test_a_backup_is_sound_and_named_by_time_and_migration(bench: Bench) -> None:
    """It is one file that only its owner reads, and a database that passes every check."""
    bench.migrate(declared=metadata)
    made = _back_up(bench)
    assert made.path.name == f"backup-20260301T090000Z-{LAST}.db"
    assert made.migration == LAST
    assert [path.name for path in bench.backups.iterdir()] == [made.path.name]
    assert made.size_bytes == made.path.stat().st_size
    assert stat.S_IMODE(made.path.stat().st_mode) == 0o600
    assert verify_sqlite(made.path) == []


def test_the_database_is_as_it_was(bench: Bench) -> None:
    """No byte is changed and no side file is left, where nobody else has it open."""
    bench.migrate(declared=metadata)
    before = bench.files()
    made = _back_up(bench)
    after = bench.files()
    del after[str(made.path.relative_to(bench.home))]
    assert after == before


def test_rows_that_are_only_in_the_log_are_in_the_backup(bench: Bench, tmp_path: Path) -> None:
    """The log of the open database is not merged by it either: that is the writer's work."""
    bench.migrate(declared=metadata)
    with bench.raw() as connection:
        connection.execute("INSERT INTO system_state VALUES ('mine', 'x')")
        log = bench.path.with_name("dork.db-wal").read_bytes()
        made = _back_up(bench, tmp_path / "copy.db")
        assert bench.path.with_name("dork.db-wal").read_bytes() == log
    assert b"mine" in made.path.read_bytes()
    tables = ("system_state", "schema_ledger")
    assert made.rows == sum(bench.rows(f"SELECT count(*) FROM {table}")[0][0] for table in tables)


def test_two_in_one_second_are_two_files(bench: Bench) -> None:
    """The second gets a number."""
    bench.migrate()
    assert _back_up(bench).path != _back_up(bench).path


@pytest.mark.parametrize("kind", ["file", "folder", "link to nothing", "the database itself"])
def test_nothing_is_replaced(bench: Bench, tmp_path: Path, kind: str) -> None:
    """Whatever has the name keeps it, as it was."""
    bench.migrate()
    target = tmp_path / "mine.db"
    if kind == "file":
        target.touch()
    elif kind == "folder":
        target.mkdir()
    elif kind == "link to nothing":
        target.symlink_to(tmp_path / "nothing")
    else:
        target = bench.path
    before = _looks(target)
    assert _refusal(bench, target).code is ErrorCode.VALIDATION_FAILED
    assert _looks(target) == before
    assert not (tmp_path / "nothing").exists()


def test_a_file_that_appears_meanwhile_is_not_replaced(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the question whether the name is free and the taking of it there is no gap."""
    bench.migrate()
    target = tmp_path / "mine.db"
    # Nobody sees the file when asked; only the making of the link does.
    monkeypatch.setattr(Path, "exists", lambda _path: False)
    monkeypatch.setattr(os.path, "lexists", lambda _path: False)
    target.write_bytes(b"mine")
    assert _refusal(bench, target).code is ErrorCode.VALIDATION_FAILED
    assert target.read_bytes() == b"mine"


@pytest.mark.parametrize("suffix", ["-wal", "-shm", "-journal"])
def test_the_name_of_a_side_file_is_refused(bench: Bench, suffix: str) -> None:
    """Beside a database SQLite would read it as a part of that."""
    bench.migrate()
    target = bench.path.with_name(bench.path.name + suffix)
    assert _refusal(bench, target).code is ErrorCode.VALIDATION_FAILED
    assert not target.exists()


def test_a_folder_that_is_not_there_is_told(bench: Bench, tmp_path: Path) -> None:
    """It is not made: a mistyped path would fill the wrong disk."""
    bench.migrate()
    assert _refusal(bench, tmp_path / "none" / "copy.db").code is ErrorCode.VALIDATION_FAILED
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("decoy", [False, True])
def test_without_a_database_nothing_is_made(bench: Bench, decoy: bool) -> None:
    """An empty file is no database either."""
    if decoy:
        bench.path.touch()
    before = bench.files()
    assert _refusal(bench).code is ErrorCode.NOT_FOUND
    assert bench.files() == before
    assert not bench.backups.exists()


def test_a_backup_that_fails_leaves_nothing(bench: Bench) -> None:
    """The reason is told."""
    bench.migrate()
    bench.backups.write_text("a file where the folder should be", encoding="utf-8")
    refusal = _refusal(bench)
    assert refusal.code is ErrorCode.BACKUP_FAILED
    assert "File exists" in refusal.message


def test_a_copy_that_does_not_read_back_gets_no_name(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interrupted copy is an empty file, which is a valid empty database."""
    bench.migrate()
    folder = tmp_path / "copies"
    folder.mkdir()

    def interrupted(_database: Path, target: Path, _halt: object) -> dict[str, int]:
        target.touch()
        return {}

    monkeypatch.setattr("dorkos.db.copying._copy", interrupted)
    assert _refusal(bench, folder / "copy.db").code is ErrorCode.BACKUP_FAILED
    assert list(folder.iterdir()) == []


def test_a_disk_without_links_gets_its_backup_all_the_same(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a stick formatted as FAT."""
    bench.migrate(declared=metadata)

    def refuse(*_: object) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    assert verify_sqlite(_back_up(bench, tmp_path / "copy.db").path) == []
