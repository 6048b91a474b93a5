"""Reading and writing a file of ours that must be one: never a FIFO, a device or a folder in its place.

Opening a FIFO waits for somebody to write into it, for ever if need be, and a device may never end. Both
fit the name of any file in a directory that others can write.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def refuse_special(path: Path) -> None:
    """Raise OSError if there is anything at `path` but a file. Nothing at all passes. Opens nothing."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return
    _check(path, mode)


def read_file(path: Path, size: int = -1) -> bytes:
    """The first `size` bytes of a file, by default all. Never waits for anybody.

    Raises OSError, whose `strerror` says what is there instead of a file.
    """
    _check(path, path.stat().st_mode)
    # O_NONBLOCK and the second look are for a FIFO that takes the file's place in between.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        _check(path, os.fstat(descriptor).st_mode)
        return file.read(size)


def write_file(path: Path, text: str) -> None:
    """Put `text` into a file, made if there is none. Not synced. Never waits for anybody; raises OSError."""
    refuse_special(path)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)


def _check(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "something else")
        raise OSError(errno.EINVAL, f"it is {kind}, not a file", str(path))
