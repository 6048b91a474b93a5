"""Where SQLite keeps what belongs to a database: beside the file itself, not beside a link to it.

Looking for the write-ahead log beside a link finds none, and the database is then read without the
commits that are in its log alone.
"""

from __future__ import annotations

import os
from pathlib import Path

from dorkos.errors import DorkError, ErrorCode
from dorkos.plain_file import refuse_special

_SUFFIXES = ("-wal", "-shm", "-journal")


def own_place(database: Path) -> Path:
    """The file that the name leads to, through every link; it need not exist.

    Raises `database_unreachable` where links lead in a circle.
    """
    try:
        place = database.resolve()
        place.exists()
    except RuntimeError as fault:
        raise _unreachable(database, "links lead in a circle") from fault
    except OSError as fault:
        raise _unreachable(database, fault.strerror or str(fault)) from fault
    if place.is_symlink() and not place.exists():
        raise _unreachable(database, "links lead in a circle")
    return place


def side_file(database: Path, suffix: str) -> Path:
    """Where the `-wal`, `-shm` or `-journal` of a database is; with no suffix the database itself.

    Raises as `own_place`.
    """
    place = own_place(database)
    return place.with_name(place.name + suffix)


def refuse_what_is_no_file(database: Path) -> None:
    """Raise `database_unreachable` if the database or a file beside it is a FIFO, a folder or the like.

    SQLite would wait for ever for a FIFO, and takes a folder for a fault of its own. Opens nothing.
    """
    for path in (database, *(side_file(database, suffix) for suffix in _SUFFIXES)):
        try:
            refuse_special(path)
        except OSError as fault:
            raise _unreachable(path, fault.strerror or str(fault)) from fault


def refuse_readonly(path: Path) -> None:
    """Raise `database_readonly` if the database or its log is there and may not be written.

    To be asked before SQLite looks: it leaves side files with the mode of the file, which refuse ever after.
    """
    for file in (path, side_file(path, "-wal"), side_file(path, "-shm")):
        if file.exists() and not os.access(file, os.W_OK):
            raise DorkError(
                ErrorCode.DATABASE_READONLY,
                f"{file} cannot be written.",
                hint=f"Make it writable for the user who runs the server: chmod u+w '{file}'",
            )


def _unreachable(path: Path, why: str) -> DorkError:
    return DorkError(
        ErrorCode.DATABASE_UNREACHABLE,
        f"{path} cannot be read: {why}.",
        hint=f"Look at what is there with `ls -l '{path}'` and move it away. Nothing was changed.",
    )
