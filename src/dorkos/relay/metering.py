"""Keeping what was counted, and reading the numbers of the moment."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert  # Its ON CONFLICT compiles for SQLite as well.

from dorkos.db.database import Database, Transaction
from dorkos.db.schema.relay import relay_breakers as b
from dorkos.db.schema.relay import relay_dead_letters as d
from dorkos.db.schema.relay import relay_endpoints as e
from dorkos.db.schema.relay import relay_index as i
from dorkos.db.schema.relay import relay_messages as m
from dorkos.db.schema.relay import relay_traces as t
from dorkos.db.schema.system import METRICS_KEY, events, system_state
from dorkos.db.types import Instant, to_json
from dorkos.events import pruned_to
from dorkos.ids import first_id_at
from dorkos.lifecycle import Loop
from dorkos.relay.metrics import HOURS, KINDS, SLICE, SLICE_NAME_LENGTH, SLICES, Totals, slice_begun
from dorkos.vocabulary import BreakerState, DeliveryStatus

_OPEN = sa.select(
    sa.select(sa.func.count()).where(e.c.closed_at.is_(None)).select_from(e).scalar_subquery(),
    sa.select(sa.func.count()).where(b.c.state != BreakerState.CLOSED).select_from(b).scalar_subquery(),
)
# Events that one step counts.
_STEP = 5000


@dataclass(frozen=True, slots=True)
class Measured:
    """The totals, and what is open at the moment."""

    totals: Totals
    open_mailboxes: int
    open_circuits: int


class Metering(Loop):
    """Counts the events that came since, each second, and keeps the totals."""

    def __init__(self, database: Database, *, interval_s: float = 1.0) -> None:
        """See `Loop` for its life. Several servers may do it at once: one of them keeps its totals."""
        super().__init__("relay.metering", interval_s=interval_s)
        self._database = database

    async def work(self) -> float | None:
        """Go on until nothing is left to count."""
        while not self.stopping:
            kept, totals, is_behind = await self._database.read(_step)
            value = to_json(totals.as_json())
            if value == kept:
                return None
            await self._database.write(partial(_keep, kept=kept, value=value))
            if not is_behind:
                return None
        return None


def measured(connection: sa.Connection) -> Measured:
    """The numbers as the snapshot of this connection has them."""
    _, found, is_behind = _step(connection)
    while is_behind:
        is_behind = _add(connection, found)
    mailboxes, circuits = connection.execute(_OPEN).one()
    return Measured(found, mailboxes, circuits)


def _step(connection: sa.Connection) -> tuple[str | None, Totals, bool]:
    """What is kept, the totals with the next events added, and whether there are more of them."""
    kept = connection.execute(
        sa.select(system_state.c.value).where(system_state.c.key == METRICS_KEY)
    ).scalar_one_or_none()
    found = None if kept is None else _read(connection, kept)
    if found is None:
        return kept, _counted_anew(connection), False
    return kept, found, _add(connection, found)


def _read(connection: sa.Connection, kept: str) -> Totals | None:
    """The totals that were kept, None if they cannot be trusted: of another history, or no longer joined to
    the events that are there."""
    try:
        found = Totals.from_json(json.loads(kept))
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    if found.epoch != _epoch(connection) or found.position < pruned_to(connection):
        return None
    return found


def _add(connection: sa.Connection, found: Totals) -> bool:
    rows = connection.execute(
        sa.select(events.c.position, events.c.kind, events.c.at, events.c.data)
        .where(events.c.position > found.position)
        .order_by(events.c.position)
        .limit(_STEP)
    ).all()
    found.fold((row[0], row[1], row[2], row[3]) for row in rows if row[1] in KINDS)
    if rows:
        found.position = rows[-1][0]
    return len(rows) == _STEP


def _counted_anew(connection: sa.Connection) -> Totals:
    """All of it from the tables: once, after an import or when nothing was kept yet."""
    newest = connection.execute(sa.select(sa.func.max(events.c.position))).scalar_one()
    found = Totals(_epoch(connection), newest or 0)
    for subject, count in _groups(connection, m.c.subject):
        found.messages += count
        found.count_subject(subject, count)
    by_status = dict(_groups(connection, i.c.status))
    found.pending = by_status.get(DeliveryStatus.PENDING, 0)
    found.delivered = by_status.get(DeliveryStatus.DELIVERED, 0)
    found.failed = by_status.get(DeliveryStatus.FAILED, 0)
    for reason, count in _groups(connection, d.c.reason, d.c.redriven_at.is_(None)):
        found.reasons[reason.value] = count
    newest_at = connection.execute(sa.select(sa.func.max(events.c.at, type_=Instant))).scalar_one()
    if newest_at is not None:
        since = newest_at - timedelta(hours=HOURS)
        settled = sa.select(t.c.processed_at, t.c.latency_us).where(
            t.c.id >= first_id_at(since), t.c.latency_us.is_not(None), t.c.processed_at >= since
        )
        for at, latency_us in connection.execute(settled):
            found.took(at, latency_us)
        begun = slice_begun(newest_at) - SLICE * SLICES
        found.sent = _by_slice(connection, m.c.id, m.c.created_at, begun)
        found.stopped = _by_slice(connection, d.c.id, d.c.created_at, begun)
    return found


def _by_slice(
    connection: sa.Connection, made: sa.Column[Any], at: sa.Column[Any], since: datetime
) -> Counter[str]:
    """How many rows there are of each slice. Ids tell the time, so only the new end is looked at."""
    text: sa.ColumnElement[str] = sa.type_coerce(at, sa.Text())
    if connection.dialect.name == "postgresql":
        text = sa.func.to_char(sa.func.timezone("UTC", at), 'YYYY-MM-DD"T"HH24:MI')
    slice_name = sa.func.substr(text, 1, SLICE_NAME_LENGTH)
    counted = sa.select(slice_name, sa.func.count()).where(made >= first_id_at(since), at >= since)
    return Counter({row[0]: row[1] for row in connection.execute(counted.group_by(slice_name))})


def _groups(
    connection: sa.Connection, column: sa.Column[Any], *conditions: sa.ColumnElement[bool]
) -> Sequence[tuple[Any, int]]:
    statement = sa.select(column, sa.func.count()).where(*conditions).group_by(column)
    return [(row[0], row[1]) for row in connection.execute(statement)]


def _epoch(connection: sa.Connection) -> str:
    return str(
        connection.execute(
            sa.select(system_state.c.value).where(system_state.c.key == "epoch")
        ).scalar_one_or_none()
    )


def _keep(tx: Transaction, kept: str | None, value: str) -> None:
    """Keep the totals unless somebody else has kept others since."""
    if kept is None:
        fresh = insert(system_state).values(key=METRICS_KEY, value=value)
        tx.execute(fresh.on_conflict_do_nothing(index_elements=["key"]))
        return
    tx.execute(
        sa.update(system_state)
        .where(system_state.c.key == METRICS_KEY, system_state.c.value == kept)
        .values(value=value)
    )
