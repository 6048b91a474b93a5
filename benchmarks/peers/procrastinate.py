"""Procrastinate: a job queue on PostgreSQL; a message is a deferred job."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from benchmarks.contest import AT_ONCE, spread
from benchmarks.payload import PAYLOAD
from benchmarks.peers.postgres import PostgresServer

_POOL = 16


class Procrastinate:
    """Sixteen connections; its own worker takes and finishes the jobs."""

    name = "Procrastinate"
    promise = "the same: each commit is synced"

    def __init__(self, server: PostgresServer) -> None:
        """On a database of its own of `server`."""
        self._server = server

    async def open(self, folder: Path) -> None:
        """Make its tables and the task."""
        import procrastinate

        connector = procrastinate.PsycopgConnector(
            conninfo=self._server.create("procrastinate"), min_size=_POOL, max_size=_POOL
        )
        self._app = procrastinate.App(connector=connector)
        self._done = 0

        async def note(text: str) -> None:
            self._done += 1

        self._task: Any = self._app.task(name="note", queue="bench")(note)
        await self._app.open_async()
        await self._app.schema_manager.apply_schema_async()

    async def publish(self, count: int) -> None:
        """Defer jobs."""
        await spread(count, self._defer)

    async def _defer(self) -> None:
        await self._task.defer_async(text=PAYLOAD)

    async def carry(self, count: int) -> None:
        """Defer jobs and have a worker do them, until none is left."""
        await asyncio.gather(self.publish(count), self._work(count))

    async def _work(self, count: int) -> None:
        wanted = self._done + count
        while self._done < wanted:
            await self._app.run_worker_async(
                queues=["bench"], wait=False, concurrency=AT_ONCE, install_signal_handlers=False
            )

    async def forget(self) -> None:
        """Drop the jobs that wait."""
        await self._app.connector.execute_query_async("DELETE FROM procrastinate_jobs")

    async def close(self) -> None:
        """Close the connections."""
        await self._app.close_async()
