"""persist-queue: its queue with acknowledgement over SQLite, one commit for each message."""

from __future__ import annotations

from pathlib import Path

from benchmarks.payload import PAYLOAD


class PersistQueue:
    """One producer and one consumer in turn."""

    name = "persist-queue"
    promise = "the same: each commit is synced"

    async def open(self, folder: Path) -> None:
        """Make the file."""
        from persistqueue import SQLiteAckQueue

        self._queue = SQLiteAckQueue(str(folder), auto_commit=True)

    def publish(self, count: int) -> None:
        """Put messages, one after the other."""
        for _ in range(count):
            self._queue.put(PAYLOAD)

    def carry(self, count: int) -> None:
        """Put, get and acknowledge as many."""
        for _ in range(count):
            self._queue.put(PAYLOAD)
            item = self._queue.get(block=False, raw=True)
            self._queue.ack(id=item["pqid"])

    async def close(self) -> None:
        """Close the file."""
        self._queue.close()
