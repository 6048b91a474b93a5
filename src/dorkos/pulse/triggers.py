"""From a stored or written trigger to one the planner understands, and back to words."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from dorkos.clock import from_iso, iso
from dorkos.errors import DorkError, ErrorCode
from dorkos.pulse.model import Schedule
from dorkos.pulse.planner import Cron, Every, Once, Trigger
from dorkos.pulse.zones import Zones

EVERY_MS_MIN = 1000
EVERY_MS_MAX = 366 * 86_400_000

_AT = "@at"
_EVERY = "@every"
_MANUAL = "@manual"
_UNITS = {"w": 604_800_000, "d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
_PART = re.compile(r"(\d{1,15})(ms|[wdhms])", re.ASCII)


@dataclass(frozen=True, slots=True)
class WrittenTrigger:
    """A trigger as its columns, at most one of which is given. All None means on demand."""

    cron: str | None = None
    every_ms: int | None = None
    run_at: datetime | None = None


def read_trigger(
    cron: str | None, *, every_ms: int | None = None, run_at: str | None = None
) -> WrittenTrigger:
    """What a person wrote as `cron`, `everyMs` and `runAt`.

    `@every <duration>`, `@at <instant>` and `@manual` are accepted as `cron`, because they are answered
    there: a client that knows only `cron` can send back what it got, and so can one that sends back
    everything. Raises `validation_failed`, `invalid_cron` or `invalid_instant`.
    """
    at = None if run_at is None else read_instant(run_at)
    written = _words(_MANUAL if cron is None else cron)
    if written == WrittenTrigger():
        written = WrittenTrigger(None, every_ms, at)
        contradict = every_ms is not None and at is not None
    else:
        contradict = every_ms not in (None, written.every_ms) or at not in (None, written.run_at)
    if contradict:
        raise DorkError(
            ErrorCode.VALIDATION_FAILED,
            "A schedule has one of `cron`, `everyMs` and `runAt`, not several.",
            hint="Leave out all but one.",
        )
    return written


def cron_words(of: Schedule | WrittenTrigger) -> str:
    """The trigger as the lineage's `cron`, which is never null."""
    if of.run_at is not None:
        return f"{_AT} {iso(of.run_at)}"
    if of.every_ms is not None:
        return f"{_EVERY} {_duration_words(of.every_ms)}"
    return of.cron or _MANUAL


def trigger_of(schedule: Schedule, zones: Zones) -> Trigger | None:
    """The trigger to plan with, None for on demand. Raises `invalid_timezone`."""
    written = WrittenTrigger(schedule.cron, schedule.every_ms, schedule.run_at)
    return written_trigger_of(written, schedule.timezone, zones, anchor=schedule.anchor_at)


def written_trigger_of(
    written: WrittenTrigger, timezone: str | None, zones: Zones, *, anchor: datetime | None
) -> Trigger | None:
    """The same for one that is not stored. An interval is counted from `anchor`."""
    if written.run_at is not None:
        return Once(written.run_at)
    if written.every_ms is not None and anchor is not None:
        return Every(timedelta(milliseconds=written.every_ms), anchor)
    if written.cron is not None:
        return Cron(written.cron, zones.resolve(timezone))
    return None


def _words(cron: str) -> WrittenTrigger:
    text = cron.strip()
    if not text:
        raise DorkError(
            ErrorCode.INVALID_CRON,
            "The cron expression is empty.",
            hint=f"Leave it out, or write {_MANUAL}, for a schedule that only runs when asked to.",
        )
    word, _, rest = text.partition(" ")
    match word.lower():
        case "@manual":
            return WrittenTrigger()
        case "@at":
            return WrittenTrigger(run_at=read_instant(rest.strip()))
        case "@every":
            return WrittenTrigger(every_ms=_milliseconds(rest.replace(" ", "")))
    return WrittenTrigger(cron=text)


def _milliseconds(text: str) -> int:
    parts = _PART.findall(text.lower())
    total = sum(int(number) * _UNITS[unit] for number, unit in parts)
    if not parts or "".join(number + unit for number, unit in parts) != text.lower():
        raise _no_interval(f"{text!r} is not a duration.")
    if not EVERY_MS_MIN <= total <= EVERY_MS_MAX:
        raise _no_interval("An interval is at least one second and at most 366 days.")
    return total


def _duration_words(milliseconds: int) -> str:
    words = ""
    for unit, size in _UNITS.items():
        if unit == "w":  # Read, because people write it, but days are clearer beside hours.
            continue
        count, milliseconds = divmod(milliseconds, size)
        words += f"{count}{unit}" if count else ""
    return words


def _no_interval(message: str) -> DorkError:
    return DorkError(
        ErrorCode.INVALID_CRON, message, hint="Write it as @every 15m, @every 1h30m or @every 2d."
    )


def read_instant(text: str) -> datetime:
    """An instant as a person wrote it. Raises `invalid_instant`."""
    try:
        return from_iso(text)
    except (ValueError, OverflowError) as fault:
        raise DorkError(
            ErrorCode.INVALID_INSTANT,
            f"{text!r} is not an instant.",
            hint="Write it in ISO 8601 with a zone, such as 2026-03-01T09:00:00Z.",
        ) from fault
