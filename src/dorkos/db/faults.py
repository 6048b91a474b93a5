"""From a driver's exception to a refusal that a person can act on."""

from __future__ import annotations

import sqlalchemy as sa

from dorkos.db.engine import sqlite_driver
from dorkos.errors import DorkError, ErrorCode

# A code, what to say, and what to do.
_Kind = tuple[ErrorCode, str, str]

_DISK_FULL = (
    ErrorCode.DISK_FULL,
    "The disk is full.",
    "Free some space; nothing of this change was stored.",
)
_DAMAGED = (
    ErrorCode.DATABASE_CORRUPT,
    "The stored data is damaged.",
    "Stop the server, run `dorkos db verify`, and restore a backup. Nothing was replaced.",
)
_BUSY = (
    ErrorCode.DATABASE_BUSY,
    "Another program holds the database.",
    "Nothing of this change was stored. Close the program that has the file open, then try again.",
)
# SQLite tells the kind of an error only by text on drivers before Python 3.11.
_SQLITE = (
    ("database or disk is full", _DISK_FULL),
    (
        "readonly database",
        (
            ErrorCode.DATABASE_READONLY,
            "The database file cannot be written.",
            "Check the owner and mode of the data directory.",
        ),
    ),
    ("database is locked", _BUSY),
    ("locking protocol", _BUSY),
    ("malformed", _DAMAGED),
    ("not a database", _DAMAGED),
    (
        "disk i/o error",
        (
            ErrorCode.DATABASE_UNREACHABLE,
            "The disk reported an input/output error.",
            "Check the disk; nothing of this change was stored.",
        ),
    ),
    (
        # Too many open files, or a folder whose mode was changed: it says nothing about the file's health.
        "unable to open database file",
        (
            ErrorCode.DATABASE_UNREACHABLE,
            "The database file cannot be opened just now.",
            "Check the mode of the data directory and how many files the server may open.",
        ),
    ),
)
_GRANT = (
    "Let the role of `database.url` own the database and its tables, or grant it: GRANT CREATE, USAGE ON "
    "SCHEMA public TO role; GRANT ALL ON ALL TABLES IN SCHEMA public TO role; GRANT ALL ON ALL SEQUENCES IN "
    "SCHEMA public TO role."
)
_NAME_A_SCHEMA = (
    "Make it with CREATE SCHEMA, grant USAGE on it to the role, or mend the search_path of the role, the "
    "database or `database.url`."
)
_LOCKED_STATE = "55P03"
_POSTGRES = {
    "53100": _DISK_FULL,
    "XX001": _DAMAGED,
    "XX002": _DAMAGED,
    "25006": (
        ErrorCode.DATABASE_READONLY,
        "The PostgreSQL server takes no changes: it is a standby, or set to read only.",
        "Name the primary server in `database.url`.",
    ),
    "42501": (
        ErrorCode.DATABASE_READONLY,
        "The PostgreSQL role may not do this in the database.",
        _GRANT,
    ),
    "3F000": (
        ErrorCode.INVALID_SETTING,
        "The search_path of the PostgreSQL connection names no schema that exists and may be used.",
        _NAME_A_SCHEMA,
    ),
    "53300": (
        ErrorCode.DATABASE_BUSY,
        "PostgreSQL has no connection left.",
        "Raise its max_connections, or stop other programs that use it.",
    ),
    _LOCKED_STATE: (
        ErrorCode.DATABASE_BUSY,
        "Another program holds what this change needs.",
        "Nothing of this change was stored; try again.",
    ),
    "57014": (
        ErrorCode.DATABASE_BUSY,
        "PostgreSQL took longer than a minute for a statement.",
        "Nothing of this change was stored; look for locks and for a full disk there.",
    ),
}
_RETRY_STATES = frozenset({"40001", "40P01"})


def explain(fault: Exception) -> Exception:
    """The refusal that `fault` stands for, or `fault` itself when it is a fault of ours."""
    if isinstance(fault, sqlite_driver().Error):  # Of a statement that was run on the driver itself.
        return _refusal(_of_sqlite(str(fault))) or fault
    if not isinstance(fault, sa.exc.DBAPIError) or isinstance(fault, sa.exc.IntegrityError):
        return fault
    known = _POSTGRES.get(getattr(fault.orig, "sqlstate", None) or "") or _of_sqlite(str(fault.orig))
    if known is None and (fault.connection_invalidated or connection_lost(fault)):
        known = (
            ErrorCode.DATABASE_UNREACHABLE,
            "The connection to the database broke.",
            "Nothing of this change was stored; try again when the database answers.",
        )
    return _refusal(known) or fault


def _of_sqlite(text: str) -> _Kind | None:
    return next((kind for needle, kind in _SQLITE if needle in text.lower()), None)


def _refusal(kind: _Kind | None) -> DorkError | None:
    return None if kind is None else DorkError(kind[0], kind[1], hint=kind[2])


def no_schema() -> DorkError:
    """PostgreSQL lets one connect and read its own catalogue without any schema to work in."""
    code, message, hint = _POSTGRES["3F000"]
    return DorkError(code, message, hint=hint)


def may_retry(fault: Exception) -> bool:
    """Whether the database asks for the transaction to be run again (serialisation, deadlock)."""
    return isinstance(fault, sa.exc.DBAPIError) and getattr(fault.orig, "sqlstate", None) in _RETRY_STATES


def is_locked(fault: Exception) -> bool:
    """Whether PostgreSQL gave up waiting for what another program has locked."""
    return isinstance(fault, sa.exc.DBAPIError) and getattr(fault.orig, "sqlstate", None) == _LOCKED_STATE


def connection_lost(fault: Exception) -> bool:
    """Whether the server went away. psycopg gives no SQLSTATE then, or one of class 08 or 57P, or that of a
    transaction in which nothing was asked for too long."""
    if not isinstance(fault, sa.exc.OperationalError | sa.exc.InterfaceError):
        return False
    if isinstance(fault.orig, sqlite_driver().Error):
        return False  # A file has no connection to lose; what is unknown there is a fault of ours.
    state = getattr(fault.orig, "sqlstate", None)
    return state is None or state.startswith(("08", "57P", "25P03"))
