"""The settings of Pulse."""

from __future__ import annotations

from typing import Annotated

from pydantic import StringConstraints

from dorkos.setting_groups.group import Group, setting

# Less would be found everywhere, and hide the output instead.
_RedactPattern = Annotated[
    str, StringConstraints(pattern=r"^([^*]{3,}\*|[^*]{4,})$", max_length=1000, strict=True)
]


class SchedulerSettings(Group):
    """Pulse."""

    enabled: bool = setting(True, "DORKOS_PULSE_ENABLED", "Whether schedules fire and queued runs start.")
    timezone: str | None = setting(
        None,
        "DORKOS_TIMEZONE",
        "IANA zone of schedules that name none; empty means the machine's zone.",
    )
    max_concurrent_runs: int = setting(
        3,
        "DORKOS_MAX_CONCURRENT_RUNS",
        "Runs at work at once on this server; more wait queued.",
        ge=1,
        le=1000,
    )
    max_concurrent_per_agent: int = setting(
        0,
        "DORKOS_MAX_CONCURRENT_PER_AGENT",
        "Runs of one agent at work at once, on all servers together; more wait queued. 0 sets no limit.",
        ge=0,
        le=1000,
    )
    max_proposals: int = setting(
        50,
        "DORKOS_MAX_PROPOSALS",
        "Schedules of one agent that wait for approval at once; more are refused.",
        ge=1,
        le=10_000,
    )
    lease_seconds: int = setting(
        30, "DORKOS_RUN_LEASE_SECONDS", "How long a run stays claimed without a sign of life.", ge=5, le=3600
    )
    default_max_runtime_ms: int = setting(
        3_600_000,
        "DORKOS_DEFAULT_MAX_RUNTIME_MS",
        "Deadline of a run whose schedule names none, in milliseconds.",
        ge=1000,
        le=366 * 86_400_000,
    )
    max_output_bytes: int = setting(
        10 * 1024 * 1024,
        "DORKOS_MAX_OUTPUT_BYTES",
        "Most output kept of one run, in bytes.",
        ge=4096,
        le=2**31 - 1,
    )
    retention_count: int = setting(
        100,
        "DORKOS_RETENTION_COUNT",
        "Due instants that are kept of each schedule, with their runs, and as many runs that were started "
        "otherwise.",
        ge=1,
        le=1_000_000,
    )
    retention_days: int = setting(
        365,
        "DORKOS_RETENTION_DAYS",
        "Days after which a due instant, a run that has ended, or a deleted schedule is taken away.",
        ge=1,
        le=36_600,
    )
    redact: list[str] = setting(
        ["DORKOS_TOKEN"],
        "DORKOS_REDACT",
        "Environment variables of runs and of the server whose values, from four characters on, are replaced "
        "by `[redacted]` in what is stored of a run: its output and its error. Separated by `:` in the "
        "environment.",
    )
    redact_patterns: list[_RedactPattern] = setting(
        [],
        "DORKOS_REDACT_PATTERNS",
        "Texts that are replaced in the same way wherever they stand. One that ends in `*`, such as "
        "`sk-ant-*`, goes together with the 8 or more letters, digits and signs of a token that follow "
        "it. Separated by `:` in the environment.",
        secret=True,
    )

    approval_days: int = setting(
        7,
        "DORKOS_APPROVAL_DAYS",
        "Days that a person has to answer whether an agent's schedule may run; it is paused after that.",
        ge=1,
        le=366,
    )
