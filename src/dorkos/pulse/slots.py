"""Slots in the database: decided instants, and the cursor that says how far a schedule is decided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

# PostgreSQL's INSERT compiles to the same ON CONFLICT text on SQLite; the other way round it does not.
from sqlalchemy.dialects.postgresql import insert

from dorkos.clock import iso
from dorkos.db.database import Transaction
from dorkos.db.schema.pulse import pulse_runs, pulse_schedules, pulse_slots
from dorkos.ids import new_id
from dorkos.pulse import runs
from dorkos.pulse.model import Schedule, Slot
from dorkos.pulse.planner import Plan, PlannedSlot
from dorkos.pulse.rows import SCHEDULE_COLUMNS, schedule_of
from dorkos.vocabulary import RunTrigger, SlotReason, Verdict


@dataclass(frozen=True, slots=True)
class DueSchedule:
    """A schedule with something to decide, and whether a run of it waits or runs."""

    schedule: Schedule
    has_active_run: bool


@dataclass(frozen=True, slots=True)
class NewSlot:
    """A slot to store. Its id, and the id of its run, are made outside the change."""

    id: str
    run_id: str
    schedule: Schedule
    due_at: datetime
    through_at: datetime
    count: int
    verdict: Verdict
    reason: SlotReason

    @classmethod
    def of(cls, planned: PlannedSlot, schedule: Schedule, *, slot_id: str) -> NewSlot:
        """Give a planned slot its ids."""
        return cls(
            slot_id,
            new_id(),
            schedule,
            planned.due_at,
            planned.through_at,
            planned.count,
            planned.verdict,
            planned.reason,
        )


@dataclass(frozen=True, slots=True)
class Decision:
    """A plan for a schedule as it was read, with ids for what it makes."""

    schedule: Schedule
    plan: Plan
    slots: tuple[NewSlot, ...]


def decide(schedule: Schedule, plan: Plan) -> Decision:
    """Give a plan its ids. Outside the change, so that repeating the change stores the same."""
    return Decision(
        schedule, plan, tuple(NewSlot.of(slot, schedule, slot_id=new_id()) for slot in plan.slots)
    )


_MOVE = (
    pulse_schedules.update()
    .where(
        pulse_schedules.c.id == sa.bindparam("of_id"),
        pulse_schedules.c.revision == sa.bindparam("of_revision"),
        pulse_schedules.c.decided_until == sa.bindparam("of_decided_until"),
        pulse_schedules.c.deleted_at.is_(None),
    )
    .values(decided_until=sa.bindparam("to_decided_until"), next_due_at=sa.bindparam("to_next_due_at"))
)
# Neighbouring instants with one verdict share a row, so that a long run of a schedule that is due every
# second does not leave thousands of rows behind. The cursor sees to it that the last slot is the neighbour.
_EXTEND = (
    pulse_slots.update()
    .where(
        pulse_slots.c.id
        == sa.select(pulse_slots.c.id)
        .where(pulse_slots.c.schedule_id == sa.bindparam("of_schedule"))
        .order_by(pulse_slots.c.due_at.desc())
        .limit(1)
        .scalar_subquery(),
        pulse_slots.c.verdict == sa.bindparam("of_verdict"),
        pulse_slots.c.reason == sa.bindparam("of_reason"),
        pulse_slots.c.revision == sa.bindparam("of_revision"),
    )
    .values(
        through_at=sa.bindparam("to_through_at"),
        count=pulse_slots.c.count + sa.bindparam("by_count"),
        decided_at=sa.bindparam("to_decided_at"),
    )
    .returning(pulse_slots.c.id, pulse_slots.c.due_at, pulse_slots.c.count)
)
_INSERT = insert(pulse_slots).on_conflict_do_nothing().returning(pulse_slots.c.id)


def due(
    connection: sa.Connection, now: datetime, *, after: tuple[datetime, str] | None, limit: int
) -> list[DueSchedule]:
    """A page of schedules with `next_due_at` <= now, by (next_due_at, id), from behind `after`.

    Cursor and active runs come from one snapshot: a plan made of a stale mixture could run beside an
    active run without the cursor's guard noticing.
    """
    statement = (
        sa.select(*SCHEDULE_COLUMNS)
        .where(pulse_schedules.c.next_due_at <= now)
        .order_by(pulse_schedules.c.next_due_at, pulse_schedules.c.id)
        .limit(limit)
    )
    if after is not None:
        statement = statement.where(
            sa.tuple_(pulse_schedules.c.next_due_at, pulse_schedules.c.id)
            > sa.tuple_(sa.literal(after[0], pulse_schedules.c.next_due_at.type), sa.literal(after[1]))
        )
    found = [schedule_of(row) for row in connection.execute(statement).mappings()]
    if not found:
        return []
    active = set(connection.execute(_ACTIVE_SCHEDULES).scalars())
    return [DueSchedule(schedule, schedule.id in active) for schedule in found]


_ACTIVE_SCHEDULES = sa.select(pulse_runs.c.schedule_id).where(runs.ACTIVE)


def inheriting(connection: sa.Connection, *, after: str, limit: int) -> list[Schedule]:
    """A page of schedules that will fire and name no zone of their own, by id, from behind `after`."""
    statement = (
        sa.select(*SCHEDULE_COLUMNS)
        .where(
            pulse_schedules.c.id > after,
            pulse_schedules.c.timezone.is_(None),
            pulse_schedules.c.cron.is_not(None),
            pulse_schedules.c.next_due_at.is_not(None),
        )
        .order_by(pulse_schedules.c.id)
        .limit(limit)
    )
    return [schedule_of(row) for row in connection.execute(statement).mappings()]


def next_due_at(connection: sa.Connection, now: datetime) -> datetime | None:
    """The earliest instant after `now` at which something is due."""
    return connection.execute(
        sa.select(sa.func.min(pulse_schedules.c.next_due_at)).where(pulse_schedules.c.next_due_at > now)
    ).scalar()


def record_plan(tx: Transaction, decisions: Sequence[Decision]) -> int:
    """Store plans: cursor, slots, queued runs and events, all or nothing. Returns how many were taken.

    A plan is dropped if its schedule was edited, deleted, or decided by somebody else since it was read.
    """
    taken = [decision for decision in decisions if _move(tx, decision)]
    record(tx, [slot for decision in taken for slot in decision.slots])
    return len(taken)


def record(tx: Transaction, new: Sequence[NewSlot]) -> None:
    """Store slots, and a queued run for each `run` among them. An instant that has a slot keeps it.

    A slot whose verdict is that of its neighbour before becomes part of it.
    """
    now = tx.now()
    new = [slot for slot in new if not _extend(tx, slot, now)]
    if not new:
        return
    stored = set(tx.execute(_INSERT, [_values(slot, now) for slot in new]).scalars())
    fresh = [slot for slot in new if slot.id in stored]
    for slot in fresh:
        tx.emit("pulse.slot.decided", slot.id, _facts(slot))
    runs.queue(
        tx,
        [
            runs.NewRun.of_schedule(
                slot.schedule, run_id=slot.run_id, trigger=RunTrigger.SCHEDULED, slot_id=slot.id
            )
            for slot in fresh
            if slot.verdict is Verdict.RUN
        ],
    )


def of_schedule(connection: sa.Connection, schedule_id: str, *, limit: int, offset: int) -> list[Slot]:
    """Slots of a schedule with their runs, newest first."""
    first_run = sa.and_(pulse_runs.c.slot_id == pulse_slots.c.id, pulse_runs.c.attempt == 1)
    statement = (
        sa.select(
            pulse_slots.c.id,
            pulse_slots.c.schedule_id,
            pulse_slots.c.due_at,
            pulse_slots.c.through_at,
            pulse_slots.c.count,
            pulse_slots.c.verdict,
            pulse_slots.c.reason,
            pulse_slots.c.decided_at,
            pulse_runs.c.id.label("run_id"),
        )
        .select_from(pulse_slots.outerjoin(pulse_runs, first_run))
        .where(pulse_slots.c.schedule_id == schedule_id)
        .order_by(pulse_slots.c.due_at.desc())
        .limit(limit)
        .offset(offset)
    )
    return [Slot(**row) for row in connection.execute(statement).mappings()]


def _move(tx: Transaction, decision: Decision) -> bool:
    moved = tx.execute(
        _MOVE,
        {
            "of_id": decision.schedule.id,
            "of_revision": decision.schedule.revision,
            "of_decided_until": decision.schedule.decided_until,
            "to_decided_until": decision.plan.decided_until,
            "to_next_due_at": decision.plan.next_due_at,
        },
    )
    return moved.rowcount == 1


def _extend(tx: Transaction, slot: NewSlot, now: datetime) -> bool:
    if slot.verdict is Verdict.RUN:
        return False
    extended = (
        tx.execute(
            _EXTEND,
            {
                "of_schedule": slot.schedule.id,
                "of_verdict": slot.verdict,
                "of_reason": slot.reason,
                "of_revision": slot.schedule.revision,
                "to_through_at": slot.through_at,
                "by_count": slot.count,
                "to_decided_at": now,
            },
        )
        .mappings()
        .one_or_none()
    )
    if extended is None:
        return False
    whole = replace(slot, **extended)
    tx.emit("pulse.slot.decided", whole.id, _facts(whole))
    return True


def _values(slot: NewSlot, now: datetime) -> dict[str, Any]:
    return {
        "id": slot.id,
        "schedule_id": slot.schedule.id,
        "due_at": slot.due_at,
        "through_at": slot.through_at,
        "count": slot.count,
        "verdict": slot.verdict,
        "reason": slot.reason,
        "revision": slot.schedule.revision,
        "decided_at": now,
    }


def _facts(slot: NewSlot) -> dict[str, object]:
    return {
        "scheduleId": slot.schedule.id,
        "dueAt": iso(slot.due_at),
        "throughAt": iso(slot.through_at),
        "count": slot.count,
        "verdict": slot.verdict.value,
        "reason": slot.reason.value,
        "runId": slot.run_id if slot.verdict is Verdict.RUN else None,
    }
