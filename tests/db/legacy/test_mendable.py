"""Faults that say nothing about the old home: they end the import by name, and then all of it comes."""

from __future__ import annotations

import errno
import tempfile
from pathlib import Path

import pytest

from dorkos import storage
from dorkos.clock import ManualClock
from dorkos.db.engine import sqlite_driver
from dorkos.db.legacy.mendable import refuse_mendable
from dorkos.db.verify import verify_sqlite
from dorkos.errors import DorkError, ErrorCode
from dorkos.home import Home
from tests.db.legacy.adopt_kit import NOW, Target, brought, content_of, copy_of, dump_of, new_target
from tests.db.room import largest_file, no_room_beyond, only_more_files


@pytest.fixture
def target(tmp_path: Path) -> Target:
    """A fresh data directory."""
    return new_target(tmp_path / "target")


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ENOSPC, ErrorCode.DISK_FULL),
        (errno.EDQUOT, ErrorCode.DISK_FULL),
        (errno.EFBIG, ErrorCode.DISK_FULL),
        (errno.EMFILE, ErrorCode.DATABASE_UNREACHABLE),
        (errno.ENFILE, ErrorCode.DATABASE_UNREACHABLE),
        (errno.ENOMEM, ErrorCode.DATABASE_UNREACHABLE),
        (errno.EACCES, ErrorCode.DATABASE_UNREACHABLE),
        (errno.EPERM, ErrorCode.DATABASE_UNREACHABLE),
    ],
)
def test_what_a_person_can_mend_ends_the_work(number: int, code: ErrorCode) -> None:
    """With the path and what to do."""
    with pytest.raises(DorkError) as refusal:
        refuse_mendable(Path("/old/pulse.db"), OSError(number, "because"))
    assert refusal.value.code is code
    assert "/old/pulse.db" in refusal.value.message
    assert refusal.value.hint


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("database or disk is full", ErrorCode.DISK_FULL),
        ("disk I/O error", ErrorCode.DATABASE_UNREACHABLE),
        ("unable to open database file", ErrorCode.DATABASE_UNREACHABLE),
    ],
)
def test_what_sqlite_says_of_the_copy_is_not_of_the_original(text: str, code: ErrorCode) -> None:
    """The copy lies in the folder for temporary files."""
    with pytest.raises(DorkError) as refusal:
        refuse_mendable(Path("/old/pulse.db"), sqlite_driver().OperationalError(text))
    assert refusal.value.code is code


@pytest.mark.parametrize(
    "fault",
    [
        OSError(errno.EISDIR, "a folder"),
        OSError(errno.ELOOP, "a circle"),
        OSError(errno.EIO, "a broken disk"),
        OSError("it is no file"),
        sqlite_driver().DatabaseError("database disk image is malformed"),
        sqlite_driver().DatabaseError("file is not a database"),
    ],
    ids=str,
)
def test_what_is_damaged_is_left_to_the_report(fault: Exception) -> None:
    """No second try would bring more."""
    refuse_mendable(Path("/old/pulse.db"), fault)


def test_a_full_folder_for_temporary_files_makes_no_database_look_damaged(
    target: Target, tmp_path: Path
) -> None:
    """Nothing is added without it, and with room all of it comes."""
    home = copy_of("home-three-databases", tmp_path)
    before = dump_of(target.home.database_path)
    with largest_file(20_000), pytest.raises(DorkError) as refusal:
        target.adopt(home)
    assert refusal.value.code is ErrorCode.DISK_FULL
    assert "TMPDIR" in str(refusal.value.hint)
    assert dump_of(target.home.database_path) == before
    assert target.adopt(home).report.left_out == []


def test_a_full_folder_for_temporary_files_does_not_make_a_log_look_damaged(tmp_path: Path) -> None:
    """All of this database is in its log still, which is read from a copy to know whose it is."""
    home = copy_of("home-upgraded-by-server", tmp_path)
    before = content_of(home)
    with largest_file(3000), pytest.raises(DorkError) as refusal:
        storage.rehearse(Home(home), ManualClock(NOW), lambda _: None)
    assert refusal.value.code is ErrorCode.DISK_FULL
    assert str(home / "dork.db") in refusal.value.message
    assert content_of(home) == before


def test_no_folder_for_temporary_files_is_told(
    target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container whose own disk may not be written."""
    home = copy_of("home-wal", tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    for work in (
        lambda: target.adopt(home),
        lambda: storage.rehearse(Home(home), ManualClock(NOW), lambda _: None),
    ):
        with pytest.raises(DorkError) as refusal:
            work()
        assert refusal.value.code is ErrorCode.DATABASE_UNREACHABLE
        assert "TMPDIR" in str(refusal.value.hint)


@pytest.mark.parametrize("spare", [0, 1, 2, 4])
def test_too_few_open_files_leave_nothing_out(spare: int, target: Target, tmp_path: Path) -> None:
    """Wherever they end: a message that could not be opened would be lost for good."""
    brought("home-three-databases")  # What is imported on first use is here then.
    home = copy_of("home-three-databases", tmp_path)
    with only_more_files(spare), pytest.raises(DorkError) as refusal:
        target.adopt(home)
    assert refusal.value.code in (ErrorCode.DATABASE_UNREACHABLE, ErrorCode.HOME_UNWRITABLE)
    assert target.adopt(home).report.left_out == []


@pytest.mark.parametrize("name", ["home-wal", "home-upgraded-by-server"])
@pytest.mark.parametrize("pages", [3, 70, 95])
def test_a_disk_that_fills_during_a_take_over_leaves_the_old_database(
    name: str, pages: int, tmp_path: Path
) -> None:
    """Code `disk_full`, no file more than before, and with room it is taken over with every row."""
    home = copy_of(name, tmp_path)
    before = content_of(home)
    with no_room_beyond(pages), pytest.raises(DorkError) as refusal:
        storage.migrate(Home(home), None, ManualClock(NOW), lambda _: None)
    assert refusal.value.code is ErrorCode.DISK_FULL
    assert content_of(home) == before
    storage.migrate(Home(home), None, ManualClock(NOW), lambda _: None)
    assert dump_of(home / "dork.db") == brought(name).dump()


@pytest.mark.parametrize("spare", [0, 5, 20])
def test_a_disk_that_fills_during_an_adoption_leaves_the_target(
    spare: int, target: Target, tmp_path: Path
) -> None:
    """None of the rows is there, the source is untouched, and with room all of them come."""
    home = copy_of("home-three-databases", tmp_path)
    source, rows = content_of(home), dump_of(target.home.database_path)
    pages = target.home.database_path.stat().st_size // 4096
    with no_room_beyond(pages + spare), pytest.raises(DorkError) as refusal:
        target.adopt(home)
    assert refusal.value.code is ErrorCode.DISK_FULL
    assert (content_of(home), dump_of(target.home.database_path)) == (source, rows)
    assert verify_sqlite(target.home.database_path) == []
    target.adopt(home)
    assert target.dump() == brought("home-three-databases").dump()
