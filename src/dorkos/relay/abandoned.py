"""Claims whose callers went away before they were answered.

A change is stored whoever waits for it, so the messages would be held for nobody until the lease ends, and be
one attempt nearer to their end.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial

from dorkos.db.database import Database, Transaction
from dorkos.errors import DorkError
from dorkos.relay import delivery
from dorkos.relay.model import Claim

log = logging.getLogger("dorkos.relay")


class Abandoned:
    """Claims for callers, and gives back what is claimed for one that has gone."""

    def __init__(self, database: Database) -> None:
        """Nothing was claimed yet."""
        self._database = database
        self._giving_back: set[asyncio.Task[None]] = set()

    async def claim(self, change: Callable[[Transaction], Claim], *, actor: str) -> Claim:
        """Apply a change that claims. If this is cancelled meanwhile, what it takes is given back at once."""
        taken: list[Claim] = []

        def noted(tx: Transaction) -> Claim:
            taken[:] = [change(tx)]
            return taken[0]

        try:
            return await self._database.write(noted)
        except asyncio.CancelledError:
            task = asyncio.create_task(self._give_back(taken, actor), name="dorkos.relay.abandoned")
            self._giving_back.add(task)
            task.add_done_callback(self._giving_back.discard)
            raise

    async def settled(self) -> None:
        """Return when all that was to be given back until now is, or could not be."""
        await asyncio.gather(*self._giving_back)

    async def _give_back(self, taken: Sequence[Claim], actor: str) -> None:
        try:
            # Changes are applied in their order: this one comes after the claim.
            await self._database.write(partial(_put_off, taken=taken, actor=actor))
        except DorkError as refusal:
            log.debug("a claim that nobody waits for ends with its lease: %s", refusal.message)


def _put_off(tx: Transaction, taken: Sequence[Claim], actor: str) -> None:
    for claim in taken:
        for claimed in claim.deliveries:
            # The claim itself may not have been stored.
            if delivery.is_held(tx, claimed):
                delivery.put_off(tx, claimed, delay=timedelta(), actor=actor)
