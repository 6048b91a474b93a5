"""Pulse on the wire: the lineage's shapes and words, with what is ours added beside them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import Field, StrictBool, StringConstraints, field_validator

from dorkos.clock import iso
from dorkos.operation import Wire
from dorkos.pulse.model import Cancellation, OutputChunk, Run, Schedule, Slot
from dorkos.pulse.planner import WAITING_MAX
from dorkos.pulse.triggers import EVERY_MS_MAX, EVERY_MS_MIN, cron_words
from dorkos.vocabulary import (
    CatchUpPolicy,
    OutputStream,
    OverlapPolicy,
    PermissionMode,
    RunReason,
    RunState,
    RunTrigger,
    ScheduleStatus,
    SlotReason,
    Verdict,
)

PROMPT_BYTES = 100_000
MAX_RUNTIME_MS = 365 * 24 * 3600 * 1000

# The words that clients of the lineage know, for each of ours.
_OLD_WORDS = {
    RunState.QUEUED: "running",
    RunState.RUNNING: "running",
    RunState.COMPLETED: "completed",
    RunState.FAILED: "failed",
    RunState.CANCELLED: "cancelled",
    RunState.TIMEOUT: "failed",
    RunState.INTERRUPTED: "failed",
    RunState.BLOCKED: "failed",
}

_OLD_SCHEDULE_WORDS = {
    ScheduleStatus.ACTIVE: "active",
    ScheduleStatus.PAUSED: "paused",
    ScheduleStatus.PENDING_APPROVAL: "pending_approval",
    ScheduleStatus.NEEDS_ATTENTION: "paused",
}

Identifier = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z_-]{1,64}$")]
Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
Text = Annotated[str, StringConstraints(max_length=2000)]
Subject = Annotated[str, StringConstraints(min_length=1, max_length=512)]
Argument = Annotated[str, StringConstraints(max_length=32_768)]
Argv = Annotated[list[Argument], Field(min_length=1, max_length=100)]
Milliseconds = Annotated[int, Field(gt=0, le=MAX_RUNTIME_MS, strict=True)]
AtLeastASecond = Annotated[int, Field(ge=1000, le=MAX_RUNTIME_MS, strict=True)]
Interval = Annotated[int, Field(ge=EVERY_MS_MIN, le=EVERY_MS_MAX, strict=True)]
Jitter = Annotated[int, Field(ge=0, le=86_400_000, strict=True)]
Delay = Annotated[int, Field(ge=0, le=3_600_000, strict=True)]
Several = Annotated[int, Field(ge=1, le=1000, strict=True)]
CaughtUp = Annotated[int, Field(ge=1, le=WAITING_MAX, strict=True)]
Attempts = Annotated[int, Field(ge=1, le=20, strict=True)]


class ScheduleBody(Wire):
    """What a person may write about a schedule. All optional here; creation asks for more."""

    description: Text | None = None
    cron: Text | None = Field(
        None,
        description="A cron expression, `@every 15m`, `@at <instant>`, or `@manual`, which null means too.",
    )
    every_ms: Interval | None = Field(None, description="Interval in ms, instead of `cron`.")
    run_at: Text | None = Field(None, description="One instant in ISO 8601, instead of `cron`.")
    timezone: Text | None = Field(None, description="IANA zone; null inherits `scheduler.timezone`.")
    cwd: Argument | None = Field(None, description="Absolute working directory; null is the target's own.")
    enabled: StrictBool | None = None
    max_runtime: Milliseconds | None = Field(None, description="Deadline in ms; null is the setting's.")
    permission_mode: PermissionMode | None = None
    agent_id: Identifier | None = Field(None, description="The agent to run, instead of `command`.")
    command: Argv | None = Field(None, description="The program to run as argv, instead of `agentId`.")
    runtime: Identifier | None = Field(None, description="What drives the turn; null is the agent's.")
    target_subject: Subject | None = Field(
        None, description="The Relay subject to ask, instead of `agentId`; its reply ends the run."
    )
    overlap: OverlapPolicy | None = Field(None, description="While a run is not over; else `skip`.")
    max_active: Several | None = Field(None, description="At once, with `allow`.")
    catch_up: CatchUpPolicy | None = Field(None, description="Which missed instants run late; else `latest`.")
    catch_up_window_ms: AtLeastASecond | None = Field(None, description="Older instants are not run.")
    catch_up_max: CaughtUp | None = Field(None, description="At most, with `all`; null is 100.")
    jitter_ms: Jitter | None = Field(None, description="Start up to this much later.")
    max_attempts: Attempts | None = Field(None, description="Tries in all; else 1.")
    retry_delay_ms: Delay | None = Field(None, description="Before the next try.")
    repeatable: StrictBool | None = Field(None, description="Twice does no harm.")
    idle_timeout_ms: AtLeastASecond | None = Field(None, description="End a silent run.")
    alarm_after_ms: AtLeastASecond | None = Field(None, description="When an instant has no outcome.")
    pause_after_failures: Several | None = Field(None, description="In a row.")
    reason: Text | None = Field(None, description="Why; an agent has to say, for the person who approves it.")

    @field_validator("prompt", check_fields=False)
    @classmethod
    def _short_enough(cls, prompt: str | None) -> str | None:
        if prompt is not None and len(prompt.encode("utf-8", "surrogatepass")) > PROMPT_BYTES:
            raise ValueError(f"must not be longer than {PROMPT_BYTES} bytes")
        return prompt

    @field_validator("command")
    @classmethod
    def _names_a_program(cls, command: list[str] | None) -> list[str] | None:
        if command is not None and not command[0].strip():
            raise ValueError("must begin with the name of a program")
        return command


class CreateSchedule(ScheduleBody):
    """The input of creating a schedule."""

    name: Name
    prompt: Annotated[str, StringConstraints(min_length=1)]


class UpdateSchedule(ScheduleBody):
    """The input of editing a schedule: only the fields that are sent change."""

    id: Identifier
    name: Name | None = None
    prompt: Annotated[str, StringConstraints(min_length=1)] | None = None
    status: ScheduleStatus | None = None


class ScheduleId(Wire):
    """Names a schedule."""

    id: Identifier


class RunId(Wire):
    """Names a run."""

    id: Identifier


class SchedulesQuery(Wire):
    """Which schedules. `status` takes the lineage's words, each for all of ours it stands for, and ours."""

    status: ScheduleStatus | None = None

    def states(self) -> frozenset[ScheduleStatus]:
        """The states to look for."""
        if self.status is None:
            return frozenset(ScheduleStatus)
        meant = {state for state, old in _OLD_SCHEDULE_WORDS.items() if old == self.status.value}
        return frozenset(meant or {self.status})


