"""Which copies lie in the backups folder, and which of them may be deleted.

The name tells the kind: `daily-<time>-<migration>.db`. A copy counts only if it can be read as what its
name says, so that a decoy never pushes a good one out; a decoy itself is left for a person to see.
"""

from __future__ import annotations

import itertools
import re
import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from dorkos.db.engine import APPLICATION_ID, sqlite_driver
from dorkos.db.probe import connect_read_only
from dorkos.plain_file import refuse_special

_NAME = re.compile(r"([a-z]+)-(\d{8}T\d{6}Z)-\d{4}_[a-z0-9_]+?(?:-(\d+))?\.db")

# No copy takes that long.
_ABANDONED_S = 86_400.0


class CopyKind(StrEnum):
    """Why a copy was made: before a migration, each day, by hand, or to keep what was replaced.

    `replaced` was replaced by a restore; `lineage` is the database of DorkOS for Node that was taken over.
    """

    SNAPSHOT = "dork"
    DAILY = "daily"
    BACKUP = "backup"
    REPLACED = "replaced"
    LINEAGE = "lineage"


@dataclass(frozen=True, slots=True)
class KeptCopy:
    """A file in the backups folder, by its name. `at` is when it was made."""

    path: Path
    kind: CopyKind
    at: datetime
    number: int


def copy_names(kind: CopyKind, now: datetime, last_id: str) -> Iterator[str]:
    """The names that a copy of this moment may have: the second of one second gets a number."""
    stem = f"{kind}-{now:%Y%m%dT%H%M%SZ}-{last_id}"
    yield f"{stem}.db"
    for number in itertools.count(2):
        yield f"{stem}-{number}.db"


def copies(backups: Path, *kinds: CopyKind) -> list[KeptCopy]:
    """What is named like a copy of one of these kinds, the newest first. None is opened.

    A folder that does not exist holds none. Raises `OSError` for one that cannot be read.
    """
    try:
        found = [copy for path in backups.iterdir() if (copy := _by_name(path)) and copy.kind in kinds]
    except FileNotFoundError:
        return []
    return sorted(found, key=lambda copy: (copy.at, copy.number), reverse=True)


def sound_copies(backups: Path, kind: CopyKind, *, now: datetime) -> Iterator[KeptCopy]:
    """The copies of one kind that are whole and ours, the newest first.

    One whose name is of the future was made while the clock was wrong; its age is unknown, so that it is
    passed over until its time has come.
    """
    return (copy for copy in copies(backups, kind) if copy.at <= now and is_whole(copy.path))


def evict(backups: Path, kind: CopyKind, *, keep: int, now: datetime) -> None:
    """Delete all but the newest `keep` of the `sound_copies` of one kind.

    What is not among them is neither counted nor touched, and no other kind is.
    """
    for copy in list(sound_copies(backups, kind, now=now))[keep:]:
        copy.path.unlink(missing_ok=True)


def sweep(backups: Path, now: datetime) -> None:
    """Clear away what copies left that were killed while they were made, a day ago or longer."""
    for folder in backups.glob(".dorkos-*"):
        if folder.is_dir() and now.timestamp() - folder.stat().st_mtime > _ABANDONED_S:
            shutil.rmtree(folder, ignore_errors=True)


def is_whole(path: Path) -> bool:
    """Whether the file is a database of ours with all its pages. What is in them is not read."""
    try:
        # SQLite would wait for ever for what a FIFO of such a name brings.
        refuse_special(path)
        with closing(connect_read_only(path, immutable=True)) as connection:
            ask = connection.execute
            if ask("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
                return False
            pages, page_size = (ask(f"PRAGMA {fact}").fetchone()[0] for fact in ("page_count", "page_size"))
            entries: list[tuple[int]] = ask("SELECT 1 FROM schema_ledger LIMIT 1").fetchall()
            return bool(entries) and pages * page_size == path.stat().st_size
    except (OSError, sqlite_driver().Error):
        return False


def _by_name(path: Path) -> KeptCopy | None:
    found = _NAME.fullmatch(path.name)
    if found is None or found[1] not in tuple(CopyKind):
        return None
    try:
        at = datetime.strptime(found[2], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None
    return KeptCopy(path, CopyKind(found[1]), at, int(found[3] or 1))
