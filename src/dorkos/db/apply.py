"""Applying migrations on an open connection: one transaction each, together with its ledger row."""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType

import sqlalchemy as sa

from dorkos import __version__
from dorkos.clock import Clock
from dorkos.db.copying import row_counts
from dorkos.db.engine import APPLICATION_ID
from dorkos.db.faults import explain
from dorkos.db.ledger import LedgerEntry, Revision, ledger_table, pending
from dorkos.db.step import Step
from dorkos.errors import DorkError, ErrorCode

_loaded: dict[tuple[str, str], ModuleType] = {}


@dataclass(frozen=True, slots=True)
class RowCount:
    """Rows of one table around a migration; None where the table was not there."""

    table: str
    before: int | None
    after: int | None


@dataclass(frozen=True, slots=True)
class AppliedMigration:
    """What one migration did. `notes` are its remarks to the person who migrates."""

    id: str
    duration_ms: int
    rows: tuple[RowCount, ...]
    notes: tuple[str, ...]


def apply_pending(
    connection: sa.Connection, known: Sequence[Revision], *, clock: Clock, say: Callable[[str], None]
) -> tuple[AppliedMigration, ...]:
    """Apply what waits, in order, each in a transaction of its own.

    The ledger is read again inside each transaction, so a second migrator finds the work done and does
    nothing. Raises `migration_failed`; what was applied before stays, the failed one leaves no trace.
    """
    applied: list[AppliedMigration] = []
    with _foreign_keys_off(connection):
        while True:
            with connection.begin():
                waiting = pending(known, read_ledger(connection))
                if not waiting:
                    return tuple(applied)
                say(f"Applying {waiting[0].id}")
                applied.append(_apply(connection, waiting[0], clock))


def read_ledger(connection: sa.Connection) -> tuple[LedgerEntry, ...]:
    """What was applied, in order of ids; nothing when there is no ledger yet."""
    inspector = sa.inspect(connection)
    # Without the schema's name PostgreSQL would find the ledger of a schema further back in the path.
    if not inspector.has_table(ledger_table.name, schema=inspector.default_schema_name):
        return ()
    columns = (ledger_table.c.id, ledger_table.c.checksum, ledger_table.c.version)
    rows = connection.execute(sa.select(*columns).order_by(ledger_table.c.id))
    return tuple(LedgerEntry(*row) for row in rows)


def _apply(connection: sa.Connection, revision: Revision, clock: Clock) -> AppliedMigration:
    started = clock.monotonic()
    step = Step(connection, clock.now())
    try:
        module = _load(revision)
        before = _row_counts(connection)
        orphans = _orphans(connection)
        if ledger_table.name not in before:
            _create_ledger(connection)
        module.upgrade(step)
        _refuse_orphans(revision, orphans, _orphans(connection))
        rows = _compare_counts(before, _row_counts(connection))
        _refuse_loss(revision, rows, getattr(module, "LOSS", None))
    except DorkError:
        raise
    except Exception as fault:  # Whatever a revision raises means the same: it did not happen.
        explained = explain(fault)
        if isinstance(explained, DorkError):
            raise explained from fault
        raise _failure(revision, f"{type(fault).__name__}: {fault}") from fault
    duration_ms = int((clock.monotonic() - started) * 1000)
    connection.execute(
        ledger_table.insert().values(
            id=revision.id,
            checksum=revision.checksum,
            applied_at=step.now,
            version=__version__,
            duration_ms=duration_ms,
        )
    )
    return AppliedMigration(revision.id, duration_ms, rows, tuple(step.notes))


def _load(revision: Revision) -> ModuleType:
    """The migration's module. Made once for each text, since that takes longer than to apply most of them."""
    key = (revision.id, revision.checksum)
    if key not in _loaded:
        _loaded[key] = _read(revision)
    return _loaded[key]


