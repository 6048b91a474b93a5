"""Reading what happened: runs page by page, figures of a schedule, and what should have run and did not."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from dorkos.clock import from_iso, iso
from dorkos.db.schema.pulse import pulse_runs, pulse_schedules, pulse_slots
from dorkos.errors import DorkError, ErrorCode
from dorkos.pulse.model import Run
from dorkos.pulse.rows import RUN_COLUMNS, run_of
from dorkos.pulse.runs import status_in
from dorkos.vocabulary import ACTIVE_RUN_STATES, RunState, ScheduleStatus, Verdict

# Figures are made of the newest runs of the window, at most so many.
COUNTED_MAX = 100_000
# An instant is decided within a second or two; one that is not after this long was overlooked.
_UNDECIDED = timedelta(minutes=1)
_AT_ONCE = 500


# An instant, or the name under which one is given when a statement is run.
_At = datetime | sa.BindParameter[datetime]


@dataclass(frozen=True, slots=True)
class Window:
    """A span of time, from `since` up to but without `until`."""

    since: datetime | None
    until: datetime | None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page ended. What is older, or as old with a smaller id, comes after it."""

    created_at: datetime
    id: str

    def __str__(self) -> str:
        """The form on the wire."""
        return f"{iso(self.created_at)}~{self.id}"

    @classmethod
    def parse(cls, text: str) -> Place:
        """Read it back. Raises `invalid_cursor`."""
        at, _, run_id = text.partition("~")
        try:
            place = cls(from_iso(at), run_id)
        except (ValueError, OverflowError):
            place = None
        if place is None or not run_id.isascii() or not run_id.isalnum() or len(run_id) > 64:
            raise DorkError(
                ErrorCode.INVALID_CURSOR,
                f"{text!r} is no place in a list of runs.",
                hint="Use what the header X-Next-Cursor of the page before said, or leave it out.",
            )
        return place


@dataclass(frozen=True, slots=True)
class Figures:
    """How the runs of a window ended. Durations are milliseconds, cost is millionths of a US dollar.

    `success_rate` is completed over all that ended, cancelled ones left out; None where there is none.
    Percentiles are by nearest rank, over runs that had begun and ended. `cost` is None where no run told.
    """

    runs: int
    by_state: dict[RunState, int]
    success_rate: float | None
    p50_ms: int | None
    p95_ms: int | None
    cost_microusd: int | None
    truncated: bool


@dataclass(frozen=True, slots=True)
class Missed:
    """Due instants without a completed run, and why. `what` is one of:

    `not_run`: it was decided not to. `not_completed`: it ran and ended otherwise. `overdue`: it has no
    outcome in time. `undecided`: nobody has looked at it.
    """

    schedule_id: str
    schedule_name: str
    due_at: datetime
    through_at: datetime
    count: int
    what: str
    reason: str | None
    state: RunState | None
    run_id: str | None
    error: str | None


def page_of_runs(
    connection: sa.Connection,
    *,
    schedule_id: str | None,
    states: Sequence[RunState] | None,
    window: Window,
    after: Place | None,
    limit: int,
    offset: int = 0,
) -> list[Run]:
    """Runs created in the window, newest first, ties by id: pages neither overlap nor leave one out.

    That holds while runs are added and removed, if the next page is asked for by `after`, not by `offset`.
    """
    runs = pulse_runs.c
    statement = (
        sa.select(*RUN_COLUMNS)
        .order_by(runs.created_at.desc(), runs.id.desc())
        .limit(limit)
        .offset(offset)
        .where(*_within(window))
    )
    if schedule_id is not None:
        statement = statement.where(runs.schedule_id == schedule_id)
    if states is not None:
        statement = statement.where(status_in(states))
    if after is not None:
        place = sa.tuple_(
            sa.literal(after.created_at, runs.created_at.type), sa.literal(after.id, runs.id.type)
        )
        statement = statement.where(sa.tuple_(runs.created_at, runs.id) < place)
    return [run_of(row) for row in connection.execute(statement)]


def figures(connection: sa.Connection, schedule_id: str, window: Window) -> Figures:
    """The figures of a schedule."""
    runs = pulse_runs.c
    statement = (
        sa.select(runs.status, runs.duration_ms, runs.started_at, runs.cost_microusd)
        .where(runs.schedule_id == schedule_id, *_within(window))
        .order_by(runs.created_at.desc(), runs.id.desc())
        .limit(COUNTED_MAX + 1)
    )
    rows = connection.execute(statement).all()
    counted = rows[:COUNTED_MAX]
    by_state = Counter(row.status for row in counted)
    judged = sum(by_state.values()) - sum(by_state[s] for s in (*ACTIVE_RUN_STATES, RunState.CANCELLED))
    took = sorted(
        row.duration_ms for row in counted if row.started_at is not None and row.duration_ms is not None
    )
    told = [row.cost_microusd for row in counted if row.cost_microusd is not None]
    return Figures(
        runs=len(counted),
        by_state=dict(by_state),
        success_rate=by_state[RunState.COMPLETED] / judged if judged else None,
        p50_ms=percentile(took, 50),
        p95_ms=percentile(took, 95),
        cost_microusd=sum(told) if told else None,
        truncated=len(rows) > COUNTED_MAX,
    )


