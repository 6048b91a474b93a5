"""`dorkos db adopt`: bringing what DorkOS for Node left in a home into a database of ours elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from dorkos.clock import Clock
from dorkos.db.connections import migrating_postgres, migrating_sqlite
from dorkos.db.legacy.collecting import Rules, collect
from dorkos.db.legacy.home import LegacyHome
from dorkos.db.legacy.mendable import refuse_mendable
from dorkos.db.legacy.recognition import DATABASE, holds_any_store, holds_store_beside
from dorkos.db.legacy.report import Report
from dorkos.db.legacy.rows import Rows
from dorkos.db.legacy.write import write
from dorkos.db.migrate import migrate_postgres, migrate_sqlite, status_sqlite
from dorkos.db.probe import bears_our_mark
from dorkos.db.snapshot import take_snapshot
from dorkos.errors import DorkError, ErrorCode

HOLD_REASON = "Brought over from DorkOS for Node. Look at what came, then let the fleet go."
_NO_SNAPSHOT = "PostgreSQL: no snapshot was taken. Back up with pg_dump if this database matters."
# What a database has that was never used: these rows are no reason for a snapshot.
_OF_THE_SYSTEM = ("schema_ledger", "system_state", "nodes")

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Adoption:
    """What was done. `added` counts rows of all tables; `snapshot` is the target as it was before."""

    report: Report
    added: int
    snapshot: Path | None = None


def refuse_source(source: Path, home: Path, *, is_target: bool) -> None:
    """Raise `not_found` if there is nothing of the lineage in `source`.

    Raises `validation_failed` if it holds a database of this DorkOS and nothing else, if the data directory
    `home` lies in it, since the source is not written, or is it while the database in there `is_target`, and
    what `refuse_mendable` raises. Changes nothing.
    """
    try:
        is_directory = source.is_dir()
    except OSError as fault:
        refuse_mendable(source, fault)
        is_directory = False
    if not is_directory:
        raise _nothing_there(f"{source} is not a directory.")
    old, new = source.resolve(), home.resolve()
    if old == new and is_target:
        raise DorkError(
            ErrorCode.VALIDATION_FAILED,
            f"{source} is the data directory of this DorkOS itself. Nothing was changed.",
            hint="The database in there is of this DorkOS already. What DorkOS for Node left beside it "
            "can be brought over from a copy of the directory."
            if _is_ours(source / DATABASE)
            else "What DorkOS for Node left there is taken over when it is opened: run `dorkos db migrate`. "
            "Or name another data directory with --home.",
        )
    if old in new.parents:
        raise DorkError(
            ErrorCode.VALIDATION_FAILED,
            f"The data directory {home} lies in {source}, which must not be written. Nothing was changed.",
            hint="Name a data directory elsewhere with --home.",
        )
    if not holds_any_store(source):
        raise _nothing_there(f"There is nothing of DorkOS for Node in {source}.")
    if not holds_store_beside(source) and bears_our_mark(source / DATABASE):
        raise DorkError(
            ErrorCode.VALIDATION_FAILED,
            f"{source} is a data directory of this DorkOS, with nothing of DorkOS for Node in it. Nothing "
            "was changed.",
            hint="What is in it moves by `dorkos db backup` and `restore`, or by `export` and `import`.",
        )


def _is_ours(database: Path) -> bool:
    try:
        return bool(status_sqlite(database).applied)
    except DorkError:
        return False


def _nothing_there(message: str) -> DorkError:
    return DorkError(
        ErrorCode.NOT_FOUND,
        f"{message} Nothing was changed.",
        hint="Name its data directory, such as ~/.dork.",
    )


def adopt_into_sqlite(
    source: Path, target: Path, *, backups: Path, clock: Clock, rules: Rules, say: Progress
) -> Adoption:
    """Import the home `source` into the SQLite file `target`, which is made or migrated first. Blocking.

    The source is never written. All is read before anything is written, and written in one transaction
    that ends with the fleet on hold. Running it again adds nothing. The caller holds the lock of the
    target's directory. Raises what `refuse_source`, `migrate_sqlite` and `take_snapshot` raise; nothing was
    added then.
    """
    refuse_source(source, target.parent, is_target=True)
    report = Report()
    with LegacyHome(source, report) as home:
        rows = _read(home, report, clock, rules, say)
        migrate_sqlite(target, backups=backups, clock=clock, progress=say)

        def take() -> Path:
            # Beside the open transaction, so what is copied is what was there before.
            say("Taking a snapshot")
            last_id = status_sqlite(target).applied[-1].id
            return take_snapshot(target, backups, now=clock.now(), last_id=last_id)

        with migrating_sqlite(target) as connection:
            adoption = _write(connection, rows, report, clock=clock, say=say, take_snapshot=take)
        _tell_changed(home, report)
        return adoption


def adopt_into_postgres(source: Path, url: str, *, clock: Clock, rules: Rules, say: Progress) -> Adoption:
    """As `adopt_into_sqlite`, into a PostgreSQL database. Takes no snapshot and says so.

    The caller has asked `refuse_source`.
    """
    report = Report()
    with LegacyHome(source, report) as home:
        rows = _read(home, report, clock, rules, say)
        migrate_postgres(url, clock=clock, progress=say)

        def take() -> None:
            report.note(_NO_SNAPSHOT)

        with migrating_postgres(url) as connection:
            adoption = _write(connection, rows, report, clock=clock, say=say, take_snapshot=take)
        _tell_changed(home, report)
        return adoption


def _read(home: LegacyHome, report: Report, clock: Clock, rules: Rules, say: Progress) -> Rows:
    say(f"Reading {home.path}")
    return collect(home, report, clock.now(), rules, in_place=False)


def _tell_changed(home: LegacyHome, report: Report) -> None:
    for relative in home.changed():
        report.note(
            f"ATTENTION: {home.path / relative} was written after it was read, so something uses it. What "
            "came since is not here. Stop DorkOS for Node, and run this again."
        )


def _write(
    connection: sa.Connection,
    rows: Rows,
    report: Report,
    *,
    clock: Clock,
    say: Progress,
    take_snapshot: Callable[[], Path | None],
) -> Adoption:
    say("Writing")
    snapshot: Path | None = None
    with connection.begin():
        added = write(connection, rows, report, reason=HOLD_REASON, now=clock.now())
        if added and any(count for table, count in report.before.items() if table not in _OF_THE_SYSTEM):
            snapshot = take_snapshot()
    return Adoption(report, added, snapshot)
