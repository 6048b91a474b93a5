"""What tests of adapters share: Relay with its adapters on a database, as one server would have them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from dorkos.clock import Clock
from dorkos.db.database import Database
from dorkos.events import EventFeed
from dorkos.identity.model import OPERATOR
from dorkos.relay.adapters.model import Adapter, AdapterStatus
from dorkos.relay.adapters.routes import AdapterRoutes
from dorkos.relay.adapters.service import AdapterService
from dorkos.vocabulary import AdapterState
from tests.relay.post_office import PostOffice, post_office

T = TypeVar("T")

SECRET = "a-secret-of-the-tests"


@dataclass
class Bench:
    """One server's adapters, and the Relay that they stand on."""

    office: PostOffice
    adapters: AdapterService
    feed: EventFeed
    db: Database

    async def add(
        self, adapter_id: str, kind: str, config: Mapping[str, object], *, on: bool = True
    ) -> Adapter:
        """Define an adapter."""
        adapter, _ = await self.adapters.add(OPERATOR, adapter_id, kind, config, enabled=on)
        return adapter

    async def status(self, adapter_id: str) -> AdapterStatus:
        """How an adapter is doing, as it is stored."""
        return (await self.adapters.get(adapter_id))[1]

    async def until_state(self, adapter_id: str, *wanted: AdapterState) -> AdapterStatus:
        """Wait until an adapter is in one of these states."""

        async def look() -> AdapterStatus | None:
            found = await self.status(adapter_id)
            return found if found.state in wanted else None

        return await self.until(look)

    async def until(self, look: Callable[[], Awaitable[T | None]]) -> T:
        """Look now and after each event, until there is something to see."""
        async with asyncio.timeout(60):
            mark = self.feed.head
            found = await look()
            if found is not None:
                return found
            async for _ in self.feed.watch(mark):
                found = await look()
                if found is not None:
                    return found
        raise AssertionError("the feed ended")


@asynccontextmanager
async def bench(
    db: Database, clock: Clock, folder: Path, *, owner: str = "node-of-the-tests", **settings: object
) -> AsyncIterator[Bench]:
    """A server's adapters, its loops not started. `owner` is its node."""
    routes = AdapterRoutes()
    office = post_office(db, clock, adapters=routes, **settings)
    await office.feed.start()
    adapters = AdapterService(
        database=db,
        clock=clock,
        feed=office.feed,
        relay=office.relay,
        routes=routes,
        owner=owner,
        folder=folder,
    )
    try:
        yield Bench(office, adapters, office.feed, db)
    finally:
        await adapters.stop()
        await office.relay.stop()
        await office.feed.stop()
