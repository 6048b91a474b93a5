"""How large the database was: one note an hour for a week, then one a day for two years.

They are one fact of `system_state` and stay with this database: a copy on another engine has its own sizes.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert  # Its ON CONFLICT compiles for SQLite as well.

from dorkos.clock import from_iso, iso
from dorkos.db.database import Database, Transaction
from dorkos.db.schema.system import GROWTH_KEY, system_state
from dorkos.db.types import to_json
from dorkos.errors import DorkError
from dorkos.lifecycle import Loop

log = logging.getLogger("dorkos.growth")

_EVERY = timedelta(hours=1)
_HOURLY = timedelta(days=8)
_DAILY = timedelta(days=731)
_LOOK_S = 600.0
# After a start everything else comes first.
_SETTLE_S = 20.0


@dataclass(frozen=True, slots=True)
class SizeNote:
    """How large the database was at an instant, in bytes."""

    at: datetime
    size_bytes: int


class GrowthNotes(Loop):
    """Notes the size once an hour. Several servers may try: whoever comes second finds that it is done."""

    def __init__(self, database: Database, *, settle_s: float = _SETTLE_S) -> None:
        """See `Loop` for its life."""
        super().__init__("db.growth", interval_s=_LOOK_S)
        self._database = database
        self._settle_s = settle_s
        self._is_settled = False

    async def work(self) -> float | None:
        """Note the size if that is due."""
        if not self._is_settled:
            self._is_settled = True
            return self._settle_s
        size = await self._database.read(database_size)
        try:
            await self._database.write(lambda tx: note_size(tx, size))
        except DorkError as refusal:
            # A full disk refuses every write: that is told where it matters, and the next look tries again.
            log.debug("the size could not be noted: %s", refusal.message)
        return None


def read_growth(connection: sa.Connection | Transaction) -> list[SizeNote]:
    """The notes, oldest first. What cannot be read counts as none."""
    stored = connection.execute(
        sa.select(system_state.c.value).where(system_state.c.key == GROWTH_KEY)
    ).scalar_one_or_none()
    try:
        return [SizeNote(from_iso(at), int(size)) for at, size in json.loads(stored or "[]")]
    except (ValueError, TypeError):
        return []


def database_size(connection: sa.Connection) -> int:
    """Bytes: of the pages of a SQLite file, or of all that PostgreSQL keeps for this database."""
    if connection.dialect.name == "sqlite":
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        return int(pages * connection.exec_driver_sql("PRAGMA page_size").scalar_one())
    return int(
        connection.execute(sa.select(sa.func.pg_database_size(sa.func.current_database()))).scalar_one()
    )


def kept(notes: Iterable[SizeNote], now: datetime) -> list[SizeNote]:
    """Those that stay: of a week each, of two years the last of each day, none of a clock that was ahead."""
    days: dict[object, SizeNote] = {}
    for note in sorted(notes, key=lambda each: each.at):
        age = now - note.at
        if timedelta() <= age < _DAILY:
            days[note.at if age < _HOURLY else note.at.date()] = note
    return list(days.values())


def is_due(notes: Sequence[SizeNote], now: datetime) -> bool:
    """Whether the newest is an hour old, or there is none that counts."""
    newest = max((note.at for note in notes if note.at <= now), default=None)
    return newest is None or now - newest >= _EVERY


def note_size(tx: Transaction, size_bytes: int) -> None:
    """Note the size, unless somebody has within the hour."""
    notes, now = read_growth(tx), tx.now()
    if not is_due(notes, now):
        return
    value = to_json(
        [[iso(note.at), note.size_bytes] for note in kept([*notes, SizeNote(now, size_bytes)], now)]
    )
    stored = insert(system_state).values(key=GROWTH_KEY, value=value)
    tx.execute(stored.on_conflict_do_update(index_elements=["key"], set_={"value": stored.excluded.value}))
