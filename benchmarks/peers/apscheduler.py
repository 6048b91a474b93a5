"""APScheduler with its job store in SQLite, and jobs that only count."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

_done = 0
_all_done = threading.Event()
_wanted = 0


def count_one() -> None:
    """The job. By name, as its store keeps it."""
    global _done  # noqa: PLW0603  # A stored job has nothing but its name to find its state by.
    _done += 1
    if _done >= _wanted:
        _all_done.set()


class APScheduler:
    """Ten worker threads, its default."""

    name = "APScheduler"
    promise = "less: that a job ran is not stored, only that it is due no more"

    async def open(self, folder: Path) -> None:
        """Make the store."""
        from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
        from apscheduler.schedulers.background import BackgroundScheduler

        self._scheduler: Any = BackgroundScheduler(
            jobstores={"default": SQLAlchemyJobStore(url=f"sqlite:///{folder / 'jobs.db'}")},
            job_defaults={"misfire_grace_time": None},
            timezone=UTC,
        )
        self._scheduler.start(paused=True)
        self._count = 0

    async def ready(self, count: int) -> None:
        """Add jobs that are due already, while nothing is done."""
        global _done, _wanted  # See `count_one`.
        _done, _wanted = 0, count
        _all_done.clear()
        self._scheduler.pause()
        past = datetime.now(UTC) - timedelta(seconds=1)
        for _ in range(count):
            self._scheduler.add_job(count_one, "date", run_date=past)

    def work(self, _count: int) -> None:
        """Let them be done."""
        self._scheduler.resume()
        if not _all_done.wait(120):
            raise SystemExit(f"APScheduler did {_done} of {_wanted} jobs in two minutes.")

    async def close(self) -> None:
        """Stop."""
        self._scheduler.shutdown()
