"""A database of the lineage, or a copy of one, read row by row as far as it can be read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dorkos.db.engine import sqlite_driver
from dorkos.db.legacy.report import Report

if TYPE_CHECKING:
    import sqlite3

_BEFORE_ALL, _AFTER_ALL = -(2**63), 2**63 - 1


class LegacyDatabase:
    """A copy of a database of the lineage. Undecodable bytes of texts are read with `surrogateescape`."""

    def __init__(self, copy: Path, name: str, original: Path, report: Report) -> None:
        """Open `copy`. Raises an error of the driver if it is no database."""
        self.name = name
        self.copy = copy
        self._original = original
        self._report = report
        self._connection: sqlite3.Connection = sqlite_driver().connect(copy, isolation_level=None)
        self._connection.text_factory = _lenient_text
        self._connection.execute("PRAGMA trusted_schema = OFF")
        # Without this, SQLite refuses a truncated file as a whole, though much of it may be there. Nothing is
        # written to the schema: this is a copy that is thrown away.
        self._connection.execute("PRAGMA writable_schema = ON")
        self.application_id: int = self._connection.execute("PRAGMA application_id").fetchone()[0]
        found = self._connection.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
        )
        self._tables = frozenset(name for (name,) in found)

    def close(self) -> None:
        """Close the copy."""
        self._connection.close()

    def problems(self) -> list[str]:
        """What SQLite finds wrong with the whole file; nothing for a sound one."""
        try:
            found = self._connection.execute("PRAGMA integrity_check").fetchall()
        except sqlite_driver().Error as fault:
            return [str(fault)]
        return [text for (text,) in found if text != "ok"]

    def tables(self) -> frozenset[str]:
        """The names of its tables."""
        return self._tables

    def rows(self, table: str, order_by: str = "") -> Iterator[dict[str, Any]]:
        """Every readable row by its columns' names, sorted by these columns (`created_at, id`) in text order.

        No rows for a table that is not there. What is damaged is reported, row by row where that can be
        told, and left out; the rows before and behind it are read all the same.
        """
        if table not in self._tables:
            return iter(())
        rows = list(self._readable(table))
        columns = [column.strip() for column in order_by.split(",") if column.strip()]
        return iter(sorted(rows, key=lambda row: [_sort_key(row[column]) for column in columns]))

    def _readable(self, table: str) -> Iterator[dict[str, Any]]:
        last = _BEFORE_ALL
        while True:
            try:
                # Only by rowid: any other order would read the whole table before its first row.
                for rowid, row in self._select(table, "rowid > ? ORDER BY rowid", last):
                    yield row
                    last = rowid
                return
            except sqlite_driver().Error as fault:
                # The driver reads one row ahead, so this may be of the one after the next.
                found = self._neighbour(table, "rowid > ? ORDER BY rowid", last)
                if found is None:
                    yield from self._behind_the_damage(table, last, fault)
                    return
            last = found
            yield from self._alone(table, last)

    def _behind_the_damage(self, table: str, last: int, fault: Exception) -> Iterator[dict[str, Any]]:
        """The rows after a hole in the tree itself, read from the end backwards."""
        self._report_damage(table, f"what follows row {last}" if last > _BEFORE_ALL else "all rows", fault)
        found: list[dict[str, Any]] = []
        before = _AFTER_ALL
        while before > last:
            rowid = self._neighbour(table, "rowid < ? ORDER BY rowid DESC", before)
            if rowid is None or rowid <= last:
                break
            before = rowid
            found += self._alone(table, rowid)
        yield from reversed(found)

    def _alone(self, table: str, rowid: int) -> list[dict[str, Any]]:
        """One row, or none if it cannot be read, which is reported."""
        try:
            return [row for _, row in self._select(table, "rowid = ?", rowid)]
        except sqlite_driver().Error as fault:
            self._report_damage(table, f"row {rowid}", fault)
            return []

    def _select(self, table: str, condition: str, rowid: int) -> Iterator[tuple[int, dict[str, Any]]]:
        cursor = self._connection.execute(
            f"SELECT rowid, * FROM {_quoted(table)} WHERE {condition}",  # noqa: S608  # Its own names.
            (rowid,),
        )
        names = [column[0] for column in cursor.description[1:]]
        for found, *values in cursor:
            yield found, dict(zip(names, values, strict=True))

    def _neighbour(self, table: str, condition: str, rowid: int) -> int | None:
        """The number of the next row in a direction, or None if not even that can be read."""
        query = f"SELECT rowid FROM {_quoted(table)} WHERE {condition} LIMIT 1"  # noqa: S608  # As above.
        try:
            found = self._connection.execute(query, (rowid,)).fetchone()
        except sqlite_driver().Error:
            return None
        return None if found is None else int(found[0])

    def _report_damage(self, table: str, place: str, fault: Exception) -> None:
        self._report.unreadable(f"{self.name} {table}", f"{self._original}: {table}, {place}", str(fault))


def _lenient_text(stored: bytes) -> str:
    return stored.decode("utf-8", "surrogateescape")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _sort_key(value: object) -> tuple[int, Any]:
    """SQLite's order of values: NULL, numbers, texts, blobs."""
    if value is None:
        return 0, 0
    if isinstance(value, int | float):
        return 1, value
    return (2, value) if isinstance(value, str) else (3, value)
