"""The settings of the old home: told to a person, never taken over by themselves."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dorkos.db.legacy.home import LegacyHome
from dorkos.db.legacy.report import Report
from dorkos.db.legacy.rows import Row

_FILE = "config.json"
# What both systems understand, by the same names. Nothing else is shown: it could be a secret.
_SHARED = (
    "server.port",
    "server.boundary",
    "logging.level",
    "relay.enabled",
    "scheduler.enabled",
    "scheduler.maxConcurrentRuns",
    "scheduler.timezone",
    "mesh.enabled",
    "mesh.scanRoots",
)
_SECRET = ("tunnel.authtoken", "tunnel.auth")


@dataclass(frozen=True, slots=True)
class OldSettings:
    """Settings by dotted key. `shared` mean here what they meant there; `all_keys` are those set."""

    shared: Mapping[str, object]
    all_keys: frozenset[str]
    relay_folder: str | None


def read_settings(home: LegacyHome) -> OldSettings:
    """What `config.json` says; nothing where there is none, or none that can be read, which is reported."""
    document = home.document(_FILE)
    flat: dict[str, object] = {}
    if isinstance(document, dict):
        flat = {
            f"{section}.{name}": value
            for section, body in document.items()
            if isinstance(body, dict)
            for name, value in body.items()
            if value is not None
        }
    folder = flat.get("relay.dataDir")
    return OldSettings(
        {key: flat[key] for key in _SHARED if key in flat},
        frozenset(flat),
        folder if isinstance(folder, str) else None,
    )


def tell(
    report: Report,
    settings: OldSettings,
    *,
    source: str,
    schedules: Iterable[Row],
    in_place: bool,
    inherited_zone: str | None,
) -> None:
    """Tell what a person has to decide about: settings, and schedules that would fire at other instants.

    `inherited_zone` is the `scheduler.timezone` of the target, None if it is not set.
    """
    report.settings.update(settings.shared)
    if settings.shared and not in_place:
        values = ", ".join(f"{key} = {json.dumps(value)}" for key, value in settings.shared.items())
        report.note(
            f"{_FILE}: the old home had {values}. No setting was taken over: write those that you want into "
            "config.toml of this home, where they have the same names."
        )
    secret = [key for key in _SECRET if key in settings.all_keys]
    if secret:
        report.note(f"{_FILE}: {' and '.join(secret)} are secrets; they are not shown and mean nothing here.")
    old_zone = settings.shared.get("scheduler.timezone")
    inheriting = [schedule for schedule in schedules if schedule["timezone"] is None]
    if inheriting and old_zone != inherited_zone:
        report.note(
            f"ATTENTION: {len(inheriting)} schedules name no time zone. They fired in "
            f"{old_zone or 'the zone of the old machine'}, and would fire in "
            f"{inherited_zone or 'the zone of this machine'} here. Set scheduler.timezone"
            f"{f' to {old_zone}' if old_zone else ''} before you let the fleet go."
        )
    if settings.relay_folder is not None:
        report.unreadable(
            "relay",
            settings.relay_folder,
            f"relay.dataDir of {source} names a folder of its own, which is not looked for: copy it to "
            "`relay` inside a copy of the old home, and adopt that",
        )
