"""Runs in the database: queued, listed, cancelled. How they are held and ended is in `leases`.

States: queued -> running -> completed | failed | cancelled | timeout | interrupted | blocked. A queued run
may also be cancelled at once, and a run that was claimed but never started goes back to queued when the
server stops. Final states never change: every statement here names the states it starts from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from dorkos.db.database import Transaction
from dorkos.db.prepared import Prepared
from dorkos.db.schema.pulse import pulse_runs
from dorkos.errors import DorkError, ErrorCode
from dorkos.fleet import gate
from dorkos.pulse import expectations
from dorkos.pulse.model import DeliverySettler, Outcome, Run, RunRequest, Schedule
from dorkos.pulse.rows import RUN_COLUMNS, run_of
from dorkos.vocabulary import ACTIVE_RUN_STATES, FleetMode, PermissionMode, RunReason, RunState, RunTrigger


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run to queue, with its own copy of what to do: a later edit of the schedule does not change it."""

    id: str
    trigger: RunTrigger
    prompt: str
    chain_id: str
    schedule_id: str | None = None
    slot_id: str | None = None
    agent_id: str | None = None
    cwd: str | None = None
    command: tuple[str, ...] | None = None
    runtime: str | None = None
    permission_mode: PermissionMode | None = None
    target_subject: str | None = None
    max_runtime: int | None = None
    idle_timeout_ms: int | None = None
    repeatable: bool = False
    attempt: int = 1
    available_at: datetime | None = None
    delivery_id: str | None = None
    context: Mapping[str, str] = field(default_factory=dict)
    session_id: str | None = None
    resumed_from: str | None = None
    created_by: str | None = None

    @classmethod
    def of_schedule(
        cls, schedule: Schedule, *, run_id: str, trigger: RunTrigger, slot_id: str | None = None
    ) -> NewRun:
        """A run of a schedule as it is now. It begins a chain of its own."""
        return cls(
            id=run_id,
            trigger=trigger,
            prompt=schedule.prompt,
            chain_id=run_id,
            schedule_id=schedule.id,
            slot_id=slot_id,
            agent_id=schedule.agent_id,
            cwd=schedule.cwd,
            command=schedule.command,
            runtime=schedule.runtime,
            permission_mode=schedule.permission_mode,
            target_subject=schedule.target_subject,
            max_runtime=schedule.max_runtime,
            idle_timeout_ms=schedule.idle_timeout_ms,
            repeatable=schedule.repeatable,
        )

    @classmethod
    def of_attempt(cls, run: Run, *, run_id: str, available_at: datetime | None) -> NewRun:
        """The attempt that follows one that ended: the same content, in the same chain, not before then."""
        return cls(
            id=run_id,
            trigger=run.trigger,
            prompt=run.prompt,
            chain_id=run.chain_id,
            schedule_id=run.schedule_id,
            slot_id=run.slot_id,
            agent_id=run.agent_id,
            cwd=run.cwd,
            command=run.command,
            runtime=run.runtime,
            permission_mode=run.permission_mode,
            target_subject=run.target_subject,
            max_runtime=run.max_runtime,
            idle_timeout_ms=run.idle_timeout_ms,
            repeatable=run.repeatable,
            attempt=run.attempt + 1,
            available_at=available_at,
            context=run.context,
            session_id=run.session_id if run.resumed_from is not None else None,
            resumed_from=run.resumed_from,
            created_by=run.created_by,
        )

    @classmethod
    def of_resumption(cls, run: Run, prompt: str, *, run_id: str, attempt: int) -> NewRun:
        """The attempt that goes on with the session of a run that ended, in the same chain."""
        again = cls.of_attempt(run, run_id=run_id, available_at=None)
        return replace(
            again,
            trigger=RunTrigger.RESUME,
            prompt=prompt,
            attempt=attempt,
            session_id=run.session_id,
            resumed_from=run.id,
        )

    @classmethod
    def of_request(cls, request: RunRequest, *, run_id: str) -> NewRun:
        """A run that a message asks for. It stays in the message's chain."""
        return cls(
            id=run_id,
            trigger=RunTrigger.MESSAGE,
            prompt=request.prompt,
            chain_id=request.chain_id,
            agent_id=request.agent_id,
            delivery_id=request.delivery_id,
            context=dict(request.context),
        )


