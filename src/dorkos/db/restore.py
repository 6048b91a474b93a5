"""Restoring a backup: verify it, make a database of it beside the old one, keep the old one, replace it.

Everything that can fail comes first, and changes nothing. Only then the old database is touched, by
`dorkos.db.replace`. What comes back begins a new history and stands on hold: see `dorkos.db.resting`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa

from dorkos.clock import Clock
from dorkos.db.connections import reading_sqlite
from dorkos.db.copying import row_counts
from dorkos.db.engine import sqlite_driver
from dorkos.db.filesystem import refuse_dangling_link, refuse_network_filesystem
from dorkos.db.newest_event import newest_event
from dorkos.db.probe import connect_to_ours, probe_sqlite
from dorkos.db.replace import Checkpoint, no_checkpoint, replace_database, workplace
from dorkos.db.resting import revoked_tokens
from dorkos.db.schema.pulse import pulse_runs
from dorkos.db.schema.relay import relay_index
from dorkos.db.side_files import own_place
from dorkos.db.staging import Staged, stage
from dorkos.errors import DorkError, ErrorCode
from dorkos.vocabulary import DeliveryStatus, RunState


@dataclass(frozen=True, slots=True)
class Replaced:
    """What a restore would replace. Without a `problem` the database can be read, and the rest is known.

    `as_of` is the time of its newest event, `runs` how many runs its server left unfinished.
    """

    problem: str | None
    rows: int = 0
    as_of: datetime | None = None
    runs: int = 0


@dataclass(frozen=True, slots=True)
class Waiting:
    """What goes on in the restored database when its hold is lifted, though it may have been done since."""

    runs: int
    messages: int


@dataclass(frozen=True, slots=True)
class Restore:
    """A restore that is ready to be carried out. `replaced` is None where there is no database yet."""

    staged: Staged
    replaced: Replaced | None
    waiting: Waiting
    _database: Path
    _backups: Path
    _clock: Clock

    def carry_out(self, *, checkpoint: Checkpoint = no_checkpoint) -> Path | None:
        """Put the restored database in its place; returns where the old one is kept, None if there was none.

        Durable on return. A kill at any moment leaves the old database or the new one, once the directory
        is opened again. Raises `database_busy` or `restore_failed`; then the old one is as it was.
        """
        now = self._clock.now()
        return replace_database(
            self._database, self.staged.path, backups=self._backups, now=now, checkpoint=checkpoint
        )


@contextmanager
def prepared_restore(
    file: Path, database: Path, *, backups: Path, clock: Clock, say: Callable[[str], None]
) -> Iterator[Restore]:
    """Make all ready to put the backup `file` in the place of `database`, which need not exist.

    Changes nothing at the database. The caller holds the lock of the data directory and has called
    `finish_replacement`. What was made ready is gone at the end of the block, unless it was carried out.
    Raises what `dorkos.db.staging.stage` raises.
    """
    refuse_dangling_link(database)
    database = own_place(database)
    # Asked of the place before the backup is looked at: what is refused then is said of the backup.
    refuse_network_filesystem(database)
    if database.exists() and file.exists() and file.samefile(database):
        raise DorkError(
            ErrorCode.VALIDATION_FAILED,
            f"{file} is the database itself.",
            hint="Name a backup; they lie in the backups folder of the data directory.",
        )
    replaced, revoked = _look_at(database)
    with workplace(database) as folder:
        staged = stage(file, folder, clock=clock, say=say, revoked=revoked)
        yield Restore(staged, replaced, _waiting(staged.path), database, backups, clock)


def _look_at(database: Path) -> tuple[Replaced | None, list[str]]:
    """What is there now, and the tokens revoked in it: a credential that was taken back stays so."""
    try:
        state = probe_sqlite(database)
        if state is None or not state.entries:
            return (Replaced("it holds nothing of DorkOS") if _has_content(database) else None), []
        with closing(connect_to_ours(database)) as connection:
            rows = sum(row_counts(connection).values())
        with reading_sqlite(database) as connection:
            return Replaced(None, rows, newest_event(connection), _unfinished(connection)), revoked_tokens(
                database
            )
    except DorkError as refusal:
        return Replaced(refusal.message), []
    except (sa.exc.DBAPIError, sqlite_driver().Error) as fault:
        return Replaced(f"{database} cannot be read: {fault}"), []


def _unfinished(connection: sa.Connection) -> int:
    return _count(connection, pulse_runs, pulse_runs.c.status == RunState.RUNNING)


def _waiting(path: Path) -> Waiting:
    with reading_sqlite(path) as connection:
        return Waiting(
            _count(connection, pulse_runs, pulse_runs.c.status == RunState.QUEUED),
            _count(connection, relay_index, relay_index.c.status == DeliveryStatus.PENDING),
        )


def _count(connection: sa.Connection, table: sa.Table, where: sa.ColumnElement[bool]) -> int:
    return connection.execute(sa.select(sa.func.count()).select_from(table).where(where)).scalar_one()


def _has_content(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0
