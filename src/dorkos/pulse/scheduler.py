"""`SchedulerService`: decides about due instants, again and again.

Any number of servers may do it on one database: a plan is stored only if the cursor is where it was read,
and a slot only if its instant has none. A schedule of which nobody can tell when it is due is taken out of
use, with the reason: see `schedules.need_attention`. Who sees the clock go back lets what was decided ahead
begin anew: see `rewind`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from dorkos.clock import iso
from dorkos.errors import DorkError
from dorkos.fleet import Fleet
from dorkos.lifecycle import Loop, Signal
from dorkos.pulse.expectations import AHEAD
from dorkos.pulse.grants import is_granted
from dorkos.pulse.model import Schedule
from dorkos.pulse.planner import Plan, due_instants, plan
from dorkos.pulse.policies import policy_of
from dorkos.pulse.slots import Decision, DueSchedule, decide
from dorkos.pulse.store import PulseStore
from dorkos.pulse.triggers import trigger_of
from dorkos.pulse.zones import Zones
from dorkos.storable import clean_text

log = logging.getLogger("dorkos.pulse")

_INTERVAL_S = 1.0
_PAGE = 1000
# A message of ours is shorter; what a library says about a bad value need not be.
_REASON_MAX = 500
_AHEAD_HINT = "once the clock is right, pause and resume them to let them begin anew"
# Plans made at once, and slots in one commit: enough to share its sync, few enough not to keep other
# writers waiting. The slots of one schedule are never parted.
_CHUNK = 200
_SLOTS = 200


@dataclass(frozen=True, slots=True)
class _Broken:
    """A schedule of which nobody can tell when it is due, and why."""

    schedule: Schedule
    reason: str


class SchedulerService(Loop):
    """Turns due instants into slots and queued runs."""

    def __init__(self, store: PulseStore, zones: Zones) -> None:
        """Works on whatever the store holds; see `Loop` for its life."""
        super().__init__("pulse.scheduler", interval_s=_INTERVAL_S)
        self.planned: Signal[int] = Signal()
        self._store = store
        self._zones = zones
        self._zones_checked = False
        self._latest: datetime | None = None

    async def work(self) -> float | None:
        """Decide everything that is due now. Returns the seconds until something is due again, at most 1."""
        now, fleet = await self._store.now(), await self._store.fleet()
        await self._watch_clock(now)
        if not self._zones_checked:
            await self._follow_inherited_zone(now, fleet)
            self._zones_checked = True
        after: tuple[datetime, str] | None = None
        taken = 0
        while not self.stopping:
            page = await self._store.due_schedules(now, after=after, limit=_PAGE)
            taken += await self._decide(page, now, fleet)
            if len(page) < _PAGE:
                break
            last = page[-1].schedule
            assert last.next_due_at is not None
            after = (last.next_due_at, last.id)
        self.planned.emit(taken)
        return await self._until_next(now)

    async def _watch_clock(self, now: datetime) -> None:
        """Undo what a clock decided that was ahead, once it is seen to go back; tell of it after a start."""
        seen, self._latest = self._latest, max(now, self._latest or now)
        if seen is None:
            if ahead := await self._store.schedules_ahead(now, after="", limit=_PAGE):
                log.error("%d schedules or more are decided ahead of the clock: %s", len(ahead), _AHEAD_HINT)
            return
        if now >= seen - AHEAD:
            return
        log.warning("the clock went back from %s to %s", iso(seen), iso(now))
        after = ""
        while page := await self._store.schedules_ahead(now, after=after, limit=_PAGE):
            for schedule in page:
                await self._store.begin_anew(schedule.id)
            after = page[-1].id
        self._latest = now

    async def _follow_inherited_zone(self, now: datetime, fleet: Fleet) -> None:
        """After a start: what inherits its zone is due in the zone of today's setting.

        Their next instant was computed with the zone of then. If that was another, they begin anew from
        now; what was due in the old zone and missed is left to the ordinary pass.
        """
        after = ""
        while page := await self._store.inheriting_schedules(after=after, limit=_PAGE):
            moved = await asyncio.to_thread(self._moved_by_zone, page, now)
            for start in range(0, len(moved), _CHUNK):
                await self._store.record_plans(moved[start : start + _CHUNK], made_under=fleet)
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

    async def _decide(self, page: Sequence[DueSchedule], now: datetime, fleet: Fleet) -> int:
        taken = 0
        planned: list[Decision | _Broken] = []
        # While plans are stored, the next ones are made.
        for start in range(0, len(page) + _CHUNK, _CHUNK):
            stored, planned = await asyncio.gather(
                self._record(planned, fleet),
                # In a thread: a schedule every second after a week away is ten thousand instants.
                asyncio.to_thread(self._plan_all, page[start : start + _CHUNK], now, fleet),
            )
            taken += stored
        return taken

    async def _record(self, planned: Sequence[Decision | _Broken], fleet: Fleet) -> int:
        taken = 0
        for together in _commits([one for one in planned if isinstance(one, Decision)]):
            taken += await self._store.record_plans(together, made_under=fleet)
        for broken in planned:
            if isinstance(broken, _Broken):
                await self._report(broken)
        return taken

    def _plan_all(
        self, chunk: Sequence[DueSchedule], now: datetime, fleet: Fleet
    ) -> list[Decision | _Broken]:
        return [self._plan_one(due, now, fleet) for due in chunk]

    def _plan_one(self, due: DueSchedule, now: datetime, fleet: Fleet) -> Decision | _Broken:
        schedule = due.schedule
        # One schedule that cannot be planned must not stop the others, whatever the fault is.
        try:
            trigger = trigger_of(schedule, self._zones)
            if trigger is None:
                # It runs on demand. Without a next instant it is not looked at again.
                return decide(schedule, Plan((), schedule.decided_until, None))
            granted = not schedule.fires or is_granted(schedule)
            planned = plan(
                trigger,
                schedule.decided_until,
                now,
                policy=policy_of(schedule, granted=granted),
                active=due.active,
                paused_before=fleet.paused_before,
            )
        except DorkError as fault:
            return _Broken(schedule, fault.message)
        except Exception as fault:
            log.exception("schedule %s cannot be planned", schedule.id)
            return _Broken(schedule, f"A fault of DorkOS itself, {type(fault).__name__}: {fault}")
        return decide(schedule, planned, granted=granted)

    async def _report(self, broken: _Broken) -> None:
        schedule, reason = broken.schedule, clean_text(broken.reason)[:_REASON_MAX]
        if await self._store.need_attention(schedule, reason):
            log.error("schedule %s (%s) needs attention: %s", schedule.id, schedule.name, reason)

    async def _until_next(self, now: datetime) -> float:
        next_due_at = await self._store.next_due_at(now)
        if next_due_at is None:
            return _INTERVAL_S
        # The pass itself took time, so the remaining time is measured anew.
        remaining_s = (next_due_at - await self._store.now()).total_seconds()
        return min(max(remaining_s, 0.0), _INTERVAL_S)


def _commits(decisions: Sequence[Decision]) -> Iterator[list[Decision]]:
    """Decisions parted so that no commit stores many more than `_SLOTS` slots."""
    together: list[Decision] = []
    slots = 0
    for decision in decisions:
        together.append(decision)
        slots += len(decision.slots)
        if slots >= _SLOTS:
            yield together
            together, slots = [], 0
    if together:
        yield together
