"""Looking after the database while the server runs: a backup now, the copies there are, and a check."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dorkos.clock import Clock, iso
from dorkos.db.backup import back_up_sqlite
from dorkos.db.backup_facts import BackupNote, note_made
from dorkos.db.database import Database
from dorkos.db.growth import database_size, read_growth
from dorkos.db.retention import CopyKind, copies
from dorkos.db.verify import verify_postgres, verify_sqlite
from dorkos.errors import DorkError, ErrorCode
from dorkos.identity.model import Caller
from dorkos.operation import Nothing, NoTool, Operation, Wire
from dorkos.vocabulary import Scope

_KEEPERS = NoTool("It is for whoever runs the server: `dorkos db` does it.")


@dataclass(frozen=True)
class DatabaseCare:
    """What looking after needs to know. `url` is that of a PostgreSQL, None for the file at `path`."""

    database: Database
    path: Path
    backups: Path
    clock: Clock
    url: str | None


class MadeBackup(Wire):
    """A backup that was made and read back. `rows` counts all of them."""

    file: str
    size_bytes: int
    migration: str
    rows: int


class CopyOut(Wire):
    """A copy in the backups folder. `kind` says what it was made for."""

    file: str
    kind: str
    at: str
    size_bytes: int | None


class CopiesOut(Wire):
    """The copies, the newest first. `problem` says why the folder cannot be read."""

    folder: str
    copies: list[CopyOut]
    problem: str | None


class SizeOut(Wire):
    """How large the database was at an instant."""

    at: str
    size_bytes: int


class GrowthOut(Wire):
    """Sizes, oldest first: each hour of the last week, each day before. The last is that of this moment."""

    sizes: list[SizeOut]


class Verified(Wire):
    """What a check found; nothing if the data is sound."""

    sound: bool
    problems: list[str]
    took_ms: int


async def back_up(care: DatabaseCare, _caller: Caller, _asked: Nothing) -> MadeBackup:
    """Copy the database to the backups folder and read the copy back."""
    if care.url is not None:
        raise DorkError(
            ErrorCode.BACKUP_FAILED,
            "Backups of PostgreSQL are made by its own tools.",
            hint="Run pg_dump --format=custom --file=dorkos.dump with the URL of the settings.",
        )
    now = care.clock.now()
    made = await asyncio.to_thread(back_up_sqlite, care.path, backups=care.backups, to=None, now=now)
    note = BackupNote(now, True, made.path.name, made.rows)
    await care.database.write(lambda tx: note_made(tx, note))
    return MadeBackup(
        file=str(made.path), size_bytes=made.size_bytes, migration=made.migration, rows=made.rows
    )


async def list_copies(care: DatabaseCare, _caller: Caller, _asked: Nothing) -> CopiesOut:
    """The copies in the backups folder."""
    found: list[CopyOut] = []
    problem = None
    try:
        found = await asyncio.to_thread(_copies, care.backups)
    except OSError as fault:
        problem = f"{care.backups} cannot be read: {fault.strerror}"
    return CopiesOut(folder=str(care.backups), copies=found, problem=problem)


async def growth(care: DatabaseCare, _caller: Caller, _asked: Nothing) -> GrowthOut:
    """How the size went over time, up to now."""
    notes, size = await care.database.read(
        lambda connection: (read_growth(connection), database_size(connection))
    )
    now = care.clock.now()
    sizes = [SizeOut(at=iso(note.at), size_bytes=note.size_bytes) for note in notes if note.at < now]
    return GrowthOut(sizes=[*sizes, SizeOut(at=iso(now), size_bytes=size)])


async def verify(care: DatabaseCare, _caller: Caller, _asked: Nothing) -> Verified:
    """Check integrity, relations, schema and migrations. Changes nothing."""
    began = care.clock.monotonic()
    if care.url is None:
        problems = await asyncio.to_thread(verify_sqlite, care.path)
    else:
        problems = await asyncio.to_thread(verify_postgres, care.url)
    took = int((care.clock.monotonic() - began) * 1000)
    return Verified(sound=not problems, problems=problems, took_ms=took)


def _copies(folder: Path) -> list[CopyOut]:
    return [
        CopyOut(file=copy.path.name, kind=copy.kind.value, at=iso(copy.at), size_bytes=_size(copy.path))
        for copy in sorted(copies(folder, *CopyKind), key=lambda copy: copy.at, reverse=True)
    ]


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None  # Taken away in between.


def _operation(
    name: str, summary: str, address: tuple[Any, str], answer: Any, handler: Any, **more: Any
) -> Operation[DatabaseCare, Any, Any]:
    scope = more.pop("scope", Scope.OPERATE)
    return Operation(
        f"db.{name}", summary, "db", *address, scope, Nothing, answer, handler, mcp=_KEEPERS, **more
    )


CARE: tuple[Operation[DatabaseCare, Any, Any], ...] = (
    _operation(
        "backup",
        "Copy the database now, and read the copy back",
        ("POST", "/api/db/backups"),
        MadeBackup,
        back_up,
        status=201,
    ),
    _operation(
        "backups",
        "Which copies of the database there are",
        ("GET", "/api/db/backups"),
        CopiesOut,
        list_copies,
        scope=Scope.OBSERVE,
    ),
    _operation(
        "growth",
        "How large the database was over time",
        ("GET", "/api/db/growth"),
        GrowthOut,
        growth,
        scope=Scope.OBSERVE,
    ),
    _operation("verify", "Check the stored data", ("POST", "/api/db/verify"), Verified, verify),
)
