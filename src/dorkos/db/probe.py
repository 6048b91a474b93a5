"""What a SQLite file is, found out without leaving a trace: no file made, no journal, no write.

The order matters. A file that is not ours is told apart before anything opens it for writing, since
that alone would switch its journal mode.
"""

from __future__ import annotations

import hashlib
import shutil
import struct
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dorkos.db.engine import APPLICATION_ID, BUSY_TIMEOUT_MS, sqlite_driver, sqlite_uri
from dorkos.db.filesystem import refuse_dangling_link
from dorkos.db.ledger import LedgerEntry
from dorkos.db.legacy.mendable import refuse_mendable
from dorkos.db.legacy.recognition import LEDGER
from dorkos.db.scratch import scratch_folder
from dorkos.db.side_files import refuse_what_is_no_file, side_file
from dorkos.errors import DorkError, ErrorCode
from dorkos.plain_file import read_file

if TYPE_CHECKING:
    import sqlite3

_MAGIC = b"SQLite format 3\x00"
_HEADER_BYTES = 100
_UNREADABLE = ("malformed", "not a database", "disk i/o error", "unsupported")
_LOCKED = ("locked", "locking protocol", "busy")
_OTHER_TABLES = ("no such table", "no such column")


@dataclass(frozen=True, slots=True)
class SqliteState:
    """One of our databases: its ledger, the fingerprint of its schema now, and `system_state`'s facts."""

    entries: tuple[LedgerEntry, ...]
    fingerprint: str
    facts: Mapping[str, str]


def probe_sqlite(path: Path) -> SqliteState | None:
    """The state of our database at `path`, or None where a new one may be made.

    Raises `database_foreign`, `database_lineage`, `database_corrupt`, or `database_unreachable` when the
    file exists but cannot be read, which says nothing about its health.
    """
    refuse_dangling_link(path)
    refuse_what_is_no_file(path)
    header = _read_header(path)
    if header is None:
        if _has_content(side_file(path, "-wal")):
            raise _corrupt(
                path,
                "is empty, but a write-ahead log with data lies beside it",
                "Put back the file that this -wal belongs to, or restore a backup. Do not delete the -wal.",
            )
        return None
    marked = _check_header(path, header)
    if marked == APPLICATION_ID and not _has_content(side_file(path, "-wal")):
        _refuse_truncated(path, header)
    with _reading(path, marked) as connection:
        tables = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
        names = {name for (name,) in tables}
        if LEDGER in names:
            raise DorkError(
                ErrorCode.DATABASE_LINEAGE,
                f"{path} was written by DorkOS for Node. Nothing was changed.",
                hint="`dorkos up` takes it over, and so does `dorkos db migrate`; with --dry-run that only "
                "says what it would bring.",
            )
        application_id = connection.execute("PRAGMA application_id").fetchone()[0]
        if application_id != APPLICATION_ID:
            if marked == APPLICATION_ID:
                raise _foreign_log(side_file(path, "-wal"))
            if names or application_id != 0:
                raise _foreign(path)
            return None
        if "schema_ledger" not in names:
            raise _corrupt(path, "bears the mark of DorkOS but holds no record of its migrations")
        state = _read_state(path, connection, names)
        if not state.entries:
            # It comes with its first row, in one transaction: somebody emptied it.
            raise _corrupt(path, "holds a record of its migrations that is empty")
        return state


def connect_read_only(path: Path, *, immutable: bool) -> sqlite3.Connection:
    """A raw connection that cannot write. `immutable` also promises that nobody else does: then not even
    the side files of a write-ahead log are made, and none is read."""
    connection: sqlite3.Connection = sqlite_driver().connect(
        f"{sqlite_uri(path, 'ro')}{'&immutable=1' if immutable else ''}",
        uri=True,
        isolation_level=None,
        timeout=BUSY_TIMEOUT_MS / 1000,
    )
    return connection


def connect_to_ours(path: Path) -> sqlite3.Connection:
    """A raw connection that cannot write, to a database of ours, whether or not a server has it open."""
    in_use = _has_content(side_file(path, "-wal")) or side_file(path, "-shm").exists()
    return connect_read_only(path, immutable=not in_use)


# Tables whose names begin so are an index, made by the server from other tables: they may come and go.
DERIVED = "relay_search"


def fingerprint(connection: sqlite3.Connection) -> str:
    """A digest of the whole schema text, but for what is derived. Unequal asks for a closer look."""
    rows = connection.execute(
        "SELECT type, name, tbl_name, sql FROM sqlite_schema "
        "WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY type, name"
    )
    declared = [row for row in rows if not str(row[2]).startswith(DERIVED)]
    return hashlib.sha256(repr(declared).encode()).hexdigest()


def _read_state(path: Path, connection: sqlite3.Connection, names: set[str]) -> SqliteState:
    entries = connection.execute("SELECT id, checksum, version FROM schema_ledger ORDER BY id").fetchall()
    facts: dict[str, str] = {}
    if "system_state" in names:
        facts = dict(
            connection.execute(
                "SELECT key, value FROM system_state"
                " WHERE key IN ('epoch', 'schema_fingerprint', 'import', 'transfer')"
            )
        )
    if not all(isinstance(value, str) for row in (*entries, *facts.items()) for value in row):
        raise _corrupt(path, "holds a record of its migrations that DorkOS did not write")
    return SqliteState(tuple(LedgerEntry(*entry) for entry in entries), fingerprint(connection), facts)