class SlotsQuery(Wire):
    """Which slots of a schedule."""

    id: Identifier
    limit: int = Field(100, ge=1, le=500)
    offset: int = Field(0, ge=0, le=2**53)


class RunsQuery(Wire):
    """Which runs. `status` takes the lineage's words, each for all of ours it stands for, and ours."""

    schedule_id: Identifier | None = None
    status: RunState | None = None
    since: Text | None = Field(default=None, description="Created at this instant or later, in ISO 8601.")
    until: Text | None = Field(default=None, description="Created before this instant.")
    cursor: Text | None = Field(default=None, description="The X-Next-Cursor of the page before.")
    limit: int = Field(50, ge=1, le=500)
    offset: int = Field(0, ge=0, le=2**53)

    def states(self) -> list[RunState] | None:
        """The states to look for; None for all."""
        if self.status is None:
            return None
        meant = [state for state, old in _OLD_WORDS.items() if old == self.status.value]
        return meant or [self.status]


class OutputQuery(Wire):
    """Which part of a run's output: chunks numbered above `after`."""

    id: Identifier
    after: int = Field(0, ge=0, le=2**53)
    limit: int = Field(200, ge=1, le=500)


class ScheduleOut(Wire):
    """A schedule. `cron` is never null: `@every 15m`, `@at <instant>` and `@manual` stand for the other
    triggers.

    `status` is the lineage's word, `state` ours; `statusReason` says why it is not active, if that is known.
    `alarm` is the earliest due instant that has no outcome in time, or that nobody decided, or until which a
    clock that was ahead decided it; null means none.
    """

    id: str
    name: str
    description: str | None
    prompt: str
    cron: str
    every_ms: int | None
    run_at: str | None
    timezone: str | None
    resolved_timezone: str
    cwd: str | None
    agent_id: str | None
    command: list[str] | None
    runtime: str | None
    target_subject: str | None
    enabled: bool
    status: str
    state: ScheduleStatus
    status_reason: str | None
    max_runtime: int | None
    permission_mode: PermissionMode
    overlap: OverlapPolicy
    max_active: int | None
    catch_up: CatchUpPolicy
    catch_up_window_ms: int | None
    catch_up_max: int | None
    jitter_ms: int
    max_attempts: int
    retry_delay_ms: int | None
    repeatable: bool
    idle_timeout_ms: int | None
    alarm_after_ms: int | None
    pause_after_failures: int | None
    failures_in_row: int
    alarm: str | None
    revision: int
    created_by: str | None
    reason: str | None
    grant_hash: str | None
    created_at: str
    updated_at: str
    next_run: str | None


