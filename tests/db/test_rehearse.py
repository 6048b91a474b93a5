"""Rehearsing a restore, and what is remembered of it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from dorkos.clock import iso
from dorkos.db.backup import back_up_sqlite
from dorkos.db.backup_facts import BackupFacts, BackupNote, read_backup_facts
from dorkos.db.connections import reading_sqlite
from dorkos.db.copying import CopyHaltedError
from dorkos.db.rehearse import newest_backup, record_offline, rehearse
from dorkos.db.retention import CopyKind, copy_names
from dorkos.db.schema.tables import metadata
from tests.db.conftest import Bench


@pytest.fixture
def filled(bench: Bench) -> Bench:
    """A database at the newest migration."""
    bench.migrate(declared=metadata)
    return bench


def back_up(bench: Bench) -> Path:
    """A backup by hand."""
    return back_up_sqlite(bench.path, backups=bench.backups, to=None, now=bench.clock.now()).path


def rehearsed(bench: Bench, file: Path, *, halt: bool = False) -> BackupNote:
    """The outcome of a rehearsal."""
    return rehearse(file, scratch=bench.backups, clock=bench.clock, say=lambda _: None, halt=lambda: halt)


def facts(bench: Bench) -> BackupFacts:
    """What the database remembers."""
    with reading_sqlite(bench.path) as connection:
        return read_backup_facts(connection)


@contextmanager
def unchanged(bench: Bench) -> Iterator[None]:
    """Every byte of the data directory is as before at the end of the block."""
    before = bench.files()
    yield
    assert bench.files() == before
    assert not list(bench.backups.glob(".dorkos-*"))


def test_a_sound_backup_can_be_restored(filled: Bench) -> None:
    """It says when, which, and how many rows there were, and leaves no trace."""
    file = back_up(filled)
    with unchanged(filled):
        note = rehearsed(filled, file)
    assert (note.at, note.ok, note.file, note.problem) == (filled.clock.now(), True, file.name, None)
    assert note.rows is not None
    assert note.rows > 5


def test_an_older_backup_is_migrated_in_rehearsal(bench: Bench) -> None:
    """A snapshot from before an upgrade must be of use after it."""
    bench.copy_revisions(3)
    bench.migrate()
    file = back_up(bench)
    with unchanged(bench):
        assert rehearsed(bench, file).ok


@pytest.mark.parametrize("left", [0, 100, 200_000])
def test_a_bad_backup_is_found(filled: Bench, left: int) -> None:
    """What is wrong is said, nothing is raised, and nothing is left behind."""
    file = back_up(filled)
    os.truncate(file, left)
    with unchanged(filled):
        note = rehearsed(filled, file)
    assert not note.ok
    assert note.problem is not None
    assert str(file) in note.problem
    assert ".dorkos-" not in note.problem


def test_without_room_it_fails_and_says_so(filled: Bench, tmp_path: Path) -> None:
    """Here the folder is not even there."""
    file = back_up(filled)
    note = rehearse(file, scratch=tmp_path / "none", clock=filled.clock, say=lambda _: None)
    assert not note.ok
    assert note.problem is not None
    assert "No such file" in note.problem


def test_it_is_given_up_when_asked(filled: Bench) -> None:
    """A server that stops does not wait for it."""
    file = back_up(filled)
    with unchanged(filled), pytest.raises(CopyHaltedError):
        rehearsed(filled, file, halt=True)


def test_the_newest_is_the_newest_by_its_name(filled: Bench) -> None:
    """Of any kind, sound or not; what a restore replaced is none."""
    assert newest_backup(filled.backups) is None
    first = back_up(filled)
    assert newest_backup(filled.backups) == first
    now = filled.clock.now()
    for kind, days in ((CopyKind.SNAPSHOT, 1), (CopyKind.DAILY, 2), (CopyKind.REPLACED, 3)):
        (filled.backups / next(copy_names(kind, now + timedelta(days=days), "0004_x"))).touch()
    os.utime(first)
    newest = newest_backup(filled.backups)
    assert newest is not None
    assert newest.name.startswith("daily-")


def test_it_is_remembered_with_an_event(filled: Bench) -> None:
    """The value is the JSON that others read, and the event tells the same."""
    note = BackupNote(filled.clock.now(), True, "daily-x.db", 12)
    assert record_offline(filled.path, note, clock=filled.clock)
    assert facts(filled) == BackupFacts(None, None, note)
    ((text,),) = filled.rows("SELECT value FROM system_state WHERE key = 'backup:rehearsed'")
    told = {"at": iso(note.at), "ok": True, "file": "daily-x.db", "rows": 12, "problem": None}
    assert json.loads(text) == told
    ((kind, data),) = filled.rows("SELECT kind, data FROM events ORDER BY position DESC LIMIT 1")
    assert (kind, json.loads(data)) == ("system.backup.rehearsed", told)


def test_a_later_one_takes_its_place(filled: Bench) -> None:
    """Only the last counts."""
    for rows in (1, 2):
        assert record_offline(
            filled.path, BackupNote(filled.clock.now(), True, "x", rows), clock=filled.clock
        )
    found = facts(filled).rehearsed
    assert found is not None
    assert found.rows == 2


@pytest.mark.parametrize("kind", ["none", "older", "damaged"])
def test_a_database_of_another_version_is_not_written(bench: Bench, kind: str) -> None:
    """Nor is one made."""
    if kind == "older":
        bench.copy_revisions(4)
        bench.migrate()
    elif kind == "damaged":
        bench.path.write_bytes(b"x" * 9000)
    before = bench.files()
    assert not record_offline(bench.path, BackupNote(bench.clock.now(), True), clock=bench.clock)
    assert bench.files() == before


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"at": "yesterday", "ok": true}', '{"at": 1}'])
def test_a_note_that_cannot_be_read_counts_as_none(filled: Bench, text: str) -> None:
    """As one of another version may be."""
    with filled.raw() as connection:
        connection.execute("INSERT INTO system_state VALUES ('backup:rehearsed', ?)", (text,))
    assert facts(filled) == BackupFacts(None, None, None)
