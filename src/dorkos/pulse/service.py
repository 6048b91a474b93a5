"""`PulseService`: Pulse as the rest of the system sees it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from dorkos.boundary import Boundary
from dorkos.clock import Clock
from dorkos.db.database import Database, Transaction
from dorkos.errors import DorkError
from dorkos.events import Event, EventFeed
from dorkos.fleet import CHANGED
from dorkos.identity.model import Caller
from dorkos.ids import new_id
from dorkos.lifecycle import Loop
from dorkos.node import Node
from dorkos.pulse import cron
from dorkos.pulse.alarms import Alarms
from dorkos.pulse.answers import Answers
from dorkos.pulse.approval_store import ApprovalExpiry
from dorkos.pulse.approvals import Author
from dorkos.pulse.executor import Executor
from dorkos.pulse.model import AgentDirectory, DeliverySettler, Requests, RunRequest, Schedule, ScheduleDraft
from dorkos.pulse.planner import ENUMERATED_MAX, Cron, Trigger, due_instants, plan
from dorkos.pulse.policies import policy_of
from dorkos.pulse.rescue import Rescue
from dorkos.pulse.retention import Retention
from dorkos.pulse.scheduler import SchedulerService
from dorkos.pulse.schedules import WHEN
from dorkos.pulse.slots import decide
from dorkos.pulse.stopping import FleetStop
from dorkos.pulse.store import PulseStore
from dorkos.pulse.triggers import WrittenTrigger, read_trigger, trigger_of, written_trigger_of
from dorkos.pulse.zones import Zones
from dorkos.runtimes.catalog import RuntimeCatalog
from dorkos.setting_groups.pulse import SchedulerSettings
from dorkos.vocabulary import CatchUpPolicy

log = logging.getLogger("dorkos.pulse")

_PREVIEW = 5
_WATCH_AGAIN_S = 1.0


class PulseService:
    """Holds the store and the loops, and is the port that Relay and Mesh call."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        settings: SchedulerSettings,
        boundary: Boundary,
        node: Node,
        agents: AgentDirectory,
        deliveries: DeliverySettler,
        runtimes: RuntimeCatalog,
        relay: Requests,
        server_url: Callable[[], str],
        feed: EventFeed,
    ) -> None:
        """Raises `invalid_setting` for a `scheduler.timezone` that is no zone."""
        self.settings = settings
        self.runtimes = runtimes
        self.boundary = boundary
        self.zones = Zones(settings.timezone)
        self.store = PulseStore(
            database,
            zones=self.zones,
            agents=agents,
            deliveries=deliveries,
            runtimes=runtimes,
            relay=relay,
            settings=settings,
        )
        self.scheduler = SchedulerService(self.store, self.zones)
        self.executor = Executor(
            self.store,
            runtimes,
            clock=clock,
            settings=settings,
            boundary=boundary,
            node=node,
            server_url=server_url,
        )
        self.answers = Answers(self.store, settings=settings)
        self.fleet_stop = FleetStop(self.store)
        self.alarms = Alarms(self.store)
        self.retention = Retention(database, node=node, settings=settings)
        self.approval_expiry = ApprovalExpiry(self.store.approvals)
        self.rescue = Rescue(self.store, runtimes, node=node, lease_s=settings.lease_seconds)
        self._clock = clock
        self._feed = feed
        self._watcher: asyncio.Task[None] | None = None

    @property
    def loops(self) -> tuple[Loop, ...]:
        """What works in the background, for readiness."""
        if not self.settings.enabled:
            return (self.rescue, self.answers, self.retention, self.approval_expiry)
        return (
            self.rescue,
            self.answers,
            self.scheduler,
            self.executor,
            self.executor.heartbeat,
            self.fleet_stop,
            self.alarms,
            self.retention,
            self.approval_expiry,
        )

    async def start(self) -> None:
        """Begin. With `scheduler.enabled` off nothing fires and nothing queued starts, visibly waiting.

        What a dead server left behind, and what waits for an answer, is ended either way.
        """
        await self.rescue.start()
        await self.answers.start()
        await self.retention.start()
        await self.approval_expiry.start()
        if not self.settings.enabled:
            return
        await self.scheduler.start()
        await self.executor.start()
        await self.fleet_stop.start()
        await self.alarms.start()
        self._watcher = asyncio.create_task(self._watch(), name="dorkos.pulse.watch")

    async def stop(self) -> None:
        """End within 5 s: runs at work become `interrupted`, queued ones stay queued. Safe to call again."""
        if self._watcher is not None:
            self._watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watcher
        await asyncio.gather(
            self.scheduler.stop(),
            self.executor.stop(),
            self.fleet_stop.stop(),
            self.alarms.stop(),
            self.retention.stop(),
            self.approval_expiry.stop(),
            self.rescue.stop(),
            self.answers.stop(),
        )

    # Ports for others.

    def queue_run(self, tx: Transaction, request: RunRequest, *, run_id: str) -> None:
        """Queue a run that a message asks for, in the caller's transaction."""
        self.store.queue_run(tx, request, run_id=run_id)

    def hide_schedules(self, tx: Transaction, *, agent_id: str) -> None:
        """Delete the agent's schedules and end its runs, in the caller's transaction."""
        self.store.hide_schedules(tx, agent_id=agent_id)

    # What the operations need beyond the store.

    def author(self, caller: Caller) -> Author:
        """The caller as one who writes a schedule. Whoever does not operate this place proposes."""
        within = timedelta(days=self.settings.approval_days)
        return Author(caller.subject, not caller.is_operator, new_id(), within, caller.run_id)

    async def create_schedule(self, draft: ScheduleDraft, *, author: Author) -> Schedule:
        """Check everything, then store. Raises what is wrong, and stores nothing then."""
        confined = self._confined(draft.cwd)
        await asyncio.to_thread(self._check_trigger, draft.cron, draft.timezone)
        return await self.store.create_schedule(replace(draft, cwd=confined), author=author)

    async def update_schedule(
        self, schedule_id: str, changes: Mapping[str, Any], *, author: Author
    ) -> Schedule:
        """Edit fields of `ScheduleDraft` by name, checked as at creation."""
        current = await self.store.get_schedule(schedule_id)
        checked = dict(changes)
        if changes.get("cwd", current.cwd) != current.cwd:
            checked["cwd"] = self._confined(changes["cwd"])
        trigger = {name: changes[name] for name in ("cron", "timezone") if name in changes}
        # A client sends back what it read: what did not change is not checked again.
        if any(getattr(current, name) != value for name, value in trigger.items()):
            edited = {"cron": current.cron, "timezone": current.timezone} | trigger
            await asyncio.to_thread(self._check_trigger, edited["cron"], edited["timezone"])
        if WHEN & changes.keys():
            await self._tell_backlog(current)
        return await self.store.update_schedule(schedule_id, checked, author=author)

    async def _tell_backlog(self, schedule: Schedule) -> None:
        """Record what is due before an edit as missed, as far as that is more than one change can tell of.

        Without a server nobody has decided it; the edit itself tells of the newest instants.
        """
        while True:
            now, fleet = await self.store.now(), await self.store.fleet()
            policy = replace(policy_of(schedule), catch_up=CatchUpPolicy.SKIP)
            try:
                trigger = trigger_of(schedule, self.zones)
                if trigger is None or schedule.next_due_at is None or schedule.next_due_at > now:
                    return
                planned = await asyncio.to_thread(
                    plan,
                    trigger,
                    schedule.decided_until,
                    now,
                    policy=policy,
                    paused_before=fleet.paused_before,
                    limit=ENUMERATED_MAX,
                )
            except DorkError:  # The edit may be what mends it.
                return
            if planned.next_due_at is None or planned.next_due_at > now:
                return
            await self.store.record_plans([decide(schedule, planned)], made_under=fleet)
            schedule = await self.store.get_schedule(schedule.id)

    def preview(self, schedule: Schedule) -> list[datetime]:
        """The next five instants at which it will fire; none if it will not, or cannot be read."""
        if schedule.next_run_at is None:
            return []
        try:
            return self._coming(trigger_of(schedule, self.zones), self._clock.now(), _PREVIEW)
        except DorkError:
            return []

    def preview_content(self, content: Mapping[str, Any]) -> tuple[str | None, list[datetime]]:
        """The zone and the next five instants of what an approval asks for; it may take long to search."""
        zone = content["timezone"] or self.zones.inherited.key
        try:
            now = self._clock.now()
            written = read_trigger(content["cron"])
            return zone, self._coming(
                written_trigger_of(written, zone, self.zones, anchor=now), now, _PREVIEW
            )
        except DorkError:
            return zone, []

    async def preview_trigger(
        self, written: WrittenTrigger, timezone: str | None, *, after: datetime | None, count: int
    ) -> list[datetime]:
        """The next instants of a trigger that is not stored. Raises `invalid_cron` or `invalid_timezone`."""
        since = after or self._clock.now()
        trigger = written_trigger_of(written, timezone, self.zones, anchor=since)

        def search() -> list[datetime]:
            if isinstance(trigger, Cron):
                cron.check(trigger.expression, trigger.zone, since)
            return self._coming(trigger, since, count)

        return await asyncio.to_thread(search)

    @staticmethod
    def _coming(trigger: Trigger | None, after: datetime, count: int) -> list[datetime]:
        return [] if trigger is None else list(islice(due_instants(trigger, after), count))

    def zone_name(self, schedule: Schedule) -> str:
        """The zone its times are meant in. A stored name that is no zone is shown as it is."""
        return schedule.timezone or self.zones.inherited.key

    def _confined(self, cwd: str | None) -> str | None:
        return None if cwd is None else str(self.boundary.confine(cwd))

    def _check_trigger(self, expression: str | None, timezone: str | None) -> None:
        zone = self.zones.resolve(timezone)
        if expression is not None:
            cron.check(expression, zone, self._clock.now())

    async def _watch(self) -> None:
        """Wake the loops by what was committed. Only a hint: each of them also looks by itself."""
        while True:
            try:
                async for event in self._feed.watch():
                    self._react(event)
            except Exception:  # The hints of a moment are lost, nothing else.
                log.exception("watching events failed")
            if self._feed.stopping:
                return
            await asyncio.sleep(_WATCH_AGAIN_S)

    def _react(self, event: Event) -> None:
        self.answers.react(event)
        if event.kind == "pulse.run.queued":
            self.executor.wake()
        elif event.kind == "pulse.run.cancel_requested":
            self.executor.cancel(event.entity_id)
        elif event.kind.startswith("pulse.schedule."):
            self.scheduler.wake()
        elif event.kind == CHANGED:
            for loop in (self.scheduler, self.executor, self.fleet_stop):
                loop.wake()
