"""Time zones by name: from what a person wrote, or the machine is set to, to a zone that exists."""

from __future__ import annotations

import re
import zoneinfo
from functools import lru_cache
from zoneinfo import ZoneInfo

import tzlocal

from dorkos.errors import DorkError, ErrorCode

# A name goes into a file path, so it is checked before anything is opened: no dots, nothing absolute.
_NAME = re.compile(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*")
# In the zone directory, but no zones of their own: copies with leap seconds, and links of the machine.
_NOT_NAMES = ("posix/", "right/", "localtime", "posixrules", "Factory")


class Zones:
    """Resolves a schedule's zone; a schedule that names none inherits `inherited`."""

    def __init__(self, setting: str | None) -> None:
        """`setting` is `scheduler.timezone`; None means the machine's zone. Raises `invalid_setting`."""
        try:
            self.inherited = load_zone(setting or machine_zone())
        except DorkError as fault:
            raise DorkError(
                ErrorCode.INVALID_SETTING,
                f"scheduler.timezone: {fault.message}",
                hint="Set `scheduler.timezone` to an IANA name such as Europe/Berlin, or to UTC.",
            ) from fault

    def resolve(self, name: str | None) -> ZoneInfo:
        """The zone to compute with. Raises `invalid_timezone`."""
        return self.inherited if name is None else load_zone(name)


def load_zone(name: str) -> ZoneInfo:
    """The zone of an IANA name, whatever its case. Raises `invalid_timezone`."""
    if _NAME.fullmatch(name) and not name.startswith(_NOT_NAMES) and len(name) <= 64:
        # A directory such as `Europe` is an OSError, a file that holds no zone a ValueError.
        try:
            return ZoneInfo(name)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            pass
        known = _names_by_lower_case().get(name.lower())
        if known is not None:
            return ZoneInfo(known)
    raise DorkError(
        ErrorCode.INVALID_TIMEZONE,
        f"{name!r} is not an IANA time zone.",
        hint="Use a name such as Europe/Berlin, America/New_York or UTC; offsets like +02:00 have none.",
    )


def machine_zone() -> str:
    """The IANA name of the zone this machine is set to, or UTC if it cannot be told."""
    try:
        # Not get_localzone, which remembers what it found first.
        return load_zone(tzlocal.reload_localzone().key).key
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError, DorkError):
        return "UTC"


@lru_cache(maxsize=1)
def _names_by_lower_case() -> dict[str, str]:
    names = zoneinfo.available_timezones()
    return {name.lower(): name for name in names if not name.startswith(_NOT_NAMES)}
