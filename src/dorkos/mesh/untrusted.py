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
        _refuse_unless_regular(real.lstat().st_mode)
        # O_NONBLOCK and the second look are for a FIFO that takes the file's place in between.
        descriptor = os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            _refuse_unless_regular(os.fstat(descriptor).st_mode)
            return file.read(limit)
    except (FileNotFoundError, NotADirectoryError) as fault:
        if path.is_symlink():
            raise UnreadableFileError("is a link to nothing") from fault
        raise FileNotFoundError(str(path)) from fault
    except OSError as fault:
        raise UnreadableFileError(f"cannot be read: {fault.strerror}") from fault


def _refuse_unless_regular(mode: int) -> None:
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "something unknown")
        raise UnreadableFileError(f"is {kind}, not a regular file")
