"""The statements of PGMQ by hand: insert; take with SKIP LOCKED and a visibility time; delete."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from benchmarks.contest import AT_ONCE, spread
from benchmarks.payload import PAYLOAD
from benchmarks.peers.postgres import PostgresServer

_POOL = 16
_TABLE = """
CREATE TABLE q (msg_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, read_ct int NOT NULL DEFAULT 0,
enqueued_at timestamptz NOT NULL DEFAULT now(), vt timestamptz NOT NULL, message jsonb NOT NULL);
CREATE INDEX ON q (vt)
"""
_SEND = "INSERT INTO q (vt, message) VALUES (clock_timestamp(), %s) RETURNING msg_id"
_READ = """
WITH taken AS (SELECT msg_id FROM q WHERE vt <= clock_timestamp() ORDER BY msg_id LIMIT %s
FOR UPDATE SKIP LOCKED)
UPDATE q SET vt = clock_timestamp() + interval '30 s', read_ct = read_ct + 1 FROM taken
WHERE q.msg_id = taken.msg_id RETURNING q.msg_id
"""
_DELETE = "DELETE FROM q WHERE msg_id = %s"


class Pgmq:
    """Sixteen connections, one transaction a message."""

    name = "PGMQ-style SQL"
    promise = "the same: each commit is synced"

    def __init__(self, server: PostgresServer) -> None:
        """On a database of its own of `server`."""
        self._server = server

    async def open(self, folder: Path) -> None:
        """Make the table."""
        from psycopg_pool import AsyncConnectionPool

        self._pool: Any = AsyncConnectionPool(
            self._server.create("pgmq"),
            min_size=_POOL,
            max_size=_POOL,
            open=False,
            kwargs={"autocommit": True},
        )
        await self._pool.open(wait=True)
        await self._run(_TABLE)

    async def publish(self, count: int) -> None:
        """Send, each in a transaction of its own."""
        await spread(count, self._send)

    async def _send(self) -> None:
        await self._run(_SEND, PAYLOAD)

    async def carry(self, count: int) -> None:
        """Send; read and delete as many."""
        await asyncio.gather(self.publish(count), self._consume(count))

    async def _consume(self, count: int) -> None:
        while count > 0:
            async with self._pool.connection() as connection:
                cursor = await connection.execute(_READ, (AT_ONCE,))
                found = [row[0] for row in await cursor.fetchall()]
            await asyncio.gather(*(self._run(_DELETE, number) for number in found))
            count -= len(found)
            if not found:
                await asyncio.sleep(0.001)

    async def forget(self) -> None:
        """Empty the queue."""
        await self._run("TRUNCATE q")

    async def _run(self, statement: str, *values: object) -> None:
        async with self._pool.connection() as connection:
            await connection.execute(statement, values or None)

    async def close(self) -> None:
        """Close the connections."""
        await self._pool.close()
