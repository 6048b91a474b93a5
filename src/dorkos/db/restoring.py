"""The names of what a restore leaves beside the database until it is finished. See `dorkos.db.replace`."""

from __future__ import annotations

from pathlib import Path

from dorkos.db.side_files import own_place
from dorkos.errors import DorkError, ErrorCode

# The folder holds the new database until it is in its place; the file says that this was begun.
WORKPLACE = ".restoring"
INTENT = "restore.json"


def refuse_unfinished_restore(database: Path) -> None:
    """Raise `restore_failed` while the old database is moved away and the new one is not in its place.

    Whoever opened the directory then would take it for one without a database, and make an empty one.
    """
    place = own_place(database).parent / INTENT
    if place.exists():
        raise DorkError(
            ErrorCode.RESTORE_FAILED,
            f"A restore into {place.parent} was interrupted and is not finished. Nothing was changed.",
            hint="Start the server or run `dorkos db migrate`: either finishes it first.",
        )
