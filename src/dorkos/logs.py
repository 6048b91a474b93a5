"""How much the server logs."""

from __future__ import annotations

import logging

LEVELS = {"fatal": 50, "error": 40, "warn": 30, "info": 20, "debug": 10, "trace": 5}

# These tell of every request, connection, lock and migration.
_CHATTY = ("alembic", "asyncio", "filelock", "mcp", "uvicorn.access")
# They would tell the URLs and headers of adapters' requests, in which there are secrets.
_DISCREET = ("httpx", "httpcore")


def set_level(level: str) -> None:
    """From now on. `level` is one of `LEVELS`; `trace` shows what libraries have to say as well."""
    logging.getLogger().setLevel(LEVELS[level])
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.NOTSET if level == "trace" else logging.WARNING)
    for name in _DISCREET:
        logging.getLogger(name).setLevel(logging.WARNING)
