"""Putting another file in the place of the SQLite database, so that a kill at any step loses neither.

What is replaced is kept in the backups folder, in one of two ways:

- It can be read: a verified copy is made of it, its log is merged into it, and the new file is renamed over
  it. The rename is one step; before it the old database is complete in one file, after it the new one is.
- It cannot be read: its files are moved together, the log with them, which takes more than one step. So the
  intent is written down first, and whoever opens the directory next finishes what was begun.

In neither is there ever an old log beside the new file, which SQLite would play back into it.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa

from dorkos.db.connections import reading_sqlite
from dorkos.db.copying import CopyError, place_copy, sync
from dorkos.db.engine import BUSY_TIMEOUT_MS, sqlite_driver, sqlite_uri
from dorkos.db.probe import probe_sqlite
from dorkos.db.restoring import INTENT, WORKPLACE
from dorkos.db.retention import CopyKind, copy_names
from dorkos.db.side_files import own_place, refuse_readonly
from dorkos.db.verify import damage
from dorkos.errors import DorkError, ErrorCode
from dorkos.plain_file import read_file

# The main file first: until all is in its place a reader finds no database, never one without its log.
_PARTS = ("", "-wal", "-journal", "-shm")

# Told the name of each step when it is done; a test ends the process there.
Checkpoint = Callable[[str], None]


def no_checkpoint(_step: str) -> None:
    """For whoever does not watch."""


@dataclass(frozen=True, slots=True)
class _Intent:
    """What was begun: to move what is there into `kept`, and then `staged` into its place."""

    kept: Path
    staged: Path


@dataclass(frozen=True, slots=True)
class _Swap:
    """What goes where."""

    database: Path
    staged: Path
    backups: Path
    now: datetime
    checkpoint: Checkpoint


@contextmanager
def workplace(database: Path) -> Iterator[Path]:
    """An empty folder on the disk of the database, in which its successor can be made.

    The caller holds the directory's lock and has called `finish_replacement`.
    """
    folder = own_place(database).parent / WORKPLACE
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        # An intent needs what is in it: then it goes only when that is carried out.
        if not (folder.parent / INTENT).exists():
            shutil.rmtree(folder, ignore_errors=True)


def replace_database(
    database: Path, staged: Path, *, backups: Path, now: datetime, checkpoint: Checkpoint = no_checkpoint
) -> Path | None:
    """Put `staged`, one synced file of the workplace, in the place of `database`. Durable on return.

    Returns the file or the folder in which the old database is kept; None if there was none. The caller
    holds the directory's lock. Raises `database_busy` when another program has the old one open,
    `database_readonly` when it may not be written, and `restore_failed` when it cannot be kept; then
    everything is as it was.
    """
    # A link stays, and what it leads to is replaced: a rename over the link would leave the old one behind.
    database = own_place(database)
    condition = _condition(database)
    swap = _Swap(database, staged, backups, now, checkpoint)
    try:
        if condition is None:
            kept = None
            _install(swap)
        elif isinstance(condition, _Readable):
            kept = _replace_readable(swap, condition.last_id)
        else:
            kept = _replace_raw(swap)
    except OSError as fault:
        if (database.parent / INTENT).exists():
            raise _not_finished(database, fault) from fault
        raise _not_replaced(str(fault)) from fault
    checkpoint("replaced")
    return kept


def finish_replacement(database: Path) -> None:
    """Finish what a kill interrupted, or clear away what it left. To be called before a database is opened.

    The caller holds the directory's lock. Does nothing, quickly, when nothing was interrupted. Raises
    `restore_failed` when it cannot be finished; then nothing may be opened.
    """
    database = own_place(database)
    place = database.parent / INTENT
    try:
        if place.exists():
            _carry_out(database, _read_intent(place), no_checkpoint)
        _draft(place).unlink(missing_ok=True)
    except OSError as fault:
        raise _not_finished(database, fault) from fault
    shutil.rmtree(database.parent / WORKPLACE, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class _Readable:
    last_id: str


@dataclass(frozen=True, slots=True)
class _Unreadable:
    pass


def _condition(database: Path) -> _Readable | _Unreadable | None:
    """What is there: a sound database of ours, something else, or nothing at all."""
    if not any(_has_content(_part(database, suffix)) for suffix in ("", "-wal", "-journal")):
        return None
    if not database.exists():
        return _Unreadable()  # A log without its database; somebody may yet find that.
    try:
        state = probe_sqlite(database)
        if state is None or not state.entries:
            return _Unreadable()
        with reading_sqlite(database) as connection:
            if damage(connection):
                return _Unreadable()
    except DorkError as refusal:
        if refusal.code in (ErrorCode.DATABASE_UNREACHABLE, ErrorCode.DATABASE_BUSY):
            raise  # It may be sound: what could not be looked at is not replaced.
        return _Unreadable()
    except sa.exc.DBAPIError as fault:
        if "locked" in str(fault.orig):
            raise _in_use(database) from fault
        return _Unreadable()
    return _Readable(state.entries[-1].id)


def _replace_readable(swap: _Swap, last_id: str) -> Path:
    refuse_readonly(swap.database)
    with _alone_with(swap.database):
        swap.checkpoint("merged")
        try:
            swap.backups.mkdir(mode=0o700, exist_ok=True)
            names = copy_names(CopyKind.REPLACED, swap.now, last_id)
            kept = place_copy(swap.database, swap.backups, names).path
        except CopyError as fault:
            raise _not_replaced(f"the copy of the old one failed: {fault}") from fault
        swap.checkpoint("kept")
        _install(swap)
    return kept


@contextmanager
def _alone_with(database: Path) -> Iterator[None]:
    """Merge the log into the database, and let nobody write until the end of the block.

    Leaving the write-ahead log is granted only to the single user of a file, and it ends with one file that
    has nothing beside it. The transaction then keeps others from bringing a log back.
    """
    try:
        connection = sqlite_driver().connect(
            sqlite_uri(database, "rw"),
            uri=True,
            isolation_level=None,
            timeout=BUSY_TIMEOUT_MS / 1000,
        )
        with closing(connection):
            if connection.execute("PRAGMA journal_mode = DELETE").fetchone()[0] != "delete":
                raise _in_use(database)
            connection.execute("BEGIN IMMEDIATE")
            yield
    except sqlite_driver().OperationalError as fault:
        if "locked" in str(fault):
            raise _in_use(database) from fault
        raise _not_replaced(str(fault)) from fault


def _install(swap: _Swap) -> None:
    """Rename the new file over the old one, which is a complete database by itself, or nothing."""
    for suffix in _PARTS[1:]:
        part = _part(swap.database, suffix)
        if suffix != "-shm" and _has_content(part):
            raise _in_use(swap.database)
        part.unlink(missing_ok=True)
    swap.staged.replace(swap.database)
    sync(swap.database.parent)


def _replace_raw(swap: _Swap) -> Path:
    kept = _folder_to_keep(swap)
    place = swap.database.parent / INTENT
    draft = _draft(place)
    draft.write_text(json.dumps({"kept": str(kept), "staged": str(swap.staged)}), encoding="ascii")
    sync(draft)
    draft.replace(place)
    sync(swap.database.parent)
    swap.checkpoint("intended")
    _carry_out(swap.database, _Intent(kept, swap.staged), swap.checkpoint)
    return kept


def _folder_to_keep(swap: _Swap) -> Path:
    """A new folder for the old files, on their own disk: a move to another one would not be one step."""
    backups, beside = swap.backups, swap.database.parent
    backups.mkdir(mode=0o700, exist_ok=True)
    near = backups if backups.stat().st_dev == beside.stat().st_dev else beside
    for number in itertools.count(1):
        folder = near / f"{CopyKind.REPLACED}-{swap.now:%Y%m%dT%H%M%SZ}{f'-{number}' if number > 1 else ''}"
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            continue
        sync(near)
        return folder
    raise AssertionError("the numbers do not end")


def _carry_out(database: Path, intent: _Intent, checkpoint: Checkpoint) -> None:
    """Do what is left of the intent. While the new file is not in its place, all that is there is old."""
    if intent.staged.exists():
        intent.kept.mkdir(mode=0o700, exist_ok=True)
        for suffix in _PARTS:
            part = _part(database, suffix)
            if part.exists():
                part.rename(_free_name(intent.kept / part.name))
                checkpoint(f"moved {part.name}")
        sync(intent.kept)
        sync(database.parent)
        checkpoint("moved")
        intent.staged.rename(database)
        sync(database.parent)
        checkpoint("installed")
    elif not database.exists():
        raise FileNotFoundError(f"{intent.staged} is gone, and so is {database}")
    (database.parent / INTENT).unlink(missing_ok=True)
    sync(database.parent)


def _draft(place: Path) -> Path:
    return place.with_name(f"{place.name}.new")


def _read_intent(place: Path) -> _Intent:
    try:
        fields = json.loads(read_file(place).decode("ascii"))
        return _Intent(Path(fields["kept"]), Path(fields["staged"]))
    except (ValueError, LookupError, TypeError) as fault:
        raise OSError(f"{place} cannot be read as what a restore writes there") from fault


def _free_name(path: Path) -> Path:
    """The name, or with a number where something has it: nothing that was kept is ever replaced."""
    for number in itertools.count(2):
        if not os.path.lexists(path):
            break
        path = path.with_name(f"{path.name.partition('~')[0]}~{number}")
    return path


def _part(database: Path, suffix: str) -> Path:
    return database.with_name(database.name + suffix)


def _has_content(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except FileNotFoundError:
        return False


def _in_use(database: Path) -> DorkError:
    return DorkError(
        ErrorCode.DATABASE_BUSY,
        f"Another program has {database} open.",
        hint="Close it, then try again. Nothing was changed.",
    )


def _not_finished(database: Path, fault: OSError) -> DorkError:
    place = database.parent / INTENT
    return DorkError(
        ErrorCode.RESTORE_FAILED,
        f"A restore into {database.parent} was begun and cannot be finished: {fault}.",
        hint=f"Nothing is lost: {place} names where the old and the new database are. Mend what stands in "
        "the way; the next start then finishes it.",
    )


def _not_replaced(reason: str) -> DorkError:
    return DorkError(
        ErrorCode.RESTORE_FAILED,
        f"The database was not replaced: {reason}. It is as it was.",
        hint="Make room on the disk; the data directory and its backups folder must be writable.",
    )
