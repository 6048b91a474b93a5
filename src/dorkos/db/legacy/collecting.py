"""Everything that a home of the lineage holds, read and checked before anything is written."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime

from dorkos.db.legacy import config, mesh, pulse, relay
from dorkos.db.legacy.home import LegacyHome
from dorkos.db.legacy.pulse import ScheduleProblem
from dorkos.db.legacy.recognition import LEDGER
from dorkos.db.legacy.report import Report
from dorkos.db.legacy.rows import DRIZZLE_DATABASES, Row, Rows


@dataclass(frozen=True, slots=True)
class Rules:
    """What the import has to know of the system that it imports into.

    `schedule_problem` judges a schedule's time. `inherited_zone` is what `scheduler.timezone` is set to.
    """

    schedule_problem: ScheduleProblem
    inherited_zone: str | None


def collect(home: LegacyHome, report: Report, now: datetime, rules: Rules, *, in_place: bool) -> Rows:
    """The rows of all tables, as they will be written. Nothing is changed anywhere.

    `in_place` says that the home's own settings will be the settings afterwards.
    """
    settings = config.read_settings(home)
    collected = [mesh.collect(home, report, now)]
    agents = collected[0]["agents"]
    collected.append(pulse.collect(home, report, now, rules.schedule_problem))
    collected.append(relay.collect(home, report, now, agents=agents))
    rows: Rows = {"system_state": _ledgers(home)}
    for part in collected:
        for table, further in part.items():
            rows.setdefault(table, []).extend(further)
    config.tell(
        report,
        settings,
        source=str(home.path),
        schedules=rows["pulse_schedules"],
        in_place=in_place,
        inherited_zone=rules.inherited_zone,
    )
    return rows


def _ledgers(home: LegacyHome) -> list[Row]:
    """Which migrations each database had, in case somebody ever asks."""
    rows: list[Row] = []
    for name in DRIZZLE_DATABASES:
        database = home.database(name)
        if database is None or LEDGER not in database.tables():
            continue
        key = LEDGER if name == DRIZZLE_DATABASES[0] else f"{name}:{LEDGER}"
        ledger = [dict(row) for row in database.rows(LEDGER, "created_at")]
        rows.append({"key": f"lineage:{key}", "value": json.dumps(ledger, default=repr)})
    return rows
