"""`PulseStore`: schedules, slots, runs and output, each change with its event in one commit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from dorkos.db.database import Database, Transaction
from dorkos.db.schema.pulse import pulse_runs
from dorkos.errors import DorkError, ErrorCode
from dorkos.fleet import Fleet, gate, read
from dorkos.ids import new_id
from dorkos.node import Node
from dorkos.pulse import (
    approvals,
    conversations,
    expectations,
    leases,
    output,
    reading,
    requests,
    rewind,
    runs,
    schedules,
    slots,
    timeline,
)
from dorkos.pulse.approval_store import ApprovalStore
from dorkos.pulse.approvals import Author
from dorkos.pulse.expectations import Late
from dorkos.pulse.grants import is_granted
from dorkos.pulse.leases import HeldRun, Owner
from dorkos.pulse.model import (
    AgentDirectory,
    Cancellation,
    Claim,
    DeliverySettler,
    Offer,
    Outcome,
    OutputChunk,
    Requests,
    Run,
    RunRequest,
    Schedule,
    ScheduleDraft,
    Slot,
)
from dorkos.pulse.output import OutputPage
from dorkos.pulse.reading import Figures, Missed, Place, Window
from dorkos.pulse.redaction import Secrets
from dorkos.pulse.runs import NewRun
from dorkos.pulse.slots import Decision, DueSchedule
from dorkos.pulse.starts import RunStarts
from dorkos.pulse.targets import check_target, drive_of, why_undriven
from dorkos.pulse.timeline import Timeline
from dorkos.pulse.zones import Zones
from dorkos.runtimes.catalog import RuntimeCatalog
from dorkos.setting_groups.pulse import SchedulerSettings
from dorkos.vocabulary import RunReason, RunState, RunTrigger, ScheduleStatus

SCHEDULES_MAX = 100_000
_REMOVED = "The schedule was deleted."


class PulseStore:
    """Pulse's state. Methods that take a transaction join the caller's commit; the others make their own."""

    def __init__(
        self,
        database: Database,
        *,
        zones: Zones,
        agents: AgentDirectory,
        deliveries: DeliverySettler,
        runtimes: RuntimeCatalog,
        relay: Requests,
        settings: SchedulerSettings,
    ) -> None:
        """All state is in the database; two stores on one database see the same."""
        self._database = database
        self._zones = zones
        self._agents = agents
        self._deliveries = deliveries
        self._runtimes = runtimes
        self._requests = relay
        self._settings = settings
        self._answer_within = timedelta(days=settings.approval_days)
        self.starts = RunStarts(database, runtimes)
        self.approvals = ApprovalStore(database, zones=zones, check=self._check)

    async def now(self) -> datetime:
        """The time that leases and cursors are measured by."""
        return await self._database.write(lambda tx: tx.now())

    # Schedules.

    async def create_schedule(self, draft: ScheduleDraft, *, author: Author) -> Schedule:
        """Store a new schedule; an agent's waits for approval. Raises what the draft breaks; nothing is
        stored then."""
        schedule_id = new_id()
        return await self._database.write(
            lambda tx: self._create(tx, draft, schedule_id=schedule_id, author=author)
        )

    async def update_schedule(
        self, schedule_id: str, changes: Mapping[str, Any], *, author: Author
    ) -> Schedule:
        """Edit fields of `ScheduleDraft` by name; what an agent edits waits for approval again.

        Raises what `schedules.update` raises, and `reason_required` or `forbidden` for an agent that does
        not say why, or that edits what it has not proposed itself.
        """
        return await self._database.write(lambda tx: self._update(tx, schedule_id, changes, author=author))

    async def delete_schedule(self, schedule_id: str, *, actor: str) -> None:
        """Hide a schedule, cancel its waiting runs, ask for the end of its running ones."""
        await self._database.write(lambda tx: self._delete(tx, schedule_id, actor=actor))

    async def get_schedule(self, schedule_id: str) -> Schedule:
        """One schedule. Raises `schedule_not_found`."""
        found = await self._database.read(lambda c: schedules.get(c, schedule_id))
        if found is None:
            raise schedules.not_found(schedule_id)
        return found

    async def list_schedules(self) -> list[Schedule]:
        """All schedules, oldest first."""
        return await self._database.read(lambda c: schedules.list_all(c, limit=SCHEDULES_MAX))

    def hide_schedules(self, tx: Transaction, *, agent_id: str) -> None:
        """Delete an agent's schedules and end its runs: the agent is being removed."""
        for schedule_id in schedules.ids_of_agent(tx, agent_id):
            schedules.hide(tx, schedule_id, actor="relay.system.mesh")
            approvals.withdraw(tx, schedule_id, actor="relay.system.mesh")
        of_agent = pulse_runs.c.agent_id == agent_id
        runs.cancel_queued(
            tx,
            of_agent,
            reason=RunReason.TARGET_REMOVED,
            error="The agent was removed.",
            deliveries=self._deliveries,
            actor=None,
        )
        runs.request_cancel(tx, of_agent, actor=None)

    # Deciding.

    async def due_schedules(
        self, now: datetime, *, after: tuple[datetime, str] | None = None, limit: int
    ) -> list[DueSchedule]:
        """A page of what has something to decide."""
        return await self._database.read(lambda c: slots.due(c, now, after=after, limit=limit))

    async def next_due_at(self, now: datetime) -> datetime | None:
        """The next instant after `now` with something to decide."""
        return await self._database.read(lambda c: slots.next_due_at(c, now))

    async def inheriting_schedules(self, *, after: str, limit: int) -> list[Schedule]:
        """A page of schedules that will fire in the inherited zone."""
        return await self._database.read(lambda c: slots.inheriting(c, after=after, limit=limit))

    async def fleet(self) -> Fleet:
        """Whether work may start at all."""
        return await self._database.read(read)

    async def record_plans(self, decisions: Sequence[Decision], *, made_under: Fleet) -> int:
        """Store plans in one commit; returns how many still applied. See `slots.record_plan`."""
        return await self._database.write(
            lambda tx: slots.record_plan(
                tx,
                decisions,
                made_under=made_under,
                deliveries=self._deliveries,
                default_max_runtime_ms=self._settings.default_max_runtime_ms,
                answer_within=self._answer_within,
            )
        )

    async def need_attention(self, schedule: Schedule, reason: str) -> bool:
        """Take a schedule out of use. False if it was edited since it was read."""
        return await self._database.write(lambda tx: schedules.need_attention(tx, schedule, reason))

    async def schedules_ahead(self, now: datetime, *, after: str, limit: int) -> list[Schedule]:
        """A page of schedules that a clock decided which was ahead. See `rewind`."""
        return await self._database.read(lambda c: rewind.schedules_ahead(c, now, after=after, limit=limit))

    async def begin_anew(self, schedule_id: str) -> bool:
        """Decide such a schedule from now on. False if it is none."""
        return await self._database.write(lambda tx: schedules.begin_anew(tx, schedule_id, zones=self._zones))

    async def list_slots(self, schedule_id: str, *, limit: int, offset: int) -> list[Slot]:
        """Decided instants of a schedule, newest first."""
        return await self._database.read(
            lambda c: slots.of_schedule(c, schedule_id, limit=limit, offset=offset)
        )

    # Watching that all of it comes to an end.

    async def mark_overdue(self, *, limit: int) -> int:
        """Mark due instants without an outcome in time, each once. Returns how many."""
        return await self._database.write(lambda tx: expectations.mark_overdue(tx, limit=limit))

    async def undecided(self, *, limit: int) -> list[Late]:
        """Schedules whose next instant nobody decides."""
        now = await self.now()
        return await self._database.read(lambda c: expectations.undecided(c, now, limit=limit))

    async def tell_undecided(self, late: Sequence[Late]) -> None:
        """Emit that nobody decides these."""
        await self._database.write(lambda tx: expectations.tell_undecided(tx, late))

    async def alarms(self, schedule_id: str | None = None) -> dict[str, datetime]:
        """The schedules with an alarm, each with the earliest instant it is about."""
        now = await self.now()
        return await self._database.read(lambda c: expectations.alarms(c, now, schedule_id))

    # Runs.

    async def trigger_run(
        self, schedule_id: str, *, actor: str, trigger: RunTrigger = RunTrigger.MANUAL
    ) -> str:
        """Queue a run by hand, whether the schedule is switched on or not. Returns its id.

        Raises `schedule_not_found`, `fleet_on_hold`, and `forbidden` while the schedule waits for approval,
        unless the run is a `test` of what it would do. One that is not what was approved begins to wait.
        """
        run_id, question_id = new_id(), new_id()
        queued = await self._database.write(
            lambda tx: self._trigger(tx, schedule_id, run_id, question_id, actor=actor, trigger=trigger)
        )
        if not queued:
            raise _must_wait()
        return run_id

    def queue_run(self, tx: Transaction, request: RunRequest, *, run_id: str) -> None:
        """Queue a run that a message asks for, in the caller's transaction."""
        new = NewRun.of_request(request, run_id=run_id)
        hours = self._runtimes.settings.conversation_hours
        runs.queue(tx, [conversations.joined(tx, new, lifetime=timedelta(hours=hours)) if hours else new])

    async def cancel_run(self, run_id: str, *, actor: str) -> Cancellation:
        """Cancel a run: at once if it waits, else by asking its server, whichever that is.

        Raises `run_not_found`, and `run_not_active` if it has ended already.
        """
        return await self._database.write(lambda tx: self._cancel(tx, run_id, actor=actor))

    async def cancel_for_stop(self, *, limit: int) -> int:
        """While the fleet is stopped, ask for the end of up to `limit` running runs. Returns how many."""
        return await self._database.write(lambda tx: runs.cancel_for_stop(tx, limit=limit))

    async def get_run(self, run_id: str) -> Run:
        """One run. Raises `run_not_found`."""
        found = await self._database.read(lambda c: runs.get(c, run_id))
        if found is None:
            raise runs.not_found(run_id)
        return found

    async def list_runs(
        self,
        *,
        schedule_id: str | None = None,
        states: Sequence[RunState] | None = None,
        limit: int = 50,
        offset: int = 0,
    ) -> list[Run]:
        """Runs, newest first."""
        return await self._database.read(
            lambda c: runs.listed(c, schedule_id=schedule_id, states=states, limit=limit, offset=offset)
        )

    async def page_of_runs(
        self,
        *,
        schedule_id: str | None,
        states: Sequence[RunState] | None,
        window: Window,
        after: Place | None,
        limit: int,
        offset: int,
    ) -> list[Run]:
        """Runs of a window, newest first, from behind a place in the list. See `reading.page_of_runs`."""
        return await self._database.read(
            lambda c: reading.page_of_runs(
                c,
                schedule_id=schedule_id,
                states=states,
                window=window,
                after=after,
                limit=limit,
                offset=offset,
            )
        )

    async def figures(self, schedule_id: str, window: Window) -> Figures:
        """How the runs of a schedule ended. Raises `schedule_not_found`."""
        await self.get_schedule(schedule_id)
        return await self._database.read(lambda c: reading.figures(c, schedule_id, window))

    async def missed(self, *, since: datetime, until: datetime, limit: int) -> list[Missed]:
        """What should have run in the window and did not complete, newest first. See `reading.missed`."""
        now = await self.now()
        return await self._database.read(
            lambda c: reading.missed(c, since=since, until=until, now=now, limit=limit)
        )

    async def timeline(self, schedule_ids: Sequence[str], *, since: datetime, now: datetime) -> Timeline:
        """What became of the instants of some schedules. See `timeline.read`."""
        return await self._database.read(lambda c: timeline.read(c, schedule_ids, since=since, now=now))

    async def usual_durations(self, since: datetime) -> dict[str, int]:
        """How long completed runs took on average since then, in milliseconds, by schedule."""
        return await self._database.read(lambda c: reading.usual_durations(c, since))

    async def read_output(self, run_id: str, *, after: int = 0, limit: int = 200) -> OutputPage:
        """A page of what a run printed. Raises `run_not_found`."""
        found = await self._database.read(lambda c: output.page(c, run_id, after=after, limit=limit))
        if found is None:
            raise runs.not_found(run_id)
        return found

    # Holding runs.

    async def claim_runs(self, offers: Sequence[Offer], *, node: Node, lease: timedelta) -> list[Claim]:
        """Take runs that may start, oldest first, one for each offer; none while the fleet is on hold.

        Raises `outcome_unknown`: do not repeat it then.
        """
        return await self._database.write(
            lambda tx: leases.claim(
                tx,
                offers,
                node=node,
                lease=lease,
                agents=self._agents,
                runtimes=self._runtimes,
                requests=self._requests,
                default_max_runtime_ms=self._settings.default_max_runtime_ms,
                per_agent=self._settings.max_concurrent_per_agent or None,
            )
        )

    async def renew_leases(self, lease_tokens: Sequence[str], *, lease: timedelta) -> dict[str, bool]:
        """Runs still held, with whether they are to be cancelled."""
        return await self._database.write(lambda tx: leases.renew(tx, lease_tokens, lease=lease))

    async def record_process(self, claim: Claim, *, pid: int, started_at: str | None) -> bool:
        """Store the process of a run. False if the lease is lost."""
        return await self._database.write(
            lambda tx: leases.record_process(
                tx, claim.run.id, claim.lease_token, pid=pid, started_at=started_at, runtime=claim.runtime
            )
        )

    async def record_session(self, claim: Claim, session_id: str) -> bool:
        """Store the session of a run that is at work. False if the lease is lost."""
        return await self._database.write(
            lambda tx: leases.record_session(tx, claim.run.id, claim.lease_token, session_id)
        )

    async def owner_of(self, node_id: str) -> Owner | None:
        """The server of this id, as it registered itself."""
        return await self._database.read(lambda c: leases.owner_of(c, node_id))

    async def append_output(self, claim: Claim, chunks: Sequence[OutputChunk]) -> bool:
        """Store output. False if the lease is lost."""
        return await self._database.write(
            lambda tx: output.append(tx, claim.run.id, claim.lease_token, chunks)
        )

    async def release_run(self, claim: Claim) -> bool:
        """Put a run that was never started back into the queue."""
        return await self._database.write(lambda tx: leases.release(tx, claim.run.id, claim.lease_token))

    async def finish_run(self, run: Run, lease_token: str, outcome: Outcome) -> bool:
        """End a run, with what follows from it. False, with nothing changed, if the lease is lost."""
        next_id = new_id()
        return await self._database.write(
            lambda tx: leases.finish(
                tx, run, lease_token, outcome, deliveries=self._deliveries, next_id=next_id
            )
        )

    async def asked_runs(self, *, after: str, limit: int) -> list[HeldRun]:
        """A page of the runs that wait for the answer of a subject, by id."""
        return await self._database.read(lambda c: leases.asked(c, after=after, limit=limit))

    async def settled_requests(self, waiting: Sequence[HeldRun], now: datetime) -> list[HeldRun]:
        """Those of them of which more is known than that they wait."""
        return await self._database.read(lambda c: requests.settled(c, waiting, now, self._requests))

    async def conclude_request(self, held: HeldRun, secrets: Secrets) -> bool:
        """End a run that was asked of a subject, if its answer is there or will not come. Whether it did."""
        next_id = new_id()
        return await self._database.write(
            lambda tx: requests.conclude(
                tx,
                held,
                requests=self._requests,
                deliveries=self._deliveries,
                secrets=secrets,
                max_output_bytes=self._settings.max_output_bytes,
                next_id=next_id,
            )
        )

    async def expired_runs(self, now: datetime, *, limit: int = 100) -> list[HeldRun]:
        """Runs whose lease has run out."""
        return await self._database.read(lambda c: leases.expired(c, now, limit=limit))

    async def runs_of_local_nodes(self, node: Node) -> list[tuple[HeldRun, Owner]]:
        """Runs held by other servers on this machine since it booted."""
        return await self._database.read(lambda c: leases.of_local_nodes(c, node))

    async def take_over(self, held: HeldRun, *, lease_token: str, node: Node, lease: timedelta) -> bool:
        """Hold a run in place of its former holder. False if the lease moved since it was read."""
        return await self._database.write(
            lambda tx: leases.take_over(tx, held, lease_token=lease_token, node=node, lease=lease)
        )

    def _check(self, tx: Transaction, draft: ScheduleDraft) -> None:
        check_target(draft, self._runtimes)
        if draft.target_subject is not None:
            self._requests.check_subject(draft.target_subject)
        if draft.agent_id is None:
            return
        agent = self._agents.find_agent(tx, draft.agent_id)
        if agent is None:
            raise DorkError(
                ErrorCode.AGENT_NOT_FOUND,
                f"No agent is registered with the id {draft.agent_id}.",
                hint="List the agents to see which there are.",
            )
        if drive_of(agent, self._runtimes, wanted=draft.runtime) is None:
            raise DorkError(
                ErrorCode.VALIDATION_FAILED,
                f"{why_undriven(agent)} So nothing would be started.",
                hint="Add `entrypoint` to its manifest and register it again, or give a `command`.",
            )

    def _create(self, tx: Transaction, draft: ScheduleDraft, *, schedule_id: str, author: Author) -> Schedule:
        approvals.require_live(tx, author)
        if author.is_agent:
            approvals.require_reason(draft.reason)
            approvals.require_room(tx, author, most=self._settings.max_proposals)
            draft = replace(draft, status=ScheduleStatus.PENDING_APPROVAL)
        created = schedules.create(
            tx,
            draft,
            schedule_id=schedule_id,
            zones=self._zones,
            check=self._check,
            actor=author.subject,
        )
        return approvals.follow(tx, created, author)

    def _update(
        self, tx: Transaction, schedule_id: str, changes: Mapping[str, Any], *, author: Author
    ) -> Schedule:
        approvals.require_live(tx, author)
        if author.is_agent:
            approvals.refuse_proposal(schedules.get_locked(tx, schedule_id), author, changes)
            approvals.require_reason(changes.get("reason"))
            changes = {**changes, "status": ScheduleStatus.PENDING_APPROVAL}
        edited = schedules.update(
            tx, schedule_id, changes, zones=self._zones, check=self._check, actor=author.subject
        )
        return approvals.follow(tx, edited, author)

    def _delete(self, tx: Transaction, schedule_id: str, *, actor: str) -> None:
        if not schedules.hide(tx, schedule_id, actor=actor):
            raise schedules.not_found(schedule_id)
        approvals.withdraw(tx, schedule_id, actor=actor)
        of_schedule = pulse_runs.c.schedule_id == schedule_id
        runs.cancel_queued(
            tx,
            of_schedule,
            reason=RunReason.TARGET_REMOVED,
            error=_REMOVED,
            deliveries=self._deliveries,
            actor=actor,
        )
        runs.request_cancel(tx, of_schedule, actor=actor)

    def _trigger(
        self,
        tx: Transaction,
        schedule_id: str,
        run_id: str,
        question_id: str,
        *,
        actor: str,
        trigger: RunTrigger,
    ) -> bool:
        """Queue the run. False if a question was asked instead, which has to be stored."""
        fleet = gate(tx)
        schedule = schedules.get_locked(tx, schedule_id)
        if schedule.status is ScheduleStatus.PENDING_APPROVAL and trigger is not RunTrigger.TEST:
            raise _must_wait()
        if not fleet.fires:
            raise fleet.refusal("The run was not queued.")
        if schedule.fires and trigger is not RunTrigger.TEST and not is_granted(schedule):
            approvals.ask_again(tx, schedule, approval_id=question_id, answer_within=self._answer_within)
            return False
        runs.queue(tx, [NewRun.of_schedule(schedule, run_id=run_id, trigger=trigger)], actor=actor)
        return True

    def _cancel(self, tx: Transaction, run_id: str, *, actor: str) -> Cancellation:
        this = pulse_runs.c.id == run_id
        waiting = runs.cancel_queued(
            tx,
            this,
            reason=RunReason.CANCEL_REQUESTED,
            error="Run cancelled",
            deliveries=self._deliveries,
            actor=actor,
        )
        if waiting:
            return Cancellation.FINISHED
        runs.request_cancel(tx, this, actor=actor)
        run = runs.get(tx, run_id)
        if run is None:
            raise runs.not_found(run_id)
        if run.status is not RunState.RUNNING:
            raise DorkError(
                ErrorCode.RUN_NOT_ACTIVE,
                f"The run has already finished: {run.status.value}.",
                details={"state": run.status.value},
            )
        held = run.lease_expires_at is not None and run.lease_expires_at > tx.now()
        return Cancellation.STOPPING if held else Cancellation.UNCONFIRMED


def _must_wait() -> DorkError:
    return DorkError(
        ErrorCode.FORBIDDEN,
        "The schedule waits for approval and cannot be run before.",
        hint="Look at its prompt and command, then approve it, or try it out with a test run.",
    )
