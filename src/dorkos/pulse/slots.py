"""Slots in the database: decided instants, and the cursor that says how far a schedule is decided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

# PostgreSQL's INSERT compiles to the same ON CONFLICT text on SQLite; the other way round it does not.
from sqlalchemy.dialects.postgresql import insert

from dorkos.clock import iso
from dorkos.db.database import Transaction
from dorkos.db.prepared import Prepared
from dorkos.db.schema.pulse import pulse_runs, pulse_schedules, pulse_slots
from dorkos.fleet import Fleet, gate
from dorkos.ids import new_id
from dorkos.pulse import approvals, expectations, runs
from dorkos.pulse.model import DeliverySettler, Schedule, Slot
from dorkos.pulse.planner import Active, Plan, PlannedSlot, jitter
from dorkos.pulse.rows import SCHEDULE_COLUMNS, schedule_of
from dorkos.vocabulary import OverlapPolicy, RunReason, RunState, RunTrigger, SlotReason, Verdict


@dataclass(frozen=True, slots=True)
class DueSchedule:
    """A schedule with something to decide, and how many runs of it wait and run."""

    schedule: Schedule
    active: Active


@dataclass(frozen=True, slots=True)
class NewSlot:
    """A slot to store. Its id, and the id of its run if it has one, are made outside the change."""

    id: str
    run_id: str | None
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
            new_id() if planned.verdict is Verdict.RUN else None,
            schedule,
            planned.due_at,
            planned.through_at,
            planned.count,
            planned.verdict,
            planned.reason,
        )


@dataclass(frozen=True, slots=True)
class Decision:
    """A plan for a schedule as it was read, with ids for what it makes.

    `question_id` is that of the question to ask, if the schedule is not what was granted.
    """

    schedule: Schedule
    plan: Plan
    slots: tuple[NewSlot, ...]
    question_id: str | None = None


def decide(schedule: Schedule, plan: Plan, *, granted: bool = True) -> Decision:
    """Give a plan its ids. Outside the change, so that repeating the change stores the same."""
    stored = tuple(NewSlot.of(slot, schedule, slot_id=new_id()) for slot in plan.slots)
    return Decision(schedule, plan, stored, None if granted else new_id())


_MOVE = Prepared(
    pulse_schedules.update()
    .where(
        pulse_schedules.c.id == sa.bindparam("of_id"),
        pulse_schedules.c.revision == sa.bindparam("of_revision"),
        pulse_schedules.c.decided_until == sa.bindparam("of_decided_until"),
        pulse_schedules.c.deleted_at.is_(None),
    )
    .values(decided_until=sa.bindparam("to_decided_until"), next_due_at=sa.bindparam("to_next_due_at"))
    .returning(pulse_schedules.c.id)
)
# Neighbouring instants with one verdict share a row, so that a long run of a schedule that is due every
# second does not leave thousands of rows behind. The cursor sees to it that the last slot is the neighbour.
_EXTEND = Prepared(
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
_INSERT = Prepared(
    insert(pulse_slots).on_conflict_do_nothing().returning(pulse_slots.c.id),
    *("id", "schedule_id", "due_at", "through_at", "count", "verdict", "reason", "revision", "decided_at"),
    "expected_by",
)
# A pause may last long, and its beginning and end are told: its instants in between wake nobody.
_QUIET = frozenset({SlotReason.PAUSED, SlotReason.PENDING_APPROVAL})


def _count_of(state: RunState) -> sa.ScalarSelect[int]:
    return (
        sa.select(sa.func.count())
        .where(pulse_runs.c.schedule_id == pulse_schedules.c.id, runs.status_in([state]))
        .scalar_subquery()
    )


_DUE = sa.select(*SCHEDULE_COLUMNS, _count_of(RunState.QUEUED), _count_of(RunState.RUNNING))


def due(
    connection: sa.Connection, now: datetime, *, after: tuple[datetime, str] | None, limit: int
) -> list[DueSchedule]:
    """A page of schedules with `next_due_at` <= now, by (next_due_at, id), from behind `after`.

    Cursor and active runs come from one snapshot: a plan made of a stale mixture could run beside an
    active run without the cursor's guard noticing.
    """
    statement = (
        _DUE.where(pulse_schedules.c.next_due_at <= now)
        .order_by(pulse_schedules.c.next_due_at, pulse_schedules.c.id)
        .limit(limit)
    )
    if after is not None:
        statement = statement.where(
            sa.tuple_(pulse_schedules.c.next_due_at, pulse_schedules.c.id)
            > sa.tuple_(sa.literal(after[0], pulse_schedules.c.next_due_at.type), sa.literal(after[1]))
        )
    return [
        DueSchedule(schedule_of(row[:-2]), Active(queued=row[-2], running=row[-1]))
        for row in connection.execute(statement)
    ]


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
    return [schedule_of(row) for row in connection.execute(statement)]


def next_due_at(connection: sa.Connection, now: datetime) -> datetime | None:
    """The earliest instant after `now` at which something is due."""
    return connection.execute(
        sa.select(sa.func.min(pulse_schedules.c.next_due_at)).where(pulse_schedules.c.next_due_at > now)
    ).scalar()


def record_plan(
    tx: Transaction,
    decisions: Sequence[Decision],
    *,
    made_under: Fleet,
    deliveries: DeliverySettler,
    default_max_runtime_ms: int,
    answer_within: timedelta,
) -> int:
    """Store plans: cursor, slots, queued runs and events, all or nothing. Returns how many were taken.

    Where a schedule's newest run cancels the earlier ones, those that wait are cancelled, and the end of
    those that run is asked for. A schedule that is not what was granted waits for approval from then on;
    a question about it may be answered for as long as `answer_within`.

    A plan is dropped if its schedule was edited, deleted, or decided by somebody else since it was read,
    or if what is paused in the whole fleet is not what it was when the plan was made.
    """
    if gate(tx).paused_before != made_under.paused_before:
        return 0
    moved = tx.run_many(_MOVE, [_step(decision) for decision in decisions])
    taken = [decision for decision, rows in zip(decisions, moved, strict=True) if rows]
    fresh = store(
        tx,
        [slot for decision in taken for slot in decision.slots],
        default_max_runtime_ms=default_max_runtime_ms,
    )
    for slot in fresh:
        if slot.run_id is not None and slot.schedule.overlap is OverlapPolicy.CANCEL_PREVIOUS:
            _cancel_previous(tx, slot.schedule.id, deliveries)
    runs.queue(tx, [_run(slot, slot.run_id) for slot in fresh if slot.run_id is not None])
    for decision in taken:
        if decision.question_id is not None:
            approvals.ask_again(
                tx, decision.schedule, approval_id=decision.question_id, answer_within=answer_within
            )
    return len(taken)


def store(
    tx: Transaction, new: Sequence[NewSlot], *, default_max_runtime_ms: int | None = None
) -> list[NewSlot]:
    """Store slots and tell of them; those that are rows of their own. An instant that has a slot keeps it.

    A slot whose verdict is that of its neighbour before becomes part of it. `default_max_runtime_ms` is
    needed where there is one with a run: by it is told when the outcome is overdue.
    """
    now = tx.now()
    # Of one plan only the first slot may be the neighbour of what is stored.
    first = {slot.schedule.id: slot.id for slot in reversed(new)}
    new = [slot for slot in new if first[slot.schedule.id] != slot.id or not _extend(tx, slot, now)]
    stored = tx.run_many(_INSERT, [_values(slot, now, default_max_runtime_ms) for slot in new])
    fresh = [slot for slot, rows in zip(new, stored, strict=True) if rows]
    for slot in fresh:
        tx.emit("pulse.slot.decided", slot.id, _facts(slot))
    return fresh


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


def _step(decision: Decision) -> dict[str, Any]:
    return {
        "of_id": decision.schedule.id,
        "of_revision": decision.schedule.revision,
        "of_decided_until": decision.schedule.decided_until,
        "to_decided_until": decision.plan.decided_until,
        "to_next_due_at": decision.plan.next_due_at,
    }


def _extend(tx: Transaction, slot: NewSlot, now: datetime) -> bool:
    if slot.verdict is Verdict.RUN:
        return False
    extended = tx.run(
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
    if not extended:
        return False
    ((slot_id, due_at, count),) = extended
    if slot.reason not in _QUIET:
        tx.emit("pulse.slot.decided", slot_id, _facts(replace(slot, id=slot_id, due_at=due_at, count=count)))
    return True


def _cancel_previous(tx: Transaction, schedule_id: str, deliveries: DeliverySettler) -> None:
    of_schedule = pulse_runs.c.schedule_id == schedule_id
    runs.cancel_queued(
        tx,
        of_schedule,
        reason=RunReason.OVERLAP,
        error=runs.REPLACED,
        deliveries=deliveries,
        actor=None,
    )
    runs.request_cancel(tx, of_schedule, actor=None, reason=RunReason.OVERLAP)


def _run(slot: NewSlot, run_id: str) -> runs.NewRun:
    schedule = slot.schedule
    new = runs.NewRun.of_schedule(schedule, run_id=run_id, trigger=RunTrigger.SCHEDULED, slot_id=slot.id)
    if schedule.jitter_ms == 0:
        return new
    return replace(new, available_at=slot.due_at + jitter(schedule.id, slot.due_at, schedule.jitter_ms))


def _expected_by(slot: NewSlot, now: datetime, default_max_runtime_ms: int | None) -> datetime | None:
    if slot.verdict is not Verdict.RUN or default_max_runtime_ms is None:
        return None
    return expectations.expected_by(
        slot.schedule, decided_at=now, default_max_runtime_ms=default_max_runtime_ms
    )


def _values(slot: NewSlot, now: datetime, default_max_runtime_ms: int | None) -> dict[str, Any]:
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
        "expected_by": _expected_by(slot, now, default_max_runtime_ms),
    }


def _facts(slot: NewSlot) -> dict[str, object]:
    return {
        "scheduleId": slot.schedule.id,
        "dueAt": iso(slot.due_at),
        "throughAt": iso(slot.through_at),
        "count": slot.count,
        "verdict": slot.verdict.value,
        "reason": slot.reason.value,
        "runId": slot.run_id,
    }