def percentile(ordered: Sequence[int], share: int) -> int | None:
    """The smallest value that `share` percent are not above; None of nothing."""
    return ordered[max(1, math.ceil(len(ordered) * share / 100)) - 1] if ordered else None


def missed(
    connection: sa.Connection, *, since: datetime, until: datetime, now: datetime, limit: int
) -> list[Missed]:
    """What should have run in the window and did not complete, newest first; of a span its end counts.

    A run that is under way and not overdue is not missed. Spans that reach into the window count whole.
    """
    of = pulse_schedules.c
    names = {
        row.id: row.name
        for row in connection.execute(sa.select(of.id, of.name).where(of.deleted_at.is_(None)))
    }
    found: list[Missed] = []
    # By schedule, because slots are stored by schedule and instant: a join might read them all.
    for chunk in batched(sorted(names)):
        rows = connection.execute(_missed_of(chunk, since=since, until=until, now=now).limit(limit))
        found += [_missed(row, names) for row in rows]
    found += _undecided(connection, since=since, until=min(until, now - _UNDECIDED), limit=limit)
    return sorted(found, key=lambda one: (one.through_at, one.schedule_id), reverse=True)[:limit]


def _missed_of(
    schedule_ids: Sequence[str], *, since: datetime, until: datetime, now: datetime
) -> sa.Select[Any]:
    slots, runs = pulse_slots.c, pulse_runs.c
    other = pulse_runs.alias("other")
    newest = (
        sa.select(sa.func.max(other.c.attempt))
        .where(other.c.slot_id == slots.id)
        .correlate(pulse_slots)
        .scalar_subquery()
    )
    active = status_in(ACTIVE_RUN_STATES)
    return (
        sa.select(
            *(
                slots.schedule_id,
                slots.due_at,
                slots.through_at,
                slots.count.label("times"),
            ),
            *(slots.verdict, slots.reason, runs.id.label("run_id"), runs.status),
            *(runs.reason.label("run_reason"), runs.error),
        )
        .select_from(pulse_slots)
        .outerjoin(pulse_runs, sa.and_(runs.slot_id == slots.id, runs.attempt == newest))
        .where(slots.schedule_id.in_(schedule_ids), *reaches(since=since, until=until))
        .where(
            sa.or_(
                slots.verdict != Verdict.RUN,
                runs.id.is_(None),
                sa.and_(sa.not_(active), runs.status != RunState.COMPLETED),
                sa.and_(active, slots.expected_by < now),
            )
        )
        .order_by(slots.through_at.desc(), slots.id.desc())
    )


def reaches(*, since: _At, until: _At) -> tuple[sa.ColumnElement[bool], sa.ColumnElement[bool]]:
    """Whether a span reaches into a window; asked together with its schedule.

    As plain comparisons both could be searched by an index, and the planner would as soon take the begin,
    which all that was ever due before the window fulfils.
    """
    slots = pulse_slots.c
    return slots.through_at >= since, sa.func.coalesce(slots.due_at, slots.through_at) < until


def batched(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """In pieces that fit into one statement."""
    return (ids[start : start + _AT_ONCE] for start in range(0, len(ids), _AT_ONCE))


def usual_durations(connection: sa.Connection, since: datetime) -> dict[str, int]:
    """How long completed runs took on average since then, in milliseconds, by schedule."""
    runs = pulse_runs.c
    statement = (
        sa.select(runs.schedule_id, sa.func.avg(runs.duration_ms))
        .where(
            status_in([RunState.COMPLETED]),
            runs.created_at >= since,
            runs.schedule_id.is_not(None),
            runs.duration_ms.is_not(None),
        )
        .group_by(runs.schedule_id)
    )
    return {schedule_id: round(took) for schedule_id, took in connection.execute(statement)}


def _undecided(connection: sa.Connection, *, since: datetime, until: datetime, limit: int) -> list[Missed]:
    of = pulse_schedules.c
    statement = (
        sa.select(of.id, of.name, of.next_due_at)
        .where(of.next_due_at.is_not(None), of.next_due_at >= since, of.next_due_at < until)
        .where(of.deleted_at.is_(None), of.status == ScheduleStatus.ACTIVE)
        .order_by(of.next_due_at.desc(), of.id.desc())
        .limit(limit)
    )
    return [
        Missed(row.id, row.name, row.next_due_at, row.next_due_at, 1, "undecided", None, None, None, None)
        for row in connection.execute(statement)
    ]


def _missed(row: sa.Row[Any], names: Mapping[str, str]) -> Missed:
    if row.verdict is not Verdict.RUN:
        what, reason = "not_run", row.reason
    elif row.status in ACTIVE_RUN_STATES:
        what, reason = "overdue", None
    else:
        what, reason = "not_completed", row.run_reason
    return Missed(
        row.schedule_id,
        names[row.schedule_id],
        row.due_at,
        row.through_at,
        row.times,
        what,
        None if reason is None else reason.value,
        row.status,
        row.run_id,
        row.error,
    )


def _within(window: Window) -> list[sa.ColumnElement[bool]]:
    created_at = pulse_runs.c.created_at
    bounds = []
    if window.since is not None:
        bounds.append(created_at >= window.since)
    if window.until is not None:
        bounds.append(created_at < window.until)
    return bounds
