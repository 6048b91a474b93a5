"""The settings of events."""

from __future__ import annotations

from dorkos.setting_groups.group import Group, setting


class EventsSettings(Group):
    """How long events are kept."""

    stream_days: int = setting(
        30,
        "DORKOS_EVENT_DAYS",
        "Days after which events are taken away; whoever follows events has that long to come back.",
        ge=1,
        le=36_600,
    )
    audit_days: int = setting(
        0,
        "DORKOS_AUDIT_DAYS",
        "Days after which also those are taken away that say who allowed, changed or removed something; "
        "0 keeps them for ever.",
        ge=0,
        le=36_600,
    )
