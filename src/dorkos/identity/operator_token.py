"""The operator's token: a file in the data directory that only its owner can read."""

from __future__ import annotations

import errno
import os
import re
import secrets
from pathlib import Path

from dorkos.errors import DorkError, ErrorCode
from dorkos.identity.tokens import new_secret
from dorkos.plain_file import read_file

# What a header can carry as one word, and nobody guesses.
_TOKEN = re.compile(r"[!-~]{20,500}")


def load_or_create(path: Path) -> str:
    """The token in `path`; made, mode 0600, if there is no such file yet.

    A file that exists but cannot be read, or holds no token, is a refusal: replacing it would lock out
    whoever still uses the old one.
    """
    if not path.exists():
        try:
            _create(path)
        except FileExistsError:
            pass  # Somebody else made it in between, and theirs counts.
        except OSError as fault:
            is_full = fault.errno in (errno.ENOSPC, errno.EDQUOT)
            raise DorkError(
                ErrorCode.DISK_FULL if is_full else ErrorCode.HOME_UNWRITABLE,
                f"The operator's token {path} cannot be made: {fault.strerror}.",
                hint="Free some space." if is_full else "Check the owner and mode of the data directory.",
            ) from fault
    return read(path)


def read(path: Path) -> str:
    """The token in `path`. Raises `token_missing` with what to do about it."""
    try:
        token = read_file(path).decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as fault:
        raise DorkError(
            ErrorCode.TOKEN_MISSING,
            f"The operator's token {path} cannot be read: {fault}.",
            hint="Start the server once as this user, or pass the token in DORKOS_TOKEN.",
        ) from fault
    if _TOKEN.fullmatch(token) is None:
        raise DorkError(
            ErrorCode.TOKEN_MISSING,
            f"{path} does not hold a token.",
            hint="Move the file away and start the server: it makes a new one.",
        )
    return token


def _create(path: Path) -> None:
    # Written whole under another name first: a crash in between must not leave an empty token file. The
    # mode is given to open, not set afterwards: between the two anybody could read it.
    draft = path.with_name(f".{path.name}-{secrets.token_hex(6)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(new_secret() + "\n")
            file.flush()
            os.fsync(file.fileno())
        path.hardlink_to(draft)  # Unlike a rename, this never replaces a token that is in use.
    finally:
        draft.unlink()
