"""Putting the whole fleet on hold from below: after an adoption, an import or a restore nothing old may act.

`dorkos.fleet` reads and lifts it while a server runs; this is for the database alone, with no server.
"""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from dorkos.clock import iso
from dorkos.db import rules_revision
from dorkos.db.schema.pulse import pulse_runs, pulse_schedules
from dorkos.db.schema.system import system_state
from dorkos.db.types import to_json
from dorkos.vocabulary import FleetMode, RunState, ScheduleStatus

FLEET_KEY = "fleet"


def hold_fleet(connection: sa.Connection, *, reason: str, now: datetime) -> None:
    """Set the fleet to `hold` and every cursor to `now`, in the caller's transaction.

    Whatever wrote rows from below may have written access rules, so these get another revision as well.

    Idempotent. A schedule that may fire is looked at again at `now` and decides from there, so no instant
    before counts as due. `reason` is shown to the person who is to lift the hold.
    """
    value = to_json({"mode": FleetMode.HOLD, "reason": reason, "actor": None, "since": iso(now)})
    connection.execute(system_state.delete().where(system_state.c.key == FLEET_KEY))
    connection.execute(system_state.insert().values(key=FLEET_KEY, value=value))
    rules_revision.renew(connection)
    schedule = pulse_schedules.c
    armed = sa.and_(
        schedule.enabled,
        # One that is paused or waits for approval decides as well: its instants are skipped.
        schedule.status != ScheduleStatus.NEEDS_ATTENTION,
        schedule.deleted_at.is_(None),
        sa.or_(schedule.cron.is_not(None), schedule.every_ms.is_not(None), schedule.run_at.is_not(None)),
    )
    # In a CASE the value has no type of its own, and SQLite would store it in another form.
    again = sa.literal(now, schedule.next_due_at.type)
    connection.execute(
        pulse_schedules.update().values(decided_until=now, next_due_at=sa.case((armed, again), else_=None))
    )


def let_go_of_processes(connection: sa.Connection) -> None:
    """Forget which process did the work of each run, so that no living one can be taken for it.

    The rows may have come from another data directory whose server is doing that very run right now: host,
    boot, process id and start time would all match, and rescue would kill it. Without a process rescue can
    prove nothing: it kills nothing, and ends the run as interrupted and unconfirmed, which is the truth.
    """
    connection.execute(
        pulse_runs.update()
        .where(pulse_runs.c.status == RunState.RUNNING)
        .values(pid=None, process_started_at=None)
    )
