"""Pulse as agents call it: the lineage's tools by name and shape, and those that it lacked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from dorkos.operation import McpTool, Success, Wire
from dorkos.pulse.wire import (
    CreateSchedule,
    Identifier,
    RunOut,
    RunsQuery,
    ScheduleDetail,
    ScheduleId,
    ScheduleOut,
    SchedulesQuery,
    SlotOut,
    UpdateSchedule,
)
from dorkos.vocabulary import RunState, ScheduleStatus


class ListArguments(Wire):
    """Which schedules."""

    enabled_only: Annotated[
        bool, Field(alias="enabled_only", description="Leave out what is switched off.")
    ] = False


class HistoryArguments(Wire):
    """Which runs."""

    schedule_id: Annotated[
        Identifier | None, Field(alias="schedule_id", description="Only those of this schedule.")
    ] = None
    status: RunState | None = None
    limit: int = Field(20, ge=1, le=500)
    offset: int = Field(0, ge=0, le=2**53)


class ScheduleList(Wire):
    """The schedules."""

    schedules: list[ScheduleOut]
    count: int


class CreatedSchedule(Wire):
    """The new schedule, and what has to happen before it fires."""

    schedule: ScheduleDetail
    note: str


class OneSchedule(Wire):
    """A schedule with its next instants."""

    schedule: ScheduleDetail


class DeletedSchedule(Success):
    """The schedule that is gone."""

    id: str


class SlotList(Wire):
    """What was decided about due instants."""

    slots: list[SlotOut]
    count: int


class RunList(Wire):
    """One page of runs."""

    runs: list[RunOut]
    count: int


def _history(given: HistoryArguments) -> RunsQuery:
    return RunsQuery(
        schedule_id=given.schedule_id, status=given.status, limit=given.limit, offset=given.offset
    )


def _listed(given: ListArguments, found: Sequence[ScheduleOut]) -> ScheduleList:
    shown = [schedule for schedule in found if schedule.enabled or not given.enabled_only]
    return ScheduleList(schedules=shown, count=len(shown))


def _created(_given: CreateSchedule, schedule: ScheduleDetail) -> CreatedSchedule:
    if schedule.state is ScheduleStatus.PENDING_APPROVAL:
        note = "It waits for approval: it fires only after a person has approved it."
    elif schedule.next_runs:
        note = f"It fires next at {schedule.next_runs[0]}."
    else:
        note = "It fires only when it is triggered."
    return CreatedSchedule(schedule=schedule, note=note)


def _one(_given: ScheduleId | UpdateSchedule, schedule: ScheduleDetail) -> OneSchedule:
    return OneSchedule(schedule=schedule)


def _slots(_given: Wire, found: Sequence[SlotOut]) -> SlotList:
    return SlotList(slots=list(found), count=len(found))


def _runs(_given: HistoryArguments, found: Sequence[RunOut]) -> RunList:
    return RunList(runs=list(found), count=len(found))


LIST = McpTool(
    "list_schedules",
    "List the schedules and when each fires next.",
    read_only=True,
    input=ListArguments,
    ask=lambda _given: SchedulesQuery(),
    answer=ScheduleList,
    present=_listed,
)
GET = McpTool(
    "get_schedule",
    "Show one schedule with its next five instants.",
    read_only=True,
    answer=OneSchedule,
    present=_one,
)
CREATE = McpTool(
    "create_schedule",
    "Create a schedule. One that an agent creates waits until a person has approved it.",
    answer=CreatedSchedule,
    present=_created,
)
UPDATE = McpTool(
    "update_schedule",
    "Edit a schedule. Only the fields that are sent change.",
    idempotent=True,
    answer=OneSchedule,
    present=_one,
)
DELETE = McpTool(
    "delete_schedule",
    "Delete a schedule and end its runs.",
    destructive=True,
    answer=DeletedSchedule,
    present=lambda given, _found: DeletedSchedule(id=given.id),
)
TRIGGER = McpTool("trigger_schedule", "Run a schedule now.", open_world=True)
SLOTS = McpTool(
    "list_slots",
    "Show what was decided about each due instant of a schedule, newest first, and why.",
    read_only=True,
    answer=SlotList,
    present=_slots,
)
HISTORY = McpTool(
    "get_run_history",
    "List runs, newest first.",
    read_only=True,
    input=HistoryArguments,
    ask=_history,
    answer=RunList,
    present=_runs,
)
RUN = McpTool("get_run", "Show one run: its state, how it ended and the end of its output.", read_only=True)
CANCEL = McpTool("cancel_run", "Cancel a run that waits or runs.", destructive=True)
OUTPUT = McpTool("get_run_output", "Read what a run printed, from behind `after`.", read_only=True)
