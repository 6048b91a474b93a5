"""Rehearsing a restore: the only proof that a backup is one. It happens to a copy that is thrown away."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from dorkos.clock import Clock
from dorkos.db.backup_facts import BackupNote, note_rehearsed
from dorkos.db.connections import migrating_sqlite
from dorkos.db.copying import Halt
from dorkos.db.database import Transaction
from dorkos.db.migrate import status_sqlite
from dorkos.db.retention import CopyKind, copies
from dorkos.db.staging import never, stage
from dorkos.errors import DorkError, ErrorCode
from dorkos.storable import clean_text

# As the folders of unfinished copies, so that whoever clears those away finds this one after a kill.
_PREFIX = ".dorkos-"


def newest_backup(backups: Path) -> Path | None:
    """The newest copy of the database, sound or not: which of the two is for a rehearsal to find.

    Raises `OSError` if the folder cannot be read.
    """
    found = copies(backups, CopyKind.DAILY, CopyKind.BACKUP, CopyKind.SNAPSHOT)
    return found[0].path if found else None


def rehearse(
    file: Path, *, scratch: Path, clock: Clock, say: Callable[[str], None], halt: Halt = never
) -> BackupNote:
    """Restore the backup `file` into a new folder in `scratch`, migrate and verify it, and count its rows.

    What is wrong with the backup is told in the note, not raised. Nothing is left behind, and nothing else
    is touched. Blocking; raises `CopyHaltedError` soon after `halt` said so.
    """
    name = clean_text(file.name)
    try:
        with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=scratch, ignore_cleanup_errors=True) as folder:
            staged = stage(file, Path(folder), clock=clock, say=say, halt=halt)
    except DorkError as refusal:
        return BackupNote(clock.now(), False, name, problem=clean_text(refusal.message))
    except OSError as fault:
        problem = clean_text(f"no folder could be made for it: {fault}")
        return BackupNote(clock.now(), False, name, problem=problem)
    return BackupNote(clock.now(), True, name, staged.rows)


def record_offline(database: Path, note: BackupNote, *, clock: Clock) -> bool:
    """Remember a rehearsal in a database that no server has open; the caller holds its directory's lock.

    False, with nothing changed, where there is no database of this very version.
    """
    try:
        status = status_sqlite(database)
        if status.pending or not status.applied:
            return False
        with migrating_sqlite(database) as connection, connection.begin():
            tx = Transaction(connection, clock.now)
            note_rehearsed(tx, note)
            tx.finish()
    except DorkError as refusal:
        if refusal.code is ErrorCode.DISK_FULL:
            raise
        return False
    return True
