"""How long the newest 50 runs take with a million stored, the first page and one from deep within."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from benchmarks.report import Row
from dorkos.db.database import Database
from dorkos.ids import new_id
from dorkos.pulse import reading
from dorkos.pulse.reading import Place, Window
from dorkos.testing import create_test_db

_RUNS = 1_000_000
_CHUNK = 50_000
_ROUNDS = 200
_PAGE = 50
_PROMISED_MS = 2
_SCHEDULE = new_id()
_START = datetime(2026, 1, 1, tzinfo=UTC)
# One run a second, in id order, each in its own millisecond; every tenth of one schedule.
_FILL = """
WITH RECURSIVE numbers(n) AS (SELECT {first} UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < {end})
INSERT INTO pulse_runs (id, schedule_id, status, prompt, chain_id, created_at, started_at, finished_at)
SELECT printf('01J%023d', n), CASE WHEN n % 10 = 0 THEN '{schedule}' END,
    CASE WHEN n % 7 = 0 THEN 'failed' ELSE 'completed' END, 'go', printf('01J%023d', n), at, at, at
FROM (SELECT n, strftime('%Y-%m-%dT%H:%M:%S.000Z', '2026-01-01', n || ' seconds') AS at FROM numbers)
"""
_SCHEDULE_ROW = """
INSERT INTO pulse_schedules (id, name, prompt, decided_until, created_at, updated_at)
VALUES ('{id}', 'report', 'go', '{at}', '{at}', '{at}')
"""


def rows() -> list[Row]:
    """The median of many reads on SQLite, each in a snapshot of its own."""
    return asyncio.run(_measure())


async def _measure() -> list[Row]:
    async with create_test_db("sqlite") as db:
        at = "2026-01-01T00:00:00.000Z"
        await _execute(db, _SCHEDULE_ROW.format(id=_SCHEDULE, at=at))
        for first in range(0, _RUNS, _CHUNK):
            await _execute(db, _FILL.format(first=first, end=first + _CHUNK, schedule=_SCHEDULE))
        stored = await db.read(lambda c: c.execute(sa.text("SELECT count(*) FROM pulse_runs")).scalar_one())
        assert stored == _RUNS
        deep = Place(_START + timedelta(seconds=_RUNS // 2), f"01J{_RUNS // 2:023d}")
        found = {
            "newest 50 of 1,000,000 runs": await _median_ms(lambda: _page(db, None, None)),
            "newest 50 of a schedule with 100,000": await _median_ms(lambda: _page(db, _SCHEDULE, None)),
            "50 runs from the middle, by cursor": await _median_ms(lambda: _page(db, None, deep)),
        }
    return [Row(name, value, "ms", _PROMISED_MS) for name, value in found.items()]


async def _page(db: Database, schedule_id: str | None, after: Place | None) -> None:
    page = await db.read(
        lambda c: reading.page_of_runs(
            c, schedule_id=schedule_id, states=None, window=Window(None, None), after=after, limit=_PAGE
        )
    )
    assert len(page) == _PAGE


async def _median_ms(read: Callable[[], Awaitable[None]]) -> float:
    took = []
    for _ in range(_ROUNDS):
        begun = time.perf_counter()
        await read()
        took.append((time.perf_counter() - begun) * 1000)
    return statistics.median(took)


async def _execute(db: Database, statement: str) -> None:
    await db.write(lambda tx: tx.execute(sa.text(statement.replace(":", r"\:"))))
