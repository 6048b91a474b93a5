"""Which waiting runs may start now.

A run waits until its `available_at`; while another run of its schedule is at work, unless the schedule lets
runs overlap, and then while `max_active` are; and while its agent has as many at work as the setting allows.
Of those that may start, the oldest is first. Later attempts come after earlier ones by themselves: they are
queued only when the one before them has ended. And where servers of several machines share a database, the
run of an agent waits for a server of the machine on which the agent lies.

What is counted stays as it was counted: only one server at a time chooses. SQLite has one writer anyway; on
PostgreSQL an advisory lock is held until the transaction ends. Runs that end meanwhile only make room.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from dorkos.db.advisory import Turn, take
from dorkos.db.database import Transaction
from dorkos.db.schema.pulse import pulse_runs, pulse_schedules
from dorkos.pulse import runs
from dorkos.vocabulary import OverlapPolicy, RunState

_PAGE = 50

_R, _S = pulse_runs.c, pulse_schedules.c


def choose(
    tx: Transaction, *, limit: int, per_agent: int | None, here: sa.ColumnElement[bool] | None = None
) -> list[str]:
    """The ids of up to `limit` runs that may start now, oldest first. They are locked where that matters.

    `here` is what holds for the runs of agents that lie on this machine, and for runs of no agent.
    """
    take(tx, Turn.RUNS_ARE_CHOSEN)
    work = _AtWork(tx, per_agent)
    chosen: list[str] = []
    after: tuple[datetime, str] | None = None
    while len(chosen) < limit:
        page = tx.execute(
            _waiting(tx.now(), after, here, full=work.full_schedules, busy=work.full_agents)
        ).all()
        chosen += [row.id for row in page if len(chosen) < limit and work.takes(row)]
        if len(page) < _PAGE:
            break
        after = (page[-1].created_at, page[-1].id)
    return chosen[:limit]


class _AtWork:
    """How many runs of each schedule and agent are at work, with those that are being chosen."""

    def __init__(self, tx: Transaction, per_agent: int | None) -> None:
        self._per_agent = per_agent
        counted = tx.execute(
            sa.select(_R.schedule_id, _R.agent_id, _S.overlap, _S.max_active, sa.func.count().label("number"))
            .select_from(pulse_runs.outerjoin(pulse_schedules, _S.id == _R.schedule_id))
            .where(runs.ACTIVE, _R.status == RunState.RUNNING)
            .group_by(_R.schedule_id, _R.agent_id, _S.overlap, _S.max_active)
        ).all()
        self._schedules: Counter[str] = Counter()
        self._agents: Counter[str] = Counter()
        for row in counted:
            if row.schedule_id is not None:
                self._schedules[row.schedule_id] += row.number
            if row.agent_id is not None:
                self._agents[row.agent_id] += row.number
        self.full_schedules = sorted(
            {row.schedule_id for row in counted if row.schedule_id is not None and not self._has_room(row)}
        )
        self.full_agents = sorted(agent for agent in self._agents if not self._has_time(agent))

    def takes(self, row: Any) -> bool:
        """Whether this run may start beside all others; if so, it counts from now on."""
        if row.schedule_id is not None and not self._has_room(row):
            return False
        if row.agent_id is not None and not self._has_time(row.agent_id):
            return False
        if row.schedule_id is not None:
            self._schedules[row.schedule_id] += 1
        if row.agent_id is not None:
            self._agents[row.agent_id] += 1
        return True

    def _has_room(self, row: Any) -> bool:
        most = row.max_active if row.overlap is OverlapPolicy.ALLOW else 1
        return most is None or self._schedules[row.schedule_id] < most

    def _has_time(self, agent_id: str) -> bool:
        return self._per_agent is None or self._agents[agent_id] < self._per_agent


def _waiting(
    now: datetime,
    after: tuple[datetime, str] | None,
    here: sa.ColumnElement[bool] | None,
    *,
    full: Sequence[str],
    busy: Sequence[str],
) -> sa.Select[Any]:
    statement = (
        sa.select(_R.id, _R.created_at, _R.schedule_id, _R.agent_id, _S.overlap, _S.max_active)
        .select_from(pulse_runs.outerjoin(pulse_schedules, _S.id == _R.schedule_id))
        .where(
            runs.ACTIVE,
            _R.status == RunState.QUEUED,
            sa.or_(_R.available_at.is_(None), _R.available_at <= now),
        )
        .order_by(_R.created_at, _R.id)
        .limit(_PAGE)
        # One that is just being cancelled is passed over.
        .with_for_update(skip_locked=True, of=pulse_runs)
    )
    if here is not None:
        statement = statement.where(sa.or_(_R.agent_id.is_(None), here))
    if full:
        statement = statement.where(sa.or_(_R.schedule_id.is_(None), _R.schedule_id.not_in(full)))
    if busy:
        statement = statement.where(sa.or_(_R.agent_id.is_(None), _R.agent_id.not_in(busy)))
    if after is not None:
        place = sa.tuple_(sa.literal(after[0], _R.created_at.type), sa.literal(after[1]))
        statement = statement.where(sa.tuple_(_R.created_at, _R.id) > place)
    return statement
