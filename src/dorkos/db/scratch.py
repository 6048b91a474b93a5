"""Folders for copies that are thrown away, where the system keeps temporary files."""

from __future__ import annotations

import errno
import tempfile

from dorkos.errors import DorkError, ErrorCode

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def scratch_folder(purpose: str) -> tempfile.TemporaryDirectory[str]:
    """A new folder, gone at the end of a `with` block or with `cleanup`.

    Raises `disk_full`, or `database_unreachable` where no folder can be made at all.
    """
    try:
        return tempfile.TemporaryDirectory(prefix=f"dorkos-{purpose}-", ignore_cleanup_errors=True)
    except OSError as fault:
        raise DorkError(
            ErrorCode.DISK_FULL if fault.errno in _NO_ROOM else ErrorCode.DATABASE_UNREACHABLE,
            f"No folder for temporary files can be made: {fault.strerror or fault}. Nothing was changed.",
            hint="Make room in it, or name another folder, which may be written, by TMPDIR.",
        ) from fault
