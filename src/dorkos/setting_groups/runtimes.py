"""The settings of the runtimes."""

from __future__ import annotations

from dorkos.setting_groups.group import Group, setting


class RuntimeSettings(Group):
    """What drives the turns of agents."""

    default: str | None = setting(
        None,
        "DORKOS_RUNTIME",
        "Runtime of agents that have no entrypoint and whose manifest names no product that DorkOS drives.",
    )
    claude_model: str | None = setting(
        None, "DORKOS_CLAUDE_MODEL", "Model of the runtime `claude`; empty leaves it to Claude Code."
    )
    codex_model: str | None = setting(
        None, "DORKOS_CODEX_MODEL", "Model of the runtime `codex`; empty leaves it to Codex."
    )
    max_turns: int = setting(
        0,
        "DORKOS_MAX_TURNS",
        "Model calls of one run of the runtime `claude` before it fails; 0 sets no limit.",
        ge=0,
        le=100_000,
    )
    max_cost_usd: float = setting(
        0.0,
        "DORKOS_MAX_COST_USD",
        "US dollars that one run of the runtime `claude` may cost before it fails; 0 sets no limit.",
        ge=0,
        le=1_000_000,
    )
    exit_codes: list[str] = setting(
        [],
        "DORKOS_EXIT_CODES",
        "What exit codes mean of programs that tell no result: such as `75=blocked` or `3=completed`, with "
        "the words completed, failed, cancelled, blocked and unavailable; any other code but 0 is a failure. "
        "Separated by `:` in the environment.",
    )
    conversation_hours: int = setting(
        24,
        "DORKOS_CONVERSATION_HOURS",
        "Hours after the last run between a sender and an agent in which the next message goes on with its "
        "session; 0 begins anew with each message.",
        ge=0,
        le=24 * 366,
    )
    environment: list[str] = setting(
        [],
        "DORKOS_RUN_ENVIRONMENT",
        "Variables of the server's environment that runs get as well, such as ANTHROPIC_API_KEY; the values "
        "of those that end with KEY, TOKEN, SECRET or PASSWORD are redacted. Separated by `:` in the "
        "environment.",
    )
