"""The settings of Mesh."""

from __future__ import annotations

from pathlib import Path

from dorkos.setting_groups.group import Group, setting


class MeshSettings(Group):
    """Mesh."""

    enabled: bool = setting(
        True, "DORKOS_MESH_ENABLED", "Whether discovery and the looks at agents' folders may run."
    )
    host: str = setting(
        "",
        "DORKOS_MESH_HOST",
        "Name of this machine where several share one database; empty is its host name. Agents are looked "
        "at and run only on their own, so give it where host names change, as in containers.",
        max_length=255,
    )
    scan_roots: list[Path] = setting(
        [],
        "DORKOS_SCAN_ROOTS",
        "Directories that discovery searches when none is named, separated by `:` in the environment.",
    )
    reconcile_seconds: int = setting(
        300,
        "DORKOS_RECONCILE_SECONDS",
        "How often the folders of registered agents are looked at.",
        ge=1,
        le=86_400,
    )
    archive_days: int = setting(
        30,
        "DORKOS_ARCHIVE_DAYS",
        "Days after which an agent whose folder cannot be seen is archived; nothing is deleted by it.",
        ge=1,
        le=3660,
    )
    inactive_minutes: int = setting(
        60,
        "DORKOS_INACTIVE_MINUTES",
        "Minutes without a sign of an agent after which it counts as inactive.",
        ge=1,
        le=366 * 1440,
    )
    stale_minutes: int = setting(
        1440,
        "DORKOS_STALE_MINUTES",
        "Minutes without a sign of an agent after which it counts as stale, unless its next turn is ahead.",
        ge=1,
        le=366 * 1440,
    )
    stuck_minutes: int = setting(
        30,
        "DORKOS_STUCK_MINUTES",
        "Minutes that work may wait for an agent that does not take it, before it counts as stuck.",
        ge=1,
        le=366 * 1440,
    )
    max_calls_per_hour: int = setting(
        100,
        "DORKOS_MAX_CALLS_PER_HOUR",
        "Messages sent and runs started in an hour by an agent whose manifest names no other number.",
        ge=1,
        le=2**31 - 1,
    )
    token_days: int = setting(
        365, "DORKOS_AGENT_TOKEN_DAYS", "Days that the token of a registered agent holds.", ge=1, le=3660
    )
