"""Huey over SQLite, with tasks that only count."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any


class Huey:
    """One scheduler, which looks once a second, and two worker threads."""

    name = "Huey"
    promise = "less: a task that was taken is gone if the worker dies"

    async def open(self, folder: Path) -> None:
        """Make the file and the task."""
        from huey import SqliteHuey

        self._huey: Any = SqliteHuey(filename=str(folder / "huey.db"), fsync=True, results=False, utc=True)
        self._done = 0
        self._all_done = threading.Event()

        def count_one() -> None:
            self._done += 1
            if self._done >= self._wanted:
                self._all_done.set()

        self._task = self._huey.task()(count_one)

    async def ready(self, count: int) -> None:
        """Schedule tasks that are due by the time its scheduler looks."""
        self._done, self._wanted = 0, count
        self._all_done.clear()
        soon = datetime.now(UTC).replace(tzinfo=None) + timedelta(seconds=1)
        for _ in range(count):
            self._task.schedule(eta=soon)

    def work(self, _count: int) -> None:
        """Let them be done."""
        consumer = self._huey.create_consumer(workers=2, scheduler_interval=1, check_worker_health=False)
        consumer.start()
        try:
            if not self._all_done.wait(120):
                raise SystemExit(f"Huey did {self._done} of {self._wanted} tasks in two minutes.")
        finally:
            consumer.stop(graceful=True)

    async def close(self) -> None:
        """Close the file."""
        self._huey.storage.close()
