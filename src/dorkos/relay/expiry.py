"""Messages that nobody took in time, and mailboxes whose time is over."""

from __future__ import annotations

from datetime import datetime
from functools import partial

import sqlalchemy as sa

from dorkos import fleet
from dorkos.clock import Clock
from dorkos.db.database import Database, Transaction
from dorkos.db.schema.relay import relay_endpoints as e
from dorkos.db.schema.relay import relay_index as i
from dorkos.lifecycle import Loop
from dorkos.relay import delivery, endpoints
from dorkos.relay.inbox import IS_PENDING

# Mailboxes closed by one change.
_CLOSED_MAX = 200


class Expiry(Loop):
    """Turns pending messages past their expiry into dead letters, in batches, and closes the mailboxes of
    replies that are not waited for any more.

    What a run or a live lease holds is left to its holder, who may still acknowledge it. While nothing may
    start, nothing expires either: a person is to see first what came out of a restore or an import.
    """

    def __init__(self, database: Database, clock: Clock, *, interval_s: float = 5.0) -> None:
        """`clock` only says whether to look; what has expired is decided by the time of the change."""
        super().__init__("relay.expiry", interval_s=interval_s)
        self._database = database
        self._clock = clock

    async def work(self) -> float | None:
        """Go on until nothing is left that has expired."""
        while not self.stopping:
            if not await self._database.read(partial(_anything, now=self._clock.now())):
                break
            if await self._database.write(_bury) < delivery.STALE_MAX:
                break
        while not self.stopping:
            over = await self._database.read(partial(_over, now=self._clock.now()))
            # Fewer may be closed than were found: the fleet may be on hold, or the database's clock behind.
            if not over or await self._database.write(partial(_close, endpoint_ids=over)) < _CLOSED_MAX:
                break
        return None


def _anything(connection: sa.Connection, now: datetime) -> bool:
    statement = sa.select(i.c.id).where(IS_PENDING, i.c.expires_at < now, delivery.nobody_holds(now))
    return connection.execute(statement.limit(1)).one_or_none() is not None


def _over(connection: sa.Connection, now: datetime) -> list[str]:
    statement = sa.select(e.c.id).where(e.c.closed_at.is_(None), e.c.expires_at < now)
    return list(connection.execute(statement.order_by(e.c.expires_at).limit(_CLOSED_MAX)).scalars())


def _close(tx: Transaction, endpoint_ids: list[str]) -> int:
    """Close them; how many were. What waits there stays readable, and expires by itself."""
    if not fleet.gate(tx).starts:
        return 0
    which = sa.and_(e.c.id.in_(endpoint_ids), e.c.expires_at < tx.now())
    return len(endpoints.mark_closed(tx, which, actor=None))


def _bury(tx: Transaction) -> int:
    if not fleet.gate(tx).starts:
        return 0
    return delivery.bury_expired(tx, delivery.nobody_holds(tx.now()))