def bears_our_mark(path: Path) -> bool:
    """Whether the file says that it is a database of this DorkOS. Reads its first bytes alone."""
    try:
        header = read_file(path, _HEADER_BYTES)
    except OSError:
        return False
    return len(header) == _HEADER_BYTES and _application_id(header) == APPLICATION_ID


def _read_header(path: Path) -> bytes | None:
    try:
        return read_file(path, _HEADER_BYTES) or None
    except FileNotFoundError:
        return None
    except OSError as fault:
        raise DorkError(
            ErrorCode.DATABASE_UNREACHABLE,
            f"{path} cannot be read: {fault.strerror}.",
            hint="Check that it is a file and that you may read it. Nothing was changed.",
        ) from fault


def _check_header(path: Path, header: bytes) -> int:
    """The application id that the file names, after the checks that need no SQLite."""
    if len(header) < _HEADER_BYTES or not header.startswith(_MAGIC):
        raise _corrupt(path, "is not a SQLite database")
    return _application_id(header)


def _application_id(header: bytes) -> int:
    application_id: int = struct.unpack_from(">I", header, 68)[0]
    return application_id


def _refuse_truncated(path: Path, header: bytes) -> None:
    """SQLite reads a last page of which only a part is there as if the rest were zeros, without a word.

    Asked only where no log has content: beside one the file may rightly be shorter than its header says.
    """
    page_size, change_counter, pages, counted_at = struct.unpack_from(">H6xII60xI", header, 16)
    page_size = 65536 if page_size == 1 else page_size
    missing = pages * page_size - path.stat().st_size
    # Programs older than this header field leave it alone, and the other counter moves on.
    if change_counter == counted_at and missing > 0:
        raise _corrupt(path, f"was cut short: bytes missing at its end: {missing}")


@contextmanager
def _reading(path: Path, application_id: int) -> Iterator[sqlite3.Connection]:
    try:
        if application_id == APPLICATION_ID:
            with closing(connect_to_ours(path)) as connection:
                yield connection
        else:
            with _reading_untouched(path) as connection:
                yield connection
    except sqlite_driver().DatabaseError as fault:
        raise _of_sqlite(path, str(fault)) from fault


@contextmanager
def _reading_untouched(path: Path) -> Iterator[sqlite3.Connection]:
    """Read somebody else's file, or a newborn of ours whose mark is still in its log alone.

    Opening the log would leave side files. What stands outside it decides; only where nothing does, a
    copy is opened with its log, which cannot be large then.
    """
    with closing(connect_read_only(path, immutable=True)) as outside:
        tables = outside.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
        if tables or not _has_content(side_file(path, "-wal")):
            yield outside
            return
    with (
        scratch_folder("look") as folder,
        closing(_opened_copy(path, Path(folder) / "copy.db")) as connection,
    ):
        yield connection


def _opened_copy(path: Path, copy: Path) -> sqlite3.Connection:
    try:
        shutil.copyfile(path, copy)
        shutil.copyfile(side_file(path, "-wal"), side_file(copy, "-wal"))
        connection = connect_read_only(copy, immutable=False)
        connection.execute("SELECT 1 FROM sqlite_schema").fetchone()
    except (OSError, sqlite_driver().Error) as fault:
        # Of the folder for temporary files nothing follows for the database.
        refuse_mendable(path, fault)
        raise
    return connection


def _has_content(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except OSError:
        return False


def _of_sqlite(path: Path, told: str) -> DorkError:
    """What it means that SQLite cannot read the file. Only a lock is a reason to close another program."""
    said = told.lower()
    if any(word in said for word in _UNREADABLE):
        return _corrupt(path, f"cannot be read by SQLite ({told})")
    if any(word in said for word in _OTHER_TABLES):
        return DorkError(
            ErrorCode.DATABASE_DRIFT,
            f"The tables of {path} are not those that DorkOS made ({told}). Nothing was changed.",
            hint="Somebody changed them by hand. Undo that, or restore a snapshot.",
        )
    if any(word in said for word in _LOCKED):
        return DorkError(
            ErrorCode.DATABASE_BUSY,
            f"{path} could not be opened: {told}.",
            hint="Close the program that has it open.",
        )
    return DorkError(
        ErrorCode.DATABASE_UNREACHABLE,
        f"{path} could not be opened: {told}.",
        hint="Check the owner and mode of the file, of its folder and of the -wal and -shm beside it. "
        "Nothing was changed.",
    )


def _foreign_log(log: Path) -> DorkError:
    return DorkError(
        ErrorCode.DATABASE_FOREIGN,
        f"{log} is the write-ahead log of another database. Nothing was changed.",
        hint="Move it to where it belongs, and keep it; if the database had a log of its own, put that back.",
    )


def _foreign(path: Path) -> DorkError:
    return DorkError(
        ErrorCode.DATABASE_FOREIGN,
        f"{path} is a SQLite database of another program. Nothing was changed.",
        hint="Give DorkOS a directory of its own with --home.",
    )


def _corrupt(
    path: Path, what: str, hint: str = "Restore a snapshot from the backups folder. Nothing was changed."
) -> DorkError:
    return DorkError(ErrorCode.DATABASE_CORRUPT, f"{path} {what}.", hint=hint)
