"""From rows to Pulse's values."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from dorkos.db.schema.pulse import pulse_runs, pulse_schedules
from dorkos.pulse.model import Run, Schedule, ScheduleDraft

SCHEDULE_COLUMNS = tuple(column for column in pulse_schedules.c if column.name != "deleted_at")
RUN_COLUMNS = tuple(pulse_runs.c)
DRAFT_FIELDS = tuple(ScheduleDraft.__dataclass_fields__)


def schedule_of(row: sa.RowMapping) -> Schedule:
    """A row of `SCHEDULE_COLUMNS`."""
    values: dict[str, Any] = {**row}
    values["command"] = _argv(values["command"])
    return Schedule(**values)


def run_of(row: sa.RowMapping) -> Run:
    """A row of `RUN_COLUMNS`."""
    values: dict[str, Any] = {**row}
    values["command"] = _argv(values["command"])
    values["context"] = values["context"] or {}
    return Run(**values)


def draft_of(schedule: Schedule) -> ScheduleDraft:
    """What a person decided about it, to be edited."""
    return ScheduleDraft(**{name: getattr(schedule, name) for name in DRAFT_FIELDS})


def draft_values(draft: ScheduleDraft) -> dict[str, object]:
    """The columns of a draft."""
    values: dict[str, object] = {name: getattr(draft, name) for name in DRAFT_FIELDS}
    values["command"] = list(draft.command) if draft.command is not None else None
    return values


def _argv(stored: list[str] | None) -> tuple[str, ...] | None:
    return None if stored is None else tuple(stored)
