"""Snapshots: the verified copy of a SQLite database made before a migration, and how long it stays."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path

from dorkos.db.copying import CopyError, place_copy
from dorkos.db.engine import APPLICATION_ID, sqlite_driver
from dorkos.db.probe import connect_read_only
from dorkos.errors import DorkError, ErrorCode

KEEP = 10
# What a person named, or asked for, has another name and is never deleted.
_SNAPSHOT_NAME = re.compile(r"dork-\d{8}T\d{6}Z-\d{4}_[a-z0-9_]+(-\d+)?\.db")


def take_snapshot(database: Path, backups: Path, *, now: datetime, last_id: str) -> Path:
    """Copy `database` into `backups`, read the copy back, and only then give it its name.

    The name tells the time in UTC and the last migration. The copy is synced to disk. The newest ten
    snapshots are kept. Raises `snapshot_failed`; whatever was in `backups` before stays as it was.
    """
    try:
        backups.mkdir(mode=0o700, parents=True, exist_ok=True)
        made = place_copy(database, backups, copy_names("dork", now, last_id))
    except (OSError, CopyError) as fault:
        raise _failure(str(fault)) from fault
    _evict(backups)
    return made.path


def copy_names(kind: str, now: datetime, last_id: str) -> Iterator[str]:
    """The names that a copy of this moment may have: the second of one second gets a number."""
    stem = f"{kind}-{now:%Y%m%dT%H%M%SZ}-{last_id}"
    yield f"{stem}.db"
    for number in itertools.count(2):
        yield f"{stem}-{number}.db"


def _evict(backups: Path) -> None:
    """Delete all but the newest ten. What is no snapshot is neither counted nor touched."""
    verified = sorted((path for path in backups.iterdir() if _is_snapshot(path)), reverse=True)
    for path in verified[KEEP:]:
        path.unlink(missing_ok=True)


def _is_snapshot(path: Path) -> bool:
    if not _SNAPSHOT_NAME.fullmatch(path.name):
        return False
    try:
        with closing(connect_read_only(path, immutable=True)) as connection:
            marked: bool = connection.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID
            return marked and bool(connection.execute("SELECT 1 FROM schema_ledger LIMIT 1").fetchall())
    except (OSError, sqlite_driver().Error):
        return False


def _failure(reason: str) -> DorkError:
    return DorkError(
        ErrorCode.SNAPSHOT_FAILED,
        f"The snapshot before the migration failed: {reason}. Nothing was migrated.",
        hint="Make room on the disk and check that the backups folder can be written, then start again.",
    )
