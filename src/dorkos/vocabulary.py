"""Every closed list of words, once. Tables, API, CLI and docs use these values and no others.

The members are stored as text under a CHECK constraint, so removing or renaming one needs a migration.
"""

from __future__ import annotations

from enum import StrEnum


class ScheduleStatus(StrEnum):
    """Whether a schedule may fire, apart from its `enabled` switch.

    `needs_attention` holds what DorkOS would refuse today, such as an imported cron expression that is
    none: kept as it came, it never fires until a person mends it.
    """

    ACTIVE = "active"
    PAUSED = "paused"
    PENDING_APPROVAL = "pending_approval"
    NEEDS_ATTENTION = "needs_attention"


class OverlapPolicy(StrEnum):
    """What becomes of a due instant while an earlier run of its schedule is not over."""

    SKIP = "skip"
    QUEUE = "queue"
    CANCEL_PREVIOUS = "cancel_previous"
    ALLOW = "allow"


class CatchUpPolicy(StrEnum):
    """Which of the instants that passed unnoticed run late: none, the newest, or all up to a cap."""

    SKIP = "skip"
    LATEST = "latest"
    ALL = "all"


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
    PAUSED = "paused"
    PENDING_APPROVAL = "pending_approval"
    NEEDS_ATTENTION = "needs_attention"
    FLEET_PAUSED = "fleet_paused"
    WINDOW_PASSED = "window_passed"
    LIMIT = "limit"
    BUDGET_EXCEEDED = "budget_exceeded"


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
    RESUME = "resume"
    TEST = "test"


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
    IDLE = "idle"
    OVERLAP = "overlap"
    FLEET_STOPPED = "fleet_stopped"
    QUESTION = "question"
    UNAVAILABLE = "unavailable"
    EMPTY_RESULT = "empty_result"
    AGENT_ERROR = "agent_error"
    BUDGET_EXCEEDED = "budget_exceeded"
    UNDELIVERED = "undelivered"
    NO_REPLY = "no_reply"


class OutputStream(StrEnum):
    """Where a piece of a run's output came from. `system` is DorkOS itself, such as a cut notice."""

    STDOUT = "stdout"
    STDERR = "stderr"
    SYSTEM = "system"


class EndpointConsumer(StrEnum):
    """Who takes messages out of a mailbox: whoever claims them, runs of its agent, or an adapter."""

    CLAIM = "claim"
    RUN = "run"
    ADAPTER = "adapter"


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
    CYCLE = "cycle"
    BUDGET_EXCEEDED = "budget_exceeded"
    LOOP = "loop"
    DENIED = "denied"
    RATE_LIMITED = "rate_limited"
    CIRCUIT_OPEN = "circuit_open"
    ADAPTER_FAILED = "adapter_failed"


class AdapterState(StrEnum):
    """How an adapter is doing. `auth_failed`: the other side refused its credentials, and it is not tried
    again before somebody changes or enables it."""

    DISCONNECTED = "disconnected"
    STARTING = "starting"
    CONNECTED = "connected"
    STOPPING = "stopping"
    ERROR = "error"
    AUTH_FAILED = "auth_failed"


class AdapterMarkKind(StrEnum):
    """What an adapter keeps in mind of the outside: what it received, and what it began to send."""

    RECEIVED = "received"
    SENT = "sent"


class TraceStatus(StrEnum):
    """How far a hop of a message came."""

    SENT = "sent"
    DELIVERED = "delivered"
    FAILED = "failed"
    TIMEOUT = "timeout"


class RuleAction(StrEnum):
    """What an access rule does with a message that it matches."""

    ALLOW = "allow"
    DENY = "deny"


class BreakerState(StrEnum):
    """Where a circuit breaker stands. `half_open` lets a single probe through."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class AgentStatus(StrEnum):
    """Whether an agent is in use. `inactive`: its path is denied. `unreachable` and `archived`: its folder
    is away, for a while or long."""

    ACTIVE = "active"
    INACTIVE = "inactive"
    UNREACHABLE = "unreachable"
    ARCHIVED = "archived"


class HealthState(StrEnum):
    """How an agent is doing, by what was seen of it. Computed when asked for, never stored."""

    ACTIVE = "active"
    INACTIVE = "inactive"
    STALE = "stale"
    UNREACHABLE = "unreachable"
    STUCK = "stuck"


class LimitKind(StrEnum):
    """What the counted calls of a rate limit bucket belong to."""

    AGENT = "agent"
    SENDER = "sender"
    PAIR = "pair"


class AgentRuntime(StrEnum):
    """What drives an agent's turns. `command` is any program that the manifest's entrypoint names."""

    CLAUDE_CODE = "claude-code"
    CURSOR = "cursor"
    CODEX = "codex"
    COMMAND = "command"
    GEMINI = "gemini"
    OPENCODE = "opencode"
    ACP = "acp"
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


class TokenKind(StrEnum):
    """Whose a token is. `read-only` sees everything and changes nothing; an agent's and a run's send and
    receive as that agent, and no more.
    """

    OPERATOR = "operator"
    READ_ONLY = "read-only"
    AGENT = "agent"
    RUN = "run"


class ApprovalKind(StrEnum):
    """What a person is asked: whether a schedule may run, or what a blocked run wants to know."""

    SCHEDULE = "schedule"
    QUESTION = "question"


class ApprovalStatus(StrEnum):
    """Where a question to a person stands. All but `pending` are final."""

    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"
    SUPERSEDED = "superseded"


class FleetMode(StrEnum):
    """Whether work may start at all. Each mode but `running` lasts until a person lifts it.

    `drain`: what was accepted is finished, nothing new fires. `hold`: nothing starts, what runs may end.
    `stop`: as `hold`, and what runs is cancelled.
    """

    RUNNING = "running"
    DRAIN = "drain"
    HOLD = "hold"
    STOP = "stop"
