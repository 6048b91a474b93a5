"""From a driver's exception to a refusal that a person can act on."""

from __future__ import annotations

import sqlalchemy as sa

from dorkos.errors import DorkError, ErrorCode

# SQLite tells the kind of an error only by text on drivers before Python 3.11.
_SQLITE = (
    (
        "database or disk is full",
        ErrorCode.DISK_FULL,
        "The disk is full.",
        "Free some space; nothing of this change was stored.",
    ),
    (
        "readonly database",
        ErrorCode.DATABASE_READONLY,
        "The database file cannot be written.",
        "Check the owner and mode of the data directory.",
    ),
    (
        "database is locked",
        ErrorCode.DATABASE_BUSY,
        "Another program holds the database.",
        "Close the program that has the file open, then try again.",
    ),
    (
        "malformed",
        ErrorCode.DATABASE_CORRUPT,
        "The database file is damaged.",
        "Stop the server, run `dorkos db verify`, and restore a backup.",
    ),
    (
        "disk i/o error",
        ErrorCode.DATABASE_UNREACHABLE,
        "The disk reported an input/output error.",
        "Check the disk; nothing of this change was stored.",
    ),
)
_RETRY_STATES = frozenset({"40001", "40P01"})


def explain(fault: Exception) -> Exception:
    """The refusal that `fault` stands for, or `fault` itself when it is a fault of ours."""
    if not isinstance(fault, sa.exc.DBAPIError):
        return fault
    if isinstance(fault, sa.exc.IntegrityError):
        return fault
    text = str(fault.orig).lower()
    for needle, code, message, hint in _SQLITE:
        if needle in text:
            return DorkError(code, message, hint=hint)
    if fault.connection_invalidated or connection_lost(fault):
        return DorkError(
            ErrorCode.DATABASE_UNREACHABLE,
            "The connection to the database broke.",
            hint="Nothing of this change was stored; try again when the database answers.",
        )
    return fault


def may_retry(fault: Exception) -> bool:
    """Whether the database asks for the transaction to be run again (serialisation, deadlock)."""
    return isinstance(fault, sa.exc.DBAPIError) and getattr(fault.orig, "sqlstate", None) in _RETRY_STATES


def connection_lost(fault: sa.exc.DBAPIError) -> bool:
    """Whether the server went away. psycopg gives no SQLSTATE then, or one of class 08 or 57P."""
    if not isinstance(fault, sa.exc.OperationalError | sa.exc.InterfaceError):
        return False
    state = getattr(fault.orig, "sqlstate", None)
    return state is None or state.startswith(("08", "57P"))
