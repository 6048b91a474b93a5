"""Times and durations as people write and read them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from dorkos.clock import from_iso, iso
from dorkos.errors import DorkError, ErrorCode

_MILLISECONDS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION = re.compile(r"(?:(\d+)(ms|s|m|h|d))")


def local_time(text: str | None, *, now: datetime | None = None) -> str:
    """An instant of the API on the local clock: the time alone today, with the date on other days.

    For columns whose heading names the zone of today: an instant on the other side of a clock change
    names its own. What is no instant is shown as it is, so that a newer server's answer still shows.
    """
    today = (now or datetime.now(UTC)).astimezone()
    shown, zone = _shown(text, today)
    return shown if zone in ("", today.tzname()) else f"{shown} {zone}"


def zoned_time(text: str | None) -> str:
    """The same with its zone, for where no heading names it."""
    return " ".join(_shown(text, datetime.now().astimezone())).rstrip()


def _shown(text: str | None, today: datetime) -> tuple[str, str]:
    """An instant in words, and the zone that they are in."""
    try:
        moment = from_iso(text or "").astimezone()
    except (ValueError, OverflowError):
        return text or "", ""
    form = "%H:%M:%S" if moment.date() == today.date() else "%Y-%m-%d %H:%M"
    return moment.strftime(form), moment.tzname() or ""


def zone_label() -> str:
    """The short name of the local zone as of now, such as `CET`: it stands in the heading of times."""
    return datetime.now().astimezone().tzname() or "local"


def duration(milliseconds: int | None) -> str:
    """How long something took, in the two units that matter: `120 ms`, `3.4 s`, `2 m 5 s`, `1 h 3 m`."""
    if milliseconds is None:
        return ""
    if milliseconds < 1000:
        return f"{milliseconds} ms"
    if milliseconds < 60_000:
        return f"{milliseconds // 100 / 10:.1f} s"
    seconds = milliseconds // 1000
    if seconds < 3600:
        return f"{seconds // 60} m {seconds % 60} s"
    minutes = seconds // 60
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} m"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"


def milliseconds(text: str, option: str) -> int:
    """Read `90s`, `10m`, `1h30m` or `500ms`. Raises `usage`, naming the option, for anything else."""
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise DorkError(
            ErrorCode.USAGE,
            f"{option} {text!r} is not a duration.",
            hint="Write a number with its unit, such as 30s, 10m or 1h30m.",
        )
    return sum(int(number) * _MILLISECONDS[unit] for number, unit in parts)


def whole_seconds(text: str, option: str) -> int:
    """The same for what the server takes in seconds. Raises `usage` for a fraction of one."""
    whole, rest = divmod(milliseconds(text, option), 1000)
    if rest:
        raise DorkError(
            ErrorCode.USAGE, f"{option} {text!r} is not whole seconds.", hint="Write it as 1s, 30s or 5m."
        )
    return whole


def instant(text: str, zone: str | None) -> str:
    """An instant given by hand, as the API takes it.

    One that names no zone is meant on the clock of `zone`, else on the local clock. Raises
    `invalid_instant` or `invalid_timezone`.
    """
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None and zone is not None:
            moment = moment.replace(tzinfo=_zone(zone))
        return iso(moment)  # One that still names no zone is on the local clock.
    except (ValueError, OverflowError) as fault:
        raise DorkError(
            ErrorCode.INVALID_INSTANT,
            f"{text!r} is not a date with a time.",
            hint="Write it as 2026-03-01T09:00, or with a zone as 2026-03-01T09:00+01:00.",
        ) from fault


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError) as fault:
        raise DorkError(
            ErrorCode.INVALID_TIMEZONE,
            f"{name!r} is not a time zone.",
            hint="Use an IANA name such as Europe/Berlin.",
        ) from fault
