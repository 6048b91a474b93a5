"""How long it takes to decide 10,000 schedules due in the same minute, and how the event loop fares."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from benchmarks.report import Row
from dorkos.clock import ManualClock
from dorkos.db.database import Database, Transaction
from dorkos.db.schema.pulse import pulse_runs, pulse_schedules, pulse_slots
from dorkos.identity.model import OPERATOR_SUBJECT
from dorkos.ids import new_id
from dorkos.pulse.grants import hash_of
from dorkos.pulse.model import AgentTarget, Answer, AnswerState, Question, ScheduleDraft
from dorkos.pulse.rows import draft_values
from dorkos.pulse.scheduler import SchedulerService
from dorkos.pulse.store import PulseStore
from dorkos.pulse.zones import Zones
from dorkos.runtimes.catalog import RuntimeCatalog
from dorkos.serving import set_modules_aside
from dorkos.setting_groups.pulse import SchedulerSettings
from dorkos.setting_groups.runtimes import RuntimeSettings
from dorkos.testing import ENGINES, EngineName, create_test_db
from dorkos.vocabulary import RunReason, RunState

_ROUNDS = 5
_SCHEDULES = 10_000
_CHUNK = 500
_TICK_S = 0.001
# All of them are due at 10:00 UTC: cadences and times on the wall, in zones with whole hours.
_CADENCES = ("0 * * * *", "*/5 * * * *", "*/15 * * * mon-sun", "0,{minute} * * * *")
_ZONES = {"UTC": 10, "Europe/Berlin": 11, "America/New_York": 5, "Asia/Tokyo": 19}


def rows() -> list[Row]:
    """Decide them all in one pass, a few times on each engine; how long the event loop was kept waiting."""
    found = []
    for engine in ENGINES:
        # The first warms up.
        rounds = [asyncio.run(_measure(engine)) for _ in range(_ROUNDS + 1)][1:]
        seconds, stalls_ms = zip(*rounds, strict=True)
        promised = engine == "sqlite"
        found += [
            Row.of(f"decide 10,000 schedules, {engine}", seconds, "s", 2.0 if promised else None),
            Row.of(f"event loop kept waiting, {engine}", stalls_ms, "ms", 50.0 if promised else None),
        ]
    return found


async def _measure(engine: EngineName) -> tuple[float, float]:
    """Seconds for the pass, and milliseconds of the longest stall in it."""
    clock = ManualClock()
    async with create_test_db(engine, clock=clock) as database:
        await _fill(database)
        clock.advance(timedelta(hours=1))
        zones = Zones("UTC")
        store = PulseStore(
            database,
            zones=zones,
            agents=_Nobody(),
            deliveries=_Nothing(),
            runtimes=RuntimeCatalog(RuntimeSettings(), Path(os.devnull)),
            relay=_NoMail(),
            settings=SchedulerSettings(),
        )
        scheduler = SchedulerService(store, zones)
        set_modules_aside()  # As a server does.
        async with _watchdog() as stalls:
            begun = time.perf_counter()
            await scheduler.work()
            seconds = time.perf_counter() - begun
        await _check(database)
    return seconds, max(stalls) * 1000


@asynccontextmanager
async def _watchdog() -> AsyncIterator[list[float]]:
    """How much later than asked for the event loop woke a task, again and again."""
    stalls = [0.0]

    async def watch() -> None:
        while True:
            asked = time.perf_counter()
            await asyncio.sleep(_TICK_S)
            stalls.append(time.perf_counter() - asked - _TICK_S)

    watching = asyncio.create_task(watch())
    try:
        yield stalls
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching


async def _fill(database: Database) -> None:
    for start in range(0, _SCHEDULES, _CHUNK):
        await database.write(partial(_insert, numbers=range(start, start + _CHUNK)))


def _insert(tx: Transaction, *, numbers: range) -> None:
    now = tx.now()
    times = {
        "decided_until": now + timedelta(minutes=59),
        "next_due_at": now + timedelta(hours=1),
        "created_at": now,
        "updated_at": now,
    }
    tx.execute(pulse_schedules.insert(), [_schedule(number) | times for number in numbers])


def _schedule(number: int) -> dict[str, object]:
    zone = list(_ZONES)[number % len(_ZONES)]
    form = number // len(_ZONES) % (len(_CADENCES) + 1)
    cron = f"0 {_ZONES[zone]} * * *" if form == len(_CADENCES) else _CADENCES[form]
    draft = ScheduleDraft(
        name=f"job {number}",
        prompt="Write the report.",
        command=("true",),
        cron=cron.format(minute=1 + number % 59),
        timezone=zone,
    )
    # Made by a person, so that its grant is looked at.
    return draft_values(draft) | {
        "id": new_id(),
        "created_by": OPERATOR_SUBJECT,
        "grant_hash": hash_of(draft),
    }


async def _check(database: Database) -> None:
    """Nothing was measured that was not done."""
    slots = sa.select(sa.func.count()).select_from(pulse_slots).scalar_subquery()
    runs = sa.select(sa.func.count()).select_from(pulse_runs).scalar_subquery()
    found = await database.read(lambda connection: connection.execute(sa.select(slots, runs)).one())
    if tuple(found) != (_SCHEDULES, _SCHEDULES):
        raise SystemExit(f"{found[0]} slots and {found[1]} runs were stored, not {_SCHEDULES} each.")


class _Nobody:
    """No agents: each schedule runs a program."""

    def is_here(self, agent_id: sa.ColumnElement[Any]) -> None:
        return None

    def take_call(self, tx: Transaction, agent_id: str) -> None:
        return None

    def find_agent(self, connection: sa.Connection | Transaction, agent_id: str) -> AgentTarget | None:
        return None


class _NoMail:
    """No subjects: each schedule runs a program."""

    def check_subject(self, subject: str) -> None:
        return None

    def ask(self, tx: Transaction, question: Question) -> str | None:
        return "There is nobody."

    def look(self, source: sa.Connection | Transaction, message_id: str, now: datetime) -> Answer:
        return Answer(AnswerState.NONE)

    def close(self, tx: Transaction, message_id: str) -> bool:
        return True


class _Nothing:
    """No messages: no run holds a delivery."""

    def settle(
        self, tx: Transaction, *, delivery_id: str, run_id: str, state: RunState, reason: RunReason | None
    ) -> None:
        return None
