"""How long what is settled stays: another matter than when a message expires.

A message that waits is never taken away, however old; the sender's expiry makes it a dead letter first. What
was acknowledged stays for `relay.retentionDays`, or as long as its mailbox says; a dead letter for
`relay.deadLetterRetentionDays`; a trace for `relay.traceRetentionDays`. While the fleet is on hold nothing is
taken. One server at a time does this, the one that holds the lease of `maintenance`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import sqlalchemy as sa

from dorkos.db.database import Database, Transaction
from dorkos.db.schema.mesh import rate_limit_buckets as b
from dorkos.db.schema.relay import relay_dead_letters as d
from dorkos.db.schema.relay import relay_endpoints as e
from dorkos.db.schema.relay import relay_index as i
from dorkos.db.schema.relay import relay_messages as m
from dorkos.db.schema.relay import relay_traces as t
from dorkos.fleet import gate
from dorkos.ids import first_id_at
from dorkos.lifecycle import Loop
from dorkos.maintenance import take_lease
from dorkos.node import Node
from dorkos.relay import idempotency, removal
from dorkos.relay.indexer import Indexer
from dorkos.setting_groups.relay import RelaySettings
from dorkos.vocabulary import DeliveryStatus, LimitKind, TraceStatus

log = logging.getLogger("dorkos.relay")

_INTERVAL_S = 600.0
# What was found is looked at again when it is taken: in between a message may have been put back, or come.
_IS_SETTLED = t.c.status != TraceStatus.SENT
_HOLDS_NOTHING = sa.and_(
    ~sa.exists().where(i.c.endpoint_id == e.c.id), ~sa.exists().where(d.c.endpoint_id == e.c.id)
)
# Minutes that a counter of a rate is kept: longer than any window.
_COUNTED_MINUTES = 61

_Find = Callable[[sa.Connection], Sequence[str]]
_Take = Callable[[Transaction, Sequence[str]], object]


@dataclass(frozen=True, slots=True)
class _Kind:
    """Something that is taken away: how a few of it are found, and how they go."""

    find: _Find
    take: _Take


class RelayRetention(Loop):
    """Takes away what is older than the settings say, in small changes."""

    def __init__(self, database: Database, *, node: Node, settings: RelaySettings, indexer: Indexer) -> None:
        """`indexer` forgets what is gone. See `Loop` for its life."""
        super().__init__("relay.retention", interval_s=_INTERVAL_S)
        self._database = database
        self._node = node
        self._settings = settings
        self._indexer = indexer

    async def work(self) -> float | None:
        """One pass, unless another server holds the lease, or nothing may start."""
        now = await self._database.write(self._begin)
        if now is None:
            return None
        for kind in self._kinds(now):
            while not self.stopping:
                found = await self._database.read(kind.find)
                if not found or not await self._database.write(partial(_take_away, kind=kind, ids=found)):
                    break
                if len(found) < removal.CHUNK:
                    break
        await self._indexer.clean()
        return None

    def _begin(self, tx: Transaction) -> datetime | None:
        return tx.now() if gate(tx).starts and take_lease(tx, self._node) else None

    def _kinds(self, now: datetime) -> Sequence[_Kind]:
        s = self._settings
        delivered = partial(removal.remove_delivered, cause="retention", actor=None)
        letters = partial(removal.remove_letters, cause="retention", actor=None)
        return (
            _Kind(partial(_delivered, before=now - timedelta(days=s.retention_days)), delivered),
            _Kind(partial(_delivered_by_mailbox, now=now), delivered),
            _Kind(partial(_letters, before=now - timedelta(days=s.dead_letter_retention_days)), letters),
            _Kind(partial(_hops, before=now - timedelta(days=s.trace_retention_days)), _take_hops),
            _Kind(partial(_answered, before=now - timedelta(days=s.retention_days)), _take_mailboxes),
            _Kind(partial(_keys, before=now - idempotency.WINDOW), _take_keys),
            _Kind(partial(_counters, before=int(now.timestamp()) // 60 - _COUNTED_MINUTES), _take_counters),
        )


def _take_away(tx: Transaction, kind: _Kind, ids: Sequence[str]) -> bool:
    """Take them, unless the fleet was put on hold meanwhile; whether to go on."""
    if not gate(tx).starts:
        return False
    kind.take(tx, ids)
    return True


def _delivered(connection: sa.Connection, before: datetime) -> Sequence[str]:
    """Of mailboxes that leave it to the settings. Ids tell the time, so only the old end is looked at."""
    inherits = e.c.retention_ms.is_(None)
    return _ids(
        connection,
        sa.select(i.c.id)
        .join_from(i, e, e.c.id == i.c.endpoint_id)
        .where(i.c.id < first_id_at(before), _is_delivered(before), inherits)
        .order_by(i.c.id),
    )


def _delivered_by_mailbox(connection: sa.Connection, now: datetime) -> Sequence[str]:
    """Of mailboxes with a time of their own."""
    found: list[str] = []
    mailboxes = sa.select(e.c.id, e.c.retention_ms).where(e.c.retention_ms.is_not(None)).order_by(e.c.id)
    for endpoint_id, retention_ms in connection.execute(mailboxes).all():
        before = now - timedelta(milliseconds=retention_ms)
        of_mailbox = sa.select(i.c.id).where(i.c.endpoint_id == endpoint_id, _is_delivered(before))
        found += _ids(connection, of_mailbox.where(i.c.id < first_id_at(before)).order_by(i.c.id))
        if len(found) >= removal.CHUNK:
            break
    return found[: removal.CHUNK]


def _is_delivered(before: datetime) -> sa.ColumnElement[bool]:
    return sa.and_(i.c.status == DeliveryStatus.DELIVERED, i.c.delivered_at < before)


def _letters(connection: sa.Connection, before: datetime) -> Sequence[str]:
    return _ids(
        connection,
        sa.select(d.c.id).where(d.c.id < first_id_at(before), d.c.created_at < before).order_by(d.c.id),
    )


def _hops(connection: sa.Connection, before: datetime) -> Sequence[str]:
    """Those that are settled; the hop of a message that waits stays with it."""
    old = sa.select(t.c.id).where(t.c.id < first_id_at(before), t.c.sent_at < before)
    return _ids(connection, old.where(_IS_SETTLED).order_by(t.c.id))


def _answered(connection: sa.Connection, before: datetime) -> Sequence[str]:
    """Mailboxes that were opened for one answer, are closed, and of which nothing is left."""
    return _ids(
        connection,
        sa.select(e.c.id)
        .where(
            # As a range, which an index serves: ours are all of this kind.
            e.c.subject >= "relay.system.",
            e.c.subject < "relay.system/",
            e.c.expires_at.is_not(None),
            e.c.closed_at < before,
            _HOLDS_NOTHING,
        )
        .order_by(e.c.subject),
    )


def _keys(connection: sa.Connection, before: datetime) -> Sequence[str]:
    return _ids(
        connection,
        sa.select(m.c.id).where(m.c.idempotency_key.is_not(None), m.c.created_at <= before),
    )


def _counters(connection: sa.Connection, before: int) -> Sequence[str]:
    return _ids(
        connection,
        sa.select(b.c.agent_id)
        .where(b.c.kind.in_([LimitKind.SENDER, LimitKind.PAIR]), b.c.bucket_minute < before)
        .distinct(),
    )


def _ids(connection: sa.Connection, statement: sa.Select[Any]) -> Sequence[str]:
    return [row[0] for row in connection.execute(statement.limit(removal.CHUNK))]


def _take_hops(tx: Transaction, ids: Sequence[str]) -> None:
    tx.execute(sa.delete(t).where(t.c.id.in_(ids), _IS_SETTLED))


def _take_mailboxes(tx: Transaction, ids: Sequence[str]) -> None:
    # With a mailbox would go what lies in it, and the dead letters of what came too late.
    tx.execute(sa.delete(e).where(e.c.id.in_(ids), e.c.closed_at.is_not(None), _HOLDS_NOTHING))


def _take_keys(tx: Transaction, ids: Sequence[str]) -> None:
    tx.execute(sa.update(m).where(m.c.id.in_(ids)).values(idempotency_key=None, body_hash=None))


def _take_counters(tx: Transaction, who: Sequence[str]) -> None:
    minute = int(tx.now().timestamp()) // 60 - _COUNTED_MINUTES
    tx.execute(
        sa.delete(b).where(
            b.c.kind.in_([LimitKind.SENDER, LimitKind.PAIR]),
            b.c.agent_id.in_(who),
            b.c.bucket_minute < minute,
        )
    )
