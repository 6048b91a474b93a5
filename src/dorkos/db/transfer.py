"""`dorkos db transfer`: everything of a SQLite database into an empty PostgreSQL one, exactly once.

The mark in the target says who fills it and how far that came; it moves on in the transaction that brings
the rows. So a transfer that was killed goes on where it was, and no server starts on half of the rows.
The mark names its source by epoch and digest: another source, or the same one after it was used again,
is another transfer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import sqlalchemy as sa

from dorkos.clock import Clock, iso
from dorkos.db.connections import migrating_postgres
from dorkos.db.digest import TableDigest, differing, digest_tables, whole_digest
from dorkos.db.faults import explain
from dorkos.db.marks import Mark, Move, unfinished
from dorkos.db.migrate import migrate_postgres, status_postgres
from dorkos.db.moving import Moment, arrive, one_moment, put_mark, read_facts, refuse_filled, refuse_pending
from dorkos.db.progress import Progress, no_progress
from dorkos.db.rows import PlainRow, Shape, Value, batches, count_rows, insert, is_row_refused, shapes, stream
from dorkos.db.schema.system import system_state
from dorkos.db.soundness import refuse_wrong_values
from dorkos.errors import DorkError, ErrorCode


@dataclass(frozen=True, slots=True)
class Transferred:
    """What arrived. `resumed` counts the rows that were in already when this call began."""

    tables: Mapping[str, TableDigest]
    digest: str
    epoch: str
    resumed: int


def transfer_to_postgres(
    source: Path, url: str, *, clock: Clock, progress: Progress = no_progress
) -> Transferred:
    """Move the database at `source`, which nobody may be using, into the PostgreSQL database of `url`.

    The source keeps every byte. Calling again after an interruption goes on with it. At the end both are
    compared, table by table, and the fleet of the target is on hold. Blocking. Raises `target_not_empty`,
    `move_unfinished` for a target that another transfer or an import began, `transfer_failed` when rows
    cannot be held by PostgreSQL or arrived differently, and what opening either database raises.
    """
    tables = shapes()
    with one_moment(source) as moment:
        refuse_wrong_values(moment.connection)
        expected = digest_tables(moment.connection, tables, progress, what="reading")
        identity = hashlib.sha256(f"{moment.epoch} {whole_digest(expected)}".encode()).hexdigest()[:26]
        mark = _begin(url, Mark(identity, iso(clock.now())), clock)
        resumed = mark.rows
        with migrating_postgres(url) as target:
            try:
                _copy_rest(moment, target, tables, mark, progress)
                _compare(target, tables, expected, progress)
                moment.prove()
                reason = f"Transferred from the SQLite database {source}."
                with target.begin():
                    epoch = arrive(target, reason=reason, now=clock.now())
            except sa.exc.DBAPIError as fault:
                raise explain(fault) from fault
    return Transferred(expected, whole_digest(expected), epoch, resumed)


def discard_transfer(url: str) -> int:
    """Delete everything from a target whose transfer was not finished; returns how many rows went.

    Raises `not_found` where no transfer was begun: nothing is deleted then, whatever the database holds.
    """
    if not status_postgres(url).applied:
        raise _nothing_begun()
    with migrating_postgres(url) as target, target.begin():
        if Move.TRANSFER.value not in read_facts(target):
            raise _nothing_begun()
        rows = sum(count_rows(target, shape) for shape in shapes() if shape.table != system_state.name)
        tables = ", ".join(shape.table for shape in shapes() if shape.table != system_state.name)
        target.exec_driver_sql(f"TRUNCATE {tables}")
        kept = system_state.c.key.in_(("epoch", "schema_fingerprint"))
        target.execute(system_state.delete().where(sa.not_(kept)))
    return rows


def _nothing_begun() -> DorkError:
    return DorkError(
        ErrorCode.NOT_FOUND,
        "No unfinished transfer is in this database. Nothing was deleted.",
        hint="One that was finished is a database in use; drop it with PostgreSQL's own tools.",
    )


def _begin(url: str, mark: Mark, clock: Clock) -> Mark:
    """The mark of this transfer in the target: the one that is there, or `mark`, put into an empty one."""
    status = status_postgres(url)
    if status.applied:
        with migrating_postgres(url) as target, target.begin():
            begun = _own_mark(read_facts(target), mark.id)
        if begun is not None:
            refuse_pending(status.pending)
            return begun
    else:
        _refuse_without_rights(url)
    migrate_postgres(url, clock=clock)
    with migrating_postgres(url) as target, target.begin():
        # Nobody may write between the look and the mark; a server that starts now waits, then is refused.
        target.exec_driver_sql(f"LOCK TABLE {system_state.name} IN ACCESS EXCLUSIVE MODE")
        begun = _own_mark(read_facts(target), mark.id)
        if begun is None:
            refuse_filled(target)
            put_mark(target, Move.TRANSFER, mark)
    return begun or mark


def _own_mark(facts: Mapping[str, str], identity: str) -> Mark | None:
    if Move.IMPORT.value in facts:
        raise unfinished(Move.IMPORT)
    text = facts.get(Move.TRANSFER.value)
    if text is None:
        return None
    try:
        mark = Mark.parse(text)
    except ValueError as fault:
        raise unfinished(Move.TRANSFER) from fault
    if mark.id != identity:
        raise DorkError(
            ErrorCode.MOVE_UNFINISHED,
            f"The target holds part of another transfer, begun at {mark.since}: from another database, or "
            "from this one before it was used again.",
            hint="Empty the target with `dorkos db transfer URL --discard`, then transfer anew. "
            "Nothing was changed.",
        )
    return mark


def _refuse_without_rights(url: str) -> None:
    with migrating_postgres(url) as target, target.begin():
        allowed = "SELECT current_schema(), has_schema_privilege(current_schema(), 'CREATE')"
        schema, may_create = target.exec_driver_sql(allowed).one()
    if not may_create:
        raise DorkError(
            ErrorCode.DATABASE_READONLY,
            f"This user may not make tables in the schema {schema} of the target."
            if schema
            else "The search path of this user names no schema in which tables could be made.",
            hint="Make a database that belongs to the user: createdb -O user -E UTF8 -T template0 dorkos",
        )


def _copy_rest(
    moment: Moment, target: sa.Connection, tables: Sequence[Shape], mark: Mark, progress: Progress
) -> None:
    """Every row that is not in yet, table by table in key order."""
    total = sum(count_rows(moment.connection, shape) for shape in tables)
    progress("copying", mark.rows, total)
    names = [shape.table for shape in tables]
    for shape in tables[names.index(mark.table) if mark.table else 0 :]:
        after = cast(PlainRow, mark.after) if mark.table == shape.table else None
        for batch in batches(stream(moment.connection, shape, after=after)):
            key = cast("tuple[str | int, ...]", shape.key_of(batch[-1]))
            reached = Mark(mark.id, mark.since, shape.table, key, mark.rows + len(batch))
            _put(target, shape, batch, mark, reached)
            mark = reached
            progress("copying", mark.rows, total)


def _put(target: sa.Connection, shape: Shape, rows: Sequence[PlainRow], before: Mark, reached: Mark) -> None:
    """One transaction: the rows, and the mark that says they are in."""
    try:
        with target.begin():
            mark = system_state.update().where(
                system_state.c.key == Move.TRANSFER.value, system_state.c.value == before.text()
            )
            if target.execute(mark.values(value=reached.text())).rowcount != 1:
                raise DorkError(
                    ErrorCode.CONFLICT,
                    "Somebody else works on this target: its mark changed meanwhile.",
                    hint="Let one transfer run at a time; start this one again to see where it is.",
                )
            insert(target, shape, rows)
    except sa.exc.DBAPIError as fault:
        if not is_row_refused(fault):
            raise
        raise _not_held(shape, rows, fault) from fault


def _not_held(shape: Shape, rows: Sequence[PlainRow], fault: sa.exc.DBAPIError) -> DorkError:
    """PostgreSQL refuses a row that it should hold, such as for a text too long for an index."""
    diagnosis: Any = getattr(fault.orig, "diag", None)
    told = getattr(diagnosis, "message_primary", None) or "it was refused"
    return _failure(
        f"PostgreSQL does not take a row of {shape.table} between {_shown(shape.key_of(rows[0]))} and "
        f"{_shown(shape.key_of(rows[-1]))}: {told}",
        "Run `dorkos db verify` on the source. The rows before it are in; the target is not served.",
    )


def _compare(
    target: sa.Connection, tables: Sequence[Shape], expected: Mapping[str, TableDigest], progress: Progress
) -> None:
    with target.execution_options(isolation_level="REPEATABLE READ").begin():
        found = digest_tables(target, tables, progress, what="comparing")
    target.execution_options(isolation_level="READ COMMITTED")
    wrong = differing(expected, found)
    if wrong:
        raise _failure(
            f"what arrived is not what was sent, in {', '.join(wrong)}",
            "Empty the target with `dorkos db transfer URL --discard`, keep others from writing to it, "
            "then transfer anew.",
        )


def _failure(what: str, hint: str) -> DorkError:
    return DorkError(ErrorCode.TRANSFER_FAILED, f"The transfer is not finished: {what}.", hint=hint)


def _shown(key: Sequence[Value]) -> str:
    return "/".join(map(str, key))
