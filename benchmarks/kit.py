"""How long a test waits for a database of its own."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.report import Row
from dorkos.testing import ENGINES, EngineName, create_sqlite_file, create_test_db

_ROUNDS = 100


def rows() -> list[Row]:
    """The average of many, on each engine; and how that compares with copying a file and opening it."""
    found = {engine: asyncio.run(_average_ms(engine)) for engine in ENGINES}
    return [
        *(Row(f"create_test_db, {engine}", value, "ms", 20) for engine, value in found.items()),
        Row("create_test_db to a bare copy, sqlite", found["sqlite"] / _bare_copy_ms(), "x", None),
    ]


async def _average_ms(engine: EngineName) -> float:
    """The first is left out: it makes the template, and the server of PostgreSQL."""
    async with create_test_db(engine):
        pass
    begun = time.perf_counter()
    for _ in range(_ROUNDS):
        async with create_test_db(engine):
            pass
    return (time.perf_counter() - begun) / _ROUNDS * 1000


def _bare_copy_ms() -> float:
    begun = time.perf_counter()
    for _ in range(_ROUNDS):
        with TemporaryDirectory() as folder:
            path = Path(folder) / "dork.db"
            create_sqlite_file(path)
            with closing(sqlite3.connect(path)) as connection:
                connection.execute("PRAGMA journal_mode = WAL")
    return (time.perf_counter() - begun) / _ROUNDS * 1000
