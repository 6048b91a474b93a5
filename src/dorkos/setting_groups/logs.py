"""The settings of the log."""

from __future__ import annotations

from dorkos.setting_groups.group import Group, setting


class LoggingSettings(Group):
    """Logging."""

    level: str = setting(
        "info",
        "DORKOS_LOG_LEVEL",
        "fatal, error, warn, info, debug or trace.",
        live=True,
        pattern="^(fatal|error|warn|info|debug|trace)$",
    )
