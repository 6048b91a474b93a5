"""Bringing a database up to date before it is used, or refusing it with nothing changed.

One story on both engines: find out what the database is, compare its ledger with the migration files,
snapshot what could be lost, apply what waits, and compare the live schema with the declared one. With
nothing pending this is a few reads, and neither Alembic nor any revision is imported.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from dorkos.clock import Clock
from dorkos.db.apply import AppliedMigration, apply_pending, read_ledger
from dorkos.db.connections import migrating_postgres, migrating_sqlite
from dorkos.db.copying import CopyError, copy_untouched
from dorkos.db.drift import catalogue, live_differences
from dorkos.db.faults import no_schema
from dorkos.db.filesystem import refuse_network_filesystem
from dorkos.db.ledger import MIGRATIONS, LedgerEntry, Revision, ledger_table, pending, revisions
from dorkos.db.marks import MARKS, refuse_unfinished
from dorkos.db.probe import DERIVED, SqliteState, fingerprint, probe_sqlite
from dorkos.db.restoring import refuse_unfinished_restore
from dorkos.db.schema.system import system_state
from dorkos.db.schema.tables import metadata
from dorkos.db.scratch import scratch_folder
from dorkos.db.side_files import refuse_readonly
from dorkos.db.snapshot import take_snapshot
from dorkos.errors import DorkError, ErrorCode

# Held while one server migrates a PostgreSQL database. The number is arbitrary and ours.
_MIGRATE_LOCK = 0x444F524B_0002
_NO_SNAPSHOT = "PostgreSQL: no snapshot was taken. Back up with pg_dump before upgrades that matter."
_FACTS = ("epoch", "schema_fingerprint")


@dataclass(frozen=True, slots=True)
class Plan:
    """Where a database is to be led: the folder of revisions, and the schema they must arrive at."""

    directory: Path = MIGRATIONS
    declared: sa.MetaData = metadata


@dataclass(frozen=True, slots=True)
class MigrationReport:
    """What was done. `snapshot` is the verified copy made before, if there was anything to lose.

    `notes` is what a person should read: the remarks of all migrations, and what was left undone. `adopted`
    is the report of the import, as JSON data, where the database of DorkOS for Node was taken over.
    """

    applied: tuple[AppliedMigration, ...] = ()
    snapshot: Path | None = None
    notes: tuple[str, ...] = ()
    adopted: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class MigrationStatus:
    """How far a database is: what was applied, and the ids that wait."""

    applied: tuple[LedgerEntry, ...]
    pending: tuple[str, ...]


Progress = Callable[[str], None]


def migrate_sqlite(
    path: Path, *, backups: Path, clock: Clock, progress: Progress | None = None, plan: Plan | None = None
) -> MigrationReport:
    """Make or upgrade the SQLite file at `path`; its folder must exist. Blocking.

    Idempotent; two processes may call it at once. Refuses, with nothing changed, whatever
    `dorkos.db.filesystem`, `dorkos.db.probe`, `dorkos.db.marks` and `dorkos.db.ledger.pending` refuse. Raises
    `snapshot_failed` before anything was applied, `migration_failed` with that migration rolled back,
    `database_drift` when the schema that results is not the declared one. `backups` receives a snapshot
    if the database exists and changes.
    """
    plan, say = plan or Plan(), progress or _silent
    refuse_network_filesystem(path)
    refuse_unfinished_restore(path)
    refuse_readonly(path)
    known = revisions(plan.directory)
    state = probe_sqlite(path)
    refuse_unfinished(state.facts if state else {})
    waiting = pending(known, state.entries if state else ())
    if state is not None and not waiting and _is_settled(state):
        return MigrationReport()
    snapshot = None
    if state is not None and state.entries and waiting:
        say("Taking a snapshot")
        snapshot = take_snapshot(path, backups, now=clock.now(), last_id=state.entries[-1].id)
        say(f"Snapshot: {snapshot}")
    return _lead(path, known, plan, clock=clock, say=say, snapshot=snapshot)


def migrate_copy(path: Path, *, clock: Clock, progress: Progress | None = None) -> MigrationReport:
    """Do what `migrate_sqlite` does to a copy whose original stays: no snapshot is taken of it. Blocking."""
    known = revisions()
    state = probe_sqlite(path)
    refuse_unfinished(state.facts if state else {})
    if state is not None and not pending(known, state.entries) and _is_settled(state):
        return MigrationReport()
    return _lead(path, known, Plan(), clock=clock, say=progress or _silent, snapshot=None)


def rehearse_sqlite(
    path: Path, *, clock: Clock, progress: Progress | None = None, plan: Plan | None = None
) -> MigrationReport:
    """Do what `migrate_sqlite` would do to a copy that is thrown away, and report it. Blocking.

    The original keeps every byte and gets no side file, also when a server has it open. The copy is
    verified; it lies in the system's folder for temporary files. Refuses and raises as `migrate_sqlite`
    does, `snapshot_failed` when no copy could be made.
    """
    plan, say = plan or Plan(), progress or _silent
    known = revisions(plan.directory)
    state = probe_sqlite(path)
    refuse_unfinished(state.facts if state else {})
    waiting = pending(known, state.entries if state else ())
    if state is not None and not waiting and _is_settled(state):
        return MigrationReport()
    with scratch_folder("rehearsal") as folder:
        copy = Path(folder) / "dork.db"
        if state is not None:
            say(f"Copying the database to {folder}")
            try:
                copy_untouched(path, copy)
            except CopyError as fault:
                raise _no_rehearsal(fault, folder) from fault
        return _lead(copy, known, plan, clock=clock, say=say, snapshot=None)


def migrate_postgres(
    url: str, *, clock: Clock, progress: Progress | None = None, plan: Plan | None = None
) -> MigrationReport:
    """Make or upgrade our tables in the current schema of a PostgreSQL database. Blocking.

    Idempotent; servers that start together wait for one another. Takes no snapshot and says so. Raises
    as `migrate_sqlite` does, `database_unreachable`, or `database_busy` after waiting for a minute.
    """
    plan, say = plan or Plan(), progress or _silent
    known = revisions(plan.directory)
    with migrating_postgres(url) as connection:
        entries, settled, facts = _postgres_state(connection, plan.declared)
        refuse_unfinished(facts)
        waiting = pending(known, entries)
        if not waiting and settled:
            return MigrationReport()
        with connection.begin():
            connection.execute(sa.select(sa.func.pg_advisory_lock(_MIGRATE_LOCK)))
        applied = apply_pending(connection, known, clock=clock, say=say)
        _settle(connection, plan.declared)
    told = (_NO_SNAPSHOT,) if entries and applied else ()
    return MigrationReport(applied, notes=(*told, *_remarks(applied)))


def status_sqlite(path: Path, *, plan: Plan | None = None) -> MigrationStatus:
    """How far the file is. Changes nothing and makes no file. Refuses what `migrate_sqlite` refuses."""
    refuse_unfinished_restore(path)
    state = probe_sqlite(path)
    return _status(revisions((plan or Plan()).directory), state.entries if state else ())


def status_postgres(url: str, *, plan: Plan | None = None) -> MigrationStatus:
    """How far the database is. Changes nothing. Refuses what `migrate_postgres` refuses."""
    plan = plan or Plan()
    with migrating_postgres(url) as connection:
        entries, _, _ = _postgres_state(connection, plan.declared)
    return _status(revisions(plan.directory), entries)


def is_settled(connection: sa.Connection) -> bool:
    """Whether the schema is, word for word, as the last migration left it. Reads only."""
    return _read_facts(connection).get("schema_fingerprint") == live_fingerprint(connection)


def _lead(
    path: Path, known: tuple[Revision, ...], plan: Plan, *, clock: Clock, say: Progress, snapshot: Path | None
) -> MigrationReport:
    with migrating_sqlite(path) as connection:
        applied = apply_pending(connection, known, clock=clock, say=say)
        _settle(connection, plan.declared)
    return MigrationReport(applied, snapshot, _remarks(applied))


def _no_rehearsal(fault: CopyError, folder: str) -> DorkError:
    return DorkError(
        ErrorCode.SNAPSHOT_FAILED,
        f"The database could not be copied to {folder}: {fault}. Nothing was migrated.",
        hint="Name a folder with more room by the environment variable TMPDIR, or try again.",
    )


def _status(known: tuple[Revision, ...], applied: tuple[LedgerEntry, ...]) -> MigrationStatus:
    return MigrationStatus(applied, tuple(revision.id for revision in pending(known, applied)))


def _remarks(applied: tuple[AppliedMigration, ...]) -> tuple[str, ...]:
    return tuple(f"{migration.id}: {note}" for migration in applied for note in migration.notes)


def _silent(_: str) -> None:
    pass


def _postgres_state(
    connection: sa.Connection, declared: sa.MetaData
) -> tuple[tuple[LedgerEntry, ...], bool, dict[str, str]]:
    """The ledger, whether schema and facts are as the last migration left them, and the facts."""
    with connection.begin():
        encoding = connection.exec_driver_sql("SHOW server_encoding").scalar_one()
        if encoding != "UTF8":
            raise _foreign_postgres(f"is encoded in {encoding}, which cannot hold every text")
        inspector = sa.inspect(connection)
        schema = inspector.default_schema_name
        if schema is None:
            raise no_schema()
        # Without its name the inspector tells of every schema in the path.
        present = set(inspector.get_table_names(schema))
        # A view under one of our names stands in the way as a table does.
        views = {*inspector.get_view_names(schema), *inspector.get_materialized_view_names(schema)}
        if views & {ledger_table.name, *declared.tables}:
            ours = sorted(views & {ledger_table.name, *declared.tables})
            raise _foreign_postgres(f"has views of the same names as our tables ({', '.join(ours)})")
        if ledger_table.name not in present:
            ours = sorted(present & declared.tables.keys())
            if ours:
                raise _foreign_postgres(f"has tables of the same names that are not ours ({', '.join(ours)})")
            return (), False, {}
        columns = {column["name"] for column in inspector.get_columns(ledger_table.name, schema)}
        if columns != set(ledger_table.columns.keys()):
            raise _foreign_postgres(f"has a table {ledger_table.name} that is not ours")
        entries = read_ledger(connection)
        if not entries:
            raise DorkError(
                ErrorCode.DATABASE_CORRUPT,
                f"The table {ledger_table.name} in the PostgreSQL database is empty: the record of its "
                "migrations is lost. Nothing was changed.",
                hint="Restore a dump, or drop all tables to begin anew.",
            )
        facts: dict[str, str] = {}
        if system_state.name in present:
            facts = _read_facts(connection)
        settled = "epoch" in facts and facts.get("schema_fingerprint") == live_fingerprint(connection)
        return entries, settled, facts


def _foreign_postgres(reason: str) -> DorkError:
    return DorkError(
        ErrorCode.DATABASE_FOREIGN,
        f"The PostgreSQL database {reason}. Nothing was changed.",
        hint="Give DorkOS a database of its own: createdb -E UTF8 -T template0 dorkos",
    )


def _is_settled(state: SqliteState) -> bool:
    return "epoch" in state.facts and state.facts.get("schema_fingerprint") == state.fingerprint


def _settle(connection: sa.Connection, declared: sa.MetaData) -> None:
    """Prove that the schema is the declared one, and note the proof, so that the next start is quick."""
    with connection.begin():
        wrong = live_differences(connection, declared)
        if wrong:
            raise DorkError(
                ErrorCode.DATABASE_DRIFT,
                f"The schema of the database is not the declared one: {'; '.join(wrong[:5])}.",
                hint="Somebody changed the tables by hand. Undo that, or restore a snapshot.",
                details={"differences": wrong},
            )
        if system_state.name not in declared.tables:
            return
        facts = _read_facts(connection)
        wanted = {
            "epoch": facts.get("epoch") or secrets.token_hex(6),
            "schema_fingerprint": live_fingerprint(connection),
        }
        for key in _FACTS:
            if facts.get(key) != wanted[key]:
                connection.execute(system_state.delete().where(system_state.c.key == key))
                connection.execute(system_state.insert().values(key=key, value=wanted[key]))


def _read_facts(connection: sa.Connection) -> dict[str, str]:
    wanted = system_state.c.key.in_((*_FACTS, *MARKS))
    query = sa.select(system_state.c.key, system_state.c.value).where(wanted)
    return {row.key: row.value for row in connection.execute(query)}


def live_fingerprint(connection: sa.Connection) -> str:
    """A digest of the schema as it stands, but for what is derived. Unequal asks for a closer look."""
    if connection.dialect.name == "sqlite":
        raw = connection.connection.dbapi_connection
        return fingerprint(raw)  # type: ignore[arg-type]  # SQLAlchemy knows it by a narrower protocol.
    facts = sorted(
        (table, sorted(facts.items()))
        for table, facts in catalogue(connection).items()
        if not table.startswith(DERIVED)
    )
    return hashlib.sha256(repr(facts).encode()).hexdigest()
