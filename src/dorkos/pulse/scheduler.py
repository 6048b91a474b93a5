"""`SchedulerService`: decides about due instants, again and again.

Any number of servers may do it on one database: a plan is stored only if the cursor is where it was read,
and a slot only if its instant has none.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from datetime import datetime

from dorkos.errors import DorkError
from dorkos.lifecycle import Loop, Signal
from dorkos.pulse.model import Schedule
from dorkos.pulse.planner import Plan, due_instants, plan
from dorkos.pulse.slots import Decision, DueSchedule, decide
from dorkos.pulse.store import PulseStore
from dorkos.pulse.triggers import trigger_of
from dorkos.pulse.zones import Zones

log = logging.getLogger("dorkos.pulse")

_INTERVAL_S = 1.0
_PAGE = 1000
# Plans in one commit: enough to share its sync, few enough not to keep other writers waiting.
_CHUNK = 100


class SchedulerService(Loop):
    """Turns due instants into slots and queued runs."""

    def __init__(self, store: PulseStore, zones: Zones) -> None:
        """Works on whatever the store holds; see `Loop` for its life."""
        super().__init__("pulse.scheduler", interval_s=_INTERVAL_S)
        self.planned: Signal[int] = Signal()
        self._store = store
        self._zones = zones
        # Schedules that could not be planned, by revision, so that each is reported once.
        self._broken: dict[str, int] = {}
        self._zones_checked = False

    async def work(self) -> float | None:
        """Decide everything that is due now. Returns the seconds until something is due again, at most 1."""
        now = await self._store.now()
        if not self._zones_checked:
            await self._follow_inherited_zone(now)
            self._zones_checked = True
        after: tuple[datetime, str] | None = None
        taken = 0
        while not self.stopping:
            page = await self._store.due_schedules(now, after=after, limit=_PAGE)
            taken += await self._decide(page, now)
            if len(page) < _PAGE:
                break
            last = page[-1].schedule
            assert last.next_due_at is not None
            after = (last.next_due_at, last.id)
        self.planned.emit(taken)
        return await self._until_next(now)

    async def _follow_inherited_zone(self, now: datetime) -> None:
        """After a start: what inherits its zone is due in the zone of today's setting.

        Their next instant was computed with the zone of then. If that was another, they begin anew from
        now; what was due in the old zone and missed is left to the ordinary pass.
        """
        after = ""
        while page := await self._store.inheriting_schedules(after=after, limit=_PAGE):
            moved = await asyncio.to_thread(self._moved_by_zone, page, now)
            for start in range(0, len(moved), _CHUNK):
                await self._store.record_plans(moved[start : start + _CHUNK])
            after = page[-1].id

    def _moved_by_zone(self, page: Sequence[Schedule], now: datetime) -> list[Decision]:
        moved = []
        for schedule in page:
            if schedule.next_due_at is None or schedule.next_due_at <= now:
                continue
            with contextlib.suppress(DorkError):  # The ordinary pass reports it.
                trigger = trigger_of(schedule, self._zones)
                assert trigger is not None
                if next(due_instants(trigger, schedule.decided_until), None) == schedule.next_due_at:
                    continue
                since = max(now, schedule.decided_until)
                anew = Plan((), since, next(due_instants(trigger, since), None))
                moved.append(decide(schedule, anew))
        return moved

    async def _decide(self, page: Sequence[DueSchedule], now: datetime) -> int:
        taken = 0
        for start in range(0, len(page), _CHUNK):
            chunk = page[start : start + _CHUNK]
            # In a thread: a schedule every second after a week away is ten thousand instants.
            decisions = await asyncio.to_thread(self._plan_all, chunk, now)
            if decisions:
                taken += await self._store.record_plans(decisions)
        return taken

    def _plan_all(self, chunk: Sequence[DueSchedule], now: datetime) -> list[Decision]:
        return [decision for due in chunk if (decision := self._plan_one(due, now)) is not None]

    def _plan_one(self, due: DueSchedule, now: datetime) -> Decision | None:
        schedule = due.schedule
        try:
            trigger = trigger_of(schedule, self._zones)
            if trigger is None:
                return None
            planned = plan(trigger, schedule.decided_until, now, due.has_active_run)
        except DorkError as fault:
            # One schedule that cannot be read must not stop the others.
            if self._broken.get(schedule.id) != schedule.revision:
                self._broken[schedule.id] = schedule.revision
                log.error("schedule %s (%s) cannot be planned: %s", schedule.id, schedule.name, fault)
            return None
        return decide(schedule, planned)

    async def _until_next(self, now: datetime) -> float:
        next_due_at = await self._store.next_due_at(now)
        if next_due_at is None:
            return _INTERVAL_S
        # The pass itself took time, so the remaining time is measured anew.
        remaining_s = (next_due_at - await self._store.now()).total_seconds()
        return min(max(remaining_s, 0.0), _INTERVAL_S)
