"""What became of each due instant of some schedules, and how their newest runs ended, for a glance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from dorkos.db.schema.pulse import pulse_runs, pulse_slots
from dorkos.pulse.reading import reaches
from dorkos.vocabulary import ACTIVE_RUN_STATES, RunState, Verdict

# Most slots of one schedule; an instant each minute for a day is 1,440.
MARKS_MAX = 1500
RECENT = 20


@dataclass(frozen=True, slots=True)
class Mark:
    """A due instant, or `count` neighbouring ones up to `through_at`.

    `outcome` is the state of its newest run, `overdue` for one without an end in time, or the verdict that
    was other than `run`.
    """

    due_at: datetime
    through_at: datetime
    count: int
    outcome: str
    reason: str | None
    run_id: str | None


def _marks() -> sa.Select[Any]:
    slots, runs = pulse_slots.c, pulse_runs.c
    other = pulse_runs.alias("other")
    newest = (
        sa.select(sa.func.max(other.c.attempt))
        .where(other.c.slot_id == slots.id)
        .correlate(pulse_slots)
        .scalar_subquery()
    )
    since, until = (sa.bindparam(name, type_=slots.due_at.type) for name in ("since", "until"))
    return (
        sa.select(
            *(slots.due_at, slots.through_at, slots.count.label("times"), slots.verdict, slots.reason),
            *(slots.expected_by, runs.id.label("run_id"), runs.status, runs.reason.label("run_reason")),
        )
        .select_from(pulse_slots)
        .outerjoin(pulse_runs, sa.and_(runs.slot_id == slots.id, runs.attempt == newest))
        .where(slots.schedule_id == sa.bindparam("of_schedule"), *reaches(since=since, until=until))
        # By the end of spans, which an index serves together with the window.
        .order_by(slots.through_at.desc())
        .limit(MARKS_MAX)
    )


# Made once: a glance asks it of each schedule, and to make it costs more than to run it.
_MARKS = _marks()
_RECENT = (
    sa.select(pulse_runs.c.status)
    .where(pulse_runs.c.schedule_id == sa.bindparam("of_schedule"))
    .order_by(pulse_runs.c.created_at.desc(), pulse_runs.c.id.desc())
    .limit(RECENT)
)


def marks(
    connection: sa.Connection, schedule_id: str, *, since: datetime, until: datetime, now: datetime
) -> list[Mark]:
    """The decided instants of a schedule in a window, the newest `MARKS_MAX` of them, oldest first."""
    found = []
    window = {"of_schedule": schedule_id, "since": since, "until": until}
    for row in connection.execute(_MARKS, window):
        if row.verdict is not Verdict.RUN:
            outcome, reason = row.verdict.value, row.reason
        elif row.status is None or row.status in ACTIVE_RUN_STATES:
            is_late = row.expected_by is not None and row.expected_by < now
            outcome, reason = "overdue" if is_late or row.status is None else row.status.value, None
        else:
            outcome, reason = row.status.value, row.run_reason
        found.append(
            Mark(
                row.due_at,
                row.through_at,
                row.times,
                outcome,
                None if reason is None else reason.value,
                row.run_id,
            )
        )
    return sorted(found, key=lambda mark: mark.due_at)


def recent(connection: sa.Connection, schedule_id: str) -> list[RunState]:
    """How the newest runs of a schedule stand, the oldest of them first."""
    return list(connection.execute(_RECENT, {"of_schedule": schedule_id}).scalars())[::-1]


def totals(
    connection: sa.Connection, *, since: datetime, until: datetime
) -> tuple[dict[RunState, int], int | None]:
    """How the runs stand that were created in a window, and what they cost, in millionths of a dollar."""
    runs = pulse_runs.c
    statement = (
        sa.select(runs.status, sa.func.count(), sa.cast(sa.func.sum(runs.cost_microusd), sa.BigInteger))
        .where(runs.created_at >= since, runs.created_at < until)
        .group_by(runs.status)
    )
    found: dict[RunState, int] = {}
    costs: list[int] = []
    for state, number, cost in connection.execute(statement):
        found[state] = number
        costs += [] if cost is None else [cost]
    return found, sum(costs) if costs else None


@dataclass(frozen=True, slots=True)
class Timeline:
    """Marks and newest states by schedule, in the order that was asked for; and the totals of all runs."""

    lanes: list[tuple[list[Mark], list[RunState]]]
    runs: dict[RunState, int]
    cost_microusd: int | None


def read(
    connection: sa.Connection, schedule_ids: Sequence[str], *, since: datetime, now: datetime
) -> Timeline:
    """All of it from one snapshot."""
    lanes = [
        (marks(connection, one, since=since, until=now, now=now), recent(connection, one))
        for one in schedule_ids
    ]
    return Timeline(lanes, *totals(connection, since=since, until=now))
