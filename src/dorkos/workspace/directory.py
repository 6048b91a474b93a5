"""The folders in a folder, for whoever picks one."""

from __future__ import annotations

import locale
import os
from dataclasses import dataclass
from pathlib import Path

from dorkos.boundary import Boundary
from dorkos.errors import DorkError, ErrorCode

_ENTRIES_MAX = 5000


@dataclass(frozen=True, slots=True)
class Listing:
    """The folders of `path` by name. `parent` is None at the edge of the boundary; `truncated` says that
    there are more folders than are shown."""

    path: Path
    entries: tuple[Path, ...]
    parent: Path | None
    truncated: bool


def list_folders(folder: Path, boundary: Boundary, *, hidden: bool) -> Listing:
    """The folders in `folder`, links to folders inside the boundary among them. Raises `forbidden`.

    The data directory is not shown: nothing in it may be named. Names that are not UTF-8 cannot be.
    """
    found: list[Path] = []
    try:
        with os.scandir(folder) as entries:
            found += [Path(entry.path) for entry in entries if _is_shown(entry, boundary, hidden=hidden)]
    except OSError as fault:
        raise DorkError(
            ErrorCode.FORBIDDEN, f"{folder} cannot be read: {fault.strerror}.", hint="Look at its rights."
        ) from fault
    found.sort(key=lambda path: (locale.strxfrm(path.name.lower()), path.name))
    parent = folder.parent if folder != boundary.root and folder.is_relative_to(boundary.root) else None
    return Listing(folder, tuple(found[:_ENTRIES_MAX]), parent, len(found) > _ENTRIES_MAX)


def _is_shown(entry: os.DirEntry[str], boundary: Boundary, *, hidden: bool) -> bool:
    if entry.name.startswith(".") and not hidden:
        return False
    try:
        entry.name.encode("utf-8")
        if not entry.is_dir():
            return False
        boundary.confine(entry.path)
    except (OSError, UnicodeEncodeError, DorkError):
        return False
    return True
