"""The settings of the database and of its daily copy."""

from __future__ import annotations

from dorkos.setting_groups.group import Group, setting


class DatabaseSettings(Group):
    """Where state is kept."""

    url: str | None = setting(
        None,
        "DORKOS_DATABASE_URL",
        "PostgreSQL URL; empty means the SQLite file `dork.db` in the data directory.",
        secret=True,
    )


class BackupSettings(Group):
    """The daily copy of the SQLite database."""

    every_hours: int = setting(
        24,
        "DORKOS_BACKUP_EVERY_HOURS",
        "Age of the newest daily backup at which the server makes the next, in hours; 0 switches it off.",
        ge=0,
        le=24 * 366,
    )
    keep: int = setting(
        7, "DORKOS_BACKUP_KEEP", "Daily backups that are kept; older ones are deleted.", ge=1, le=1000
    )
    rehearse_days: int = setting(
        7,
        "DORKOS_REHEARSE_DAYS",
        "Days after which the newest backup is again restored for trial, into a folder that is thrown away; "
        "0 switches it off.",
        ge=0,
        le=366,
    )
