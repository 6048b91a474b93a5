"""Which files in the backups folder count, and which may go."""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dorkos.db.backup import back_up_sqlite
from dorkos.db.retention import CopyKind, copies, copy_names, evict, is_whole, sound_copies, sweep
from dorkos.testing import create_sqlite_file

NOW = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """A sound copy, to be put under other names."""
    create_sqlite_file(tmp_path / "dork.db")
    return back_up_sqlite(tmp_path / "dork.db", backups=tmp_path / "made", to=None, now=NOW).path


@pytest.fixture
def backups(tmp_path: Path) -> Path:
    """An empty backups folder."""
    folder = tmp_path / "backups"
    folder.mkdir()
    return folder


def _put(good: Path, backups: Path, kind: CopyKind, at: datetime) -> Path:
    path = backups / next(copy_names(kind, at, "0004_full_schema"))
    shutil.copy(good, path)
    return path


def test_a_name_tells_kind_and_time_and_number(good: Path, backups: Path) -> None:
    """The newest is first, the second of one second before the first of it; other names count for nothing."""
    names = copy_names(CopyKind.DAILY, NOW, "0004_full_schema")
    paths = [backups / next(names) for _ in range(11)]
    older = _put(good, backups, CopyKind.DAILY, NOW - timedelta(days=400))
    for path in paths:
        path.touch()
    for other in ("daily-mine.db", "daily-20269901T090000Z-0004_x.db", "other-20260301T090000Z-0004_x.db"):
        (backups / other).touch()
    _put(good, backups, CopyKind.BACKUP, NOW)
    found = copies(backups, CopyKind.DAILY)
    assert [copy.path for copy in found] == [*reversed(paths), older]
    assert found[0].at == NOW


def test_without_a_folder_there_are_none(tmp_path: Path) -> None:
    """It is made with the first copy."""
    assert copies(tmp_path / "none", CopyKind.DAILY) == []


@pytest.mark.parametrize("kind", ["empty", "half", "cut within a page", "text", "other program", "folder"])
def test_a_decoy_is_not_whole(good: Path, tmp_path: Path, kind: str) -> None:
    """What a kill, a full disk or another program left under the name of a copy."""
    decoy = tmp_path / "decoy.db"
    shutil.copy(good, decoy)
    assert is_whole(decoy)
    size = decoy.stat().st_size
    if kind == "empty":
        os.truncate(decoy, 0)
    elif kind == "half":
        os.truncate(decoy, size // 2)
    elif kind == "cut within a page":
        os.truncate(decoy, size - 100)
    elif kind == "text":
        decoy.write_bytes(b"x" * size)
    elif kind == "other program":
        data = bytearray(decoy.read_bytes())
        data[68:72] = b"MINE"
        decoy.write_bytes(data)
    else:
        decoy.unlink()
        decoy.mkdir()
    assert not is_whole(decoy)


def test_decoys_push_no_good_copy_out(good: Path, backups: Path) -> None:
    """Newer than all good ones, they are neither counted nor deleted, and none passes for the newest."""
    taken = [_put(good, backups, CopyKind.DAILY, NOW - timedelta(days=day)) for day in range(4)]
    decoys = [_put(good, backups, CopyKind.DAILY, NOW + timedelta(hours=hour)) for hour in (1, 2, 3)]
    for decoy in decoys:
        os.truncate(decoy, decoy.stat().st_size // 2)
    now = NOW + timedelta(hours=4)
    assert next(sound_copies(backups, CopyKind.DAILY, now=now)).path == taken[0]
    evict(backups, CopyKind.DAILY, keep=3, now=now)
    assert set(backups.iterdir()) == {*taken[:3], *decoys}


def test_a_copy_of_the_future_waits_for_its_time(good: Path, backups: Path) -> None:
    """It was made while the clock was wrong: it neither pushes others out nor passes for the newest."""
    future = _put(good, backups, CopyKind.DAILY, NOW + timedelta(days=3))
    taken = [_put(good, backups, CopyKind.DAILY, NOW - timedelta(days=day)) for day in range(2)]
    evict(backups, CopyKind.DAILY, keep=1, now=NOW)
    assert set(backups.iterdir()) == {future, taken[0]}
    evict(backups, CopyKind.DAILY, keep=1, now=NOW + timedelta(days=3))
    assert set(backups.iterdir()) == {future}


def test_only_the_kind_that_was_named_is_deleted(good: Path, backups: Path) -> None:
    """Backups by hand, snapshots and what a restore replaced are no daily copies."""
    others = [_put(good, backups, kind, NOW - timedelta(days=9)) for kind in CopyKind if kind != "daily"]
    kept = _put(good, backups, CopyKind.DAILY, NOW)
    _put(good, backups, CopyKind.DAILY, NOW - timedelta(days=1))
    evict(backups, CopyKind.DAILY, keep=1, now=NOW)
    assert set(backups.iterdir()) == {kept, *others}


def test_what_a_killed_copy_left_goes_after_a_day(backups: Path) -> None:
    """Not before: it may be one that another process is making just now."""
    for name in (".dorkos-old", ".dorkos-new", "mine"):
        (backups / name).mkdir()
        (backups / name / "copy.db").touch()
    now = datetime.now(UTC)
    for name in (".dorkos-old", "mine"):
        os.utime(backups / name, (now.timestamp() - 90_000,) * 2)
    sweep(backups, now)
    assert sorted(path.name for path in backups.iterdir()) == [".dorkos-new", "mine"]
