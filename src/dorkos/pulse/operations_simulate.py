"""The operation that plays the next days through."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from pydantic import Field

from dorkos.clock import iso
from dorkos.errors import DorkError
from dorkos.identity.model import Caller
from dorkos.operation import NoTool, Operation, Wire
from dorkos.pulse import cron
from dorkos.pulse.planner import Cron, due_instants
from dorkos.pulse.service import PulseService
from dorkos.pulse.simulate import Forecast, Simulated, Tally, simulate
from dorkos.pulse.triggers import read_trigger, trigger_of, written_trigger_of
from dorkos.pulse.wire import Milliseconds, Several, Text
from dorkos.pulse.zones import load_zone
from dorkos.storable import check_storable
from dorkos.vocabulary import OverlapPolicy, Scope

_DRAFT = "draft"
_UNKNOWN = timedelta(minutes=1)
_SHOWN = 200


class Draft(Wire):
    """One more schedule, as it would be saved. `takesMs` is how long a run of it lasts."""

    cron: Text
    timezone: Text | None = None
    overlap: OverlapPolicy = OverlapPolicy.SKIP
    max_active: Several | None = None
    takes_ms: Milliseconds = 60_000


class Simulation(Wire):
    """How many days from now on, and with what in addition."""

    days: int = Field(7, ge=1, le=31, strict=True)
    draft: Draft | None = None


class BusyMinute(Wire):
    """How many instants are due in a minute."""

    minute: str
    due: int


class TallyOut(Wire):
    """What would become of the instants of a schedule; the draft has no id."""

    schedule_id: str | None
    name: str
    due: int
    started: int
    skipped: int
    replaced: int
    longest_wait_ms: int


class ForecastOut(Wire):
    """A forecast up to `until`, for one server with `places` for runs.

    `collisions` counts instants that several schedules share. At most 200 schedules are listed, those that
    lose or wait most first.
    """

    since: str
    until: str
    places: int
    most_at_work: int
    most_waiting: int
    collisions: int
    busiest: list[BusyMinute]
    schedules: list[TallyOut]


async def run_simulation(pulse: PulseService, _caller: Caller, asked: Simulation) -> ForecastOut:
    """Play through what is due, by how long runs took so far. Nothing is stored."""
    now = await pulse.store.now()
    took = await pulse.store.usual_durations(now - timedelta(days=30))
    known = []
    for schedule in await pulse.store.list_schedules():
        lasts = timedelta(milliseconds=took[schedule.id]) if schedule.id in took else _UNKNOWN
        try:
            trigger = trigger_of(schedule, pulse.zones) if schedule.fires else None
        except DorkError:  # It does not fire either.
            continue
        if trigger is not None:
            known.append(
                Simulated(schedule.id, schedule.name, trigger, schedule.overlap, schedule.max_active, lasts)
            )

    def play() -> Forecast:
        drafts = [] if asked.draft is None else _drafted(pulse, asked.draft, now)
        end = now + timedelta(days=asked.days)
        places = pulse.settings.max_concurrent_runs
        return simulate([*_readable(known, now), *drafts], start=now, end=end, places=places)

    forecast = await asyncio.to_thread(play)
    names = {one.id: one.name for one in known} | {_DRAFT: _DRAFT}
    tallies = sorted(forecast.tallies.items(), key=lambda each: _trouble(each[1]), reverse=True)
    return ForecastOut(
        since=iso(now),
        until=iso(forecast.until),
        places=pulse.settings.max_concurrent_runs,
        most_at_work=forecast.most_at_work,
        most_waiting=forecast.most_waiting,
        collisions=forecast.collisions,
        busiest=[BusyMinute(minute=iso(minute), due=due) for minute, due in forecast.busiest],
        schedules=[_out(schedule_id, names[schedule_id], tally) for schedule_id, tally in tallies[:_SHOWN]],
    )


def _drafted(pulse: PulseService, draft: Draft, now: datetime) -> list[Simulated]:
    check_storable([text for text in (draft.cron, draft.timezone) if text])
    zone = load_zone(draft.timezone).key if draft.timezone else None
    written = read_trigger(draft.cron)
    trigger = written_trigger_of(written, zone, pulse.zones, anchor=now)
    if isinstance(trigger, Cron):
        cron.check(trigger.expression, trigger.zone, now)
    if trigger is None:
        return []  # On demand it is due at no instant.
    lasts = timedelta(milliseconds=draft.takes_ms)
    return [Simulated(_DRAFT, _DRAFT, trigger, draft.overlap, draft.max_active, lasts)]


def _readable(known: list[Simulated], now: datetime) -> list[Simulated]:
    """Those whose next instant can be told; another one waits for a person."""
    found = []
    for one in known:
        try:
            list(islice(due_instants(one.trigger, now), 1))
        except DorkError:
            continue
        found.append(one)
    return found


def _trouble(tally: Tally) -> tuple[int, timedelta, int]:
    return tally.skipped + tally.replaced, tally.longest_wait, tally.due


def _out(schedule_id: str, name: str, tally: Tally) -> TallyOut:
    return TallyOut(
        schedule_id=None if schedule_id == _DRAFT else schedule_id,
        name=name,
        due=tally.due,
        started=tally.started,
        skipped=tally.skipped,
        replaced=tally.replaced,
        longest_wait_ms=tally.longest_wait // timedelta(milliseconds=1),
    )


SIMULATE: Operation[PulseService, Any, Any] = Operation(
    "pulse.simulate",
    "Play the next days through, with one more schedule if wanted",
    "pulse",
    "POST",
    "/api/pulse/simulate",
    Scope.OBSERVE,
    Simulation,
    ForecastOut,
    run_simulation,
    mcp=NoTool("It helps a person to choose times; an agent proposes them and a person decides."),
)
