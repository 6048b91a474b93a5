"""What agents are doing, from the tables of Pulse and Relay."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from dorkos.clock import Clock
from dorkos.db.schema.pulse import pulse_runs, pulse_schedules
from dorkos.db.schema.relay import relay_endpoints, relay_index
from dorkos.fleet import read as read_fleet
from dorkos.mesh.model import Source, Work
from dorkos.pulse.runs import ACTIVE
from dorkos.relay.inbox import IS_PENDING
from dorkos.vocabulary import RunState, ScheduleStatus

# Past this many ids a statement asks for all agents instead: some databases bound the parameters of one.
_NAMED = 500


class AgentsWork:
    """Three statements for any number of agents."""

    def __init__(self, clock: Clock) -> None:
        """`clock` tells which messages could be taken by now."""
        self._clock = clock

    def work_of(self, source: Source, agent_ids: list[str]) -> Mapping[str, Work]:
        """What is known of each agent. While the fleet is on hold nothing is said to wait for anybody: it
        is the fleet that keeps it."""
        if not agent_ids:
            return {}
        runs = _by_agent(source, _runs(agent_ids))
        schedules = _by_agent(source, _schedules(agent_ids))
        holds = not read_fleet(source).starts
        mail = {} if holds else _by_agent(source, _mail(agent_ids, self._clock.now()))
        return {
            agent_id: Work(
                running_since=_of(runs, agent_id, "running_since"),
                run_waits_since=None if holds else _of(runs, agent_id, "queued_since"),
                mail_waits_since=_of(mail, agent_id, "waiting_since"),
                next_due_at=_of(schedules, agent_id, "next_due_at"),
                schedules=_of(schedules, agent_id, "schedules") or 0,
            )
            for agent_id in {*runs, *schedules, *mail}
        }


def _runs(agent_ids: list[str]) -> sa.Select[Any]:
    run = pulse_runs.c
    running = sa.case((run.status == RunState.RUNNING, run.started_at))
    queued = sa.case((run.status == RunState.QUEUED, run.created_at))
    return (
        sa.select(
            run.agent_id,
            sa.func.min(running, type_=run.started_at.type).label("running_since"),
            sa.func.min(queued, type_=run.created_at.type).label("queued_since"),
        )
        .where(ACTIVE, _among(run.agent_id, agent_ids))
        .group_by(run.agent_id)
    )


def _schedules(agent_ids: list[str]) -> sa.Select[Any]:
    schedule = pulse_schedules.c
    return (
        sa.select(
            schedule.agent_id,
            sa.func.min(schedule.next_due_at, type_=schedule.next_due_at.type).label("next_due_at"),
            sa.func.count().label("schedules"),
        )
        .where(
            schedule.deleted_at.is_(None),
            schedule.enabled.is_(sa.true()),
            schedule.status == ScheduleStatus.ACTIVE,
            _among(schedule.agent_id, agent_ids),
        )
        .group_by(schedule.agent_id)
    )


def _mail(agent_ids: list[str], now: datetime) -> sa.Select[Any]:
    """The oldest message of each mailbox that somebody could have taken by now, and nobody holds."""
    endpoint, delivery = relay_endpoints.c, relay_index.c
    return (
        sa.select(
            endpoint.agent_id,
            sa.func.min(delivery.created_at, type_=delivery.created_at.type).label("waiting_since"),
        )
        .join_from(relay_endpoints, relay_index, delivery.endpoint_id == endpoint.id)
        .where(
            endpoint.closed_at.is_(None),
            endpoint.pending_count > 0,
            _among(endpoint.agent_id, agent_ids),
            IS_PENDING,
            delivery.run_id.is_(None),
            delivery.available_at <= now,
        )
        .group_by(endpoint.agent_id)
    )


def _among(column: sa.ColumnElement[Any], agent_ids: list[str]) -> sa.ColumnElement[bool]:
    return column.in_(agent_ids) if len(agent_ids) <= _NAMED else column.is_not(None)


def _by_agent(source: Source, statement: sa.Select[Any]) -> dict[str, Mapping[str, Any]]:
    return {row["agent_id"]: dict(row) for row in source.execute(statement).mappings()}


def _of(rows: Mapping[str, Mapping[str, Any]], agent_id: str, column: str) -> Any:
    row = rows.get(agent_id)
    return None if row is None else row[column]
