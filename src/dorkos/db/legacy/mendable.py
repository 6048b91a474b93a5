"""Faults that say nothing about what was to be read: a person can mend them, and then all of it comes.

What is left out because of them would be missing for good: whatever was brought over in its place stands, and
a second run adds only what is new.
"""

from __future__ import annotations

import errno
from pathlib import Path

from dorkos.db.faults import explain
from dorkos.errors import DorkError, ErrorCode

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NO_MEANS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
_NO_RIGHT = frozenset({errno.EACCES, errno.EPERM})


def refuse_mendable(path: Path, fault: Exception) -> None:
    """Raise `disk_full` or `database_unreachable` if the reason why `path` was not read is not in `path`.

    `fault` is one of the operating system, or of SQLite about the copy that was made of `path`.
    """
    number = fault.errno if isinstance(fault, OSError) else None
    explained = explain(fault)
    code = explained.code if isinstance(explained, DorkError) else None
    if number in _NO_ROOM or code is ErrorCode.DISK_FULL:
        raise DorkError(
            ErrorCode.DISK_FULL,
            f"There is no room to copy {path} to where it is read. Nothing was changed.",
            hint="Make room in the folder for temporary files, or name another one by TMPDIR.",
        ) from fault
    if number in _NO_RIGHT:
        raise DorkError(
            ErrorCode.DATABASE_UNREACHABLE,
            f"{path} may not be read: {_told(fault)}. Nothing was changed.",
            hint="Run this as the owner of the files, or correct their modes. What must stay unread can be "
            "left out of a copy of the directory.",
        ) from fault
    if number in _NO_MEANS or code is ErrorCode.DATABASE_UNREACHABLE:
        raise DorkError(
            ErrorCode.DATABASE_UNREACHABLE,
            f"{path} could not be read just now: {_told(fault)}. Nothing was changed.",
            hint="Look at how many files a process may open (ulimit -n) and at the folder for temporary "
            "files, then try again.",
        ) from fault


def _told(fault: Exception) -> str:
    return (fault.strerror if isinstance(fault, OSError) else None) or str(fault)
