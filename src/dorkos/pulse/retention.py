"""`Retention`: how long history is kept, and taking away what is older, in small pieces.

Of each schedule the newest `scheduler.retentionCount` slots stay, with all their attempts and output, and as
many runs that no due instant asked for. Nothing stays longer than `scheduler.retentionDays`: that also goes
for runs that messages started, and for deleted schedules, counted from their deletion. What has not ended is
never taken, nor is a slot of which an attempt waits or is at work. While the fleet is on hold or stopped
nothing is: what was just brought over or restored stays as it is until a person has looked at it.

One server at a time does this: the one that holds the lease of `maintenance`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from typing import Protocol

import sqlalchemy as sa

from dorkos.db.database import Database, Transaction
from dorkos.db.schema.pulse import pulse_runs, pulse_schedules, pulse_slots
from dorkos.fleet import read
from dorkos.lifecycle import Loop, Signal
from dorkos.maintenance import take_lease
from dorkos.node import Node
from dorkos.setting_groups.pulse import SchedulerSettings
from dorkos.vocabulary import ACTIVE_RUN_STATES

log = logging.getLogger("dorkos.pulse")

_INTERVAL_S = 1800.0
# A slot may have twenty attempts, and each may have printed ten megabytes: what one commit takes is bounded.
_CHUNK = 20
_PAGE = 100
# A history that was brought over may have a million rows: no look finds more than so many.
_FOUND_MAX = 1000

_R, _S, _L = pulse_runs.c, pulse_schedules.c, pulse_slots.c


@dataclass(frozen=True, slots=True)
class Removed:
    """How many rows a pass took away; attempts and output of slots are not counted for themselves."""

    slots: int = 0
    runs: int = 0
    schedules: int = 0


@dataclass(frozen=True, slots=True)
class _Keep:
    """How much is kept: the newest so many of each schedule, and nothing from before then."""

    count: int
    since: datetime


class _Search(Protocol):
    def __call__(self, connection: sa.Connection, schedule_id: str, keep: _Keep, /) -> list[str]: ...


class Retention(Loop):
    """Takes away what is older than the policy says."""

    def __init__(self, database: Database, *, node: Node, settings: SchedulerSettings) -> None:
        """See `Loop` for its life."""
        super().__init__("pulse.retention", interval_s=_INTERVAL_S)
        self.pruned: Signal[Removed] = Signal()
        self._database = database
        self._node = node
        self._settings = settings

    async def work(self) -> float | None:
        """One pass, unless another server holds the lease, or the fleet is on hold or stopped."""
        if not (await self._database.read(read)).starts:
            return None
        now = await self._database.write(lambda tx: tx.now() if take_lease(tx, self._node) else None)
        if now is None:
            return None
        days = timedelta(days=self._settings.retention_days)
        removed = await self._prune(_Keep(self._settings.retention_count, now - days))
        if removed != Removed():
            log.info("taken away: %s", removed)
        self.pruned.emit(removed)
        return None

    async def _prune(self, keep: _Keep) -> Removed:
        slots = runs = schedules = 0
        page = await self._database.read(lambda c: _schedules(c, after=""))
        while page and not self.stopping:
            slots += await self._remove_all(pulse_slots, page, keep, _old_slots)
            runs += await self._remove_all(pulse_runs, page, keep, _old_runs)
            page = await self._database.read(partial(_schedules, after=page[-1]))
        while not self.stopping and (found := await self._database.read(lambda c: _message_runs(c, keep))):
            runs += await self._remove(pulse_runs, found)
        while not self.stopping and (found := await self._database.read(lambda c: _deleted(c, keep))):
            schedules += await self._remove(pulse_schedules, found)
        return Removed(slots, runs, schedules)

    async def _remove_all(self, table: sa.Table, page: Sequence[str], keep: _Keep, search: _Search) -> int:
        """Delete what is found of these schedules, however much that is, without ever holding all of it."""
        removed = 0
        while not self.stopping:
            found = await self._database.read(
                lambda c: list(islice((one for each in page for one in search(c, each, keep)), _FOUND_MAX))
            )
            removed += await self._remove(table, found)
            if len(found) < _FOUND_MAX:
                break
        return removed

    async def _remove(self, table: sa.Table, ids: Sequence[str]) -> int:
        """Delete rows by id; what hangs on them goes along."""
        removed = 0
        for start in range(0, len(ids), _CHUNK):
            if self.stopping:
                break
            removed += await self._database.write(
                partial(_delete, table=table, ids=ids[start : start + _CHUNK])
            )
        return removed


def _delete(tx: Transaction, *, table: sa.Table, ids: Sequence[str]) -> int:
    which: sa.ColumnElement[bool] = table.c.id.in_(ids)
    if table is pulse_slots:
        # Another attempt may have begun since the slot was found, such as one that a person asked for.
        which = sa.and_(which, ~_at_work())
    return tx.execute(table.delete().where(which)).rowcount


def _schedules(connection: sa.Connection, *, after: str) -> list[str]:
    found = sa.select(_S.id).where(_S.id > after).order_by(_S.id).limit(_PAGE)
    return list(connection.execute(found).scalars())


def _active() -> sa.ColumnElement[bool]:
    return _R.status.in_(ACTIVE_RUN_STATES)


def _at_work() -> sa.ColumnElement[bool]:
    """The condition of a slot of which an attempt waits or is at work."""
    return sa.select(_R.id).where(_R.slot_id == _L.id, _active()).exists()


def _old_slots(connection: sa.Connection, schedule_id: str, keep: _Keep) -> list[str]:
    of_schedule = _L.schedule_id == schedule_id
    newest = sa.select(_L.due_at).where(of_schedule).order_by(_L.due_at.desc())
    oldest_kept = connection.execute(newest.offset(keep.count - 1).limit(1)).scalar()
    since = keep.since if oldest_kept is None else max(oldest_kept, keep.since)
    found = sa.select(_L.id).where(of_schedule, _L.through_at < since, ~_at_work())
    return list(connection.execute(found.order_by(_L.through_at).limit(_FOUND_MAX)).scalars())


def _old_runs(connection: sa.Connection, schedule_id: str, keep: _Keep) -> list[str]:
    """Runs of a schedule that no due instant asked for."""
    of_schedule = sa.and_(_R.schedule_id == schedule_id, _R.slot_id.is_(None))
    newest = sa.select(_R.created_at).where(of_schedule).order_by(_R.created_at.desc())
    oldest_kept = connection.execute(newest.offset(keep.count - 1).limit(1)).scalar()
    since = keep.since if oldest_kept is None else max(oldest_kept, keep.since)
    found = sa.select(_R.id).where(of_schedule, _R.created_at < since, ~_active())
    return list(connection.execute(found.order_by(_R.created_at).limit(_FOUND_MAX)).scalars())


def _message_runs(connection: sa.Connection, keep: _Keep) -> list[str]:
    found = sa.select(_R.id).where(_R.schedule_id.is_(None), _R.created_at < keep.since, ~_active())
    return list(connection.execute(found.order_by(_R.created_at).limit(_PAGE)).scalars())


def _deleted(connection: sa.Connection, keep: _Keep) -> list[str]:
    """Deleted schedules of which nothing is left."""
    slot = sa.select(_L.id).where(_L.schedule_id == _S.id).exists()
    run = sa.select(_R.id).where(_R.schedule_id == _S.id).exists()
    found = sa.select(_S.id).where(_S.deleted_at < keep.since, ~slot, ~run)
    return list(connection.execute(found.order_by(_S.id).limit(_PAGE)).scalars())
