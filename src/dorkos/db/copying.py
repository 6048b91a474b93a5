"""Copying a SQLite database, also one that a server is writing, and reading the copy back.

A plain copy would not do: committed rows may be only in the write-ahead log. And a copy is worth
nothing until it was read back: an interrupted one is an empty file, which is a valid empty database.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dorkos.db.engine import APPLICATION_ID, BUSY_TIMEOUT_MS, sqlite_driver, sqlite_uri
from dorkos.db.probe import connect_read_only, connect_to_ours
from dorkos.db.side_files import side_file

if TYPE_CHECKING:
    import sqlite3


class CopyError(Exception):
    """Why there is no verified copy, as half a sentence. Nothing was left behind."""


class CopyHaltedError(CopyError):
    """The copy was given up because somebody asked for that."""


class NameTakenError(CopyError):
    """Everything that the copy could have been called exists already. Nothing was replaced."""


# Asked every few milliseconds while a copy is made: whether to give it up.
Halt = Callable[[], bool]
_PAGES_AT_ONCE = 2048
STEPS_AT_ONCE = 100_000


@dataclass(frozen=True, slots=True)
class VerifiedCopy:
    """A copy that was read back. `rows` counts each table's rows at the moment that it shows."""

    path: Path
    rows: Mapping[str, int]


def _go_on() -> bool:
    return False


def place_copy(
    database: Path,
    folder: Path,
    names: Iterable[str],
    *,
    halt: Halt = _go_on,
    mark: int = APPLICATION_ID,
) -> VerifiedCopy:
    """Copy `database` into `folder`, which must exist, under the first of `names` that is free.

    The copy shows one moment between two commits, is one file without side files, readable by its owner
    alone, and synced to disk before it gets its name. It never replaces anything. Raises `CopyError`,
    `CopyHaltedError` soon after `halt` said so. `mark` is the application id that the copy has to bear.
    """
    try:
        # A folder of its own takes the side files of an unfinished copy along when it goes.
        with tempfile.TemporaryDirectory(prefix=".dorkos-", dir=folder) as workplace:
            copy = Path(workplace) / "copy.db"
            expected = _copy(database, copy, halt)
            _verify(copy, expected, halt, mark)
            sync(copy)
            target = publish(copy, folder, names)
            sync(folder)
    except (OSError, sqlite_driver().Error) as fault:
        if halt():
            raise CopyHaltedError("it was given up") from fault
        raise CopyError(str(fault)) from fault
    return VerifiedCopy(target, expected)


def copy_untouched(database: Path, target: Path) -> VerifiedCopy:
    """Copy `database` to `target`, which must not exist, without any trace at the original.

    Not even a log that a crash left is merged into it. Not synced: meant for a copy that is thrown away.
    Raises `CopyError`, also when a server began to use the database meanwhile.
    """
    try:
        expected = _copy_by_reading(database, target, _go_on)
        _verify(target, expected, _go_on, APPLICATION_ID)
    except (OSError, sqlite_driver().Error) as fault:
        raise CopyError(str(fault)) from fault
    return VerifiedCopy(target, expected)


def _looks(database: Path) -> tuple[tuple[int, int, int], bool]:
    found = database.stat()
    in_use = any(side_file(database, suffix).exists() for suffix in ("-wal", "-shm"))
    return (found.st_ino, found.st_size, found.st_mtime_ns), in_use


def _copy(database: Path, target: Path, halt: Halt) -> dict[str, int]:
    if not os.access(side_file(database, "-shm").parent, os.W_OK):
        return _copy_by_reading(database, target, halt)
    # Opened for writing, though nothing is written: only then SQLite clears its side files away behind
    # us where we were the only user. Beside a server, which has the file open, it checkpoints nothing.
    source: sqlite3.Connection = sqlite_driver().connect(
        sqlite_uri(database, "rw"), uri=True, isolation_level=None, timeout=BUSY_TIMEOUT_MS / 1000
    )
    with closing(source):
        return _copy_from(source, target, halt)


def _copy_by_reading(database: Path, target: Path, halt: Halt) -> dict[str, int]:
    """The same where nothing may be written, or is to be."""
    before = _looks(database)
    try:
        source = connect_to_ours(database)
        source.execute("SELECT 1 FROM sqlite_schema").fetchone()
    except sqlite_driver().OperationalError as fault:
        raise CopyError(
            f"{database} cannot be opened: beside it lies a log of a server that was killed, and its folder "
            "may not be written"
        ) from fault
    with closing(source):
        expected = _copy_from(source, target, halt)
    # A file that nobody had open was read without locks: then it must not have changed.
    if not before[1] and _looks(database) != before:
        raise CopyError(f"{database} was opened by another program meanwhile")
    return expected


def _copy_from(source: sqlite3.Connection, target: Path, halt: Halt) -> dict[str, int]:
    """Copy by SQLite's online backup, and count the rows of the same moment."""

    def go_on(_status: int, _remaining: int, _total: int) -> None:
        if halt():
            raise CopyHaltedError("it was given up")

    target.touch(mode=0o600, exist_ok=False)
    source.set_progress_handler(halt, STEPS_AT_ONCE)
    source.execute("BEGIN")
    counts = row_counts(source)
    with closing(sqlite_driver().connect(target, isolation_level=None)) as copy:
        # In steps, so that it can be given up. The open transaction keeps them at one moment.
        source.backup(copy, pages=_PAGES_AT_ONCE, progress=go_on)
        # One file with nothing beside it, which opens from a read-only medium, too.
        copy.execute("PRAGMA journal_mode = DELETE")
    source.execute("ROLLBACK")
    return counts


def _verify(copy: Path, expected: Mapping[str, int], halt: Halt, mark: int) -> None:
    with closing(connect_read_only(copy, immutable=True)) as connection:
        connection.set_progress_handler(halt, STEPS_AT_ONCE)
        verdict = connection.execute("PRAGMA integrity_check").fetchall()
        if verdict != [("ok",)]:
            raise CopyError(f"the copy is damaged: {verdict[0][0]}")
        if connection.execute("PRAGMA application_id").fetchone()[0] != mark:
            raise CopyError("the copy does not bear the mark of DorkOS")
        found = row_counts(connection)
    if found != expected:
        wrong = sorted(table for table in expected if found.get(table) != expected[table])
        raise CopyError(f"the copy differs in {', '.join(wrong) or 'its tables'}")


def row_counts(connection: sqlite3.Connection) -> dict[str, int]:
    """How many rows each table has, whoever made it.

    A virtual table has no page of its own and is passed over: its rows are in other tables, and its module
    may not be there.
    """
    tables = connection.execute(
        "SELECT name, replace(name, '\"', '\"\"') FROM sqlite_schema "
        "WHERE type = 'table' AND rootpage > 0 AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
    ).fetchall()
    return {
        name: connection.execute(f'SELECT count(*) FROM "{quoted}"').fetchone()[0]  # noqa: S608 - Its own names.
        for name, quoted in tables
    }


def publish(copy: Path, folder: Path, names: Iterable[str]) -> Path:
    """Give the finished copy its name. A link, unlike a rename, cannot replace what is there."""
    for name in names:
        target = folder / name
        if os.path.lexists(target):
            continue
        try:
            target.hardlink_to(copy)
        except FileExistsError:
            continue  # Somebody was quicker; their file stays.
        except OSError:
            copy.rename(target)  # Such as a stick formatted as FAT, which knows no links.
        return target
    raise NameTakenError("a file of that name exists")


def sync(path: Path) -> None:
    """Bring a file, or the names in a folder, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
