"""Messages that nobody took in time."""

from __future__ import annotations

from datetime import datetime
from functools import partial

import sqlalchemy as sa

from dorkos import fleet
from dorkos.clock import Clock
from dorkos.db.database import Database, Transaction
from dorkos.db.schema.relay import relay_index as i
from dorkos.lifecycle import Loop
from dorkos.relay import delivery
from dorkos.relay.inbox import IS_PENDING


class Expiry(Loop):
    """Turns pending messages past their expiry into dead letters, in batches.

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
                return None
            if await self._database.write(_bury) < delivery.STALE_MAX:
                return None
        return None


def _anything(connection: sa.Connection, now: datetime) -> bool:
    statement = sa.select(i.c.id).where(IS_PENDING, i.c.expires_at < now, delivery.nobody_holds(now))
    return connection.execute(statement.limit(1)).one_or_none() is not None


def _bury(tx: Transaction) -> int:
    if not fleet.gate(tx).starts:
        return 0
    return delivery.bury_expired(tx, delivery.nobody_holds(tx.now()))
