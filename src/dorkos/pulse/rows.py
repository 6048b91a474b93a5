"""From rows to Pulse's values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dorkos.db.schema.pulse import pulse_runs, pulse_schedules
from dorkos.pulse.model import Run, Schedule, ScheduleDraft

_SCHEDULE_FIELDS = tuple(Schedule.__dataclass_fields__)
SCHEDULE_COLUMNS = tuple(pulse_schedules.c[name] for name in _SCHEDULE_FIELDS)
_RUN_FIELDS = tuple(Run.__dataclass_fields__)
RUN_COLUMNS = tuple(pulse_runs.c[name] for name in _RUN_FIELDS)
DRAFT_FIELDS = tuple(ScheduleDraft.__dataclass_fields__)
_COMMAND = _SCHEDULE_FIELDS.index("command")
_COMMAND_OF_RUN, _CONTEXT = _RUN_FIELDS.index("command"), _RUN_FIELDS.index("context")


def schedule_of(row: Sequence[Any]) -> Schedule:
    """A row of `SCHEDULE_COLUMNS`, in their order."""
    values = list(row)
    values[_COMMAND] = _argv(values[_COMMAND])
    return Schedule(*values)


def run_of(row: Sequence[Any]) -> Run:
    """A row of `RUN_COLUMNS`, in their order."""
    values = list(row)
    values[_COMMAND_OF_RUN] = _argv(values[_COMMAND_OF_RUN])
    values[_CONTEXT] = values[_CONTEXT] or {}
    return Run(*values)


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
