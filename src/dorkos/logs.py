"""What the server logs: for a person on standard error, and as JSON lines in a file that is rotated.

An entry of the file has the keys of DorkOS for Node: `level`, `time`, `msg` and `tag`, the logger's name.
What is logged while a request is answered has its `requestId` too.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import stat
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import IO

from dorkos.clock import iso

LEVELS = {"fatal": 50, "error": 40, "warn": 30, "info": 20, "debug": 10, "trace": 5}

# The id of the request that is being answered; what it starts inherits it.
REQUEST: ContextVar[str | None] = ContextVar("request", default=None)

# These tell of every request, connection, lock and migration.
_CHATTY = ("alembic", "asyncio", "filelock", "mcp", "uvicorn.access")
# They would tell the URLs and headers of adapters' requests, in which there are secrets.
_DISCREET = ("httpx", "httpcore")
# What every record has; all else was given by whoever logged it.
_USUAL = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_TEXT_MAX = 10_000


def set_level(level: str) -> None:
    """From now on. `level` is one of `LEVELS`; `trace` shows what libraries have to say as well."""
    logging.getLogger().setLevel(LEVELS[level])
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.NOTSET if level == "trace" else logging.WARNING)
    for name in _DISCREET:
        logging.getLogger(name).setLevel(logging.WARNING)


@contextlib.contextmanager
def logging_to(path: Path, *, max_bytes: int, keep: int) -> Iterator[None]:
    """Log to a file as well, while the block lasts; `keep` older files of `max_bytes` stay beside it.

    A file that cannot be made or written is told of on standard error, and stops nothing.
    """
    handler = LogFile(path, max_bytes=max_bytes, keep=keep)
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.close()


class JsonLines(logging.Formatter):
    """One JSON object a line, in ASCII."""

    def format(self, record: logging.LogRecord) -> str:
        """The entry of a record. What whoever logged it gave as `extra` stands beside the usual keys."""
        entry: dict[str, object] = {
            "level": _word(record.levelno),
            "time": iso(datetime.fromtimestamp(record.created, UTC)),
            "msg": record.getMessage()[:_TEXT_MAX],
            "tag": record.name,
        }
        request = REQUEST.get()
        if request is not None:
            entry["requestId"] = request
        entry |= {name: value for name, value in vars(record).items() if name not in _USUAL}
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)[-_TEXT_MAX:]
        return json.dumps(entry, default=str)


class LogFile(RotatingFileHandler):
    """A file for its owner alone. What goes wrong with it is told once, until it works again."""

    def __init__(self, path: Path, *, max_bytes: int, keep: int) -> None:
        """It is opened with the first entry."""
        super().__init__(path, maxBytes=max_bytes, backupCount=keep, encoding="ascii", delay=True)
        self.setFormatter(JsonLines())
        self._is_broken = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write an entry, into a new file if the old one is full."""
        self._failed = False
        super().emit(record)
        if not self._failed:
            self._is_broken = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - The name is that of logging.
        """Say on standard error that the file cannot be written; the entries themselves stand there too."""
        self._failed = True
        if not self._is_broken:
            self._is_broken = True
            why = f"{sys.exc_info()[1]} (an entry of {record.name})"
            sys.stderr.write(f"the log {self.baseFilename} cannot be written: {why}\n")

    def _open(self) -> IO[str]:  # type: ignore[override]  # A text stream, as there.
        """Open it, and never what only looks like a file: a pipe would hold the server up."""
        path = Path(self.baseFilename)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISREG(path.lstat().st_mode):
                raise OSError(f"{path} is no plain file")
        return open(path, self.mode, encoding=self.encoding, opener=_private)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)


def _word(number: int) -> str:
    return next((word for word, least in LEVELS.items() if number >= least), "trace")
