"""After a clock that was ahead: schedules that it decided for times that have not come.

The cursor of a schedule never goes back by itself, so that no instant is decided twice when a clock is set
back a little. But a clock that was wrong by days leaves schedules decided until then, which would be silent
for as long. They begin anew: what is decided of times to come is forgotten, save the instants that had
their run, which keep it. Only who saw the clock go back may do so, or a person who edits the schedule: a
clock that is behind after a start, until it is set, looks the same.
"""

from __future__ import annotations

from datetime import datetime
from itertools import islice, takewhile

import sqlalchemy as sa

from dorkos.db.database import Transaction
from dorkos.db.schema.pulse import pulse_runs, pulse_schedules, pulse_slots
from dorkos.errors import DorkError
from dorkos.pulse import runs
from dorkos.pulse.expectations import AHEAD
from dorkos.pulse.model import Schedule
from dorkos.pulse.planner import ENUMERATED_MAX, due_instants
from dorkos.pulse.rows import SCHEDULE_COLUMNS, schedule_of
from dorkos.pulse.triggers import trigger_of
from dorkos.pulse.zones import Zones
from dorkos.vocabulary import RunState, Verdict

_L, _R, _S = pulse_slots.c, pulse_runs.c, pulse_schedules.c


def is_ahead(schedule: Schedule, now: datetime) -> bool:
    """Whether it is decided until a time that has not come for long."""
    return schedule.decided_until > now + AHEAD


def schedules_ahead(connection: sa.Connection, now: datetime, *, after: str, limit: int) -> list[Schedule]:
    """A page of the schedules that are, by id, from behind `after`."""
    statement = (
        sa.select(*SCHEDULE_COLUMNS)
        .where(_S.decided_until > now + AHEAD, _S.deleted_at.is_(None), _S.id > after)
        .order_by(_S.id)
        .limit(limit)
    )
    return [schedule_of(row) for row in connection.execute(statement)]


def forget_future(tx: Transaction, schedule: Schedule, now: datetime, zones: Zones) -> None:
    """Forget what was decided of times after now. What got a run stays, and waits for no time of then."""
    future = pulse_slots.delete().where(_L.schedule_id == schedule.id, _L.verdict != Verdict.RUN)
    tx.execute(future.where(_L.due_at > now))
    reaching = sa.select(_L.id, _L.due_at).where(
        _L.schedule_id == schedule.id, _L.due_at <= now, _L.through_at > now
    )
    for row in tx.execute(reaching).all():
        passed = _passed(schedule, row.due_at, now, zones)
        cut = pulse_slots.update().where(_L.id == row.id)
        tx.execute(cut.values(through_at=max([row.due_at, *passed]), count=1 + len(passed)))
    waiting = pulse_runs.update().where(
        runs.ACTIVE,
        _R.status == RunState.QUEUED,
        _R.schedule_id == schedule.id,
        _R.available_at > now + AHEAD,
    )
    tx.execute(waiting.where(_R.created_at > now).values(available_at=None))


def _passed(schedule: Schedule, after: datetime, now: datetime, zones: Zones) -> list[datetime]:
    """The instants of a span behind its first that have come."""
    try:
        trigger = trigger_of(schedule, zones)
        if trigger is None:
            return []
        coming = islice(due_instants(trigger, after), ENUMERATED_MAX)
        return list(takewhile(lambda instant: instant <= now, coming))
    except DorkError:  # It cannot be read any more; that its first instant has come is certain.
        return []