def _read(revision: Revision) -> ModuleType:
    # File names start with digits, which no import statement can spell.
    name = f"dorkos.db.migrations.{revision.id}"
    spec = importlib.util.spec_from_file_location(name, revision.path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # Dataclasses look their module up by name.
    spec.loader.exec_module(module)
    return module


def _create_ledger(connection: sa.Connection) -> None:
    """The ledger comes with the first migration, in its transaction: neither exists without the other."""
    ledger_table.create(connection, checkfirst=False)
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID}")


@contextmanager
def _foreign_keys_off(connection: sa.Connection) -> Iterator[None]:
    """SQLite: off while tables are rebuilt, since dropping a parent would delete its children.

    Set on the driver's connection, outside any transaction: inside one SQLite ignores the pragma without
    a word, and a statement through SQLAlchemy would begin one.
    """
    if connection.dialect.name != "sqlite":
        yield
        return
    _switch_foreign_keys(connection, on=False)
    try:
        yield
    finally:
        _switch_foreign_keys(connection, on=True)


def _switch_foreign_keys(connection: sa.Connection, *, on: bool) -> None:
    raw = connection.connection.dbapi_connection
    assert raw is not None
    cursor = raw.cursor()
    cursor.execute(f"PRAGMA foreign_keys = {int(on)}")
    cursor.execute("PRAGMA foreign_keys")
    answer = cursor.fetchone()
    cursor.close()
    if answer != (int(on),):
        raise DorkError(
            ErrorCode.MIGRATION_FAILED,
            f"SQLite did not turn foreign keys {'on' if on else 'off'}.",
            hint="This is a fault of DorkOS: a transaction was open. Please report it.",
        )


def _orphans(connection: sa.Connection) -> Counter[str]:
    """How many rows of which table refer to rows that do not exist. PostgreSQL has none."""
    if connection.dialect.name != "sqlite":
        return Counter()
    broken = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
    return Counter(f"{table} -> {parent}" for table, _, parent, _ in broken)


def _refuse_orphans(revision: Revision, before: Counter[str], after: Counter[str]) -> None:
    # Those that were there before are not this migration's doing; a later one may mend them.
    made = after - before
    if made:
        shown = ", ".join(f"{relation}: {count}" for relation, count in sorted(made.items()))
        raise _failure(revision, f"rows would refer to rows that do not exist ({shown})")


def _row_counts(connection: sa.Connection) -> dict[str, int]:
    if connection.dialect.name == "sqlite":
        raw = connection.connection.dbapi_connection
        return row_counts(raw)  # type: ignore[arg-type]  # SQLAlchemy knows it by a narrower protocol.
    quote = connection.dialect.identifier_preparer.quote_identifier
    inspector = sa.inspect(connection)
    return {
        table: connection.exec_driver_sql(f"SELECT count(*) FROM {quote(table)}").scalar_one()  # noqa: S608 - Quoted names.
        for table in inspector.get_table_names(inspector.default_schema_name)
    }


def _compare_counts(before: dict[str, int], after: dict[str, int]) -> tuple[RowCount, ...]:
    return tuple(
        RowCount(table, before.get(table), after.get(table)) for table in sorted(before.keys() | after.keys())
    )


def _refuse_loss(
    revision: Revision, rows: Sequence[RowCount], reason: str | Mapping[str, str] | None
) -> None:
    # The codes are those of dorkos.db.lint: a dropped table, deleted rows. No other excuses fewer rows.
    if reason and (isinstance(reason, str) or reason.keys() & {"D001", "D003"}):
        return
    for row in rows:
        if (row.before or 0) > (row.after or 0):
            raise _failure(
                revision,
                f"{row.table} had {row.before} rows and would have {row.after or 0}, with no stated reason",
            )


def _failure(revision: Revision, reason: str) -> DorkError:
    return DorkError(
        ErrorCode.MIGRATION_FAILED,
        f"The migration {revision.id} failed: {reason}.",
        hint="The database is as it was before this migration. Please report it with this message.",
        details={"migration": revision.id},
    )
