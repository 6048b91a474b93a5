"""Snapshots: the verified copy of a SQLite database made before a migration, and how long it stays."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from dorkos.db.copying import CopyError, place_copy
from dorkos.db.retention import CopyKind, copy_names, evict
from dorkos.errors import DorkError, ErrorCode

KEEP = 10


def take_snapshot(database: Path, backups: Path, *, now: datetime, last_id: str) -> Path:
    """Copy `database` into `backups`, read the copy back, and only then give it its name.

    The name tells the time in UTC and the last migration. The copy is synced to disk. The newest ten
    snapshots are kept. Raises `snapshot_failed`; whatever was in `backups` before stays as it was.
    """
    try:
        backups.mkdir(mode=0o700, parents=True, exist_ok=True)
        made = place_copy(database, backups, copy_names(CopyKind.SNAPSHOT, now, last_id))
    except (OSError, CopyError) as fault:
        raise _failure(str(fault)) from fault
    evict(backups, CopyKind.SNAPSHOT, keep=KEEP, now=now)
    return made.path


def _failure(reason: str) -> DorkError:
    return DorkError(
        ErrorCode.SNAPSHOT_FAILED,
        f"The snapshot before the migration failed: {reason}. Nothing was migrated.",
        hint="Make room on the disk and check that the backups folder can be written, then start again.",
    )
