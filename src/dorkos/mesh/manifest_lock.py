"""One writer of a project's manifest at a time, over all threads and programs of ours."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_RETRY_S = 0.01
# File systems, mostly over a network, that cannot lock a directory.
_UNSUPPORTED = (errno.EBADF, errno.EINVAL, errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)


@contextmanager
def locked(folder: Path, *, within_s: float) -> Iterator[bool]:
    """Hold the lock of `folder`, which must exist; whether it is really held.

    It is a lock on the directory itself: no file is left in the project, and it ends with its holder.
    Raises TimeoutError if somebody holds it for longer than `within_s` seconds. Where the file system has
    no such locks, nothing is held; whoever writes looks at the file again anyway.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield _take(descriptor, time.monotonic() + within_s)
    finally:
        os.close(descriptor)


def _take(descriptor: int, deadline: float) -> bool:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as fault:
            if time.monotonic() >= deadline:
                raise TimeoutError from fault
            time.sleep(_RETRY_S)
        except OSError as fault:
            if fault.errno in _UNSUPPORTED:
                return False
            raise
        else:
            return True
