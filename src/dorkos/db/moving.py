"""What an export, an import and a transfer have in common: one moment to read, and how rows arrive."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa

from dorkos.db.connections import migrating_postgres, reading_sqlite
from dorkos.db.faults import explain
from dorkos.db.hold import hold_fleet, let_go_of_processes
from dorkos.db.marks import MARKS, Mark, Move, refuse_unfinished
from dorkos.db.migrate import Plan, status_postgres, status_sqlite
from dorkos.db.rows import is_empty, shapes
from dorkos.db.schema.system import events, system_state
from dorkos.db.side_files import side_file
from dorkos.errors import DorkError, ErrorCode

# A SQLite file, or the URL of a PostgreSQL database.
Place = Path | str


@dataclass(frozen=True, slots=True)
class Moment:
    """A database as it is at one moment. `migration` is its last, `epoch` the name of its history.

    `prove` is to be called when everything was read: it raises `database_busy` if it was not one moment.
    """

    connection: sa.Connection
    migration: str
    epoch: str
    prove: Callable[[], None]


@contextmanager
def one_moment(place: Place, *, plan: Plan | None = None) -> Iterator[Moment]:
    """Read a database that is up to date, all of it as of now. A server may be writing meanwhile.

    Changes nothing. Raises `not_found` without a database, `conflict` where migrations wait,
    `move_unfinished`, and what the status of a database raises.
    """
    status = status_sqlite(place, plan=plan) if isinstance(place, Path) else status_postgres(place, plan=plan)
    if not status.applied:
        raise DorkError(
            ErrorCode.NOT_FOUND,
            f"There is no database at {place}." if isinstance(place, Path) else "The database has no tables.",
            hint="Name the data directory with --home or DORK_HOME, or PostgreSQL with --database.",
        )
    refuse_pending(status.pending)
    try:
        with _reading(place) as (connection, prove):
            facts = read_facts(connection)
            refuse_unfinished(facts)
            # Without an epoch the next start makes one; what is stored can be read all the same.
            yield Moment(connection, status.applied[-1].id, facts.get("epoch", ""), prove)
    except sa.exc.DBAPIError as fault:
        if "decode to utf-8" in str(fault.orig).lower():
            raise DorkError(
                ErrorCode.DATABASE_CORRUPT,
                f"A text in the database is not UTF-8: {fault.orig}.",
                hint="Run `dorkos db verify`, and restore a backup. Nothing was changed.",
            ) from fault
        raise explain(fault) from fault


def refuse_pending(pending: tuple[str, ...]) -> None:
    """Raise `conflict` if migrations wait: the rows would have another form than this version's."""
    if pending:
        raise DorkError(
            ErrorCode.CONFLICT,
            f"The database is not up to date: {', '.join(pending)} waits.",
            hint="Run `dorkos db migrate` first, or start the server once.",
        )


def read_facts(connection: sa.Connection) -> dict[str, str]:
    """The epoch, and the mark of an unfinished move; nothing while the first migrations are on their way."""
    if not sa.inspect(connection).has_table(system_state.name):
        return {}
    wanted = system_state.c.key.in_(("epoch", *MARKS))
    rows = connection.execute(sa.select(system_state.c.key, system_state.c.value).where(wanted))
    return {row.key: row.value for row in rows}


def filled_tables(connection: sa.Connection) -> list[str]:
    """The tables that hold a row; none in a database that was made and never used."""
    return [shape.table for shape in shapes() if not is_empty(connection, shape)]


def refuse_filled(connection: sa.Connection) -> None:
    """Raise `target_not_empty` if anything is stored."""
    filled = filled_tables(connection)
    if filled:
        raise DorkError(
            ErrorCode.TARGET_NOT_EMPTY,
            f"The target holds rows already, in {', '.join(filled)}. Nothing was changed.",
            hint="Name a new data directory with --home, or an empty PostgreSQL database. A server that "
            "ran once has left rows, too.",
            details={"tables": filled},
        )


def put_mark(connection: sa.Connection, move: Move, mark: Mark) -> None:
    """Begin a move, in the transaction that found the target empty."""
    connection.execute(system_state.insert().values(key=move.value, value=mark.text()))


def arrive(connection: sa.Connection, *, reason: str, now: datetime) -> str:
    """Make fit for use what was moved here, in the transaction that ends the move; returns the new epoch.

    The fleet goes on hold. Runs that were under way elsewhere are let go of: they end as unconfirmed, and
    nothing is killed. Cursors of the original's events mean nothing here.
    """
    hold_fleet(connection, reason=reason, now=now)
    let_go_of_processes(connection)
    epoch = secrets.token_hex(6)
    connection.execute(system_state.delete().where(system_state.c.key.in_(("epoch", *MARKS))))
    connection.execute(system_state.insert().values(key="epoch", value=epoch))
    if connection.dialect.name == "postgresql":
        newest = connection.execute(sa.select(sa.func.max(events.c.position))).scalar()
        if newest is not None:
            sequence = sa.func.pg_get_serial_sequence(events.name, events.c.position.name)
            connection.execute(sa.select(sa.func.setval(sequence, newest)))
    return epoch


@contextmanager
def _reading(place: Place) -> Iterator[tuple[sa.Connection, Callable[[], None]]]:
    """A transaction that cannot write and shows one moment, and what proves afterwards that it did."""
    if isinstance(place, Path):
        before, in_use = _looks(place)

        def prove() -> None:
            # A file that nobody had open is read without locks: then it must not have changed.
            if not in_use and _looks(place) != (before, in_use):
                raise DorkError(
                    ErrorCode.DATABASE_BUSY,
                    f"A server began to use {place} while it was read.",
                    hint="Do it again: beside a server that runs already it works.",
                )

        with reading_sqlite(place) as connection:
            connection.exec_driver_sql("BEGIN")
            yield connection, prove
        return
    with migrating_postgres(place) as connection:
        frozen = connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        with frozen.begin():
            yield frozen, lambda: None


def _looks(database: Path) -> tuple[tuple[int, int, int], bool]:
    found = database.stat()
    in_use = any(side_file(database, suffix).exists() for suffix in ("-wal", "-shm"))
    return (found.st_ino, found.st_size, found.st_mtime_ns), in_use
