"""From a stored or written trigger to one the planner understands, and back to words."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from dorkos.clock import from_iso, iso
from dorkos.errors import DorkError, ErrorCode
from dorkos.pulse.model import Schedule, ScheduleDraft
from dorkos.pulse.planner import Cron, Once, Trigger
from dorkos.pulse.zones import Zones

_AT = "@at"
_MANUAL = "@manual"


@dataclass(frozen=True, slots=True)
class WrittenTrigger:
    """A trigger as its two columns. Both None means on demand."""

    cron: str | None
    run_at: datetime | None


def read_trigger(cron: str | None, run_at: str | None) -> WrittenTrigger:
    """What a person wrote as `cron` and `runAt`. Raises `validation_failed` or `invalid_instant`.

    `@at <instant>` and `@manual` are accepted as `cron`, because they are answered there: a client that
    knows only `cron` can send back what it got.
    """
    text = _MANUAL if cron is None else cron.strip()
    if not text:
        raise DorkError(
            ErrorCode.INVALID_CRON,
            "The cron expression is empty.",
            hint=f"Leave it out, or write {_MANUAL}, for a schedule that only runs when asked to.",
        )
    if run_at is not None and text != _MANUAL:
        raise DorkError(
            ErrorCode.VALIDATION_FAILED,
            "A schedule has either `cron` or `runAt`, not both.",
            hint="Leave one of them out.",
        )
    if run_at is not None:
        return WrittenTrigger(None, _instant(run_at))
    if text == _MANUAL:
        return WrittenTrigger(None, None)
    word, _, rest = text.partition(" ")
    if word.lower() == _AT:
        return WrittenTrigger(None, _instant(rest.strip()))
    return WrittenTrigger(text, None)


def cron_words(schedule: Schedule) -> str:
    """The trigger as the lineage's `cron`, which is never null."""
    if schedule.run_at is not None:
        return f"{_AT} {iso(schedule.run_at)}"
    return schedule.cron or _MANUAL


def trigger_of(of: Schedule | ScheduleDraft, zones: Zones) -> Trigger | None:
    """The trigger to plan with, None for on demand. Raises `invalid_timezone`."""
    if of.run_at is not None:
        return Once(of.run_at)
    if of.cron is not None:
        return Cron(of.cron, zones.resolve(of.timezone))
    return None


def _instant(text: str) -> datetime:
    try:
        return from_iso(text)
    except (ValueError, OverflowError) as fault:
        raise DorkError(
            ErrorCode.INVALID_INSTANT,
            f"{text!r} is not an instant.",
            hint="Write it in ISO 8601 with a zone, such as 2026-03-01T09:00:00Z.",
        ) from fault
