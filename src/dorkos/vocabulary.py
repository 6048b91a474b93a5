"""Every closed list of words, once. Tables, API, CLI and docs use these values and no others.

The members are stored as text under a CHECK constraint, so removing or renaming one needs a migration.
"""

from __future__ import annotations

from enum import StrEnum


class ScheduleStatus(StrEnum):
    """Whether a schedule may fire, apart from its `enabled` switch."""

    ACTIVE = "active"
    PAUSED = "paused"
    PENDING_APPROVAL = "pending_approval"


class Verdict(StrEnum):
    """What was decided about a due instant."""

    RUN = "run"
    COALESCED = "coalesced"
    SKIPPED = "skipped"
    MISSED = "missed"


class SlotReason(StrEnum):
    """Why the verdict on a slot is what it is."""

    DUE = "due"
    CATCH_UP = "catch_up"
    OVERLAP = "overlap"


class RunState(StrEnum):
    """Where a run stands. All but `queued` and `running` are final."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"
    INTERRUPTED = "interrupted"
    BLOCKED = "blocked"


ACTIVE_RUN_STATES = (RunState.QUEUED, RunState.RUNNING)


class RunTrigger(StrEnum):
    """What made a run."""

    SCHEDULED = "scheduled"
    MANUAL = "manual"
    AGENT = "agent"
    MESSAGE = "message"


class RunReason(StrEnum):
    """Why a run ended as it did, beyond its state."""

    EXIT_CODE = "exit_code"
    SIGNAL = "signal"
    START_FAILED = "start_failed"
    DEADLINE = "deadline"
    CANCEL_REQUESTED = "cancel_requested"
    SHUTDOWN = "shutdown"
    LEASE_EXPIRED = "lease_expired"
    UNCONFIRMED = "unconfirmed"
    TARGET_REMOVED = "target_removed"


class OutputStream(StrEnum):
    """Where a piece of a run's output came from. `system` is DorkOS itself, such as a cut notice."""

    STDOUT = "stdout"
    STDERR = "stderr"
    SYSTEM = "system"


class EndpointConsumer(StrEnum):
    """Who takes messages out of a mailbox: whoever claims them, or runs of the agent that owns it."""

    CLAIM = "claim"
    RUN = "run"


class DeliveryStatus(StrEnum):
    """Where a delivery stands. A claimed delivery is still pending: only an ack makes it delivered."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


class PublishOutcome(StrEnum):
    """What became of a message at one recipient, as the receipt says it."""

    DELIVERED = "delivered"
    BACKPRESSURE = "backpressure"
    CIRCUIT_OPEN = "circuit_open"
    RATE_LIMITED = "rate_limited"
    BUDGET_EXCEEDED = "budget_exceeded"
    DENIED = "denied"
    NO_RECIPIENT = "no_recipient"


class DeadLetterReason(StrEnum):
    """Why a message stopped."""

    NO_RECIPIENT = "no_recipient"
    BACKPRESSURE = "backpressure"
    EXPIRED = "expired"
    HOPS_EXCEEDED = "hops_exceeded"
    ATTEMPTS_EXHAUSTED = "attempts_exhausted"
    REJECTED = "rejected"
    RUN_UNCONFIRMED = "run_unconfirmed"
    ENDPOINT_REMOVED = "endpoint_removed"


class AgentStatus(StrEnum):
    """Whether an agent is in use."""

    ACTIVE = "active"
    INACTIVE = "inactive"


class AgentRuntime(StrEnum):
    """What drives an agent's turns. `command` is any program that the manifest's entrypoint names."""

    CLAUDE_CODE = "claude-code"
    CURSOR = "cursor"
    CODEX = "codex"
    COMMAND = "command"
    OTHER = "other"


class PermissionMode(StrEnum):
    """How much a run may do without asking."""

    DEFAULT = "default"
    PLAN = "plan"
    ACCEPT_EDITS = "acceptEdits"
    BYPASS_PERMISSIONS = "bypassPermissions"


class Scope(StrEnum):
    """What a token allows. The operator's token allows everything."""

    OPERATE = "operate"
    OBSERVE = "observe"
    SEND = "send"
    RECEIVE = "receive"
