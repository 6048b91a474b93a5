"""The settings of Relay."""

from __future__ import annotations

from dorkos.setting_groups.group import Group, setting


class RelaySettings(Group):
    """Relay."""

    enabled: bool = setting(
        True, "DORKOS_RELAY_ENABLED", "Whether messages start runs; publishing and claiming always work."
    )
    max_message_bytes: int = setting(
        1024 * 1024,
        "DORKOS_MAX_MESSAGE_BYTES",
        "Largest message payload as JSON, in bytes.",
        ge=1024,
        le=64 * 1024 * 1024,
    )
    max_mailbox_size: int = setting(
        1000, "DORKOS_MAX_MAILBOX_SIZE", "Most pending messages in one mailbox.", ge=1, le=2**31 - 1
    )
    lease_seconds: int = setting(
        60, "DORKOS_DELIVERY_LEASE_SECONDS", "How long a claimed message waits for its ack.", ge=1, le=86_400
    )
    max_attempts: int = setting(
        5, "DORKOS_MAX_ATTEMPTS", "Claims of a message before it becomes a dead letter.", ge=1, le=100
    )
    message_ttl_seconds: int = setting(
        3600,
        "DORKOS_MESSAGE_TTL_SECONDS",
        "How long a message may wait when its sender names no expiry.",
        ge=1,
        le=10 * 366 * 86_400,
    )
    max_hops: int = setting(
        5, "DORKOS_MAX_HOPS", "Messages in one chain of cause and effect before it is stopped.", ge=1, le=1000
    )
    call_budget: int = setting(
        10,
        "DORKOS_CALL_BUDGET",
        "Calls that a chain begins with; each message takes one off what follows from it.",
        ge=1,
        le=1_000_000,
    )
    rate_limit: int = setting(
        100,
        "DORKOS_RATE_LIMIT",
        "Messages that one sender may send within the window; the operator is not bound.",
        ge=1,
        le=2**31 - 1,
    )
    rate_window_minutes: int = setting(
        1, "DORKOS_RATE_WINDOW_MINUTES", "The window of `relay.rateLimit`, in minutes.", ge=1, le=60
    )
    pair_limit: int = setting(
        30,
        "DORKOS_PAIR_LIMIT",
        "Messages that two may send each other, each of them, before it is stopped as a loop.",
        ge=1,
        le=2**31 - 1,
    )
    pair_window_minutes: int = setting(
        10, "DORKOS_PAIR_WINDOW_MINUTES", "The window of `relay.pairLimit`, in minutes.", ge=1, le=60
    )
    max_mailbox_bytes: int = setting(
        64 * 1024 * 1024,
        "DORKOS_MAX_MAILBOX_BYTES",
        "Most bytes of payload that wait in one mailbox.",
        ge=1024,
        le=2**50,
    )
    pressure_warning_at: float = setting(
        0.8,
        "DORKOS_PRESSURE_WARNING_AT",
        "How full a mailbox is, from 0 to 1, when an event warns of it.",
        gt=0,
        le=1,
    )
    breaker_failures: int = setting(
        5,
        "DORKOS_BREAKER_FAILURES",
        "Faults of delivery in a row after which a mailbox takes nothing for a while.",
        ge=1,
        le=1000,
    )
    breaker_cooldown_seconds: int = setting(
        30,
        "DORKOS_BREAKER_COOLDOWN_SECONDS",
        "How long that is before one message is tried.",
        ge=1,
        le=86_400,
    )
    retention_days: int = setting(
        30,
        "DORKOS_RELAY_RETENTION_DAYS",
        "Days that an acknowledged message stays; what waits is never taken away.",
        ge=1,
        le=36_500,
    )
    dead_letter_retention_days: int = setting(
        90, "DORKOS_DEAD_LETTER_RETENTION_DAYS", "Days that a dead letter stays.", ge=1, le=36_500
    )
    trace_retention_days: int = setting(
        30, "DORKOS_TRACE_RETENTION_DAYS", "Days that the trace of a settled message stays.", ge=1, le=36_500
    )
    request_timeout_seconds: int = setting(
        60,
        "DORKOS_REQUEST_TIMEOUT_SECONDS",
        "How long a request waits for its reply when nobody says.",
        ge=1,
        le=86_400,
    )
