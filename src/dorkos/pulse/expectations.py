"""When a due instant has to have an outcome, and which have none in time: `expected_by` of the slots.

A slot that gets a run expects an outcome. The expectation is gone with the end of the last attempt, in the
same commit. One that is overdue is marked once, and counts as an alarm of its schedule until it has ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from dorkos.clock import iso
from dorkos.db.database import Transaction
from dorkos.db.schema.pulse import pulse_schedules, pulse_slots
from dorkos.pulse.model import Schedule

OVERDUE = "pulse.slot.overdue"
# Beyond the time that its attempts may take: for waiting in the queue, and for being noticed.
_SLACK_MS = 600_000
# A schedule is looked at within a second of its instant. One that has waited this long has nobody who looks.
UNDECIDED_AFTER = timedelta(minutes=5)
# One that is decided further ahead than this was decided by a clock that was wrong: see `rewind`.
AHEAD = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Late:
    """A schedule whose next instant nobody has decided in time."""

    schedule_id: str
    due_at: datetime


def expected_by(schedule: Schedule, *, decided_at: datetime, default_max_runtime_ms: int) -> datetime:
    """When an instant that was decided then is overdue.

    Counted from the decision, not from the instant: one that is caught up is not late from the start. A
    schedule that names no time of its own gets that of all its attempts, and ten minutes more.
    """
    wait_ms = schedule.alarm_after_ms
    if wait_ms is None:
        wait_ms = (schedule.max_runtime or default_max_runtime_ms) * schedule.max_attempts + _SLACK_MS
    return decided_at + timedelta(milliseconds=wait_ms + schedule.jitter_ms)


def settle(tx: Transaction, slot_ids: Sequence[str]) -> None:
    """These slots have their outcome."""
    if slot_ids:
        tx.execute(
            pulse_slots.update()
            .where(pulse_slots.c.id.in_(slot_ids), pulse_slots.c.expected_by.is_not(None))
            .values(expected_by=None)
        )


def mark_overdue(tx: Transaction, *, limit: int) -> int:
    """Mark up to `limit` slots whose outcome is overdue, each once, with its event. Returns how many."""
    now = tx.now()
    overdue = (
        sa.select(pulse_slots.c.id)
        .where(pulse_slots.c.expected_by <= now, pulse_slots.c.alarmed_at.is_(None))
        .order_by(pulse_slots.c.expected_by)
        .limit(limit)
        # Several servers look; one that somebody else is just changing is looked at in the next pass.
        .with_for_update(skip_locked=True)
    )
    ids = list(tx.execute(overdue).scalars())
    if not ids:
        return 0
    marked = tx.execute(
        pulse_slots.update()
        .where(
            pulse_slots.c.id.in_(ids),
            pulse_slots.c.alarmed_at.is_(None),
            pulse_slots.c.expected_by.is_not(None),
        )
        .values(alarmed_at=now)
        .returning(
            pulse_slots.c.id, pulse_slots.c.schedule_id, pulse_slots.c.due_at, pulse_slots.c.expected_by
        )
    ).all()
    for row in marked:
        facts = {
            "scheduleId": row.schedule_id,
            "dueAt": iso(row.due_at),
            "expectedBy": iso(row.expected_by),
        }
        tx.emit(OVERDUE, row.id, facts)
    return len(ids)


def tell_undecided(tx: Transaction, late: Sequence[Late]) -> None:
    """Emit that nobody decides these schedules."""
    for one in late:
        tx.emit("pulse.schedule.overdue", one.schedule_id, {"dueAt": iso(one.due_at)})


def alarms(connection: sa.Connection, now: datetime, schedule_id: str | None = None) -> dict[str, datetime]:
    """The schedules with an alarm, each with the earliest instant that has no outcome in time, or that
    nobody has decided; or with the time until which a clock that was ahead decided it."""
    slot = pulse_slots.c
    overdue = (
        sa.select(slot.schedule_id, slot.due_at)
        .where(slot.expected_by.is_not(None), slot.alarmed_at.is_not(None))
        .order_by(slot.due_at.desc())
    )
    if schedule_id is not None:
        overdue = overdue.where(slot.schedule_id == schedule_id)
    found = _ahead(connection, now, schedule_id)
    found |= {late.schedule_id: late.due_at for late in undecided(connection, now, schedule_id=schedule_id)}
    # The earliest comes last and stays.
    return found | {row.schedule_id: row.due_at for row in connection.execute(overdue)}


def _ahead(connection: sa.Connection, now: datetime, schedule_id: str | None) -> dict[str, datetime]:
    schedule = pulse_schedules.c
    statement = sa.select(schedule.id, schedule.decided_until).where(
        schedule.decided_until > now + AHEAD, schedule.next_due_at.is_not(None)
    )
    if schedule_id is not None:
        statement = statement.where(schedule.id == schedule_id)
    return {row.id: row.decided_until for row in connection.execute(statement)}


def undecided(
    connection: sa.Connection, now: datetime, *, schedule_id: str | None = None, limit: int | None = None
) -> list[Late]:
    """Schedules whose next instant has passed long ago and is not decided, the longest waiting first."""
    schedule = pulse_schedules.c
    statement = (
        sa.select(schedule.id, schedule.next_due_at)
        .where(schedule.next_due_at <= now - UNDECIDED_AFTER)
        .order_by(schedule.next_due_at, schedule.id)
        .limit(limit)
    )
    if schedule_id is not None:
        statement = statement.where(schedule.id == schedule_id)
    return [Late(row.id, row.next_due_at) for row in connection.execute(statement)]
