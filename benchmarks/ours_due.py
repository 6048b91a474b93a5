"""DorkOS itself with jobs that are due at once, on its runtime that starts nothing: the whole of Pulse."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from functools import partial
from pathlib import Path

import sqlalchemy as sa

from dorkos.app import System, build
from dorkos.clock import SystemClock
from dorkos.db.database import Transaction
from dorkos.db.schema.pulse import pulse_runs, pulse_schedules
from dorkos.db.sqlite import SqliteDatabase
from dorkos.home import Home
from dorkos.identity.model import OPERATOR_SUBJECT
from dorkos.ids import new_id
from dorkos.node import record_start
from dorkos.pulse.grants import hash_of
from dorkos.pulse.model import ScheduleDraft
from dorkos.pulse.rows import draft_values
from dorkos.settings import Settings, given
from dorkos.testing import create_sqlite_file
from dorkos.vocabulary import ACTIVE_RUN_STATES, RunState

_LOOK_S = 0.01


class Pulse:
    """A due instant, a run and its end are stored for each job; ten at once, as many as APScheduler does."""

    name = "DorkOS"
    promise = "each due instant, claim, output and end is a synced row"

    async def open(self, folder: Path) -> None:
        """Each round gets a system of its own in `folder`: one that was stopped does not start again."""
        self._folder = folder
        self._system: System | None = None

    async def ready(self, count: int) -> None:
        """Make schedules that were due a second ago, while nothing decides."""
        await self.close()
        home = Home(self._folder / new_id())
        home.prepare()
        create_sqlite_file(home.database_path)
        self._database = SqliteDatabase(home.database_path, clock=SystemClock())
        await self._database.open()
        settings = Settings.model_validate(
            {"scheduler": {"maxConcurrentRuns": 10}, "server": {"boundary": self._folder}}
        )
        self._system = build(home, given(settings), self._database, SystemClock())
        await self._system.feed.start()
        node = self._system.node
        await self._database.write(lambda tx: record_start(tx, node))
        await self._database.write(partial(_due, count=count, folder=str(self._folder)))

    async def work(self, count: int) -> None:
        """Let them be decided and done."""
        assert self._system is not None
        await self._system.pulse.start()
        async with asyncio.timeout(120):
            while await self._database.read(_completed) < count:
                await asyncio.sleep(_LOOK_S)

    async def close(self) -> None:
        """Stop."""
        if self._system is not None:
            await self._system.pulse.stop()
            await self._system.feed.stop()
            await self._database.close()
            self._system = None


def _due(tx: Transaction, count: int, folder: str) -> None:
    due_at = tx.now() - timedelta(seconds=1)
    times = {
        "decided_until": due_at - timedelta(seconds=1),
        "next_due_at": due_at,
        "created_at": due_at,
        "updated_at": due_at,
    }
    rows = []
    for number in range(count):
        name = f"job {number}"
        draft = ScheduleDraft(name=name, prompt="Done.", run_at=due_at, runtime="scripted", cwd=folder)
        # Made by a person, so that its grant is looked at.
        granted = {"id": new_id(), "created_by": OPERATOR_SUBJECT, "grant_hash": hash_of(draft)}
        rows.append(draft_values(draft) | granted | times)
    tx.execute(pulse_schedules.insert(), rows)


def _completed(connection: sa.Connection) -> int:
    ended = sa.select(pulse_runs.c.status, sa.func.count()).group_by(pulse_runs.c.status)
    by_state = {row[0]: row[1] for row in connection.execute(ended)}
    if by_state.keys() - {*ACTIVE_RUN_STATES, RunState.COMPLETED}:
        raise SystemExit(f"A run ended otherwise than it should: {by_state}.")
    return int(by_state.get(RunState.COMPLETED, 0))
