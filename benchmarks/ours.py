"""DorkOS itself as a contestant: one sender, one mailbox, one consumer, through Relay's whole pipeline."""

from __future__ import annotations

import asyncio
from pathlib import Path

from benchmarks.contest import AT_ONCE, spread
from benchmarks.payload import PAYLOAD
from benchmarks.peers.postgres import PostgresServer
from dorkos.app import System, build
from dorkos.clock import SystemClock
from dorkos.db.database import Database
from dorkos.db.migrate import migrate_postgres
from dorkos.db.postgres import PostgresDatabase
from dorkos.db.sqlite import SqliteDatabase
from dorkos.home import Home
from dorkos.identity.model import OPERATOR, Caller
from dorkos.ids import new_id
from dorkos.relay.model import Envelope
from dorkos.settings import Settings, given
from dorkos.testing import create_sqlite_file
from dorkos.vocabulary import PublishOutcome, Scope

SUBJECT = "relay.human.reader"
_SENDER = Caller("relay.human.writer", frozenset({Scope.SEND}))
_READER = Caller(SUBJECT, frozenset({Scope.RECEIVE}))
_NO_LIMIT = 2**31 - 1


class Ours:
    """The sender is bound by its rate, which is far away; everything else stands as it is delivered."""

    promise = "each receipt is synced"

    def __init__(self, name: str = "DorkOS", server: PostgresServer | None = None) -> None:
        """On SQLite, or on a database of its own of `server`."""
        self.name = name
        self._server = server

    async def open(self, folder: Path) -> None:
        """Build the system, without its loops: nothing but the load is at work."""
        home = Home(folder)
        home.prepare()
        self.database = self._database(home)
        await self.database.open()
        settings = Settings.model_validate(
            {
                "relay": {
                    "rateLimit": _NO_LIMIT,
                    "pairLimit": _NO_LIMIT,
                    "maxMailboxSize": _NO_LIMIT,
                    "maxMailboxBytes": 2**40,
                }
            }
        )
        self.system: System = build(home, given(settings), self.database, SystemClock())
        await self.system.feed.start()
        await self.system.relay.access.start()
        await self._open_mailbox()

    async def _open_mailbox(self) -> None:
        await self.system.relay.open(OPERATOR, SUBJECT, description=None)

    def _database(self, home: Home) -> Database:
        if self._server is None:
            create_sqlite_file(home.database_path)
            return SqliteDatabase(home.database_path, clock=SystemClock())
        url = self._server.create(f"dorkos_{new_id().lower()}")
        migrate_postgres(url, clock=SystemClock())
        return PostgresDatabase(url)

    async def publish(self, count: int) -> None:
        """Publish, each up to its receipt."""
        await spread(count, self.one)

    async def one(self) -> None:
        """Publish one message; the receipt must say that it is there."""
        envelope = Envelope(id=new_id(), subject=SUBJECT, payload=PAYLOAD)
        receipt = await self.system.relay.publish(_SENDER, envelope)
        assert receipt.recipients[0].outcome is PublishOutcome.DELIVERED

    async def alone(self, count: int) -> None:
        """Publish one at a time."""
        for _ in range(count):
            await self.one()

    async def carry(self, count: int) -> None:
        """Publish; claim and acknowledge as many."""
        await asyncio.gather(self.publish(count), self.consume(count))

    async def consume(self, count: int) -> None:
        """Claim and acknowledge `count` messages."""
        relay = self.system.relay
        while count > 0:
            claim = await relay.claim(_READER, SUBJECT, limit=min(count, AT_ONCE), wait_ms=1000)
            await asyncio.gather(
                *(
                    relay.ack(_READER, SUBJECT, delivery.message.id, delivery.lease_token)
                    for delivery in claim.deliveries
                    if delivery.lease_token is not None
                )
            )
            count -= len(claim.deliveries)

    async def close(self) -> None:
        """Close everything."""
        await self.system.feed.stop()
        await self.database.close()
