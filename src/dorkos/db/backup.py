"""Backups: a verified copy of a SQLite database that a person asked for. It is never deleted by us."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from dorkos.db.copying import CopyError, NameTakenError, place_copy
from dorkos.db.probe import probe_sqlite
from dorkos.db.restoring import refuse_unfinished_restore
from dorkos.db.retention import CopyKind, copy_names
from dorkos.errors import DorkError, ErrorCode

# SQLite would take a file of such a name beside a database for a part of that database.
_SIDE_FILES = ("-wal", "-shm", "-journal")


@dataclass(frozen=True, slots=True)
class Backup:
    """A copy that was read back. `migration` is the last one it has, `rows` those of all tables."""

    path: Path
    size_bytes: int
    migration: str
    rows: int


def back_up_sqlite(database: Path, *, backups: Path, to: Path | None, now: datetime) -> Backup:
    """Copy the database to the file `to`, or under a name that tells time and migration into `backups`.

    A server may be writing: the copy shows one moment between two commits. It is verified and synced to
    disk before it gets its name, and replaces nothing. Changes nothing in the database. Blocking.
    Raises `not_found` without a database, `validation_failed` for a name that cannot be used,
    `backup_failed` when no copy came about, and what `probe_sqlite` raises.
    """
    refuse_unfinished_restore(database)
    state = probe_sqlite(database)
    if state is None or not state.entries:
        raise DorkError(
            ErrorCode.NOT_FOUND,
            f"There is no database at {database}, so there is nothing to back up.",
            hint="Name the data directory with --home or DORK_HOME. No file was made.",
        )
    last_id = state.entries[-1].id
    try:
        if to is None:
            backups.mkdir(mode=0o700, exist_ok=True)
            made = place_copy(database, backups, copy_names(CopyKind.BACKUP, now, last_id))
        else:
            _refuse_name(to)
            made = place_copy(database, to.parent, (to.name,))
        size = made.path.stat().st_size
    except NameTakenError as fault:
        raise _taken(to or backups) from fault
    except (OSError, CopyError) as fault:
        raise DorkError(
            ErrorCode.BACKUP_FAILED,
            f"The backup failed: {fault}. No file was left behind.",
            hint="Make room on the disk and check that you may write there, then try again.",
        ) from fault
    return Backup(made.path, size, last_id, sum(made.rows.values()))


def _refuse_name(to: Path) -> None:
    # Asked before the copying, which takes a while; asked again, without a gap, when it gets its name.
    if to.exists() or to.is_symlink():
        raise _taken(to)
    if not to.parent.is_dir():
        raise DorkError(
            ErrorCode.VALIDATION_FAILED,
            f"There is no folder {to.parent}.",
            hint="Make the folder first, or name a file in one that exists.",
        )
    if to.name.endswith(_SIDE_FILES):
        raise DorkError(
            ErrorCode.VALIDATION_FAILED,
            f"{to.name} ends like a side file of SQLite, which would take the backup for one.",
            hint="Choose a name that ends in .db.",
        )


def _taken(to: Path) -> DorkError:
    return DorkError(
        ErrorCode.VALIDATION_FAILED,
        f"{to} exists already, and a backup replaces nothing.",
        hint="Name a new file, or give no name: the backup then gets one that tells the time.",
    )
