"""Pulse's words: schedules, slots and runs as frozen values, and the ports it needs from others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

import sqlalchemy as sa

from dorkos.db.database import Transaction
from dorkos.identity.tokens import NewToken
from dorkos.ids import new_id
from dorkos.vocabulary import (
    AgentRuntime,
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


@dataclass(frozen=True, slots=True)
class Schedule:
    """When something runs, and what. `timezone` None inherits the setting; instants are UTC.

    An interval (`every_ms`) is counted from `anchor_at`. `next_due_at` is the next instant to decide, also
    of one that is paused or waits for approval. `status_reason` says in words why it is paused or needs
    attention, as far as that is known. What the policies mean is told in `planner`.
    """

    id: str
    name: str
    description: str | None
    cron: str | None
    every_ms: int | None
    anchor_at: datetime | None
    run_at: datetime | None
    timezone: str | None
    prompt: str
    cwd: str | None
    command: tuple[str, ...] | None
    agent_id: str | None
    runtime: str | None
    target_subject: str | None
    status: ScheduleStatus
    status_reason: str | None
    enabled: bool
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
    revision: int
    decided_until: datetime
    next_due_at: datetime | None
    created_by: str | None
    reason: str | None
    grant_hash: str | None
    created_at: datetime
    updated_at: datetime

    @property
    def fires(self) -> bool:
        """Whether due instants start runs: switched on, and neither paused nor waiting for approval."""
        return self.enabled and self.status is ScheduleStatus.ACTIVE

    @property
    def next_run_at(self) -> datetime | None:
        """The next instant at which it will fire; None if it will not."""
        return self.next_due_at if self.fires else None


@dataclass(frozen=True, slots=True)
class ScheduleDraft:
    """What a person decides about a schedule; everything else is kept by the store."""

    name: str
    prompt: str
    description: str | None = None
    cron: str | None = None
    every_ms: int | None = None
    run_at: datetime | None = None
    timezone: str | None = None
    cwd: str | None = None
    command: tuple[str, ...] | None = None
    agent_id: str | None = None
    runtime: str | None = None
    target_subject: str | None = None
    status: ScheduleStatus = ScheduleStatus.ACTIVE
    enabled: bool = True
    max_runtime: int | None = None
    permission_mode: PermissionMode = PermissionMode.ACCEPT_EDITS
    overlap: OverlapPolicy = OverlapPolicy.SKIP
    max_active: int | None = None
    catch_up: CatchUpPolicy = CatchUpPolicy.LATEST
    catch_up_window_ms: int | None = None
    catch_up_max: int | None = None
    jitter_ms: int = 0
    max_attempts: int = 1
    retry_delay_ms: int | None = None
    repeatable: bool = False
    idle_timeout_ms: int | None = None
    alarm_after_ms: int | None = None
    pause_after_failures: int | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Slot:
    """A decided instant, or `count` neighbouring ones, with the run it led to."""

    id: str
    schedule_id: str
    due_at: datetime
    through_at: datetime
    count: int
    verdict: Verdict
    reason: SlotReason
    decided_at: datetime
    run_id: str | None


@dataclass(frozen=True, slots=True)
class Run:
    """One attempt to do something. `max_runtime` and `duration_ms` are milliseconds.

    It does not start before `available_at`. `repeatable` says that doing it twice does no harm. One with a
    `target_subject` is asked there, by the message `message_id`, instead of being done here.
    """

    id: str
    schedule_id: str | None
    slot_id: str | None
    attempt: int
    agent_id: str | None
    status: RunState
    reason: RunReason | None
    trigger: RunTrigger
    prompt: str
    cwd: str | None
    command: tuple[str, ...] | None
    runtime: str | None
    permission_mode: PermissionMode | None
    target_subject: str | None
    max_runtime: int | None
    idle_timeout_ms: int | None
    repeatable: bool
    available_at: datetime | None
    delivery_id: str | None
    chain_id: str
    context: Mapping[str, str]
    message_id: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    duration_ms: int | None
    output: str | None
    error: str | None
    session_id: str | None
    resumed_from: str | None
    created_by: str | None
    exit_code: int | None
    model: str | None
    usage: Mapping[str, Any] | None
    cost_microusd: int | None
    question: Mapping[str, Any] | None
    cancel_requested_at: datetime | None
    lease_owner: str | None
    lease_token: str | None
    lease_expires_at: datetime | None
    host: str | None
    boot_id: str | None
    pid: int | None
    process_started_at: str | None


@dataclass(frozen=True, slots=True)
class OutputChunk:
    """A piece of what a run printed. `seq` counts from 1 within the run, without gaps."""

    seq: int
    stream: OutputStream
    text: str
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended. `output` is the end of what it printed; `account` is what it said about itself."""

    state: RunState
    reason: RunReason | None = None
    error: str | None = None
    exit_code: int | None = None
    output: str | None = None
    account: Account | None = None


@dataclass(frozen=True, slots=True)
class Account:
    """What took the turn of a run, and what that said about itself. None and empty mean that it did not say.

    Cost is in millionths of a US dollar.
    """

    runtime: str | None = None
    session_id: str | None = None
    model: str | None = None
    usage: Mapping[str, int] = field(default_factory=dict)
    cost_microusd: int | None = None
    question: Mapping[str, Any] | None = None


