"""litequeue: a table in a SQLite file, one commit for each message."""

from __future__ import annotations

from pathlib import Path

from benchmarks.payload import PAYLOAD


class LiteQueue:
    """One producer and one consumer in turn: a commit a message, nobody shares a sync."""

    name = "litequeue"
    promise = "synced by us: its own default (synchronous=NORMAL) may lose what it acknowledged"

    async def open(self, folder: Path) -> None:
        """Make the file, and have each commit synced."""
        from litequeue import LiteQueue as Queue

        self._queue = Queue(folder / "queue.db")
        self._queue.conn.execute("PRAGMA synchronous = FULL")

    def publish(self, count: int) -> None:
        """Put messages, one after the other."""
        for _ in range(count):
            self._queue.put(PAYLOAD)

    def carry(self, count: int) -> None:
        """Put, pop and finish as many."""
        for _ in range(count):
            self._queue.put(PAYLOAD)
            message = self._queue.pop()
            assert message is not None
            self._queue.done(message.message_id)

    async def close(self) -> None:
        """Close the file."""
        self._queue.close()
