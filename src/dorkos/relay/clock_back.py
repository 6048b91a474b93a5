"""Deliveries and circuits that wait for an instant of a clock that was ahead, see `clock_watch`."""

from __future__ import annotations

import sqlalchemy as sa

from dorkos.db.database import Transaction
from dorkos.db.schema.relay import relay_breakers as b
from dorkos.db.schema.relay import relay_index as i
from dorkos.relay.inbox import IS_PENDING

_CHUNK = 500


def bring_forward(tx: Transaction, *, after: str) -> list[str]:
    """Let up to 500 of them with a greater id be due by the clock of now; their ids in order.

    What nobody holds is due at once; a lease lasts from now for as long as it was given.
    """
    now = tx.now()
    # Nothing puts off what nobody has claimed: it came, or was put back, by the clock that was ahead.
    ahead = sa.select(i.c.id, i.c.lease_token, i.c.claimed_at, i.c.available_at).where(
        i.c.id > after,
        IS_PENDING,
        i.c.available_at > now,
        sa.or_(i.c.created_at > now, i.c.claimed_at > now, i.c.claimed_at.is_(None)),
    )
    found = tx.execute(ahead.order_by(i.c.id).limit(_CHUNK).with_for_update(skip_locked=True)).all()
    for row in found:
        held = row.lease_token is not None and row.claimed_at is not None
        due = now + (row.available_at - row.claimed_at) if held else now
        stamps = {"available_at": due, "claimed_at": now} if held else {"available_at": due}
        tx.execute(sa.update(i).where(i.c.id == row.id, IS_PENDING).values(**stamps))
    return [row.id for row in found]


def let_circuits_be_tried(tx: Transaction, *, after: str) -> list[str]:
    """Let up to 500 circuits of mailboxes with a greater id be tried at once; the ids of these in order.

    They were opened by the clock that was ahead, and would take nothing until its time.
    """
    now = tx.now()
    ahead = sa.select(b.c.endpoint_id).where(
        b.c.endpoint_id > after, b.c.probe_at > now, b.c.updated_at > now
    )
    found = list(tx.execute(ahead.order_by(b.c.endpoint_id).limit(_CHUNK)).scalars())
    tx.execute(sa.update(b).where(b.c.endpoint_id.in_(found)).values(probe_at=now, updated_at=now))
    return found
