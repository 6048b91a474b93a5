"""Reading files of folders that nobody vouched for: bounded, regular files only, never out of the folder."""

from __future__ import annotations

import os
import stat
from pathlib import Path

_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFLNK: "a link that leads nowhere or round in a circle",
}


class UnreadableFileError(Exception):
    """Something is there, but it will not or cannot be read. `reason` completes "the file …"."""

    def __init__(self, reason: str) -> None:
        """Keep the reason as it is shown to people."""
        super().__init__(reason)
        self.reason = reason


def real_path(path: Path, *, within: Path) -> Path:
    """`path` with its links resolved. Raises `UnreadableFileError` if that leads out of `within`.

    `within` must be a real path itself.
    """
    below = str(path).removeprefix(f"{within}/")
    names = below.split("/")
    # Only links and dots can make it another path than it seems; resolving it whole takes ten times as long.
    if below != str(path) and ".." not in names and not _holds_link(names, within):
        return path
    real = Path(os.path.realpath(path))
    if not real.is_relative_to(within):
        raise UnreadableFileError("is a link that leads out of the project")
    return real


def read_file(path: Path, *, within: Path, limit: int) -> bytes:
    """At most `limit` bytes from the start of a regular file inside `within`.

    Raises FileNotFoundError when nothing is there, and `UnreadableFileError` for everything else, so
    that absent and unreadable are never confused. Does not wait for anybody: a FIFO or a device is not
    opened.
    """
    real = real_path(path, within=within)
    try:
        _refuse_unless_regular(os.lstat(real).st_mode)
        # O_NONBLOCK and the second look are for a FIFO that takes the file's place in between.
        descriptor = os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            _refuse_unless_regular(os.fstat(descriptor).st_mode)
            return _start_of(descriptor, limit)
        finally:
            os.close(descriptor)
    except (FileNotFoundError, NotADirectoryError) as fault:
        if path.is_symlink():
            raise UnreadableFileError("is a link to nothing") from fault
        raise FileNotFoundError(str(path)) from fault
    except OSError as fault:
        raise UnreadableFileError(f"cannot be read: {fault.strerror}") from fault


def _holds_link(names: list[str], within: Path) -> bool:
    """Whether one of the names, each in the one before, is a link. What is not there is none."""
    place = str(within)
    for name in names:
        place = f"{place}/{name}"
        try:
            if stat.S_ISLNK(os.lstat(place).st_mode):
                return True
        except OSError:
            return False
    return False


def _start_of(descriptor: int, limit: int) -> bytes:
    pieces = []
    while limit and (piece := os.read(descriptor, limit)):
        pieces.append(piece)
        limit -= len(piece)
    return b"".join(pieces)


def _refuse_unless_regular(mode: int) -> None:
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "something unknown")
        raise UnreadableFileError(f"is {kind}, not a regular file")
