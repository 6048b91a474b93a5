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
    max_bytes: int = setting(
        10 * 1024 * 1024,
        "DORKOS_LOG_MAX_BYTES",
        "Size at which the log file `logs/dorkos.log` of the data directory is put aside for a new one.",
        ge=64 * 1024,
        le=2**40,
    )
    keep: int = setting(7, "DORKOS_LOG_KEEP", "Older log files that are kept.", ge=1, le=1000)
