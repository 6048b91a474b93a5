"""The limit: what DorkOS asked of SQLite while it worked, asked again of the driver by nothing but a loop.

Every statement with its values, in the same transactions, is recorded on the way to the driver. Played back
on a copy of the database as it was before, it shows what the same rows cost without any of our Python.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from benchmarks.ours import Ours
from benchmarks.payload import PAYLOAD
from dorkos.db.engine import Role, sqlite_driver, sqlite_engine

_BLOCK = b"\0" * 4096


@dataclass(frozen=True, slots=True)
class Recording:
    """What was asked, in its order, and the database as it was before."""

    before: Path
    statements: Sequence[tuple[str, Any]]
    count: int

    def play(self, place: Path) -> Callable[[], None]:
        """Ready to do it all again on a copy at `place`."""
        shutil.copyfile(self.before, place)
        engine = sqlite_engine(place, Role.WRITER)
        held = engine.raw_connection()
        raw: Any = held.dbapi_connection
        execute = raw.execute

        def again() -> None:
            for text, values in self.statements:
                execute(text, values).fetchall()
            held.close()
            engine.dispose()

        return again


async def record(folder: Path, work: Callable[[Ours, int], Awaitable[None]], count: int) -> Recording:
    """Let DorkOS do `count` pieces of `work` and note what it asks of the writing connection."""
    asked: list[tuple[str, Any]] = []
    with _listening(asked):
        ours = Ours()
        folder.mkdir(parents=True)
        await ours.open(folder)
    try:
        await ours.database.write(lambda tx: None)
        before = folder / "before.db"
        _copy(folder / "dork.db", before)
        asked.clear()
        await work(ours, count)
        return Recording(before, tuple(asked), count)
    finally:
        await ours.close()


def _copy(source: Path, target: Path) -> None:
    driver = sqlite_driver()
    with (
        contextlib.closing(driver.connect(source)) as one,
        contextlib.closing(driver.connect(target)) as other,
    ):
        one.backup(other)


@contextlib.contextmanager
def _listening(asked: list[tuple[str, Any]]) -> Iterator[None]:
    """Connections that are opened to write meanwhile note what they are asked."""
    driver: Any = sqlite_driver()
    connect = driver.connect

    class Cursor(driver.Cursor):  # type: ignore[misc]  # The driver is chosen when the process starts.
        def execute(self, text: str, values: Any = ()) -> Any:
            asked.append((text, values))
            return super().execute(text, values)

        def executemany(self, text: str, many: Any) -> Any:
            rows = list(many)
            asked.extend((text, values) for values in rows)
            return super().executemany(text, rows)

    class Connection(driver.Connection):  # type: ignore[misc]  # As above.
        def cursor(self, *_: Any) -> Any:
            return super().cursor(Cursor)

        def execute(self, text: str, values: Any = ()) -> Any:
            return self.cursor().execute(text, values)

        def commit(self) -> None:
            asked.append(("COMMIT", ()))
            super().commit()

    def listened(database: str, **options: Any) -> Any:
        if "mode=rwc" not in database:
            return connect(database, **options)
        return connect(database, factory=Connection, **options)

    driver.connect = listened
    try:
        yield
    finally:
        driver.connect = connect


class Fsync:
    """One file, a block and a sync a time: what one synced commit costs this disk at the least."""

    name = "one fsync"
    promise = "the disk alone"

    async def open(self, folder: Path) -> None:
        """Make the file."""
        self._file = os.open(folder / "file", os.O_CREAT | os.O_WRONLY | os.O_APPEND)

    def alone(self, count: int) -> None:
        """Write a block and sync it, one after the other."""
        for _ in range(count):
            os.write(self._file, _BLOCK)
            os.fsync(self._file)

    async def close(self) -> None:
        """Close the file."""
        os.close(self._file)


class OneCommit:
    """One row and one synced commit of SQLite at a time."""

    name = "one synced commit"
    promise = "the same engine and settings, one row of the same size"

    async def open(self, folder: Path) -> None:
        """Make the file and its table."""
        self._engine = sqlite_engine(folder / "one.db", Role.WRITER)
        self._held = self._engine.raw_connection()
        self._raw = cast(Any, self._held.dbapi_connection)
        self._raw.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY, text TEXT NOT NULL) STRICT")

    def alone(self, count: int) -> None:
        """Commit a row, one after the other."""
        for _ in range(count):
            self._raw.execute("BEGIN IMMEDIATE")
            self._raw.execute("INSERT INTO rows (text) VALUES (?)", (PAYLOAD,))
            self._raw.execute("COMMIT")

    async def close(self) -> None:
        """Close the file."""
        self._held.close()
        self._engine.dispose()
