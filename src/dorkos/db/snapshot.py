"""A verified copy of a SQLite database, made before anything that could lose rows.

A plain copy would not do: committed rows may be only in the write-ahead log. And a copy is worth
nothing until it was read back: an interrupted one is an empty file, which is a valid empty database.
"""

from __future__ import annotations

import os
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from dorkos.db.engine import APPLICATION_ID, sqlite_driver
from dorkos.db.probe import connect_read_only
from dorkos.errors import DorkError, ErrorCode

if TYPE_CHECKING:
    import sqlite3

KEEP = 10
_PATTERN = "dork-*.db"


def take_snapshot(database: Path, backups: Path, *, now: datetime, last_id: str) -> Path:
    """Copy `database` into `backups`, read the copy back, and only then give it its name.

    The name tells the time in UTC and the last migration. The copy is synced to disk. Raises
    `snapshot_failed`; whatever was in `backups` before stays as it was.
    """
    temporary: Path | None = None
    try:
        backups.mkdir(mode=0o700, parents=True, exist_ok=True)
        target = _free_name(backups, f"dork-{now:%Y%m%dT%H%M%SZ}-{last_id}")
        temporary = backups / f".{target.name}.{os.getpid()}.partial"
        temporary.unlink(missing_ok=True)
        expected = _copy(database, temporary)
        _verify(temporary, expected)
        _sync(temporary)
        temporary.rename(target)
        _sync(backups)
    except (OSError, sqlite_driver().Error) as fault:
        raise _failure(str(fault)) from fault
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
    _evict(backups)
    return target


def _copy(database: Path, target: Path) -> dict[str, int]:
    """Copy by SQLite's online backup, and count the rows of the same moment."""
    driver = sqlite_driver()
    target.touch(mode=0o600, exist_ok=False)
    with closing(driver.connect(str(database), isolation_level=None)) as source:
        source.execute("BEGIN")
        counts = _row_counts(source)
        with closing(driver.connect(str(target), isolation_level=None)) as copy:
            source.backup(copy)
            # One file with nothing beside it, which opens from a read-only medium, too.
            copy.execute("PRAGMA journal_mode = DELETE")
        source.execute("ROLLBACK")
    return counts


def _verify(copy: Path, expected: dict[str, int]) -> None:
    with closing(connect_read_only(copy, immutable=True)) as connection:
        verdict = connection.execute("PRAGMA integrity_check").fetchall()
        if verdict != [("ok",)]:
            raise _failure(f"the copy is damaged: {verdict[0][0]}")
        if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
            raise _failure("the copy does not bear the mark of DorkOS")
        found = _row_counts(connection)
    if found != expected:
        wrong = sorted(table for table in expected if found.get(table) != expected[table])
        raise _failure(f"the copy differs in {', '.join(wrong) or 'its tables'}")


def _row_counts(connection: sqlite3.Connection) -> dict[str, int]:
    tables = connection.execute(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
    ).fetchall()
    return {
        name: connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0]  # noqa: S608 - Its own names.
        for (name,) in tables
    }


def _evict(backups: Path) -> None:
    """Delete all but the newest ten. What is no snapshot is neither counted nor touched."""
    verified = sorted((path for path in backups.glob(_PATTERN) if _is_snapshot(path)), reverse=True)
    for path in verified[KEEP:]:
        path.unlink(missing_ok=True)


def _is_snapshot(path: Path) -> bool:
    try:
        with closing(connect_read_only(path, immutable=True)) as connection:
            marked: bool = connection.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID
            return marked and bool(connection.execute("SELECT 1 FROM schema_ledger LIMIT 1").fetchall())
    except (OSError, sqlite_driver().Error):
        return False


def _free_name(backups: Path, stem: str) -> Path:
    candidate, number = backups / f"{stem}.db", 1
    while candidate.exists():
        number += 1
        candidate = backups / f"{stem}-{number}.db"
    return candidate


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _failure(reason: str) -> DorkError:
    return DorkError(
        ErrorCode.SNAPSHOT_FAILED,
        f"The snapshot before the migration failed: {reason}. Nothing was migrated.",
        hint="Make room on the disk and check that the backups folder can be written, then start again.",
    )
