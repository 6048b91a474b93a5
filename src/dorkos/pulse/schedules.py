"""Schedules in the database. Functions that change something run inside the caller's transaction."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from itertools import islice
from typing import Any

import sqlalchemy as sa

from dorkos.clock import iso
from dorkos.db.database import Transaction
from dorkos.db.schema.pulse import pulse_schedules
from dorkos.errors import DorkError, ErrorCode
from dorkos.fleet import Fleet, read
from dorkos.ids import new_id
from dorkos.pulse import rewind, slots
from dorkos.pulse.model import Schedule, ScheduleDraft
from dorkos.pulse.planner import ENUMERATED_MAX, PlannedSlot, due_instants, span, split
from dorkos.pulse.policies import check_policies, policy_of
from dorkos.pulse.rows import SCHEDULE_COLUMNS, draft_of, draft_values, schedule_of
from dorkos.pulse.triggers import trigger_of
from dorkos.pulse.zones import Zones
from dorkos.vocabulary import ScheduleStatus, SlotReason, Verdict

log = logging.getLogger("dorkos.pulse")

# An edit of one of these changes when the schedule fires.
_TRIGGER = ("cron", "every_ms", "run_at", "timezone")
WHEN = frozenset({*_TRIGGER, "enabled", "status"})

Check = Callable[[Transaction, ScheduleDraft], None]


def create(
    tx: Transaction, draft: ScheduleDraft, *, schedule_id: str, zones: Zones, check: Check, actor: str
) -> Schedule:
    """Store a new schedule; nothing before now is ever due. Raises `invalid_instant` for a past `run_at`.

    An interval is counted from now.
    """
    now = tx.now()
    check_policies(draft)
    check(tx, draft)
    _refuse_past(draft.run_at, now)
    values = draft_values(draft) | {
        "id": schedule_id,
        "anchor_at": None if draft.every_ms is None else now,
        "revision": 1,
        "decided_until": now,
        "created_by": actor,
        "created_at": now,
        "updated_at": now,
    }
    row = tx.execute(pulse_schedules.insert().values(values).returning(*SCHEDULE_COLUMNS)).one()
    created = schedule_of(row)
    next_due_at = _next_due(created, now, zones)
    _set(tx, schedule_id, {"next_due_at": next_due_at})
    created = replace(created, next_due_at=next_due_at)
    tx.emit("pulse.schedule.created", schedule_id, _facts(created), actor=actor)
    return created


def update(
    tx: Transaction,
    schedule_id: str,
    changes: Mapping[str, Any],
    *,
    zones: Zones,
    check: Check,
    actor: str,
) -> Schedule:
    """Edit the named fields of a draft. Every edit adds one to the revision, which voids plans under way.

    An edit of when it fires begins anew from now: what was due before and not yet decided becomes a
    `missed` slot, so that it does not vanish; or `skipped`, if the schedule was paused or waited for
    approval until now. A new interval is counted from now. One that needs attention becomes active when
    its trigger is mended, unless the edit says otherwise. Raises `schedule_not_found`, `invalid_instant`,
    `validation_failed` for a status that only DorkOS gives, what `check` raises for the edited draft, and
    `invalid_cron` or `invalid_timezone` for one that is to fire and cannot.
    """
    now = tx.now()
    current = _locked(tx, schedule_id)
    before = draft_of(current)
    changes = _with_status(changes, current)
    after = replace(before, **changes)
    check_policies(after)
    reason = None if after.status is ScheduleStatus.ACTIVE else current.status_reason
    edited = replace(
        current,
        **changes,
        anchor_at=_anchor(after, current, now),
        status_reason=reason,
        revision=current.revision + 1,
        updated_at=now,
    )
    # Only then: switching off must work also when the target is gone.
    if _target(after) != _target(before) or (edited.fires and not current.fires):
        check(tx, after)
    if after.run_at != before.run_at:
        _refuse_past(after.run_at, now)
    values = draft_values(after) | {
        "anchor_at": edited.anchor_at,
        "status_reason": reason,
        "revision": edited.revision,
        "updated_at": now,
    }
    if after.status is ScheduleStatus.ACTIVE and before.status is ScheduleStatus.NEEDS_ATTENTION:
        # Also where it is switched off: it must not need attention again as soon as it is switched on.
        _first_due(edited, now, zones)
    if any(getattr(before, name) != getattr(after, name) for name in WHEN):
        _record_missed(tx, current, now, zones)
        decided_until = _begin(tx, current, now, zones)
        next_due_at = _next_due(edited, decided_until, zones)
        values |= {"decided_until": decided_until, "next_due_at": next_due_at}
        edited = replace(edited, decided_until=decided_until, next_due_at=next_due_at)
    if edited.fires and not current.fires:
        # It begins anew; else its next failure would pause it again.
        values |= {"failures_in_row": 0}
        edited = replace(edited, failures_in_row=0)
    _set(tx, schedule_id, values)
    tx.emit("pulse.schedule.updated", schedule_id, _facts(edited), actor=actor)
    return edited


def need_attention(tx: Transaction, schedule: Schedule, reason: str) -> bool:
    """Take a schedule of which nobody can tell when it is due out of use, until a person mends it.

    Everything else about it stays, also that it is paused or waits for approval. False, with nothing
    changed, if it was edited since it was read.
    """
    current = pulse_schedules.c
    attention = sa.literal(ScheduleStatus.NEEDS_ATTENTION, current.status.type)
    statement = (
        pulse_schedules.update()
        .where(current.id == schedule.id, current.revision == schedule.revision, current.deleted_at.is_(None))
        .values(
            status=sa.case((current.status == ScheduleStatus.ACTIVE, attention), else_=current.status),
            status_reason=reason,
            next_due_at=None,
            revision=current.revision + 1,
            updated_at=tx.now(),
        )
    )
    if tx.execute(statement).rowcount == 0:
        return False
    facts = {"name": schedule.name, "reason": reason}
    tx.emit("pulse.schedule.needs_attention", schedule.id, facts)
    return True


def begin_anew(tx: Transaction, schedule_id: str, *, zones: Zones) -> bool:
    """From now on, with what a clock that was ahead decided of times to come. See `rewind`.

    False, with nothing changed, if the schedule is not ahead, or is gone.
    """
    now = tx.now()
    row = tx.execute(_one(schedule_id).with_for_update()).one_or_none()
    if row is None or not rewind.is_ahead(schedule := schedule_of(row), now):
        return False
    rewind.forget_future(tx, schedule, now, zones)
    try:
        next_due_at = _next_due(schedule, now, zones)
    except DorkError:  # The pass that follows takes it out of use, with the reason.
        next_due_at = now
    _set(tx, schedule_id, {"decided_until": now, "next_due_at": next_due_at})
    facts = {"name": schedule.name, "decidedUntil": iso(schedule.decided_until)}
    tx.emit("pulse.schedule.rewound", schedule_id, facts)
    return True


def hide(tx: Transaction, schedule_id: str, *, actor: str) -> bool:
    """Take a schedule out of sight and out of use; its slots and runs stay. False if there is none."""
    now = tx.now()
    statement = (
        pulse_schedules.update()
        .where(pulse_schedules.c.id == schedule_id, pulse_schedules.c.deleted_at.is_(None))
        .values(deleted_at=now, updated_at=now, next_due_at=None, revision=pulse_schedules.c.revision + 1)
    )
    if tx.execute(statement).rowcount == 0:
        return False
    tx.emit("pulse.schedule.deleted", schedule_id, actor=actor)
    return True


def ids_of_agent(tx: Transaction, agent_id: str) -> list[str]:
    """The schedules that are for an agent, in the order in which they are to be locked."""
    statement = (
        sa.select(pulse_schedules.c.id)
        .where(pulse_schedules.c.agent_id == agent_id, pulse_schedules.c.deleted_at.is_(None))
        .order_by(pulse_schedules.c.id)
    )
    return list(tx.execute(statement).scalars())


def get(connection: sa.Connection | Transaction, schedule_id: str) -> Schedule | None:
    """One schedule, or None if there is none or it was deleted."""
    row = connection.execute(_one(schedule_id)).one_or_none()
    return None if row is None else schedule_of(row)


def get_locked(tx: Transaction, schedule_id: str) -> Schedule:
    """One schedule, held until the end of the transaction. Raises `schedule_not_found`."""
    return _locked(tx, schedule_id)


def list_all(connection: sa.Connection, *, limit: int) -> list[Schedule]:
    """Schedules, oldest first."""
    statement = (
        sa.select(*SCHEDULE_COLUMNS)
        .where(pulse_schedules.c.deleted_at.is_(None))
        .order_by(pulse_schedules.c.created_at, pulse_schedules.c.id)
        .limit(limit)
    )
    return [schedule_of(row) for row in connection.execute(statement)]


def not_found(schedule_id: str) -> DorkError:
    """The refusal for an id that names no schedule."""
    return DorkError(
        ErrorCode.SCHEDULE_NOT_FOUND,
        "Schedule not found",
        hint="List the schedules to see which there are.",
        details={"scheduleId": schedule_id},
    )


def _one(schedule_id: str) -> sa.Select[Any]:
    return sa.select(*SCHEDULE_COLUMNS).where(
        pulse_schedules.c.id == schedule_id, pulse_schedules.c.deleted_at.is_(None)
    )


def _locked(tx: Transaction, schedule_id: str) -> Schedule:
    # SQLite has one writer and ignores FOR UPDATE.
    row = tx.execute(_one(schedule_id).with_for_update()).one_or_none()
    if row is None:
        raise not_found(schedule_id)
    return schedule_of(row)


def _set(tx: Transaction, schedule_id: str, values: Mapping[str, Any]) -> None:
    tx.execute(pulse_schedules.update().where(pulse_schedules.c.id == schedule_id).values(**values))


def _anchor(after: ScheduleDraft, current: Schedule, now: datetime) -> datetime | None:
    """From when on an interval is counted: it keeps its beat, also through a pause, until it is another."""
    if after.every_ms is None:
        return None
    return current.anchor_at if after.every_ms == current.every_ms else now


def _target(draft: ScheduleDraft) -> tuple[object, ...]:
    return draft.agent_id, draft.command, draft.target_subject, draft.runtime, draft.cwd


def _refuse_past(run_at: datetime | None, now: datetime) -> None:
    if run_at is not None and run_at <= now:
        raise DorkError(
            ErrorCode.INVALID_INSTANT,
            f"{iso(run_at)} has passed already, so the schedule would never run.",
            hint="Name an instant in the future.",
        )


def _with_status(changes: Mapping[str, Any], current: Schedule) -> Mapping[str, Any]:
    """The edit with what it means for the status."""
    wanted = changes.get("status")
    attention = ScheduleStatus.NEEDS_ATTENTION
    if wanted is attention and current.status is not attention:
        raise DorkError(
            ErrorCode.VALIDATION_FAILED,
            f"`status` cannot be set to {attention.value}: only DorkOS itself does that.",
            hint=f"Set it to {ScheduleStatus.PAUSED.value} to keep the schedule from firing.",
        )
    if current.status is not attention or wanted not in (None, attention):
        return changes
    mended = any(name in changes and changes[name] != getattr(current, name) for name in _TRIGGER)
    return {**changes, "status": ScheduleStatus.ACTIVE if mended else attention}


def _next_due(schedule: Schedule, after: datetime, zones: Zones) -> datetime | None:
    """The next instant to decide. One that is paused or waits for approval is decided as well: skipped."""
    if not schedule.enabled or schedule.status is ScheduleStatus.NEEDS_ATTENTION:
        return None
    try:
        return _first_due(schedule, after, zones)
    except DorkError:
        if schedule.fires:
            raise
        return None  # It can be paused and kept as it is; only firing takes a trigger that can be read.


def _first_due(schedule: Schedule, after: datetime, zones: Zones) -> datetime | None:
    trigger = trigger_of(schedule, zones)
    return None if trigger is None else next(due_instants(trigger, after), None)


def _begin(tx: Transaction, schedule: Schedule, now: datetime, zones: Zones) -> datetime:
    """From when on a schedule that is edited is decided anew."""
    if rewind.is_ahead(schedule, now):
        rewind.forget_future(tx, schedule, now, zones)
        return now
    # A clock that was set back a little must not make an instant due a second time.
    return max(schedule.decided_until, now)


def _record_missed(tx: Transaction, schedule: Schedule, now: datetime, zones: Zones) -> None:
    if schedule.next_due_at is None or schedule.next_due_at > now:
        return
    missed = _missed(schedule, now, zones, read(tx))
    slots.store(tx, [slots.NewSlot.of(each, schedule, slot_id=new_id()) for each in missed])


def _missed(schedule: Schedule, now: datetime, zones: Zones, fleet: Fleet) -> list[PlannedSlot]:
    try:
        trigger = trigger_of(schedule, zones)
        if trigger is None:
            return []
        coming = islice(due_instants(trigger, schedule.decided_until), ENUMERATED_MAX)
        due = [instant for instant in coming if instant <= now]
    except DorkError as fault:  # The edit may be what mends it.
        log.warning("schedule %s: what was due before the edit cannot be told: %s", schedule.id, fault)
        return []
    halted = policy_of(schedule).halted
    if halted is not None:
        return [span(due, Verdict.SKIPPED, halted)] if due else []
    paused, missed = split(due, fleet.paused_before)
    verdicts = (
        (paused, Verdict.SKIPPED, SlotReason.FLEET_PAUSED),
        (missed, Verdict.MISSED, SlotReason.DUE),
    )
    return [span(instants, verdict, reason) for instants, verdict, reason in verdicts if instants]


def _facts(schedule: Schedule) -> dict[str, object]:
    return {
        "name": schedule.name,
        "enabled": schedule.enabled,
        "status": schedule.status.value,
        "agentId": schedule.agent_id,
        "nextRun": None if schedule.next_run_at is None else iso(schedule.next_run_at),
    }
