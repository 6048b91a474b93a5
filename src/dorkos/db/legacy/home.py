"""A data directory of DorkOS for Node, read without leaving a trace in it.

Opening one of its databases in place would write beside it, and closing the last connection would merge
and delete its log. So each is copied, together with its log, into a folder that is thrown away.
"""

from __future__ import annotations

import json
import shutil
from enum import Enum, auto
from pathlib import Path
from types import TracebackType

from dorkos.db.engine import APPLICATION_ID, sqlite_driver
from dorkos.db.legacy.database import LegacyDatabase
from dorkos.db.legacy.mendable import refuse_mendable
from dorkos.db.legacy.report import Report
from dorkos.db.scratch import scratch_folder
from dorkos.plain_file import read_file, refuse_special

_SIDE_FILES = ("-wal", "-journal")
_ATTEMPTS = 3


class Missing(Enum):
    """Why there is no document: no such file, or one that cannot be read, which was reported."""

    ABSENT = auto()
    UNREADABLE = auto()


# Of a file, and of a database's side files: which file it is, its size, and when it was written.
_Looks = list[tuple[int, int, int] | None]

ABSENT = Missing.ABSENT
UNREADABLE = Missing.UNREADABLE


class LegacyHome:
    """See the module. Used as a context manager; its databases are closed with it.

    The part that a file is reported under is its path within the directory. Whatever reads raises what
    `refuse_mendable` raises: what cannot be read just now is not left out.
    """

    def __init__(self, path: Path, report: Report) -> None:
        """`path` may be a directory that cannot be written."""
        self.path = path
        self._report = report
        self._folder = scratch_folder("adopt")
        self._databases: dict[str, LegacyDatabase | None] = {}
        self._looks: dict[str, _Looks] = {}
        # Databases that are there and could not be read at all, with the reason.
        self.lost: dict[str, str] = {}

    def __enter__(self) -> LegacyHome:
        """Nothing is read yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close and delete the copies."""
        for database in self._databases.values():
            if database is not None:
                database.close()
        self._folder.cleanup()

    def database(self, relative: str) -> LegacyDatabase | None:
        """The database at this path within the directory, with what its log holds.

        None if there is none, or if it cannot be read, which is reported once.
        """
        if relative not in self._databases:
            self._databases[relative] = self._open(relative)
        return self._databases[relative]

    def is_unchanged(self, relative: str) -> bool:
        """Whether a database or file that was read is still what was read, log and all."""
        return _looks((self.path / relative).resolve()) == self._looks.get(relative)

    def changed(self) -> list[str]:
        """The databases and files that were read and are not what they were any more."""
        return [relative for relative in self._looks if not self.is_unchanged(relative)]

    def document(self, relative: str) -> object:
        """The parsed JSON of a file; `ABSENT` if there is none, `UNREADABLE` if it was reported as such."""
        path = self.path / relative
        try:
            # Before it is read, and also where there is none: it may come.
            self._looks.setdefault(relative, _looks(path.resolve()))
            stored = read_file(path)
        except FileNotFoundError:
            if not path.is_symlink():
                return ABSENT
            self._report.unreadable(relative, str(path), "it is a link to a file that is not there")
            return UNREADABLE
        except (OSError, RuntimeError) as fault:  # The second: links in a circle.
            refuse_mendable(path, fault)
            reason = (fault.strerror if isinstance(fault, OSError) else None) or str(fault)
            self._report.unreadable(relative, str(path), reason)
            return UNREADABLE
        try:
            return parse_document(stored)
        except ValueError as fault:
            self._report.unreadable(relative, str(path), f"not JSON: {fault}")
            return UNREADABLE

    def _open(self, relative: str) -> LegacyDatabase | None:
        path = self.path / relative
        copy = Path(self._folder.name) / f"{len(self._databases)}.db"
        try:
            looks = _copy(path, copy)
            if looks is None:
                return None
            database = LegacyDatabase(copy, relative, path, self._report)
            if database.application_id == APPLICATION_ID:
                database.close()
                self._report.note(f"{path} is of this DorkOS already and was not read.")
                return None
            self._looks[relative] = looks
            return database
        except (OSError, RuntimeError, sqlite_driver().Error) as fault:  # The second: links in a circle.
            refuse_mendable(path, fault)
            reason = (fault.strerror if isinstance(fault, OSError) else None) or str(fault)
            self.lost[relative] = reason
            self._report.unreadable(relative, str(path), reason)
            return None


def parse_document(stored: bytes) -> object:
    """Parse a JSON file as Node does: bytes that are not UTF-8 show as U+FFFD. Raises ValueError."""
    try:
        document: object = json.loads(
            stored.decode("utf-8", "replace").removeprefix("\ufeff"), parse_constant=_refuse_constant
        )
    except RecursionError as fault:
        raise ValueError("it is nested too deeply") from fault
    return document


def _refuse_constant(name: str) -> None:
    # NaN and infinities: Python reads them, no other reader does.
    raise ValueError(f"{name} is no JSON")


def _copy(path: Path, target: Path) -> _Looks | None:
    """Copy a database and its log, again if it changes meanwhile; how it looked, None if there is none."""
    # SQLite keeps the log beside the file itself, also where a link leads to it.
    source = path.resolve()
    if not source.exists() and not path.is_symlink():
        if _beside(source, "-wal").exists():
            raise OSError(f"there is no {source.name}, though a log of one lies there")
        return None
    for suffix in ("", *_SIDE_FILES):
        refuse_special(_beside(source, suffix))  # A device may never end.
    for _ in range(_ATTEMPTS):
        before = _looks(source)
        for suffix in ("", *_SIDE_FILES):
            _beside(target, suffix).unlink(missing_ok=True)
            if suffix == "" or _beside(source, suffix).exists():
                shutil.copyfile(_beside(source, suffix), _beside(target, suffix))
        if _looks(source) == before:
            _drop_part_of_a_page(target)
            return before
    raise OSError("it is being written; stop the DorkOS for Node that uses it")


def _drop_part_of_a_page(copy: Path) -> None:
    """SQLite would take the missing rest of a last page for zeros, without a word."""
    size = copy.stat().st_size
    with copy.open("r+b") as file:
        page_size = int.from_bytes(file.read(18)[16:18], "big")
        page_size = 65536 if page_size == 1 else page_size
        if page_size and size > page_size:
            file.truncate(size - size % page_size)


def _looks(source: Path) -> _Looks:
    looks: _Looks = []
    for suffix in ("", *_SIDE_FILES):
        try:
            found = _beside(source, suffix).stat()
        except FileNotFoundError:
            looks.append(None)
        else:
            # An empty log is no log: SQLite makes one as soon as it looks.
            looks.append((found.st_ino, found.st_size, found.st_mtime_ns) if found.st_size else None)
    return looks


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)