def status_in(states: Sequence[RunState]) -> sa.ColumnElement[bool]:
    """The states written out in the statement instead of bound to it."""
    kind = pulse_runs.c.status.type
    return pulse_runs.c.status.in_([sa.literal(state, kind, literal_execute=True) for state in states])


_INSERT = Prepared(
    pulse_runs.insert(),
    *("id", "schedule_id", "slot_id", "attempt", "agent_id", "status", "trigger", "prompt", "cwd", "command"),
    *(
        "runtime",
        "permission_mode",
        "target_subject",
        "max_runtime",
        "idle_timeout_ms",
        "repeatable",
        "available_at",
        "delivery_id",
        "chain_id",
    ),
    *("context", "session_id", "resumed_from", "created_by", "created_at"),
)

REPLACED = "A newer run of the schedule took its place."

# Word for word the condition of the partial index over active runs: SQLite uses it for nothing less.
ACTIVE = status_in(ACTIVE_RUN_STATES)


def queue(tx: Transaction, new: Sequence[NewRun], *, actor: str | None = None) -> None:
    """Store runs that wait for a free place."""
    if not new:
        return
    now = tx.now()
    tx.run_many(_INSERT, [_values(run, now) for run in new])
    for run in new:
        tx.emit(
            "pulse.run.queued",
            run.id,
            {
                "scheduleId": run.schedule_id,
                "slotId": run.slot_id,
                "agentId": run.agent_id,
                "trigger": run.trigger.value,
                "chainId": run.chain_id,
            },
            actor=actor,
        )


def cancel_queued(
    tx: Transaction,
    where: sa.ColumnElement[bool],
    *,
    reason: RunReason,
    error: str,
    deliveries: DeliverySettler,
    actor: str | None,
) -> list[str]:
    """Cancel the waiting runs that match, and settle what started them. Returns their ids."""
    now = tx.now()
    cancelled = tx.execute(
        pulse_runs.update()
        .where(ACTIVE, pulse_runs.c.status == RunState.QUEUED, where)
        .values(status=RunState.CANCELLED, reason=reason, error=error, finished_at=now, duration_ms=0)
        .returning(
            pulse_runs.c.id,
            pulse_runs.c.schedule_id,
            pulse_runs.c.slot_id,
            pulse_runs.c.agent_id,
            pulse_runs.c.delivery_id,
        )
    ).all()
    expectations.settle(tx, [row.slot_id for row in cancelled if row.slot_id is not None])
    outcome = Outcome(RunState.CANCELLED, reason, error)
    for row in cancelled:
        tell_finished(
            tx,
            row.id,
            outcome,
            schedule_id=row.schedule_id,
            agent_id=row.agent_id,
            duration_ms=0,
            actor=actor,
        )
        if row.delivery_id is not None:
            deliveries.settle(
                tx, delivery_id=row.delivery_id, run_id=row.id, state=outcome.state, reason=outcome.reason
            )
    return [row.id for row in cancelled]


def request_cancel(
    tx: Transaction, where: sa.ColumnElement[bool], *, actor: str | None, reason: RunReason | None = None
) -> list[str]:
    """Ask the servers that hold the matching runs to end them. Asking twice changes nothing.

    A reason is stored with the request, for the end to be told by: see `leases.finish`.
    """
    asked = tx.execute(
        pulse_runs.update()
        .where(
            ACTIVE,
            pulse_runs.c.status == RunState.RUNNING,
            pulse_runs.c.cancel_requested_at.is_(None),
            where,
        )
        .values(cancel_requested_at=tx.now(), reason=reason)
        .returning(pulse_runs.c.id)
    )
    ids = list(asked.scalars())
    for run_id in ids:
        tx.emit("pulse.run.cancel_requested", run_id, actor=actor)
    return ids


