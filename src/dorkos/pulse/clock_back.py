"""Runs that wait for an instant of a clock that was ahead, see `clock_watch`."""

from __future__ import annotations

import sqlalchemy as sa

from dorkos.db.database import Transaction
from dorkos.db.schema.pulse import pulse_runs
from dorkos.pulse.runs import ACTIVE
from dorkos.vocabulary import RunState

_CHUNK = 500
_R = pulse_runs.c


def bring_forward(tx: Transaction, *, after: str) -> list[str]:
    """Let up to 500 of them with a greater id wait from now for as long as they were meant to wait.

    Returns their ids in order.
    """
    now = tx.now()
    ahead = sa.select(_R.id, _R.created_at, _R.available_at).where(
        _R.id > after, ACTIVE, _R.status == RunState.QUEUED, _R.available_at > now, _R.created_at > now
    )
    found = tx.execute(ahead.order_by(_R.id).limit(_CHUNK).with_for_update(skip_locked=True)).all()
    for row in found:
        waits = row.available_at - row.created_at
        tx.execute(
            sa.update(pulse_runs)
            .where(_R.id == row.id, _R.status == RunState.QUEUED)
            .values(available_at=now + waits if waits.total_seconds() > 0 else None)
        )
    return [row.id for row in found]
