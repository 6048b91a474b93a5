"""What a strategy is: it knows how one product marks a project, and reads hints from it.

Another product is another file here, and a line in `order`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from dorkos.mesh.model import Hints, Problem


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder under examination: its real path, and which of the names asked for are in it.

    `files` are regular files and `directories` directories, links followed in both.
    """

    path: Path
    files: frozenset[str]
    directories: frozenset[str]


class Strategy(Protocol):
    """How one product marks a project on disk."""

    @property
    def name(self) -> str:
        """The word on the wire for it."""
        ...

    @property
    def markers(self) -> frozenset[str]:
        """The names it wants to know of: those that mark a project, and those it reads hints from.

        Only folders that hold one of them are shown to it.
        """
        ...

    def look(self, folder: Folder) -> Hints | Problem | None:
        """Hints if the folder is marked, a problem if the mark is broken, None if there is none.

        Called in a thread. Reads only files inside the folder, through `untrusted`; never runs anything.
        """
        ...


def folder_at(path: Path, markers: Iterable[str]) -> Folder:
    """Examine one folder without listing it. A marker that cannot be looked at counts as missing."""
    files, directories = set(), set()
    for marker in markers:
        try:
            if (path / marker).is_file():
                files.add(marker)
            elif (path / marker).is_dir():
                directories.add(marker)
        except OSError:  # Such as a directory that may not be searched.
            continue
    return Folder(path, frozenset(files), frozenset(directories))