def cancel_for_stop(tx: Transaction, *, limit: int) -> int:
    """While the fleet is stopped, ask the servers to end up to `limit` running runs. Returns how many.

    The reason is stored with the request, for the end to be told by: see `leases.finish`.
    """
    if gate(tx).mode is not FleetMode.STOP:
        return 0
    at_work = (
        sa.select(pulse_runs.c.id)
        .where(ACTIVE, pulse_runs.c.status == RunState.RUNNING, pulse_runs.c.cancel_requested_at.is_(None))
        .order_by(pulse_runs.c.id)
        .limit(limit)
        # One that somebody else is just changing is looked at again in the next pass.
        .with_for_update(skip_locked=True)
    )
    ids = list(tx.execute(at_work).scalars())
    asked = tx.execute(
        pulse_runs.update()
        .where(ACTIVE, pulse_runs.c.status == RunState.RUNNING, pulse_runs.c.id.in_(ids))
        .values(cancel_requested_at=tx.now(), reason=RunReason.FLEET_STOPPED)
        .returning(pulse_runs.c.id)
    )
    for run_id in (stopped := list(asked.scalars())):
        tx.emit("pulse.run.cancel_requested", run_id, {"reason": RunReason.FLEET_STOPPED.value})
    return len(stopped)


def tell_finished(
    tx: Transaction,
    run_id: str,
    outcome: Outcome,
    *,
    schedule_id: str | None,
    agent_id: str | None,
    duration_ms: int | None,
    actor: str | None = None,
) -> None:
    """Emit that a run reached a final state."""
    tx.emit(
        "pulse.run.finished",
        run_id,
        {
            "state": outcome.state.value,
            "reason": None if outcome.reason is None else outcome.reason.value,
            "scheduleId": schedule_id,
            "agentId": agent_id,
            "durationMs": duration_ms,
        },
        actor=actor,
    )


def get(connection: sa.Connection | Transaction, run_id: str) -> Run | None:
    """One run, or None."""
    statement = sa.select(*RUN_COLUMNS).where(pulse_runs.c.id == run_id)
    row = connection.execute(statement).one_or_none()
    return None if row is None else run_of(row)


def listed(
    connection: sa.Connection,
    *,
    schedule_id: str | None,
    states: Sequence[RunState] | None,
    limit: int,
    offset: int,
) -> list[Run]:
    """Runs, newest first; those of one millisecond by id, so that pages never overlap."""
    statement = (
        sa.select(*RUN_COLUMNS)
        .order_by(pulse_runs.c.created_at.desc(), pulse_runs.c.id.desc())
        .limit(limit)
        .offset(offset)
    )
    if schedule_id is not None:
        statement = statement.where(pulse_runs.c.schedule_id == schedule_id)
    if states is not None:
        statement = statement.where(status_in(states))
    return [run_of(row) for row in connection.execute(statement)]


def not_found(run_id: str) -> DorkError:
    """The refusal for an id that names no run."""
    return DorkError(
        ErrorCode.RUN_NOT_FOUND,
        "Run not found",
        hint="List the runs to see which there are.",
        details={"runId": run_id},
    )


def _values(run: NewRun, now: datetime) -> dict[str, Any]:
    return {
        "id": run.id,
        "schedule_id": run.schedule_id,
        "slot_id": run.slot_id,
        "attempt": run.attempt,
        "agent_id": run.agent_id,
        "status": RunState.QUEUED,
        "trigger": run.trigger,
        "prompt": run.prompt,
        "cwd": run.cwd,
        "command": list(run.command) if run.command is not None else None,
        "runtime": run.runtime,
        "permission_mode": run.permission_mode,
        "target_subject": run.target_subject,
        "max_runtime": run.max_runtime,
        "idle_timeout_ms": run.idle_timeout_ms,
        "repeatable": run.repeatable,
        "available_at": run.available_at,
        "delivery_id": run.delivery_id,
        "chain_id": run.chain_id,
        "context": dict(run.context) or None,
        "session_id": run.session_id,
        "resumed_from": run.resumed_from,
        "created_by": run.created_by,
        "created_at": now,
    }
