"""What the end of a run means for its schedule: another attempt, or an outcome that counts.

All of it is stored in the commit that ends the run, so there is never a moment at which a run has ended and
what follows from it is not there yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from dorkos.db.database import Transaction
from dorkos.db.schema.pulse import pulse_schedules
from dorkos.pulse import expectations, runs
from dorkos.pulse.attempts import may_follow, pause_before
from dorkos.pulse.model import Outcome, Run
from dorkos.vocabulary import RunState, RunTrigger, ScheduleStatus

PAUSED = "pulse.schedule.paused"
# An interrupted run says something of the server, and neither counts nor breaks the row.
_FAILURES = frozenset({RunState.FAILED, RunState.TIMEOUT})

_S = pulse_schedules.c


@dataclass(frozen=True, slots=True)
class Standing:
    """What counts of a schedule when one of its runs ends."""

    id: str
    name: str
    status: ScheduleStatus
    enabled: bool
    max_attempts: int
    retry_delay_ms: int | None
    pause_after_failures: int | None
    deleted_at: datetime | None

    @property
    def fires(self) -> bool:
        """Whether it may start anything by itself."""
        return self.enabled and self.status is ScheduleStatus.ACTIVE and self.deleted_at is None


def standing_of(tx: Transaction, schedule_id: str | None) -> Standing | None:
    """The schedule of a run that is about to end, held until the end of the transaction.

    Ask before touching the run: a change of a schedule locks it before its runs, in this order as well.
    """
    if schedule_id is None:
        return None
    columns = [_S[name] for name in Standing.__dataclass_fields__]
    found = tx.execute(sa.select(*columns).where(_S.id == schedule_id).with_for_update())
    row = found.mappings().one_or_none()
    return None if row is None else Standing(**row)


def follow(tx: Transaction, run: Run, outcome: Outcome, standing: Standing | None, *, next_id: str) -> None:
    """Queue the next attempt, or let the outcome count. `next_id` is the id that the next attempt gets."""
    if standing is None:
        return
    if run.slot_id is not None:
        if _has_another(run, outcome, standing):
            pause = pause_before(run.id, attempt=run.attempt, retry_delay_ms=standing.retry_delay_ms)
            again = runs.NewRun.of_attempt(run, run_id=next_id, available_at=tx.now() + pause)
            runs.queue(tx, [again])
            return
        expectations.settle(tx, [run.slot_id])
    if run.trigger is not RunTrigger.TEST:
        _count(tx, outcome, standing)


def _has_another(run: Run, outcome: Outcome, standing: Standing) -> bool:
    # One that was switched off, paused or is asked about meanwhile does not go on by itself.
    return (
        standing.fires
        and run.attempt < standing.max_attempts
        and may_follow(outcome, repeatable=run.repeatable)
    )


def _count(tx: Transaction, outcome: Outcome, standing: Standing) -> None:
    """Count failures in a row, and pause the schedule after as many as it says."""
    this = pulse_schedules.update().where(_S.id == standing.id)
    if outcome.state is RunState.COMPLETED:
        tx.execute(this.where(_S.failures_in_row > 0).values(failures_in_row=0))
    if outcome.state not in _FAILURES:
        return
    counted = this.values(failures_in_row=_S.failures_in_row + 1).returning(_S.failures_in_row)
    failures: int = tx.execute(counted).scalar_one()
    if standing.pause_after_failures is None or failures < standing.pause_after_failures:
        return
    why = f"{failures} runs in a row have failed."
    paused = this.where(_S.status == ScheduleStatus.ACTIVE, _S.deleted_at.is_(None)).values(
        status=ScheduleStatus.PAUSED, status_reason=why, revision=_S.revision + 1, updated_at=tx.now()
    )
    if tx.execute(paused).rowcount == 1:
        tx.emit(PAUSED, standing.id, {"name": standing.name, "reason": why, "failures": failures})
