"""`dorkos db import`: the rows of an export into an empty database, all of them or none.

Everything happens in one transaction, and it commits only after what is in the database was digested and
equals the footer. So whatever ends the import, the target is as empty as before. The exception is an
export of an older DorkOS, whose rows have an older form: they are stored in a new database as it was then,
under a mark that keeps it from being served, and the migrations since then are applied to it.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from dorkos.clock import Clock, iso
from dorkos.db.apply import apply_pending
from dorkos.db.connections import migrating_postgres, migrating_sqlite
from dorkos.db.digest import TableDigest, differing, digest_tables, whole_digest
from dorkos.db.export_format import Header
from dorkos.db.export_reader import ExportReader
from dorkos.db.faults import explain
from dorkos.db.ledger import Revision, revisions
from dorkos.db.marks import Mark, Move, unfinished
from dorkos.db.migrate import (
    MigrationStatus,
    Plan,
    migrate_postgres,
    migrate_sqlite,
    status_postgres,
    status_sqlite,
)
from dorkos.db.moving import Place, arrive, put_mark, read_facts, refuse_filled
from dorkos.db.progress import Progress, no_progress
from dorkos.db.rows import BATCH_ROWS, PlainRow, Shape, insert, is_empty, is_row_refused, shapes
from dorkos.db.savepoint import savepoint
from dorkos.db.schema.system import schema_ledger, system_state
from dorkos.errors import DorkError, ErrorCode


@dataclass(frozen=True, slots=True)
class Imported:
    """What is in the database now, and where it came from."""

    header: Header
    tables: Mapping[str, TableDigest]
    digest: str
    epoch: str


@dataclass(frozen=True, slots=True)
class _Target:
    """Where the rows go, and how to get there."""

    place: Place
    backups: Path
    clock: Clock
    plan: Plan

    def status(self) -> MigrationStatus:
        if isinstance(self.place, Path):
            return status_sqlite(self.place, plan=self.plan)
        return status_postgres(self.place, plan=self.plan)

    def migrate(self) -> None:
        if isinstance(self.place, Path):
            migrate_sqlite(self.place, backups=self.backups, clock=self.clock, plan=self.plan)
        else:
            migrate_postgres(self.place, clock=self.clock, plan=self.plan)

    def open(self) -> AbstractContextManager[sa.Connection]:
        return (
            migrating_sqlite(self.place) if isinstance(self.place, Path) else migrating_postgres(self.place)
        )


@dataclass(frozen=True, slots=True)
class _Work:
    """The file that is read, and who watches how far it is."""

    reader: ExportReader
    size: int
    progress: Progress

    def tell(self, what: str) -> None:
        self.progress(what, self.reader.position(), self.size)


def import_export(
    file: io.BufferedReader,
    place: Place,
    *,
    backups: Path,
    clock: Clock,
    size: int = 0,
    progress: Progress = no_progress,
    plan: Plan | None = None,
) -> Imported:
    """Store the rows of the export `file` at `place`, which is made if it is not there. Blocking.

    Nobody else may be using the target. Afterwards it holds exactly what was exported, with a new epoch
    and the fleet on hold. `size` is that of the file in bytes, if it is known. Raises `import_invalid`
    naming the line, `database_newer` for an export of a later migration, `target_not_empty`, and what
    opening the target raises; nothing is stored then.
    """
    target = _Target(place, backups, clock, plan or Plan())
    reader = ExportReader(file)
    work = _Work(reader, size, progress)
    known = revisions(target.plan.directory)
    then = _revisions_then(reader.header, known)
    try:
        older = len(then) < len(known)
        epoch = _import_older(work, target, then, known) if older else _import(work, target)
    except sa.exc.DBAPIError as fault:
        raise explain(fault) from fault
    tables = reader.footer.tables
    return Imported(reader.header, tables, whole_digest(tables), epoch)


def _import(work: _Work, target: _Target) -> str:
    header = work.reader.header
    _refuse_other_tables(header, {shape.table: shape for shape in shapes(target.plan.declared)})
    target.migrate()
    with target.open() as connection, connection.begin():
        _keep_others_out(connection)
        refuse_filled(connection)
        _load(work, connection)
        return arrive(connection, reason=_reason(header), now=target.clock.now())


def _import_older(work: _Work, target: _Target, then: Sequence[Revision], known: Sequence[Revision]) -> str:
    reader = work.reader
    applied = target.status().applied
    with target.open() as connection:
        if not applied or not _is_loaded(work, connection, may_begin=len(applied) <= len(then)):
            apply_pending(connection, then, clock=target.clock, say=lambda _: None)
            with connection.begin():
                _keep_others_out(connection)
                _refuse_other_columns(reader.header, connection)
                _load(work, connection)
                mark = Mark(reader.footer.sha256, iso(target.clock.now()), rows=reader.footer.rows)
                put_mark(connection, Move.IMPORT, mark)
        apply_pending(connection, known, clock=target.clock, say=lambda _: None)
        with connection.begin():
            epoch = arrive(connection, reason=_reason(reader.header), now=target.clock.now())
    target.migrate()
    return epoch


def _is_loaded(work: _Work, connection: sa.Connection, *, may_begin: bool) -> bool:
    """Whether an earlier call brought the rows of this very file in. Refuses a target with other rows."""
    reader = work.reader
    with connection.begin():
        present = set(sa.inspect(connection).get_table_names())
        facts = read_facts(connection)
        filled = [s.table for s in reader.header.tables if s.table in present and not is_empty(connection, s)]
    if Move.IMPORT.value in facts:
        by_name = {shape.table: shape for shape in reader.header.tables}
        for _ in reader.rows(by_name):
            pass  # Only its end tells whether it is the same file.
        # The mark names the file by the digest of its lines.
        if reader.footer.sha256 not in facts[Move.IMPORT.value]:
            raise unfinished(Move.IMPORT)
        return True
    if Move.TRANSFER.value in facts:
        raise unfinished(Move.TRANSFER)
    if filled or not may_begin:
        raise DorkError(
            ErrorCode.TARGET_NOT_EMPTY,
            f"The export was made by {reader.header.written_by}, before migrations that this database has. "
            "Such an export needs a database that is not there yet. Nothing was changed.",
            hint="Name a new data directory with --home, or an empty PostgreSQL database without tables.",
            details={"tables": filled},
        )
    return False


def _revisions_then(header: Header, known: Sequence[Revision]) -> Sequence[Revision]:
    """The migrations that the exported database had."""
    ids = [revision.id for revision in known]
    if header.migration in ids:
        return known[: ids.index(header.migration) + 1]
    raise DorkError(
        ErrorCode.DATABASE_NEWER if header.migration > ids[-1] else ErrorCode.IMPORT_INVALID,
        f"The export was made by {header.written_by} from a database with the migration "
        f"{header.migration!r}, which this version does not know. Nothing was imported.",
        hint="Install the version of DorkOS that wrote it, or a later one.",
        details={"migration": header.migration},
    )


def _refuse_other_tables(header: Header, declared: Mapping[str, Shape]) -> None:
    found = {shape.table: shape for shape in header.tables}
    for name in sorted(found.keys() | declared.keys()):
        if found.get(name) != declared.get(name):
            raise _other_table(header, name)


def _refuse_other_columns(header: Header, connection: sa.Connection) -> None:
    """The same for a schema that is known as migrations made it, not as it is declared now."""
    inspector = sa.inspect(connection)
    live = {
        table: {column["name"] for column in inspector.get_columns(table)}
        for table in inspector.get_table_names()
        if table != schema_ledger.name
    }
    found = {shape.table: set(shape.names) for shape in header.tables}
    for name in sorted(found.keys() | live.keys()):
        if found.get(name) != live.get(name):
            raise _other_table(header, name)


def _other_table(header: Header, name: str) -> DorkError:
    return DorkError(
        ErrorCode.IMPORT_INVALID,
        f"Line 1: the table {name!r} is not described as it was at the migration {header.migration}. "
        "Nothing was imported.",
        hint="Copy the file again from where it was made, or make a new export.",
    )


def _keep_others_out(connection: sa.Connection) -> None:
    """A server that starts meanwhile waits for the end. On SQLite the transaction itself does that."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"LOCK TABLE {system_state.name} IN ACCESS EXCLUSIVE MODE")


