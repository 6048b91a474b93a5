"""Conversations: what a sender writes to an agent goes on in the session of what it wrote before."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import sqlalchemy as sa

from dorkos.db.database import Transaction
from dorkos.db.schema.pulse import pulse_runs
from dorkos.pulse.runs import NewRun
from dorkos.vocabulary import RunState, RunTrigger

_R = pulse_runs.c
_SENDER = "DORKOS_MESSAGE_FROM"


def joined(tx: Transaction, run: NewRun, *, lifetime: timedelta) -> NewRun:
    """A run that a message asks for, as part of the conversation that its sender has with the agent.

    That is the session of the last run between the two, if it completed within `lifetime`. One that ended
    otherwise ends the conversation: its session may be what it failed on.
    """
    sender = run.context.get(_SENDER)
    if sender is None:
        return run
    run = replace(run, created_by=sender)
    last = tx.execute(
        sa.select(_R.id, _R.status, _R.session_id, _R.finished_at)
        .where(
            _R.agent_id == run.agent_id,
            _R.created_by == sender,
            _R.trigger.in_((RunTrigger.MESSAGE, RunTrigger.RESUME)),
        )
        .order_by(_R.created_at.desc(), _R.id.desc())
        .limit(1)
    ).one_or_none()
    if last is None or last.status is not RunState.COMPLETED or last.session_id is None:
        return run
    if last.finished_at is None or last.finished_at + lifetime < tx.now():
        return run
    return replace(run, resumed_from=last.id, session_id=last.session_id)
