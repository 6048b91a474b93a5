"""`ClockWatch`: what waits for an instant that a wrong clock chose.

A wall clock that was ahead leaves instants behind that lie in the future once it is set right: a message
that was accepted meanwhile is not due yet, a lease from then does not end, a retry waits for hours. As soon
as the clock is seen to have gone back, each subsystem brings forward what waits for such an instant.

Of a jump while no server ran, the newest events tell: they are from the future then.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol

import sqlalchemy as sa

from dorkos.clock import Clock
from dorkos.db.database import Database, Transaction
from dorkos.db.schema.system import events
from dorkos.lifecycle import Loop

log = logging.getLogger("dorkos.clock")

# Time servers correct a clock by fractions of a second all the time.
_TOLERANCE = timedelta(seconds=2)
_NEWEST = 200


class Repair(Protocol):
    """Brings forward some of what waits for an instant of a clock that was ahead."""

    def __call__(self, tx: Transaction, *, after: str) -> list[str]:
        """Of those with a greater id the first few; their ids in order. Called until there are none."""


class ClockWatch(Loop):
    """Looks whether the clock that stamps transactions went back."""

    def __init__(self, database: Database, clock: Clock, *, repairs: Sequence[Repair]) -> None:
        """Of `clock` only the monotonic time is used: the database may go by a clock of its own."""
        super().__init__("clock", interval_s=5.0)
        self._database = database
        self._clock = clock
        self._repairs = repairs
        self._seen: tuple[datetime, float] | None = None

    async def work(self) -> float | None:
        """One look, and the repairs if it went back."""
        monotonic = self._clock.monotonic()
        now = await self._database.write(lambda tx: tx.now())
        if self._seen is None:
            expected = await self._database.read(_newest)
        else:
            expected = self._seen[0] + timedelta(seconds=monotonic - self._seen[1])
        self._seen = (now, monotonic)
        if expected is not None and expected - now > _TOLERANCE:
            await self._repair(expected - now)
        return None

    async def _repair(self, by: timedelta) -> None:
        count = 0
        for repair in self._repairs:
            last = ""
            while not self.stopping:
                repaired = await self._database.write(partial(repair, after=last))
                if not repaired:
                    break
                count, last = count + len(repaired), repaired[-1]
        log.warning("the clock went back by %s; brought forward what waited for it: %d", by, count)


def _newest(connection: sa.Connection) -> datetime | None:
    newest = sa.select(events.c.at).order_by(events.c.position.desc()).limit(_NEWEST).subquery()
    found: datetime | None = connection.execute(sa.select(sa.func.max(newest.c.at))).scalar_one()
    return found
