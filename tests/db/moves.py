"""Exports and imports in memory, and places to import into, for the tests that move databases."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import sqlalchemy as sa

from dorkos.clock import ManualClock
from dorkos.db.connections import migrating_postgres, migrating_sqlite
from dorkos.db.exporting import export_to_stream
from dorkos.db.importing import Imported, import_export
from dorkos.db.migrate import MigrationReport, Plan, migrate_postgres, migrate_sqlite
from dorkos.db.moving import Place
from dorkos.db.progress import Progress, no_progress
from dorkos.db.rows import shapes
from dorkos.testing import empty_postgres

CLOCK = ManualClock()
# Takes the lines of a sound export and makes one of them wrong.
Spoil = Callable[[list[bytes]], list[bytes]]
# What a move sets anew.
_MOVED = {"pulse_schedules": ("decided_until", "next_due_at"), "pulse_runs": ("pid", "process_started_at")}


def export_of(place: Place) -> bytes:
    sink = io.BytesIO()
    export_to_stream(place, sink, clock=CLOCK)
    return sink.getvalue()


def import_into(
    place: Place, export: bytes, *, progress: Progress = no_progress, plan: Plan | None = None
) -> Imported:
    backups = place.parent / "backups" if isinstance(place, Path) else Path("unused")
    file = cast(io.BufferedReader, io.BufferedReader(io.BytesIO(export)))
    return import_export(file, place, backups=backups, clock=CLOCK, progress=progress, plan=plan)


def migrate(place: Place) -> MigrationReport:
    """What every start does."""
    if isinstance(place, Path):
        return migrate_sqlite(place, backups=place.parent / "backups", clock=CLOCK)
    return migrate_postgres(place, clock=CLOCK)


def unmoved(rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """The rows without what a move sets anew."""
    found = {}
    for shape in shapes():
        left_out = _MOVED.get(shape.table, ())
        taken = [number for number, name in enumerate(shape.names) if name not in left_out]
        found[shape.table] = [tuple(row[number] for number in taken) for row in rows[shape.table]]
    return found


@contextmanager
def a_place(engine: str, folder: Path) -> Iterator[Place]:
    """Where nothing is yet."""
    if engine == "sqlite":
        yield folder / "dork.db"
    else:
        with empty_postgres() as url:
            yield url


@contextmanager
def opened(place: Place) -> Iterator[sa.Connection]:
    """A transaction at the place."""
    connecting = migrating_sqlite(place) if isinstance(place, Path) else migrating_postgres(place)
    with connecting as connection, connection.begin():
        yield connection


def changed(number: int, change: Callable[[dict[str, Any]], object]) -> Spoil:
    def spoil(lines: list[bytes]) -> list[bytes]:
        fields = json.loads(lines[number])
        change(fields)
        return [*lines[:number], json.dumps(fields).encode(), *lines[number:][1:]]

    return spoil


def signed(lines: list[bytes]) -> list[bytes]:
    """With a footer whose SHA-256 and counts fit, as somebody who means it would make."""
    footer = json.loads(lines[-1])
    tables = [json.loads(line).get("table") for line in lines[1:-1]]
    footer["rows"] = len(tables)
    for name in footer["tables"]:
        footer["tables"][name]["rows"] = tables.count(name)
    footer["sha256"] = hashlib.sha256(b"".join(line + b"\n" for line in lines[:-1])).hexdigest()
    return [*lines[:-1], json.dumps(footer).encode()]
