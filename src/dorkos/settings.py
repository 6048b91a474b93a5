"""Typed settings. Precedence: flag, then environment, then `config.toml`, then the `config.json` of DorkOS
for Node, then default.

One function decides for every setting, and says which source won, so that "off" in the environment is
as good as "on". Keys unknown to this version are kept in the file and ignored; a file that cannot be
read is a refusal, never a reason to start with defaults.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic.alias_generators import to_camel

from dorkos.config_file import read_layers
from dorkos.errors import DorkError, ErrorCode

T = TypeVar("T")

_HOME = ".dork"


def _setting(
    default: T,
    env: str,
    meaning: str,
    *,
    secret: bool = False,
    live: bool = False,
    separator: str = os.pathsep,
    **rules: Any,
) -> T:
    """A setting. No answer ever shows what is `secret` in one; a change of a `live` one needs no restart.

    `separator` stands between the items of a list in the environment.
    """
    facts: dict[str, Any] = {"env": env, "secret": secret, "live": live, "separator": separator}
    field: T = Field(default, description=meaning, json_schema_extra=facts, validate_default=False, **rules)
    return field


class _Section(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore")


# A name or a literal address. No pattern: a name that somebody else can make would be one of this server's.
_HostName = Annotated[
    str,
    StringConstraints(
        strip_whitespace=True, to_lower=True, max_length=253, pattern=r"^([a-zA-Z0-9._-]+|[0-9a-fA-F:]+)$"
    ),
]


class ServerSettings(_Section):
    """Where the server listens and which paths it may touch."""

    host: str = _setting("127.0.0.1", "DORKOS_HOST", "Address the server binds to.", min_length=1)
    port: int = _setting(4242, "DORKOS_PORT", "TCP port of the server; 0 picks a free one.", ge=0, le=65535)
    allowed_hosts: list[_HostName] = _setting(
        [],
        "DORKOS_ALLOWED_HOSTS",
        "Names and addresses, without port, by which other machines call this server; needed when "
        "`server.host` is more than this machine, or a proxy passes requests on. "
        "Separated by commas in the environment.",
        separator=",",
    )
    boundary: Path | None = _setting(
        None,
        "DORKOS_BOUNDARY",
        "Directory that every path given to the server must lie in; empty means the user's home directory.",
    )
    max_body_bytes: int = _setting(
        2 * 1024 * 1024,
        "DORKOS_MAX_BODY_BYTES",
        "Largest request body, in bytes.",
        ge=1024,
        le=64 * 1024 * 1024,
    )
    request_seconds: int = _setting(
        60,
        "DORKOS_REQUEST_SECONDS",
        "Seconds within which a request has to arrive, and again to be answered. What waits on purpose, such "
        "as a stream or a long poll, has its own limits.",
        ge=1,
        le=3600,
    )
    max_streams: int = _setting(
        200, "DORKOS_MAX_STREAMS", "Most event streams open at once.", ge=1, le=10_000
    )


class DatabaseSettings(_Section):
    """Where state is kept."""

    url: str | None = _setting(
        None,
        "DORKOS_DATABASE_URL",
        "PostgreSQL URL; empty means the SQLite file `dork.db` in the data directory.",
        secret=True,
    )


class BackupSettings(_Section):
    """The daily copy of the SQLite database."""

    every_hours: int = _setting(
        24,
        "DORKOS_BACKUP_EVERY_HOURS",
        "Age of the newest daily backup at which the server makes the next, in hours; 0 switches it off.",
        ge=0,
        le=24 * 366,
    )
    keep: int = _setting(
        7, "DORKOS_BACKUP_KEEP", "Daily backups that are kept; older ones are deleted.", ge=1, le=1000
    )
    rehearse_days: int = _setting(
        7,
        "DORKOS_REHEARSE_DAYS",
        "Days after which the newest backup is again restored for trial, into a folder that is thrown away; "
        "0 switches it off.",
        ge=0,
        le=366,
    )


# Less would be found everywhere, and hide the output instead.
_RedactPattern = Annotated[
    str, StringConstraints(pattern=r"^([^*]{3,}\*|[^*]{4,})$", max_length=1000, strict=True)
]


class SchedulerSettings(_Section):
    """Pulse."""

    enabled: bool = _setting(True, "DORKOS_PULSE_ENABLED", "Whether schedules fire and queued runs start.")
    timezone: str | None = _setting(
        None,
        "DORKOS_TIMEZONE",
        "IANA zone of schedules that name none; empty means the machine's zone.",
    )
    max_concurrent_runs: int = _setting(
        3,
        "DORKOS_MAX_CONCURRENT_RUNS",
        "Runs at work at once on this server; more wait queued.",
        ge=1,
        le=1000,
    )
    max_concurrent_per_agent: int = _setting(
        0,
        "DORKOS_MAX_CONCURRENT_PER_AGENT",
        "Runs of one agent at work at once, on all servers together; more wait queued. 0 sets no limit.",
        ge=0,
        le=1000,
    )
    lease_seconds: int = _setting(
        30, "DORKOS_RUN_LEASE_SECONDS", "How long a run stays claimed without a sign of life.", ge=5, le=3600
    )
    default_max_runtime_ms: int = _setting(
        3_600_000,
        "DORKOS_DEFAULT_MAX_RUNTIME_MS",
        "Deadline of a run whose schedule names none, in milliseconds.",
        ge=1000,
        le=366 * 86_400_000,
    )
    max_output_bytes: int = _setting(
        10 * 1024 * 1024,
        "DORKOS_MAX_OUTPUT_BYTES",
        "Most output kept of one run, in bytes.",
        ge=4096,
        le=2**31 - 1,
    )
    retention_count: int = _setting(
        100,
        "DORKOS_RETENTION_COUNT",
        "Due instants that are kept of each schedule, with their runs, and as many runs that were started "
        "otherwise.",
        ge=1,
        le=1_000_000,
    )
    retention_days: int = _setting(
        365,
        "DORKOS_RETENTION_DAYS",
        "Days after which a due instant, a run that has ended, or a deleted schedule is taken away.",
        ge=1,
        le=36_600,
    )
    redact: list[str] = _setting(
        ["DORKOS_TOKEN"],
        "DORKOS_REDACT",
        "Environment variables of runs and of the server whose values, from four characters on, are replaced "
        "by `[redacted]` in what is stored of a run: its output and its error. Separated by `:` in the "
        "environment.",
    )
    redact_patterns: list[_RedactPattern] = _setting(
        [],
        "DORKOS_REDACT_PATTERNS",
        "Texts that are replaced in the same way wherever they stand. One that ends in `*`, such as "
        "`sk-ant-*`, goes together with the 8 or more letters, digits and signs of a token that follow "
        "it. Separated by `:` in the environment.",
        secret=True,
    )

    approval_days: int = _setting(
        7,
        "DORKOS_APPROVAL_DAYS",
        "Days that a person has to answer whether an agent's schedule may run; it is paused after that.",
        ge=1,
        le=366,
    )


class RelaySettings(_Section):
    """Relay."""

    enabled: bool = _setting(
        True, "DORKOS_RELAY_ENABLED", "Whether messages start runs; publishing and claiming always work."
    )
    max_message_bytes: int = _setting(
        1024 * 1024,
        "DORKOS_MAX_MESSAGE_BYTES",
        "Largest message payload as JSON, in bytes.",
        ge=1024,
        le=64 * 1024 * 1024,
    )
    max_mailbox_size: int = _setting(
        1000, "DORKOS_MAX_MAILBOX_SIZE", "Most pending messages in one mailbox.", ge=1, le=2**31 - 1
    )
    lease_seconds: int = _setting(
        60, "DORKOS_DELIVERY_LEASE_SECONDS", "How long a claimed message waits for its ack.", ge=1, le=86_400
    )
    max_attempts: int = _setting(
        5, "DORKOS_MAX_ATTEMPTS", "Claims of a message before it becomes a dead letter.", ge=1, le=100
    )
    message_ttl_seconds: int = _setting(
        3600,
        "DORKOS_MESSAGE_TTL_SECONDS",
        "How long a message may wait when its sender names no expiry.",
        ge=1,
        le=10 * 366 * 86_400,
    )
    max_hops: int = _setting(
        5, "DORKOS_MAX_HOPS", "Messages in one chain of cause and effect before it is stopped.", ge=1, le=1000
    )
    call_budget: int = _setting(
        10,
        "DORKOS_CALL_BUDGET",
        "Calls that a chain begins with; each message takes one off what follows from it.",
        ge=1,
        le=1_000_000,
    )
    rate_limit: int = _setting(
        100,
        "DORKOS_RATE_LIMIT",
        "Messages that one sender may send within the window; the operator is not bound.",
        ge=1,
        le=2**31 - 1,
    )
    rate_window_minutes: int = _setting(
        1, "DORKOS_RATE_WINDOW_MINUTES", "The window of `relay.rateLimit`, in minutes.", ge=1, le=60
    )
    pair_limit: int = _setting(
        30,
        "DORKOS_PAIR_LIMIT",
        "Messages that two may send each other, each of them, before it is stopped as a loop.",
        ge=1,
        le=2**31 - 1,
    )
    pair_window_minutes: int = _setting(
        10, "DORKOS_PAIR_WINDOW_MINUTES", "The window of `relay.pairLimit`, in minutes.", ge=1, le=60
    )
    max_mailbox_bytes: int = _setting(
        64 * 1024 * 1024,
        "DORKOS_MAX_MAILBOX_BYTES",
        "Most bytes of payload that wait in one mailbox.",
        ge=1024,
        le=2**50,
    )
    pressure_warning_at: float = _setting(
        0.8,
        "DORKOS_PRESSURE_WARNING_AT",
        "How full a mailbox is, from 0 to 1, when an event warns of it.",
        gt=0,
        le=1,
    )
    breaker_failures: int = _setting(
        5,
        "DORKOS_BREAKER_FAILURES",
        "Faults of delivery in a row after which a mailbox takes nothing for a while.",
        ge=1,
        le=1000,
    )
    breaker_cooldown_seconds: int = _setting(
        30,
        "DORKOS_BREAKER_COOLDOWN_SECONDS",
        "How long that is before one message is tried.",
        ge=1,
        le=86_400,
    )
    retention_days: int = _setting(
        30,
        "DORKOS_RELAY_RETENTION_DAYS",
        "Days that an acknowledged message stays; what waits is never taken away.",
        ge=1,
        le=36_500,
    )
    dead_letter_retention_days: int = _setting(
        90, "DORKOS_DEAD_LETTER_RETENTION_DAYS", "Days that a dead letter stays.", ge=1, le=36_500
    )
    trace_retention_days: int = _setting(
        30, "DORKOS_TRACE_RETENTION_DAYS", "Days that the trace of a settled message stays.", ge=1, le=36_500
    )
    request_timeout_seconds: int = _setting(
        60,
        "DORKOS_REQUEST_TIMEOUT_SECONDS",
        "How long a request waits for its reply when nobody says.",
        ge=1,
        le=86_400,
    )


class RuntimeSettings(_Section):
    """What drives the turns of agents."""

    default: str | None = _setting(
        None,
        "DORKOS_RUNTIME",
        "Runtime of agents that have no entrypoint and whose manifest names no product that DorkOS drives.",
    )
    claude_model: str | None = _setting(
        None, "DORKOS_CLAUDE_MODEL", "Model of the runtime `claude`; empty leaves it to Claude Code."
    )
    codex_model: str | None = _setting(
        None, "DORKOS_CODEX_MODEL", "Model of the runtime `codex`; empty leaves it to Codex."
    )
    max_turns: int = _setting(
        0,
        "DORKOS_MAX_TURNS",
        "Model calls of one run of the runtime `claude` before it fails; 0 sets no limit.",
        ge=0,
        le=100_000,
    )
    max_cost_usd: float = _setting(
        0.0,
        "DORKOS_MAX_COST_USD",
        "US dollars that one run of the runtime `claude` may cost before it fails; 0 sets no limit.",
        ge=0,
        le=1_000_000,
    )
    exit_codes: list[str] = _setting(
        [],
        "DORKOS_EXIT_CODES",
        "What exit codes mean of programs that tell no result: such as `75=blocked` or `3=completed`, with "
        "the words completed, failed, cancelled, blocked and unavailable; any other code but 0 is a failure. "
        "Separated by `:` in the environment.",
    )
    conversation_hours: int = _setting(
        24,
        "DORKOS_CONVERSATION_HOURS",
        "Hours after the last run between a sender and an agent in which the next message goes on with its "
        "session; 0 begins anew with each message.",
        ge=0,
        le=24 * 366,
    )
    environment: list[str] = _setting(
        [],
        "DORKOS_RUN_ENVIRONMENT",
        "Variables of the server's environment that runs get as well, such as ANTHROPIC_API_KEY; the values "
        "of those that end with KEY, TOKEN, SECRET or PASSWORD are redacted. Separated by `:` in the "
        "environment.",
    )


class MeshSettings(_Section):
    """Mesh."""

    enabled: bool = _setting(
        True, "DORKOS_MESH_ENABLED", "Whether discovery and the looks at agents' folders may run."
    )
    host: str = _setting(
        "",
        "DORKOS_MESH_HOST",
        "Name of this machine where several share one database; empty is its host name. Agents are looked "
        "at and run only on their own, so give it where host names change, as in containers.",
        max_length=255,
    )
    scan_roots: list[Path] = _setting(
        [],
        "DORKOS_SCAN_ROOTS",
        "Directories that discovery searches when none is named, separated by `:` in the environment.",
    )
    reconcile_seconds: int = _setting(
        300,
        "DORKOS_RECONCILE_SECONDS",
        "How often the folders of registered agents are looked at.",
        ge=1,
        le=86_400,
    )
    archive_days: int = _setting(
        30,
        "DORKOS_ARCHIVE_DAYS",
        "Days after which an agent whose folder cannot be seen is archived; nothing is deleted by it.",
        ge=1,
        le=3660,
    )
    inactive_minutes: int = _setting(
        60,
        "DORKOS_INACTIVE_MINUTES",
        "Minutes without a sign of an agent after which it counts as inactive.",
        ge=1,
        le=366 * 1440,
    )
    stale_minutes: int = _setting(
        1440,
        "DORKOS_STALE_MINUTES",
        "Minutes without a sign of an agent after which it counts as stale, unless its next turn is ahead.",
        ge=1,
        le=366 * 1440,
    )
    stuck_minutes: int = _setting(
        30,
        "DORKOS_STUCK_MINUTES",
        "Minutes that work may wait for an agent that does not take it, before it counts as stuck.",
        ge=1,
        le=366 * 1440,
    )
    max_calls_per_hour: int = _setting(
        100,
        "DORKOS_MAX_CALLS_PER_HOUR",
        "Messages sent and runs started in an hour by an agent whose manifest names no other number.",
        ge=1,
        le=2**31 - 1,
    )
    token_days: int = _setting(
        365, "DORKOS_AGENT_TOKEN_DAYS", "Days that the token of a registered agent holds.", ge=1, le=3660
    )


class EventsSettings(_Section):
    """How long events are kept."""

    stream_days: int = _setting(
        30,
        "DORKOS_EVENT_DAYS",
        "Days after which events are taken away; whoever follows events has that long to come back.",
        ge=1,
        le=36_600,
    )
    audit_days: int = _setting(
        0,
        "DORKOS_AUDIT_DAYS",
        "Days after which also those are taken away that say who allowed, changed or removed something; "
        "0 keeps them for ever.",
        ge=0,
        le=36_600,
    )


class LoggingSettings(_Section):
    """Logging."""

    level: str = _setting(
        "info",
        "DORKOS_LOG_LEVEL",
        "fatal, error, warn, info, debug or trace.",
        live=True,
        pattern="^(fatal|error|warn|info|debug|trace)$",
    )


class Settings(_Section):
    """All settings of one process, immutable."""

    server: ServerSettings = ServerSettings()
    database: DatabaseSettings = DatabaseSettings()
    backups: BackupSettings = BackupSettings()
    scheduler: SchedulerSettings = SchedulerSettings()
    relay: RelaySettings = RelaySettings()
    runtimes: RuntimeSettings = RuntimeSettings()
    mesh: MeshSettings = MeshSettings()
    events: EventsSettings = EventsSettings()
    logging: LoggingSettings = LoggingSettings()


@dataclass(frozen=True, slots=True)
class SettingRow:
    """One setting as documentation and `dorkos config` show it."""

    key: str
    env: str
    default: object
    meaning: str
    secret: bool = False
    live: bool = False
    separator: str = os.pathsep


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    """Settings together with where each value came from: flag, environment, file or default.

    `flags` are those that were given by hand; they hold as long as the process does.
    """

    values: Settings
    sources: Mapping[str, str]
    flags: Mapping[str, object] = field(default_factory=dict)


def given(values: Settings) -> LoadedSettings:
    """Settings that a program made: every one of them as if by a flag."""
    flags = {row.key: value_of(values, row.key) for row in SETTINGS}
    return LoadedSettings(values, dict.fromkeys(flags, "flag"), flags)


def _rows() -> tuple[SettingRow, ...]:
    rows = []
    for section_name, section in Settings.model_fields.items():
        model = section.annotation
        assert isinstance(model, type)
        assert issubclass(model, BaseModel)
        for name, entry in model.model_fields.items():
            extra = entry.json_schema_extra
            assert isinstance(extra, dict)
            rows.append(
                SettingRow(
                    f"{section_name}.{to_camel(name)}",
                    str(extra["env"]),
                    entry.default,
                    str(entry.description),
                    secret=bool(extra["secret"]),
                    live=bool(extra["live"]),
                    separator=str(extra["separator"]),
                )
            )
    return tuple(rows)


SETTINGS = _rows()
SETTING_BY_KEY: Mapping[str, SettingRow] = {row.key: row for row in SETTINGS}


def default_home(environment: Mapping[str, str] = os.environ) -> Path:
    """The data directory: `DORK_HOME`, else `~/.dork`. The one place that decides it."""
    named = environment.get("DORK_HOME")
    return Path(named).expanduser() if named else Path.home() / _HOME


def load_settings(
    config_path: Path,
    *,
    environment: Mapping[str, str],
    flags: Mapping[str, object] | None = None,
) -> LoadedSettings:
    """Read the settings. `config_path` is `config.toml`, beside which the lineage's `config.json` may lie.

    `flags` maps dotted keys such as `server.port` to values given by hand. Raises `invalid_setting`, naming
    the setting, its source and the rule it breaks.
    """
    layers: list[tuple[str, Mapping[str, object]]] = [
        *((layer.name, layer.values) for layer in read_layers(config_path)),
        ("environment", _from_environment(environment)),
        ("flag", {key: value for key, value in (flags or {}).items() if value is not None}),
    ]
    values: dict[str, object] = {}
    sources = {row.key: "default" for row in SETTINGS}
    for source, layer in layers:
        for key, value in layer.items():
            if key in SETTING_BY_KEY:
                values[key] = value
                sources[key] = source
    try:
        return LoadedSettings(_validated(values), sources, dict(layers[-1][1]))
    except ValidationError as fault:
        key, message = next(iter(_by_key(fault).items()))
        raise DorkError(
            ErrorCode.INVALID_SETTING,
            f"{_shown(key, values.get(key))} (from {sources.get(key, 'default')}): {message}.",
            hint="See docs/reference/settings.md for the values that are allowed.",
            details={"setting": key, "source": sources.get(key, "default")},
        ) from fault


def settings_of(values: Mapping[str, object]) -> Settings:
    """The settings with these values by their dotted keys, and defaults for the others.

    Raises `invalid_setting`, whose details give a message for each key that breaks a rule.
    """
    try:
        return _validated(values)
    except ValidationError as fault:
        problems = _by_key(fault)
        key, message = next(iter(problems.items()))
        raise DorkError(
            ErrorCode.INVALID_SETTING,
            f"{_shown(key, values.get(key))}: {message}.",
            hint="See docs/reference/settings.md for the values that are allowed.",
            details=problems,
        ) from fault


def value_of(settings: Settings, key: str) -> object:
    """The value of a setting as JSON has it, by its dotted key."""
    section, name = key.split(".", 1)
    value: object = settings.model_dump(mode="json", by_alias=True)[section][name]
    return value


def _from_environment(environment: Mapping[str, str]) -> dict[str, object]:
    found: dict[str, object] = {}
    for row in SETTINGS:
        text = environment.get(row.env)
        if text is None or text == "":
            continue
        found[row.key] = text.split(row.separator) if isinstance(row.default, list) else text
    return found


def _validated(values: Mapping[str, object]) -> Settings:
    nested: dict[str, dict[str, object]] = {}
    for key, value in values.items():
        section, name = key.split(".", 1)
        nested.setdefault(section, {})[name] = value
    return Settings.model_validate(nested)


def _by_key(fault: ValidationError) -> dict[str, str]:
    """For each key the first rule that it breaks."""
    problems: dict[str, str] = {}
    for problem in fault.errors(include_url=False, include_context=False, include_input=False):
        key = ".".join(str(part) for part in problem["loc"][:2])
        problems.setdefault(key, problem["msg"].removeprefix("Value error, "))
    return problems


def _shown(key: str, value: object) -> str:
    """The setting with its value, unless a password may stand in it."""
    return key if SETTING_BY_KEY[key].secret else f"{key} = {value!r}"
