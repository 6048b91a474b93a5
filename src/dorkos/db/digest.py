"""Digests: whether two databases hold the same, whatever their engine.

A table's digest is the SHA-256 of one JSON document: the array of its rows in the order of their primary
key, each row the array of its plain values in the order of its columns, written without spaces and with
letters beyond ASCII as they are. What belongs to one place and is made anew wherever rows arrive is left
out: see `LEFT_OUT` and `dorkos.db.rows.LOCAL_FACTS`. The ledger of migrations is left out as a whole.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter

import sqlalchemy as sa

from dorkos.db.progress import Progress
from dorkos.db.rows import PlainRow, Shape, batches, count_rows, stream

# A schedule's place in time starts anew after a move, and a process id says something on its machine only.
LEFT_OUT: Mapping[str, frozenset[str]] = {
    "pulse_schedules": frozenset({"decided_until", "next_due_at"}),
    "pulse_runs": frozenset({"pid", "process_started_at"}),
}

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False).encode


@dataclass(frozen=True, slots=True)
class TableDigest:
    """How many rows a table has, and the SHA-256 over them in hex."""

    rows: int
    digest: str


class Digester:
    """Takes in the rows of one table in key order, a few at a time."""

    def __init__(self, shape: Shape) -> None:
        """Begin with no row."""
        left_out = LEFT_OUT.get(shape.table, frozenset())
        taken = [number for number, name in enumerate(shape.names) if name not in left_out]
        self._pick = None if len(taken) == len(shape.columns) else itemgetter(*taken)
        self._hash = hashlib.sha256(b"[")
        self._rows = 0

    def add(self, rows: Sequence[PlainRow]) -> None:
        """The next rows, all of their columns."""
        if not rows:
            return
        text = _encode(rows if self._pick is None else [self._pick(row) for row in rows])
        # The brackets around these rows go: the document is one array, whatever its pieces were.
        self._hash.update((("," if self._rows else "") + text[1:-1]).encode())
        self._rows += len(rows)

    def result(self) -> TableDigest:
        """The digest of everything that was added."""
        whole = self._hash.copy()
        whole.update(b"]")
        return TableDigest(self._rows, whole.hexdigest())


def digest_tables(
    connection: sa.Connection, tables: Iterable[Shape], progress: Progress, *, what: str = "digest"
) -> dict[str, TableDigest]:
    """The digest of each table. The connection's transaction has to show one moment."""
    tables = tuple(tables)
    total = sum(count_rows(connection, shape) for shape in tables)
    done = 0
    found: dict[str, TableDigest] = {}
    progress(what, done, total)
    for shape in tables:
        digester = Digester(shape)
        for batch in batches(stream(connection, shape)):
            digester.add(batch)
            done += len(batch)
            progress(what, done, total)
        found[shape.table] = digester.result()
    progress(what, total, total)
    return found


def whole_digest(tables: Mapping[str, TableDigest]) -> str:
    """One digest over those of all tables, in the order of their names."""
    pairs = [[name, found.rows, found.digest] for name, found in sorted(tables.items())]
    return hashlib.sha256(_encode(pairs).encode()).hexdigest()


def differing(expected: Mapping[str, TableDigest], found: Mapping[str, TableDigest]) -> list[str]:
    """Each table that is not as expected, with both counts; empty means that all are."""
    return [
        f"{name} ({expected[name].rows} rows expected, {found[name].rows if name in found else 0} found)"
        if name not in found or expected[name].rows != found[name].rows
        else f"{name} (as many rows, but others)"
        for name in expected
        if expected[name] != found.get(name)
    ]