class ScheduleDetail(ScheduleOut):
    """A schedule with the next five instants at which it will fire."""

    next_runs: list[str]


class RunOut(Wire):
    """A run. `status` is the lineage's word, `state` ours; `outputSummary` is the end of its output.

    `runtime` is what took its turn. `sessionId`, `model`, `usage` (tokens) and `costMicrousd` (millionths of
    a US dollar) are what that told; `question` is what it wanted to know when it ended as `blocked`.
    `resumedFrom` is the run whose session it goes on with. One with a `targetSubject` is asked there by the
    message `messageId`.
    """

    id: str
    schedule_id: str | None
    slot_id: str | None
    agent_id: str | None
    status: str
    state: RunState
    reason: RunReason | None
    trigger: RunTrigger
    attempt: int
    prompt: str
    command: list[str] | None
    cwd: str | None
    target_subject: str | None
    message_id: str | None
    chain_id: str
    created_at: str
    started_at: str | None
    finished_at: str | None
    duration_ms: int | None
    output_summary: str | None
    error: str | None
    exit_code: int | None
    session_id: str | None
    resumed_from: str | None
    runtime: str | None
    permission_mode: PermissionMode | None
    model: str | None
    usage: dict[str, Any] | None
    cost_microusd: int | None
    question: dict[str, Any] | None
    cancel_requested_at: str | None
    node: str | None
    """The server that runs it, or ran it last: the `node.id` that `GET /api/status` shows for itself."""


class SlotOut(Wire):
    """A decided instant, or `count` neighbouring ones from `dueAt` through `throughAt`."""

    id: str
    schedule_id: str
    due_at: str
    through_at: str
    count: int
    verdict: Verdict
    reason: SlotReason
    decided_at: str
    run_id: str | None


class ChunkOut(Wire):
    """A piece of output."""

    seq: int
    stream: OutputStream
    at: str | None
    text: str


class OutputOut(Wire):
    """A page of output. Ask again with `after` = `nextSeq`, until `final`."""

    chunks: list[ChunkOut]
    next_seq: int
    final: bool


class Triggered(Wire):
    """The run that was queued."""

    run_id: str


class Cancelled(Wire):
    """`stopping`: its server was asked to end it. `finished`: it had not begun, and never will.
    `unconfirmed`: its server gives no sign of life; whether its program still runs cannot be told."""

    success: bool = True
    outcome: Cancellation


