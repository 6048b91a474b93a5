"""A backup on its way to become the database: copied, migrated, set at rest and verified, out of the way.

Restore and rehearsal share it, so that what is rehearsed is what a restore does.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa

from dorkos.clock import Clock
from dorkos.db.connections import migrating_sqlite, reading_sqlite
from dorkos.db.copying import CopyError, CopyHaltedError, Halt, copy_untouched, row_counts, sync
from dorkos.db.engine import sqlite_driver
from dorkos.db.ledger import pending, revisions
from dorkos.db.migrate import migrate_copy
from dorkos.db.newest_event import newest_event
from dorkos.db.probe import SqliteState, connect_read_only, probe_sqlite
from dorkos.db.resting import set_at_rest
from dorkos.db.side_files import side_file
from dorkos.db.soundness import VALUES
from dorkos.db.verify import broken_references, damage, verify_sqlite
from dorkos.errors import DorkError, ErrorCode
from dorkos.storable import clean_text

SIDE_FILES = ("-wal", "-shm", "-journal")
_CHUNK = 1024 * 1024
_CHOOSE_ANOTHER = (
    "Nothing was changed. Choose another backup: `dorkos db backup` makes them, and more lie in the backups "
    "folder of the data directory."
)
_MEND_VALUES = (
    "Nothing was changed. Choose another backup. If there is none, its rows are all there: copy it into an "
    "empty directory as `dork.db`, put a value that can be read in each place that "
    "`dorkos --home DIRECTORY db verify` names, and restore that."
)
_OF_NODE = (
    "It is no backup of this DorkOS. To bring it over, put it into an empty directory as `dork.db` and run "
    "`dorkos db adopt` on that; to go back to DorkOS for Node, put it there as that version's own."
)


@dataclass(frozen=True, slots=True)
class Staged:
    """A database ready to be used, made from the backup `file`, which stays as it is.

    `migration` and `version` are those of the backup, `applied` what was migrated since. `as_of` is the
    time of the newest event in the backup. `rows` counts all tables as they are now.
    """

    path: Path
    file: Path
    migration: str
    version: str
    applied: tuple[str, ...]
    as_of: datetime | None
    rows: int


def never() -> bool:
    """A `Halt` that lets the work go on."""
    return False


def stage(
    file: Path,
    folder: Path,
    *,
    clock: Clock,
    say: Callable[[str], None],
    revoked: Collection[str] = (),
    halt: Halt = never,
) -> Staged:
    """Make a database in `folder`, which must be empty, from the backup `file`. Blocking.

    The backup may be of any kind and place, have a log beside it, and be in use; it is only read. `revoked`
    are hashes of tokens that must not be valid in the result. Afterwards the result is one synced file.

    Raises `not_found`, `database_corrupt`, `database_foreign`, `database_lineage`, `database_newer`,
    `database_drift` and what else a database is refused for, always by the name of the backup;
    `restore_failed` where there is no room; `CopyHaltedError` soon after `halt` said so.
    """
    path = folder / "dork.db"
    refuse_what_is_no_file(file)
    try:
        say(f"Reading {file}")
        _bring(file, path, halt)
        state = _state_of(path, file)
        waiting = pending(revisions(), state.entries)
        if waiting:
            # A migration must not be the first to find the damage; afterwards all is verified in any case.
            say("Checking it")
            _refuse_problems(file, _damage_of(path, halt), halt)
        with reading_sqlite(path) as connection:
            as_of = newest_event(connection)
        migrate_copy(path, clock=clock, progress=say)
        with migrating_sqlite(path) as connection, connection.begin():
            name = clean_text(file.name)
            set_at_rest(connection, name=name, as_of=as_of, revoked=revoked, now=clock.now())
        say("Checking the result")
        _refuse_problems(file, verify_sqlite(path, halt=halt), halt)
        rows = _rows_of(path)
        if _has_content(side_file(path, "-wal")):
            raise OSError(f"another program has {path} open")
        sync(path)
        sync(folder)
    except (OSError, sqlite_driver().Error, sa.exc.DBAPIError) as fault:
        raise _failed(file, folder, fault) from fault
    except DorkError as refusal:
        raise _about(file, path, refusal) from refusal
    last = state.entries[-1]
    return Staged(path, file, last.id, last.version, tuple(r.id for r in waiting), as_of, rows)


def refuse_what_is_no_file(file: Path) -> None:
    """Refuse what can be told to be no backup without opening it as a database.

    Raises `not_found`, `validation_failed` or `database_corrupt`. Touches nothing.
    """
    if not file.exists():
        raise DorkError(ErrorCode.NOT_FOUND, f"There is no file {file}.", hint=_CHOOSE_ANOTHER)
    if not file.is_file():
        raise DorkError(ErrorCode.VALIDATION_FAILED, f"{file} is not a file.", hint=_CHOOSE_ANOTHER)
    if file.stat().st_size == 0:
        raise DorkError(
            ErrorCode.DATABASE_CORRUPT, f"{file} is empty: it holds no database.", hint=_CHOOSE_ANOTHER
        )


def _bring(file: Path, path: Path, halt: Halt) -> None:
    """Copy the backup, together with what its log holds, without a trace at the backup."""
    if side_file(file, "-shm").exists():
        # Somebody has it open, or had until a crash: then only SQLite's locks give one moment of it.
        probe_sqlite(file)
        try:
            copy_untouched(file, path)
        except CopyError as fault:
            raise _corrupt(file, str(fault)) from fault
        return
    before = _looks(file)
    with_log = False
    for suffix in ("", "-wal", "-journal"):
        source = side_file(file, suffix)
        if suffix and not _has_content(source):
            continue
        _copy_bytes(source, side_file(path, suffix), halt)
        with_log = with_log or bool(suffix)
    if _looks(file) != before:
        raise DorkError(
            ErrorCode.DATABASE_BUSY,
            f"{file} was written while it was read.",
            hint="Close the program that writes it, or make a backup of it with `dorkos db backup`.",
        )
    if with_log:
        _merge_log(path, file)


def _copy_bytes(source: Path, target: Path, halt: Halt) -> None:
    target.touch(mode=0o600, exist_ok=False)
    with source.open("rb") as reading, target.open("wb") as writing:
        while chunk := reading.read(_CHUNK):
            if halt():
                raise CopyHaltedError("it was given up")
            writing.write(chunk)


def _merge_log(path: Path, file: Path) -> None:
    """Let SQLite bring in what a crash left in the log, or take back what it left half done."""
    try:
        with closing(sqlite_driver().connect(path, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode = DELETE")
    except sqlite_driver().DatabaseError as fault:
        raise _corrupt(file, f"cannot be read together with its log ({fault})") from fault


def _state_of(path: Path, file: Path) -> SqliteState:
    state = probe_sqlite(path)
    if state is None or not state.entries:
        raise DorkError(
            ErrorCode.DATABASE_FOREIGN, f"{file} holds no database of DorkOS.", hint=_CHOOSE_ANOTHER
        )
    return state


def _damage_of(path: Path, halt: Halt) -> list[str]:
    try:
        with reading_sqlite(path) as connection:
            return damage(connection, halt) + broken_references(connection)
    except sa.exc.DBAPIError as fault:
        return [str(fault.orig)]


def _refuse_problems(file: Path, problems: list[str], halt: Halt) -> None:
    if halt():
        raise CopyHaltedError("it was given up")
    if problems:
        more = f", and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise DorkError(
            ErrorCode.DATABASE_CORRUPT,
            f"{file} is not sound: {'; '.join(problems[:3])}{more}.",
            # A damaged page has taken rows along; a wrong value only itself.
            hint=_MEND_VALUES if all(each.startswith(VALUES) for each in problems) else _CHOOSE_ANOTHER,
            details={"problems": problems[:100]},
        )


def _rows_of(path: Path) -> int:
    with closing(connect_read_only(path, immutable=True)) as connection:
        return sum(row_counts(connection).values())


def _looks(file: Path) -> list[tuple[int, int, int] | None]:
    looks: list[tuple[int, int, int] | None] = []
    for suffix in ("", *SIDE_FILES):
        try:
            found = side_file(file, suffix).stat()
        except FileNotFoundError:
            looks.append(None)
        else:
            looks.append((found.st_ino, found.st_size, found.st_mtime_ns))
    return looks


def _has_content(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except FileNotFoundError:
        return False


def _corrupt(file: Path, what: str) -> DorkError:
    return DorkError(ErrorCode.DATABASE_CORRUPT, f"{file} {what}.", hint=_CHOOSE_ANOTHER)


def _failed(file: Path, folder: Path, fault: Exception) -> DorkError:
    return DorkError(
        ErrorCode.RESTORE_FAILED,
        f"{file} could not be brought to {folder}: {fault}. Nothing was changed.",
        hint="Make room on the disk and check that the file can be read and the folder written.",
    )


def _about(file: Path, path: Path, refusal: DorkError) -> DorkError:
    """The refusal of the copy, told of the backup; where to go with an own database is no advice here."""
    keep = {ErrorCode.DATABASE_NEWER, ErrorCode.MIGRATION_MISSING, ErrorCode.DATABASE_BUSY}
    own = refusal.code in keep or refusal.hint == _MEND_VALUES
    hint = refusal.hint if own else _CHOOSE_ANOTHER
    message = refusal.message.replace(str(path), str(file))
    return DorkError(
        refusal.code,
        message if str(file) in message else f"{file} cannot be restored: {message}",
        hint=_OF_NODE if refusal.code is ErrorCode.DATABASE_LINEAGE else hint,
        details=refusal.details,
    )