def _load(work: _Work, connection: sa.Connection) -> None:
    """Store every row, and prove that the database holds what the footer says."""
    reader = work.reader
    by_name = {shape.table: shape for shape in reader.header.tables}
    lines: list[int] = []
    rows: list[PlainRow] = []
    current: Shape | None = None
    work.tell("importing")
    for line, shape, row in reader.rows(by_name):
        if current is not None and (shape is not current or len(rows) >= BATCH_ROWS):
            _store(connection, current, rows, lines)
            lines, rows = [], []
            work.tell("importing")
        current = shape
        lines.append(line)
        rows.append(row)
    if current is not None:
        _store(connection, current, rows, lines)
    work.tell("importing")
    found = digest_tables(connection, reader.header.tables, work.progress, what="comparing")
    wrong = differing(reader.footer.tables, found)
    if wrong:
        raise DorkError(
            ErrorCode.IMPORT_INVALID,
            f"What was stored is not what the footer says, in {', '.join(wrong)}. Nothing was imported.",
            hint="Make a new export.",
        )


def _store(connection: sa.Connection, shape: Shape, rows: Sequence[PlainRow], lines: Sequence[int]) -> None:
    try:
        with savepoint(connection):
            insert(connection, shape, rows)
    except sa.exc.DBAPIError as fault:
        if not is_row_refused(fault):
            raise
    else:
        return
    # One of them was refused: one by one they tell which, for the price of having been stored in vain.
    for row, line in zip(rows, lines, strict=True):
        try:
            with savepoint(connection):
                insert(connection, shape, [row])
        except sa.exc.DBAPIError as fault:
            if not is_row_refused(fault):
                raise
            raise DorkError(
                ErrorCode.IMPORT_INVALID,
                f"Line {line} holds a row of {shape.table} that cannot be stored: {_told(fault)}. "
                "Nothing was imported.",
                hint="Copy the file again from where it was made, or make a new export.",
            ) from fault


def _told(fault: sa.exc.DBAPIError) -> str:
    """What the engine says without the row's values, which may be secret."""
    diagnosis: Any = getattr(fault.orig, "diag", None)
    return getattr(diagnosis, "message_primary", None) or str(fault.orig)


def _reason(header: Header) -> str:
    return f"Imported from an export made at {header.at}."
