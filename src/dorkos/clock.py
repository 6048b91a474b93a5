"""Time as an argument: a Clock is injected wherever the current time is needed.

Wall-clock instants are `datetime` in UTC, cut to milliseconds, because that is the precision the
database keeps: a value must compare equal before and after it was stored.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """A source of wall-clock and monotonic time."""

    def now(self) -> datetime:
        """The current instant in UTC, cut to milliseconds."""
        ...

    def monotonic(self) -> float:
        """Seconds on a clock that never jumps; only differences mean something."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now(self) -> datetime:
        """The machine's wall clock, in UTC, cut to milliseconds."""
        return to_milliseconds(datetime.now(UTC))

    def monotonic(self) -> float:
        """The machine's monotonic clock in seconds."""
        return time.monotonic()


class ManualClock:
    """A clock that stands still until a test moves it. Both times move together."""

    def __init__(self, start: datetime = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)) -> None:
        """Start at `start`, which must be in UTC."""
        self._now = to_milliseconds(start)
        self._monotonic = 0.0

    def now(self) -> datetime:
        """The instant that was set last."""
        return self._now

    def monotonic(self) -> float:
        """Seconds that the clock was advanced since it was made."""
        return self._monotonic

    def advance(self, by: timedelta) -> None:
        """Move both clocks by `by`. A negative step moves only the wall clock, as a real jump back does."""
        self._now = to_milliseconds(self._now + by)
        self._monotonic += max(by.total_seconds(), 0.0)


def to_milliseconds(instant: datetime) -> datetime:
    """Cut an aware instant to milliseconds and turn it to UTC."""
    utc = instant.astimezone(UTC)
    over = utc.microsecond % 1000
    return utc.replace(microsecond=utc.microsecond - over) if over else utc


def iso(instant: datetime) -> str:
    """An instant as the API and SQLite write it: `2026-03-01T09:00:00.000Z`, fixed width.

    Text order is time order, which every ORDER BY on a SQLite text column relies on.
    """
    return instant.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def from_iso(text: str) -> datetime:
    """Read any ISO 8601 date-time that names its zone. Raises ValueError for anything else."""
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        raise ValueError(f"{text!r} names no time zone")
    try:
        return to_milliseconds(instant)
    except OverflowError as fault:  # The first and the last hours of the calendar, in another zone.
        raise ValueError(f"{text!r} is not an instant in UTC") from fault