def schedule_out(schedule: Schedule, *, zone: str, alarm: datetime | None) -> ScheduleOut:
    """A schedule as clients see it."""
    return ScheduleOut(
        id=schedule.id,
        name=schedule.name,
        description=schedule.description,
        prompt=schedule.prompt,
        cron=cron_words(schedule),
        every_ms=schedule.every_ms,
        run_at=_iso(schedule.run_at),
        timezone=schedule.timezone,
        resolved_timezone=zone,
        cwd=schedule.cwd,
        agent_id=schedule.agent_id,
        command=_list(schedule.command),
        runtime=schedule.runtime,
        target_subject=schedule.target_subject,
        enabled=schedule.enabled,
        status=_OLD_SCHEDULE_WORDS[schedule.status],
        state=schedule.status,
        status_reason=schedule.status_reason,
        max_runtime=schedule.max_runtime,
        permission_mode=schedule.permission_mode,
        overlap=schedule.overlap,
        max_active=schedule.max_active,
        catch_up=schedule.catch_up,
        catch_up_window_ms=schedule.catch_up_window_ms,
        catch_up_max=schedule.catch_up_max,
        jitter_ms=schedule.jitter_ms,
        max_attempts=schedule.max_attempts,
        retry_delay_ms=schedule.retry_delay_ms,
        repeatable=schedule.repeatable,
        idle_timeout_ms=schedule.idle_timeout_ms,
        alarm_after_ms=schedule.alarm_after_ms,
        pause_after_failures=schedule.pause_after_failures,
        failures_in_row=schedule.failures_in_row,
        alarm=_iso(alarm),
        revision=schedule.revision,
        created_by=schedule.created_by,
        reason=schedule.reason,
        grant_hash=schedule.grant_hash,
        created_at=iso(schedule.created_at),
        updated_at=iso(schedule.updated_at),
        next_run=_iso(schedule.next_run_at),
    )


def schedule_detail(
    schedule: Schedule, *, zone: str, alarm: datetime | None, next_runs: list[datetime]
) -> ScheduleDetail:
    """A schedule with its next instants."""
    return ScheduleDetail(
        **schedule_out(schedule, zone=zone, alarm=alarm).model_dump(),
        next_runs=[iso(instant) for instant in next_runs],
    )


def run_out(run: Run) -> RunOut:
    """A run as clients see it. Lease tokens, hosts and process ids are nobody's business."""
    return RunOut(
        id=run.id,
        schedule_id=run.schedule_id,
        slot_id=run.slot_id,
        agent_id=run.agent_id,
        status=_OLD_WORDS[run.status],
        state=run.status,
        reason=run.reason,
        trigger=run.trigger,
        attempt=run.attempt,
        prompt=run.prompt,
        command=_list(run.command),
        cwd=run.cwd,
        target_subject=run.target_subject,
        message_id=run.message_id,
        chain_id=run.chain_id,
        created_at=iso(run.created_at),
        started_at=_iso(run.started_at),
        finished_at=_iso(run.finished_at),
        duration_ms=run.duration_ms,
        output_summary=run.output,
        error=run.error,
        exit_code=run.exit_code,
        session_id=run.session_id,
        resumed_from=run.resumed_from,
        runtime=run.runtime,
        permission_mode=run.permission_mode,
        model=run.model,
        usage=None if run.usage is None else dict(run.usage),
        cost_microusd=run.cost_microusd,
        question=None if run.question is None else dict(run.question),
        cancel_requested_at=_iso(run.cancel_requested_at),
        node=run.lease_owner,
    )


def slot_out(slot: Slot) -> SlotOut:
    """A slot as clients see it."""
    return SlotOut(
        id=slot.id,
        schedule_id=slot.schedule_id,
        due_at=iso(slot.due_at),
        through_at=iso(slot.through_at),
        count=slot.count,
        verdict=slot.verdict,
        reason=slot.reason,
        decided_at=iso(slot.decided_at),
        run_id=slot.run_id,
    )


def chunk_out(chunk: OutputChunk) -> ChunkOut:
    """A chunk as clients see it."""
    return ChunkOut(seq=chunk.seq, stream=chunk.stream, at=_iso(chunk.at), text=chunk.text)


def _iso(instant: datetime | None) -> str | None:
    return None if instant is None else iso(instant)


def _list(argv: tuple[str, ...] | None) -> list[str] | None:
    return None if argv is None else list(argv)
