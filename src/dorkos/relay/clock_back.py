"""Deliveries that wait for an instant of a clock that was ahead, see `clock_watch`."""

from __future__ import annotations

import sqlalchemy as sa

from dorkos.db.database import Transaction
from dorkos.db.schema.relay import relay_index as i
from dorkos.relay.inbox import IS_PENDING

_CHUNK = 500


def bring_forward(tx: Transaction, *, after: str) -> list[str]:
    """Let up to 500 of them with a greater id be due by the clock of now; their ids in order.

    What nobody holds is due at once; a lease lasts from now for as long as it was given.
    """
    now = tx.now()
    ahead = sa.select(i.c.id, i.c.lease_token, i.c.claimed_at, i.c.available_at).where(
        i.c.id > after, IS_PENDING, i.c.available_at > now, sa.or_(i.c.created_at > now, i.c.claimed_at > now)
    )
    found = tx.execute(ahead.order_by(i.c.id).limit(_CHUNK).with_for_update(skip_locked=True)).all()
    for row in found:
        held = row.lease_token is not None and row.claimed_at is not None
        due = now + (row.available_at - row.claimed_at) if held else now
        stamps = {"available_at": due, "claimed_at": now} if held else {"available_at": due}
        tx.execute(sa.update(i).where(i.c.id == row.id, IS_PENDING).values(**stamps))
    return [row.id for row in found]
