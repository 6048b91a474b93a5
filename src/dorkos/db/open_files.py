"""Whether a SQLite database that is open still has its files: the database itself, and its log.

SQLite goes on writing into a file that has lost its name. Its commits succeed, others read them, and they
end with the process: without its log a database is as of its last checkpoint.
"""

from __future__ import annotations

import os
from pathlib import Path

from dorkos.db.side_files import own_place, side_file

_Identity = tuple[int, int]


class OpenFiles:
    """Remembers which files were opened. Once one of them is gone, all counts as gone until a restart:
    what was committed in between may be in either of two files."""

    def __init__(self, database: Path) -> None:
        """To be made when the writing connection is open, and with it the log."""
        # The name as it was given is watched, since a link that leads elsewhere now is a replacement, too.
        self._database = database
        self._log = side_file(database, "-wal")
        self._was = _identity(own_place(database))
        self._log_was = _identity(self._log)
        self.gone: Path | None = None

    def missing(self) -> Path | None:
        """The first of the files that was moved, removed or replaced, now or ever before; None if none."""
        if self.gone is None:
            if _identity(self._database) != self._was:
                self.gone = self._database
            elif _identity(self._log) != self._log_was:
                self.gone = self._log
        return self.gone

    @property
    def only_log_is_gone(self) -> bool:
        """Whether the database is in its place, and no other log lies where its own was."""
        return _identity(self._database) == self._was and _identity(self._log) is None


def _identity(path: Path) -> _Identity | None:
    """Which file it is, whatever it is called; None if there is none."""
    try:
        found = os.stat(str(path))  # noqa: PTH116  # Four times a commit: that of Path takes twice as long.
    except OSError:
        return None
    return found.st_dev, found.st_ino
