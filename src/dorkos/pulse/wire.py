"""Pulse on the wire: the lineage's shapes and words, with what is ours added beside them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import Field, StrictBool, StringConstraints, field_validator

from dorkos.clock import iso
from dorkos.operation import Wire
from dorkos.pulse.model import OutputChunk, Run, Schedule, Slot
from dorkos.pulse.triggers import cron_words
from dorkos.vocabulary import (
    OutputStream,
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

Identifier = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z_-]{1,64}$")]
Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
Text = Annotated[str, StringConstraints(max_length=2000)]
Argument = Annotated[str, StringConstraints(max_length=32_768)]
Argv = Annotated[list[Argument], Field(min_length=1, max_length=100)]
Milliseconds = Annotated[int, Field(gt=0, le=MAX_RUNTIME_MS, strict=True)]


class ScheduleBody(Wire):
    """What a person may write about a schedule. All optional here; creation asks for more."""

    description: Text | None = None
    cron: Text | None = Field(
        None, description="A cron expression, `@at <instant>`, or `@manual` (also the meaning of null)."
    )
    run_at: Text | None = Field(None, description="One instant in ISO 8601, instead of `cron`.")
    timezone: Text | None = Field(None, description="IANA zone; null inherits `scheduler.timezone`.")
    cwd: Argument | None = Field(None, description="Absolute working directory; null is the target's own.")
    enabled: StrictBool | None = None
    max_runtime: Milliseconds | None = Field(None, description="Deadline in ms; null is the setting's.")
    permission_mode: PermissionMode | None = None
    agent_id: Identifier | None = Field(None, description="The agent to run, instead of `command`.")
    command: Argv | None = Field(None, description="The program to run as argv, instead of `agentId`.")

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


class SlotsQuery(Wire):
    """Which slots of a schedule."""

    id: Identifier
    limit: int = Field(100, ge=1, le=500)
    offset: int = Field(0, ge=0, le=2**53)


class RunsQuery(Wire):
    """Which runs. `status` takes the lineage's words, each for all of ours it stands for, and ours."""

    schedule_id: Identifier | None = None
    status: RunState | None = None
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
    """A schedule. `cron` is never null: `@at <instant>` and `@manual` stand for the other triggers."""

    id: str
    name: str
    description: str | None
    prompt: str
    cron: str
    run_at: str | None
    timezone: str | None
    resolved_timezone: str
    cwd: str | None
    agent_id: str | None
    command: list[str] | None
    enabled: bool
    status: ScheduleStatus
    max_runtime: int | None
    permission_mode: PermissionMode
    revision: int
    created_by: str | None
    created_at: str
    updated_at: str
    next_run: str | None


class ScheduleDetail(ScheduleOut):
    """A schedule with the next five instants at which it will fire."""

    next_runs: list[str]


class RunOut(Wire):
    """A run. `status` is the lineage's word, `state` ours; `outputSummary` is the end of its output."""

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
    chain_id: str
    created_at: str
    started_at: str | None
    finished_at: str | None
    duration_ms: int | None
    output_summary: str | None
    error: str | None
    exit_code: int | None
    session_id: str | None
    cancel_requested_at: str | None
    node: str | None
    """The server that runs it, or ran it last: the `id` that `GET /api/status` shows for itself."""


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
    """`stopping`: its server was asked to end it. `finished`: it had not begun, and never will."""

    success: bool = True
    outcome: str


def schedule_out(schedule: Schedule, *, zone: str) -> ScheduleOut:
    """A schedule as clients see it."""
    return ScheduleOut(
        id=schedule.id,
        name=schedule.name,
        description=schedule.description,
        prompt=schedule.prompt,
        cron=cron_words(schedule),
        run_at=_iso(schedule.run_at),
        timezone=schedule.timezone,
        resolved_timezone=zone,
        cwd=schedule.cwd,
        agent_id=schedule.agent_id,
        command=_list(schedule.command),
        enabled=schedule.enabled,
        status=schedule.status,
        max_runtime=schedule.max_runtime,
        permission_mode=schedule.permission_mode,
        revision=schedule.revision,
        created_by=schedule.created_by,
        created_at=iso(schedule.created_at),
        updated_at=iso(schedule.updated_at),
        next_run=_iso(schedule.next_due_at),
    )


def schedule_detail(schedule: Schedule, *, zone: str, next_runs: list[datetime]) -> ScheduleDetail:
    """A schedule with its next instants."""
    return ScheduleDetail(
        **schedule_out(schedule, zone=zone).model_dump(), next_runs=[iso(instant) for instant in next_runs]
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
        chain_id=run.chain_id,
        created_at=iso(run.created_at),
        started_at=_iso(run.started_at),
        finished_at=_iso(run.finished_at),
        duration_ms=run.duration_ms,
        output_summary=run.output,
        error=run.error,
        exit_code=run.exit_code,
        session_id=run.session_id,
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
