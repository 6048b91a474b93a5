"""The operation that shows a day back and a day ahead at a glance."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import datetime, timedelta
from itertools import islice, takewhile
from typing import Any

from pydantic import Field

from dorkos.clock import iso
from dorkos.errors import DorkError
from dorkos.identity.model import Caller
from dorkos.operation import NoTool, Operation, Wire
from dorkos.pulse.model import Schedule
from dorkos.pulse.planner import due_instants
from dorkos.pulse.service import PulseService
from dorkos.pulse.timeline import Mark
from dorkos.pulse.triggers import trigger_of
from dorkos.pulse.wire import Identifier
from dorkos.vocabulary import RunState, ScheduleStatus, Scope

_COMING_MAX = 1500
_TROUBLES_MAX = 500


class TimelineQuery(Wire):
    """How far to look, and at which schedules: one, or those with trouble first, then by what is due."""

    hours_back: int = Field(24, ge=1, le=24 * 14)
    hours_ahead: int = Field(24, ge=0, le=24 * 14)
    lanes: int = Field(12, ge=0, le=200, description="Most schedules to show.")
    schedule_id: Identifier | None = Field(None, description="This schedule alone.")


class MarkOut(Wire):
    """A decided instant, or `count` neighbouring ones up to `throughAt`.

    `outcome` is the state of its newest run, `overdue`, `skipped`, `missed` or `coalesced`.
    """

    due_at: str
    through_at: str
    count: int
    outcome: str
    reason: str | None
    run_id: str | None


class LaneOut(Wire):
    """A schedule in the window. `troubles` counts instants without a completed run; `recent` are the states
    of its newest runs, the oldest first."""

    schedule_id: str
    name: str
    state: ScheduleStatus
    enabled: bool
    alarm: str | None
    troubles: int
    marks: list[MarkOut]
    coming: list[str]
    recent: list[RunState]


class TimelineOut(Wire):
    """The window, how its runs stand, what they cost as far as they told, and the schedules in it."""

    since: str
    now: str
    until: str
    runs: dict[RunState, int]
    cost_usd: float | None
    lanes: list[LaneOut]
    more: int


async def show_timeline(pulse: PulseService, _caller: Caller, asked: TimelineQuery) -> TimelineOut:
    """What became of each due instant, and which are coming."""
    now = await pulse.store.now()
    since, until = now - timedelta(hours=asked.hours_back), now + timedelta(hours=asked.hours_ahead)
    alarms = await pulse.store.alarms(asked.schedule_id)
    missed = await pulse.store.missed(since=since, until=now, limit=_TROUBLES_MAX)
    troubles = Counter[str]()
    for one in missed:
        troubles[one.schedule_id] += one.count
    if asked.schedule_id is None:
        known = await pulse.store.list_schedules()
    else:
        known = [await pulse.store.get_schedule(asked.schedule_id)]
    far = now + timedelta(days=36_500)
    known.sort(key=lambda s: (s.id not in alarms, -troubles[s.id], s.next_run_at or far, s.name))
    shown = known[: asked.lanes]

    seen = await pulse.store.timeline([one.id for one in shown], since=since, now=now)
    coming = await asyncio.to_thread(lambda: [_coming(pulse, one, now, until) for one in shown])
    return TimelineOut(
        since=iso(since),
        now=iso(now),
        until=iso(until),
        runs=seen.runs,
        cost_usd=None if seen.cost_microusd is None else seen.cost_microusd / 1_000_000,
        lanes=[
            LaneOut(
                schedule_id=one.id,
                name=one.name,
                state=one.status,
                enabled=one.enabled,
                alarm=iso(alarms[one.id]) if one.id in alarms else None,
                troubles=troubles[one.id],
                marks=[_mark(mark) for mark in found],
                coming=ahead,
                recent=states,
            )
            for one, (found, states), ahead in zip(shown, seen.lanes, coming, strict=True)
        ],
        more=len(known) - len(shown),
    )


def _coming(pulse: PulseService, schedule: Schedule, now: datetime, until: datetime) -> list[str]:
    if schedule.next_run_at is None:
        return []
    try:
        trigger = trigger_of(schedule, pulse.zones)
        if trigger is None:
            return []
        due = takewhile(lambda instant: instant <= until, due_instants(trigger, now))
        return [iso(instant) for instant in islice(due, _COMING_MAX)]
    except DorkError:  # When it is due cannot be told; its state says so.
        return []


def _mark(mark: Mark) -> MarkOut:
    return MarkOut(
        due_at=iso(mark.due_at),
        through_at=iso(mark.through_at),
        count=mark.count,
        outcome=mark.outcome,
        reason=mark.reason,
        run_id=mark.run_id,
    )


TIMELINE: Operation[PulseService, Any, Any] = Operation(
    "pulse.timeline",
    "Show what became of each due instant, and which are coming",
    "pulse",
    "GET",
    "/api/pulse/timeline",
    Scope.OBSERVE,
    TimelineQuery,
    TimelineOut,
    show_timeline,
    mcp=NoTool("It is drawn for a person; list_missed tells an agent what did not run."),
)