class Cancellation(StrEnum):
    """What became of a request to cancel a run.

    `finished`: it had not begun, and never will. `stopping`: the server that runs it was asked to end it, or
    one that waits for its answer to wait no more.
    `unconfirmed`: so it was, but that server has given no sign of life for a lease; whether the program
    still runs cannot be told, and rescue ends the run.
    """

    FINISHED = "finished"
    STOPPING = "stopping"
    UNCONFIRMED = "unconfirmed"


@dataclass(frozen=True, slots=True)
class Offer:
    """What a claim needs besides the run, made outside the change so that repeating it is harmless."""

    lease_token: str
    token_id: str
    token_secret: str
    message_id: str = field(default_factory=new_id)


@dataclass(frozen=True, slots=True)
class Claim:
    """A run that this server holds, with what it takes to start it.

    `obstacle` says why it cannot be started, in which case `argv` is empty; the claim then only serves
    to finish the run. `runtime` takes its turn; `persona` is who the agent is to be; `resume` is the
    session that it goes on with. `asked`: its prompt was sent to a subject, and there is nothing to start.
    """

    run: Run
    lease_token: str
    token: NewToken
    argv: tuple[str, ...]
    cwd: str | None
    obstacle: Outcome | None = None
    runtime: str = "command"
    persona: str | None = None
    resume: str | None = None
    asked: bool = False


class RunRequest(Protocol):
    """A run that a message asks for, as Relay words it."""

    @property
    def agent_id(self) -> str:
        """Whose run it is."""
        ...

    @property
    def delivery_id(self) -> str:
        """The delivery that the run holds and that its end settles."""
        ...

    @property
    def chain_id(self) -> str:
        """The chain of cause and effect that the message belongs to."""
        ...

    @property
    def prompt(self) -> str:
        """What the agent is to do."""
        ...

    @property
    def context(self) -> Mapping[str, str]:
        """What the program is told about the message, as environment names and values."""
        ...


@dataclass(frozen=True, slots=True)
class AgentTarget:
    """What Pulse needs to know of a registered agent in order to run it.

    `entrypoint` is argv, or None for an agent whose turns are taken by what drives its `kind`, if anything
    does. `subject` is the Relay address its runs speak as. `persona` is who it is to be, for its model.
    """

    id: str
    name: str
    subject: str
    project_path: Path
    entrypoint: tuple[str, ...] | None
    kind: AgentRuntime = AgentRuntime.COMMAND
    persona: str | None = None


class CallRefusal(Protocol):
    """Why an agent may not act now. `code` is `budget_exceeded` or `path_denied`."""

    @property
    def code(self) -> str:
        """The word that is stored with the run."""
        ...

    @property
    def detail(self) -> str:
        """The reason in words."""
        ...


class AgentDirectory(Protocol):
    """Port to Mesh: who a schedule or a run is for."""

    def take_call(self, tx: Transaction, agent_id: str) -> CallRefusal | None:
        """Count the start of a run on the agent's budget, or say why it may not start."""
        ...

    def find_agent(self, connection: sa.Connection | Transaction, agent_id: str) -> AgentTarget | None:
        """The agent, or None if it is not registered."""
        ...

    def is_here(self, agent_id: sa.ColumnElement[Any]) -> sa.ColumnElement[bool] | None:
        """What holds for the ids of agents that lie on this machine; None if all do."""
        ...


class DeliverySettler(Protocol):
    """Port to Relay: the message that started a run is settled in the commit that ends the run."""

    def settle(
        self, tx: Transaction, *, delivery_id: str, run_id: str, state: RunState, reason: RunReason | None
    ) -> None:
        """Ack after `completed`, otherwise give back or dead-letter. Must not raise for a delivery that
        is gone."""
        ...


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt that goes to a Relay subject, to be answered `within` that time.

    `message_id` is made outside the change. `sender` is whom the run speaks as.
    """

    message_id: str
    subject: str
    sender: str
    prompt: str
    run_id: str
    within: timedelta


class AnswerState(StrEnum):
    """What is known of an answer. `late`: none came in time. `none`: it is certain that none will come."""

    PENDING = "pending"
    REPLIED = "replied"
    LATE = "late"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Answer:
    """Where a question stands; `text` is the answer, `detail` why there is none."""

    state: AnswerState
    text: str = ""
    detail: str | None = None


class Requests(Protocol):
    """Port to Relay: a run whose target is a subject is a request there, and its reply is the run's end."""

    def check_subject(self, subject: str) -> None:
        """Raise `invalid_subject` or `wildcard_not_allowed` for what is not one exact subject."""
        ...

    def ask(self, tx: Transaction, question: Question) -> str | None:
        """Send it in the caller's transaction. Why it was not delivered, in words; None if it was."""
        ...

    def look(self, source: sa.Connection | Transaction, message_id: str, now: datetime) -> Answer:
        """Where the question stands."""
        ...

    def close(self, tx: Transaction, message_id: str) -> bool:
        """Wait no longer, and take the question back if nobody has taken it. Whether nobody ever did."""
        ...
