"""Pulse's operations: each declared once, served on every surface from here."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from dorkos.errors import DorkError, ErrorCode
from dorkos.identity.model import Caller
from dorkos.operation import Operation, Success
from dorkos.pulse import tools
from dorkos.pulse.model import Schedule, ScheduleDraft
from dorkos.pulse.operations_approvals import APPROVALS
from dorkos.pulse.operations_preview import PREVIEW
from dorkos.pulse.operations_reading import READING, window_of
from dorkos.pulse.operations_runtimes import RUNTIMES
from dorkos.pulse.operations_simulate import SIMULATE
from dorkos.pulse.operations_timeline import TIMELINE
from dorkos.pulse.reading import Place
from dorkos.pulse.service import PulseService
from dorkos.pulse.triggers import read_instant, read_trigger
from dorkos.pulse.wire import (
    Cancelled,
    CreateSchedule,
    OutputOut,
    OutputQuery,
    RunId,
    RunOut,
    RunsQuery,
    ScheduleBody,
    ScheduleDetail,
    ScheduleId,
    ScheduleOut,
    SchedulesQuery,
    SlotOut,
    SlotsQuery,
    Triggered,
    UpdateSchedule,
    chunk_out,
    run_out,
    schedule_detail,
    schedule_out,
    slot_out,
)
from dorkos.pulse.zones import load_zone
from dorkos.storable import check_storable
from dorkos.vocabulary import Scope

# Fields that have no "none": null is refused rather than taken for the default.
_NEVER_NULL = (
    *("name", "prompt", "enabled", "permission_mode", "status"),
    *("overlap", "catch_up", "jitter_ms", "max_attempts", "repeatable"),
)

# What a schedule runs: at most one of them, and naming one replaces the others.
_TARGETS = ("agent_id", "command", "target_subject")


async def list_schedules(pulse: PulseService, _caller: Caller, asked: SchedulesQuery) -> list[ScheduleOut]:
    """The schedules, oldest first."""
    states = asked.states()
    alarms = await pulse.store.alarms()
    return [
        schedule_out(schedule, zone=pulse.zone_name(schedule), alarm=alarms.get(schedule.id))
        for schedule in await pulse.store.list_schedules()
        if schedule.status in states
    ]


async def get_schedule(pulse: PulseService, _caller: Caller, asked: ScheduleId) -> ScheduleDetail:
    """One schedule with its next five instants."""
    return await _detail(pulse, await pulse.store.get_schedule(asked.id))


async def create_schedule(pulse: PulseService, caller: Caller, asked: CreateSchedule) -> ScheduleDetail:
    """Store a schedule. A person's fires from its next instant on, an agent's waits until it is approved.

    One that does not say what to run is run by the product itself: clients of DorkOS for Node send a prompt
    and a folder, and mean that.
    """
    fields = _fields(asked)
    if all(fields.get(name) is None for name in (*_TARGETS, "runtime")):
        fields["runtime"] = pulse.runtimes.alone
    draft = ScheduleDraft(**fields)
    return await _detail(pulse, await pulse.create_schedule(draft, author=pulse.author(caller)))


async def update_schedule(pulse: PulseService, caller: Caller, asked: UpdateSchedule) -> ScheduleDetail:
    """Edit the fields that were sent. Naming another target replaces the one there was.

    An agent edits only what it proposed itself, has to say why, and the schedule waits for approval again.
    """
    changes = _fields(asked)
    del changes["id"]
    named = [name for name in _TARGETS if changes.get(name) is not None]
    if named:
        changes = dict.fromkeys(_TARGETS) | changes
    if named == ["target_subject"]:
        # Nothing is started here any more.
        changes = {"runtime": None, "cwd": None} | changes
    return await _detail(pulse, await pulse.update_schedule(asked.id, changes, author=pulse.author(caller)))


async def delete_schedule(pulse: PulseService, caller: Caller, asked: ScheduleId) -> Success:
    """Delete a schedule, cancel its waiting runs, and end its running ones."""
    await pulse.store.delete_schedule(asked.id, actor=caller.subject)
    return Success()


async def trigger_schedule(pulse: PulseService, caller: Caller, asked: ScheduleId) -> Triggered:
    """Run a schedule now, whether it is switched on or not."""
    return Triggered(run_id=await pulse.store.trigger_run(asked.id, actor=caller.subject))


async def list_slots(pulse: PulseService, _caller: Caller, asked: SlotsQuery) -> list[SlotOut]:
    """What was decided about each due instant of a schedule, newest first."""
    await pulse.store.get_schedule(asked.id)
    found = await pulse.store.list_slots(asked.id, limit=asked.limit, offset=asked.offset)
    return [slot_out(slot) for slot in found]


async def list_runs(pulse: PulseService, _caller: Caller, asked: RunsQuery) -> list[RunOut]:
    """Runs, newest first."""
    found = await pulse.store.page_of_runs(
        schedule_id=asked.schedule_id,
        states=asked.states(),
        window=window_of(asked.since, asked.until),
        after=Place.parse(asked.cursor) if asked.cursor else None,
        limit=asked.limit,
        offset=asked.offset,
    )
    return [run_out(run) for run in found]


async def get_run(pulse: PulseService, _caller: Caller, asked: RunId) -> RunOut:
    """One run."""
    return run_out(await pulse.store.get_run(asked.id))


async def cancel_run(pulse: PulseService, caller: Caller, asked: RunId) -> Cancelled:
    """Cancel a run that waits or runs."""
    return Cancelled(outcome=await pulse.store.cancel_run(asked.id, actor=caller.subject))


async def read_output(pulse: PulseService, _caller: Caller, asked: OutputQuery) -> OutputOut:
    """What a run printed, from behind `after`."""
    page = await pulse.store.read_output(asked.id, after=asked.after, limit=asked.limit)
    chunks = [chunk_out(chunk) for chunk in page.chunks]
    return OutputOut(chunks=chunks, next_seq=chunks[-1].seq if chunks else asked.after, final=page.final)


def _next_page(asked: RunsQuery, page: list[RunOut]) -> str | None:
    """Where the page after this one begins. The last page may be followed by an empty one."""
    if len(page) < asked.limit:
        return None
    return str(Place(read_instant(page[-1].created_at), page[-1].id))


async def _detail(pulse: PulseService, schedule: Schedule) -> ScheduleDetail:
    alarms = await pulse.store.alarms(schedule.id)
    return schedule_detail(
        schedule,
        zone=pulse.zone_name(schedule),
        alarm=alarms.get(schedule.id),
        next_runs=pulse.preview(schedule),
    )


def _fields(asked: ScheduleBody) -> dict[str, Any]:
    """The fields of a draft that were sent, as the store keeps them."""
    sent = {name: getattr(asked, name) for name in asked.model_fields_set}
    check_storable([value for value in sent.values() if isinstance(value, str | list)])
    for name in _NEVER_NULL:
        if name in sent and sent[name] is None:
            raise DorkError(
                ErrorCode.VALIDATION_FAILED,
                f"`{name}` cannot be null.",
                hint="Leave it out to keep it as it is.",
            )
    written = [name for name in ("cron", "every_ms", "run_at") if name in sent]
    if "cron" in written or any(sent[name] is not None for name in written):
        # Null for one of the other two alone clears that one: it says nothing about the trigger there is.
        sent |= asdict(
            read_trigger(sent.get("cron"), every_ms=sent.get("every_ms"), run_at=sent.get("run_at"))
        )
    for name in ("timezone", "cwd"):
        if name in sent:  # An empty form field means none.
            sent[name] = sent[name] or None
    if sent.get("timezone") is not None:
        sent["timezone"] = load_zone(sent["timezone"]).key
    if sent.get("command") is not None:
        sent["command"] = tuple(sent["command"])
    return sent


_SCHEDULES = "/api/pulse/schedules"
_RUNS = "/api/pulse/runs"

OPERATIONS: tuple[Operation[PulseService, Any, Any], ...] = (
    Operation(
        "pulse.schedules.list",
        "List schedules",
        "pulse",
        "GET",
        _SCHEDULES,
        Scope.OBSERVE,
        SchedulesQuery,
        list[ScheduleOut],
        list_schedules,
        mcp=tools.LIST,
    ),
    Operation(
        "pulse.schedules.create",
        "Create a schedule; one that an agent creates waits for approval",
        "pulse",
        "POST",
        _SCHEDULES,
        Scope.SEND,
        CreateSchedule,
        ScheduleDetail,
        create_schedule,
        mcp=tools.CREATE,
        status=201,
    ),
    Operation(
        "pulse.schedules.get",
        "Show a schedule",
        "pulse",
        "GET",
        f"{_SCHEDULES}/{{id}}",
        Scope.OBSERVE,
        ScheduleId,
        ScheduleDetail,
        get_schedule,
        mcp=tools.GET,
    ),
    Operation(
        "pulse.schedules.update",
        "Edit a schedule; what an agent edits waits for approval again",
        "pulse",
        "PATCH",
        f"{_SCHEDULES}/{{id}}",
        Scope.SEND,
        UpdateSchedule,
        ScheduleDetail,
        update_schedule,
        mcp=tools.UPDATE,
    ),
    Operation(
        "pulse.schedules.delete",
        "Delete a schedule",
        "pulse",
        "DELETE",
        f"{_SCHEDULES}/{{id}}",
        Scope.OPERATE,
        ScheduleId,
        Success,
        delete_schedule,
        mcp=tools.DELETE,
    ),
    Operation(
        "pulse.schedules.trigger",
        "Run a schedule now",
        "pulse",
        "POST",
        f"{_SCHEDULES}/{{id}}/trigger",
        Scope.OPERATE,
        ScheduleId,
        Triggered,
        trigger_schedule,
        mcp=tools.TRIGGER,
        status=201,
        live=True,
    ),
    Operation(
        "pulse.schedules.slots",
        "Show what was decided about each due instant",
        "pulse",
        "GET",
        f"{_SCHEDULES}/{{id}}/slots",
        Scope.OBSERVE,
        SlotsQuery,
        list[SlotOut],
        list_slots,
        mcp=tools.SLOTS,
    ),
    PREVIEW,
    *RUNTIMES,
    *APPROVALS,
    *READING,
    SIMULATE,
    TIMELINE,
    Operation(
        "pulse.runs.list",
        "List runs",
        "pulse",
        "GET",
        _RUNS,
        Scope.OBSERVE,
        RunsQuery,
        list[RunOut],
        list_runs,
        mcp=tools.HISTORY,
        next_page=_next_page,
    ),
    Operation(
        "pulse.runs.get",
        "Show a run",
        "pulse",
        "GET",
        f"{_RUNS}/{{id}}",
        Scope.OBSERVE,
        RunId,
        RunOut,
        get_run,
        mcp=tools.RUN,
    ),
    Operation(
        "pulse.runs.cancel",
        "Cancel a run",
        "pulse",
        "POST",
        f"{_RUNS}/{{id}}/cancel",
        Scope.OPERATE,
        RunId,
        Cancelled,
        cancel_run,
        mcp=tools.CANCEL,
    ),
    Operation(
        "pulse.runs.output",
        "Read what a run printed",
        "pulse",
        "GET",
        f"{_RUNS}/{{id}}/output",
        Scope.OBSERVE,
        OutputQuery,
        OutputOut,
        read_output,
        mcp=tools.OUTPUT,
    ),
)
