"""What `dorkos doctor` reads out of an open database: migrations, schema, and the facts of `system_state`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

import sqlalchemy as sa

from dorkos.clock import from_iso
from dorkos.db.backup_facts import REHEARSED_KEY, read_backup_facts
from dorkos.db.drift import live_differences
from dorkos.db.finding import Finding, age, examined, fault, fine, many, warning
from dorkos.db.hold import FLEET_KEY
from dorkos.db.ledger import ledger_table
from dorkos.db.marks import MARKS, refuse_unfinished
from dorkos.db.migrate import MigrationStatus, is_settled
from dorkos.db.schema.system import system_state
from dorkos.db.schema.tables import metadata
from dorkos.vocabulary import FleetMode

_REHEARSAL_OLD = timedelta(days=15)
_LINEAGE = "lineage:"
_SHOWN = 3


def examine_state(connection: sa.Connection, status: MigrationStatus, *, now: datetime) -> Iterator[Finding]:
    """What is the same on both engines. The connection is in no transaction; nothing is changed."""
    yield examined("migrations", lambda: _migrations(connection, status))
    with connection.begin():
        has_state = sa.inspect(connection).has_table(system_state.name)
    if not has_state:
        if not status.pending:  # Else the migration that brings it is still to come.
            yield examined("schema", lambda: _schema(connection, status))
        return
    yield examined("schema", lambda: _schema(connection, status))
    facts = _facts(connection)
    if facts.keys() & set(MARKS):
        yield examined("rows", lambda: _move(facts))
    yield examined("fleet", lambda: _fleet(facts, now))
    if connection.dialect.name == "sqlite":
        yield from _failed_backup(connection, now)
        yield examined("rehearsal", lambda: _rehearsal(facts, _born(connection), now))
    yield examined("kept values", lambda: _kept(connection))


def _migrations(connection: sa.Connection, status: MigrationStatus) -> Finding:
    if not status.applied:
        return fine("migrations", "none is applied yet; the first start applies all")
    with connection.begin():
        wrote = sa.select(ledger_table.c.version).order_by(
            ledger_table.c.applied_at.desc(), ledger_table.c.id.desc()
        )
        version = connection.execute(wrote.limit(1)).scalar_one()
    facts = {
        "applied": [entry.id for entry in status.applied],
        "pending": list(status.pending),
        "version": version,
    }
    told = f"{len(status.applied)} applied, the last {status.applied[-1].id} by DorkOS {version}"
    if status.pending:
        return warning(
            "migrations",
            f"{told}; waiting: {', '.join(status.pending)}",
            "The next start applies them, after a snapshot on SQLite. `dorkos db migrate --dry-run` shows "
            "what they would do.",
            **facts,
        )
    return fine("migrations", told, **facts)


def _schema(connection: sa.Connection, status: MigrationStatus) -> Finding:
    if status.pending:
        return fine("schema", "it is compared after the waiting migrations")
    with connection.begin():
        if sa.inspect(connection).has_table(system_state.name) and is_settled(connection):
            return fine("schema", "tables, columns and indexes are as the last migration left them")
    # What a start does then, too: only our own tables count, and others may stand beside them.
    wrong = _differences(connection)
    if not wrong:
        return fine("schema", "our tables, columns and indexes are as declared; others lie beside them")
    return fault(
        "schema",
        f"tables, columns or indexes are not as the last migration left them: {'; '.join(wrong[:_SHOWN])}",
        "Somebody changed them by hand, and a start is refused: undo it, or restore a backup. `dorkos db "
        "verify` lists all that differs.",
        differences=wrong,
    )


def _differences(connection: sa.Connection) -> list[str]:
    if connection.dialect.name == "sqlite":
        with connection.begin():
            return live_differences(connection, metadata)
    # To compare, PostgreSQL makes temporary tables, which it calls a change; they are taken back.
    readonly = connection.get_execution_options().get("postgresql_readonly", False)
    connection.execution_options(postgresql_readonly=False)
    try:
        with connection.begin() as transaction:
            wrong = live_differences(connection, metadata)
            transaction.rollback()
            return wrong
    finally:
        connection.execution_options(postgresql_readonly=readonly)


def _move(facts: Mapping[str, str]) -> Finding:
    refuse_unfinished(facts)
    return fine("rows", "no move into this database is unfinished")


def _fleet(facts: Mapping[str, str], now: datetime) -> Finding:
    if FLEET_KEY not in facts:
        return fine("fleet", "running", mode=FleetMode.RUNNING.value)
    try:
        state = json.loads(facts[FLEET_KEY])
        mode = FleetMode(state["mode"])
        since, reason = state.get("since"), state.get("reason")
    except (ValueError, LookupError, TypeError, AttributeError):
        return fault(
            "fleet",
            "its mode cannot be read, so nothing starts",
            "Set it anew: `dorkos fleet hold`, then `dorkos fleet resume` when all is well.",
        )
    known: dict[str, object] = {"mode": mode.value, "since": since, "reason": reason}
    if mode is FleetMode.RUNNING:
        return fine("fleet", "running", **known)
    what = {FleetMode.DRAIN: "draining", FleetMode.HOLD: "on hold", FleetMode.STOP: "stopped"}[mode]
    told = what if since is None else f"{what}, set {age(now - from_iso(since))}"
    return warning(
        "fleet",
        f"{told}: {reason}" if reason else told,
        "When you have looked at what waits, lift it with `dorkos fleet resume`.",
        **known,
    )


def _failed_backup(connection: sa.Connection, now: datetime) -> Iterator[Finding]:
    """The daily backup, only while it fails: the copies themselves have a line of their own."""
    with connection.begin():
        failed = read_backup_facts(connection).failed
    if failed is not None:
        yield fault(
            "daily backup",
            f"it failed {age(now - failed.at)}: {failed.problem}",
            "Mend that, then run `dorkos db backup`; the server tries again by itself, too.",
            **failed.fields(),
        )


def _rehearsal(facts: Mapping[str, str], born: datetime, now: datetime) -> Finding:
    if REHEARSED_KEY not in facts:
        told, advice = "no backup was ever restored on trial", "`dorkos db rehearse` does it now."
        if now - born < _REHEARSAL_OLD:
            return fine("rehearsal", f"{told}; the server does it each week")
        return warning("rehearsal", told, advice)
    try:
        last = json.loads(facts[REHEARSED_KEY])
        at, file, ok = from_iso(last["at"]), str(last["file"]), last["ok"] is True
        rows, problem = last.get("rows"), last.get("problem")
    except (ValueError, LookupError, TypeError, AttributeError):
        return warning(
            "rehearsal", "what is stored of the last one cannot be read", "Run `dorkos db rehearse`."
        )
    known: dict[str, object] = {"at": last["at"], "file": file, "ok": ok, "rows": rows, "problem": problem}
    if not ok:
        return fault(
            "rehearsal",
            f"{file} could not be restored on trial {age(now - at)}: {problem}",
            "Make a new backup with `dorkos db backup`, and rehearse it with `dorkos db rehearse`.",
            **known,
        )
    counted = f" with {many(rows, 'row')}" if isinstance(rows, int) else ""
    told = f"{file} was restored on trial {age(now - at)}{counted}"
    if now - at > _REHEARSAL_OLD:
        return warning(
            "rehearsal", told, "Run `dorkos db rehearse`; a running server does it each week.", **known
        )
    return fine("rehearsal", told, **known)


def _kept(connection: sa.Connection) -> Finding:
    key = system_state.c.key
    with connection.begin():
        # A range instead of LIKE: it uses the index, and it means the same on both engines.
        query = sa.select(sa.func.count()).where(key >= _LINEAGE, key < f"{_LINEAGE[:-1]};")
        count = connection.execute(query).scalar_one()
    if not count:
        return fine("kept values", "every value of older versions fitted", count=0)
    told = f"{many(count, 'value')} of older versions did not fit; the originals are kept in system_state"
    return fine("kept values", told, count=count)


def _facts(connection: sa.Connection) -> dict[str, str]:
    wanted = system_state.c.key.in_((FLEET_KEY, REHEARSED_KEY, *MARKS))
    with connection.begin():
        rows = connection.execute(sa.select(system_state.c.key, system_state.c.value).where(wanted))
        return {row.key: row.value for row in rows}


def _born(connection: sa.Connection) -> datetime:
    with connection.begin():
        first: datetime = connection.execute(sa.select(sa.func.min(ledger_table.c.applied_at))).scalar_one()
    return first
