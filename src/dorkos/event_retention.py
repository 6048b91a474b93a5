"""`EventRetention`: how long events are kept.

Those that only tell programs what goes on are kept for `events.streamDays`. Those that say who allowed,
changed or removed something (`AUDIT_KINDS`) stay, unless `events.auditDays` says otherwise. A kind that this
version does not know stays as well. While the fleet is on hold or stopped nothing is taken away.

`system_state` remembers the position up to which events may be gone: whoever wants to go on from a place
before it has to begin anew. One server at a time does this, see `maintenance`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert  # Its ON CONFLICT compiles for SQLite as well.

from dorkos.db.database import Database, Transaction
from dorkos.db.schema.system import events, system_state
from dorkos.events import AUDIT_KINDS, EVENT_KINDS, PRUNED_KEY, pruned_to
from dorkos.fleet import read
from dorkos.lifecycle import Loop, Signal
from dorkos.maintenance import take_lease
from dorkos.node import Node
from dorkos.setting_groups.events import EventsSettings

log = logging.getLogger("dorkos.events")

_INTERVAL_S = 1800.0
_CHUNK = 500
_STREAM_KINDS = tuple(sorted(set(EVENT_KINDS) - AUDIT_KINDS))


class EventRetention(Loop):
    """Takes old events away, in small pieces."""

    def __init__(self, database: Database, *, node: Node, settings: EventsSettings) -> None:
        """See `Loop` for its life."""
        super().__init__("events.retention", interval_s=_INTERVAL_S)
        self.pruned: Signal[int] = Signal()
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
        removed = await self._prune_stream(now - timedelta(days=self._settings.stream_days))
        if self._settings.audit_days:
            removed += await self._prune_audit(now - timedelta(days=self._settings.audit_days))
        if removed:
            log.info("taken away: %s events", removed)
        self.pruned.emit(removed)
        return None

    async def _prune_stream(self, since: datetime) -> int:
        until = await self._database.read(lambda connection: _last_before(connection, since))
        removed, done = 0, False
        while not done and not self.stopping:
            count, done = await self._database.write(lambda tx: _remove_stream(tx, until))
            removed += count
        return removed

    async def _prune_audit(self, since: datetime) -> int:
        removed = 0
        while not self.stopping:
            count = await self._database.write(lambda tx: _remove_audit(tx, since))
            removed += count
            if count < _CHUNK:
                break
        return removed


def _last_before(connection: sa.Connection, since: datetime) -> int:
    """The position up to which events are older than `since`; where events begin if there are none.

    Searched by halves, since only positions are in an index. The machine's clock may have jumped, so that
    times are not quite in the order of positions: then it may be a position further down.
    """
    low = pruned_to(connection)
    high = connection.execute(sa.select(sa.func.max(events.c.position))).scalar() or 0
    following = (
        sa.select(events.c.position, events.c.at)
        .where(events.c.position > sa.bindparam("middle"))
        .order_by(events.c.position)
        .limit(1)
    )
    while low < high:
        middle = (low + high) // 2
        row = connection.execute(following, {"middle": middle}).one()
        if row.at < since:
            low = row.position
        else:
            high = middle
    return low


def _remove_stream(tx: Transaction, until: int) -> tuple[int, bool]:
    """Take the oldest away, up to that position; whether there are no more."""
    begin = pruned_to(tx)
    old = tx.execute(
        sa.select(events.c.position)
        .where(events.c.position > begin, events.c.position <= until, _of(_STREAM_KINDS))
        .order_by(events.c.position)
        .limit(_CHUNK)
    )
    positions = list(old.scalars())
    done = len(positions) < _CHUNK
    tx.execute(events.delete().where(events.c.position.in_(positions)))
    reached = max(until, begin) if done else positions[-1]
    if reached > begin:
        stored = insert(system_state).values(key=PRUNED_KEY, value=str(reached))
        tx.execute(
            stored.on_conflict_do_update(index_elements=["key"], set_={"value": stored.excluded.value})
        )
    return len(positions), done


def _remove_audit(tx: Transaction, since: datetime) -> int:
    """Take the oldest of what the stream has left behind."""
    old = (
        sa.select(events.c.position)
        .where(events.c.position <= pruned_to(tx), events.c.at < since, _of(sorted(AUDIT_KINDS)))
        .order_by(events.c.position)
        .limit(_CHUNK)
    )
    positions = list(tx.execute(old).scalars())
    tx.execute(events.delete().where(events.c.position.in_(positions)))
    return len(positions)


def _of(kinds: Iterable[str]) -> sa.ColumnElement[bool]:
    return events.c.kind.in_(list(kinds))
