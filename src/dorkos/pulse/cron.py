"""Cron expressions: reading them, and the instants at which they are due. Pure.

The grammar is cronsim's (Debian's cron with `L`, `LW`, `#`): five fields, or six with leading seconds,
or a nickname. When day-of-month and day-of-week are both restricted, either is enough; a field that
begins with `*` does not restrict.

Clock changes, as Debian does: an expression with fixed hours and minutes means times on the wall. One that
falls into the gap is due right after it, one in the repeated hour is due once, the first time. With `*` in
hour or minute the expression is a cadence and keeps it: nothing is due in the gap, and the repeated hour
counts twice. The instants never depend on where the search for them began.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from copy import copy
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from itertools import islice

from cronsim import CronSim, CronSimError

from dorkos.errors import DorkError, ErrorCode

NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
LENGTH_MAX = 200

_OPENING = 2
_SECOND = timedelta(seconds=1)
# Before this, times on the wall may lie before the calendar begins.
_EARLIEST = datetime(1, 1, 3, tzinfo=UTC)
# No zone changes its offset twice within this time.
_STRIDE = timedelta(hours=12)
_UNTIL_SUNDAY = re.compile(r"\b((?:mon|tue|wed|thu|fri|sat|[1-6])-)sun\b", re.IGNORECASE | re.ASCII)
_ANY_DATE = datetime(2026, 1, 1)  # noqa: DTZ001  # A time on the wall; only the grammar is read with it.


def check(expression: str, zone: tzinfo, after: datetime) -> None:
    """Raise `invalid_cron` unless the expression can be read and is due at least once after `after`.

    The search ends after 50 years, so that a day such as 30 February is refused instead of waited for.
    """
    if next(instants(expression, zone, after), None) is None:
        raise _refusal(f"The cron expression {expression!r} is never due.", "Check the day and the month.")


def instants(expression: str, zone: tzinfo, after: datetime) -> Iterator[datetime]:
    """The instants at which `expression` is due in `zone`, in UTC, strictly increasing, all after `after`.

    Ends only if nothing is due for 50 years, and with the calendar, in the year 9999. Raises `invalid_cron`
    at once, not at the first instant.
    """
    return _from_opening(normalise(expression), zone, after)


@lru_cache(maxsize=4096)
def normalise(expression: str) -> str:
    """The expression as cronsim reads it. Raises `invalid_cron`.

    Nicknames are spelled out, `?` is `*`, a year of `*` is left out, and `mon-sun` is `mon-7`.
    """
    text = expression.strip()
    if len(text) > LENGTH_MAX:
        raise _refusal(f"The cron expression is longer than {LENGTH_MAX} characters.", "Shorten it.")
    if text.startswith("@"):
        return _spelled_out(text)
    fields = text.split()
    if len(fields) == 7 and fields[6] in ("*", "?"):
        del fields[6]  # Every year is what no year means.
    _refuse_what_cronsim_lacks(text, fields)
    # By its name Sunday ends a range of days, though its number is 0.
    fields[-1] = _UNTIL_SUNDAY.sub(r"\g<1>7", fields[-1])
    text = " ".join("*" + field[1:] if field.startswith("?") else field for field in fields)
    try:
        _parsed(text)
    except (CronSimError, ValueError) as fault:
        reason = str(fault).removeprefix("Bad ")
        raise _refusal(
            f"The cron expression {expression!r} cannot be read: {reason} is not valid.",
            "Five fields: minute, hour, day of month, month, day of week; or six with leading seconds.",
        ) from fault
    return text


def _spelled_out(text: str) -> str:
    if text.lower() in NICKNAMES:
        return NICKNAMES[text.lower()]
    name = text.split(maxsplit=1)[0]
    if name.lower() == "@reboot":
        raise _refusal(
            "`@reboot` names no time, so it can never be due.",
            "Use a cron expression, or run the schedule by hand.",
        )
    if name.lower() == "@every":
        raise _refusal(
            "`@every` is an interval, not a cron expression.", "A schedule takes it as it is: @every 15m."
        )
    raise _refusal(f"`{name}` is not a known nickname.", f"Known are {', '.join(NICKNAMES)}.")


def _refuse_what_cronsim_lacks(text: str, fields: list[str]) -> None:
    if ":" in text:
        raise _refusal(
            f"{text!r} looks like a date, not like a cron expression.",
            "For one instant write `@at` before it.",
        )
    if len(fields) == 7:
        raise _refusal("A seventh field (the year) is not supported.", "For one instant use `@at`.")
    if len(fields) not in (5, 6):
        raise _refusal(
            f"The cron expression {text!r} has {len(fields)} fields.",
            "Five fields: minute, hour, day of month, month, day of week; or six with leading seconds.",
        )
    if re.search(r"\dW|W\d", fields[-3].upper()):
        raise _refusal(
            f"`{fields[-3]}` (the weekday nearest to a day) is not supported.",
            "`LW` is: the last weekday of the month.",
        )
    if fields[-1].startswith("+"):
        raise _refusal(
            "A leading `+` (both days must match) is not supported.",
            "Begin one of the two day fields with `*`, such as `*/1`, to require both.",
        )


def _from_opening(text: str, zone: tzinfo, after: datetime) -> Iterator[datetime]:
    opening = _opening(text, zone, after)
    yield from opening
    if len(opening) == _OPENING:
        yield from _search(text, zone, opening[-1])


@lru_cache(maxsize=8192)
def _opening(text: str, zone: tzinfo, after: datetime) -> tuple[datetime, ...]:
    """The first instants of a search. Schedules that share a cadence share their cursors, and so these:
    what is due, and what is due next."""
    return tuple(islice(_search(text, zone, after), _OPENING))


def _search(text: str, zone: tzinfo, after: datetime) -> Iterator[datetime]:
    minute, hour = text.split()[-5:-3]
    on_the_wall = not minute.startswith("*") and not hour.startswith("*")
    since = max(after, _EARLIEST)
    found = _times_on_the_wall(text, zone, since) if on_the_wall else _cadence(text, zone, since)
    return _increasing(found, since)


def _times_on_the_wall(text: str, zone: tzinfo, after: datetime) -> Iterator[datetime]:
    for local in _simulation(text, after.astimezone(zone).replace(tzinfo=None)):
        instant = local.replace(tzinfo=zone).astimezone(UTC)
        gap = instant.astimezone(zone).replace(tzinfo=None) - local
        if gap:
            # No clock showed this time. Python reads it with the offset before the change, which puts it
            # after the change by as much as it lies inside the gap.
            instant = _offset_change(zone, instant - gap - _SECOND, instant) or instant
        yield instant


def _cadence(text: str, zone: tzinfo, after: datetime) -> Iterator[datetime]:
    # Between two changes of the offset local time is UTC plus a constant, and there cronsim is exact.
    since = after.astimezone(UTC).replace(microsecond=0)
    while True:
        offset = _offset(zone, since)
        seen = since
        for local in _simulation(text, (since + offset).replace(tzinfo=None)):
            instant = local.replace(tzinfo=UTC) - offset
            change = _offset_change(zone, seen, instant)
            if change is not None:
                break
            yield instant
            seen = instant
        else:
            return
        # From here on with the new offset. The change itself may be due, so the search begins before it.
        since, offset = change, _offset(zone, change)
        first = next(_simulation(text, (change + offset - _SECOND).replace(tzinfo=None)), None)
        if first is None:
            return
        if first.replace(tzinfo=UTC) - offset == change:
            yield change


def _simulation(text: str, local: datetime) -> CronSim:
    """The times on the wall after `local` that match. Reading the fields again would be most of the work."""
    simulation = copy(_parsed(text))
    simulation.dt = local.replace(microsecond=0)
    return simulation


@lru_cache(maxsize=4096)
def _parsed(text: str) -> CronSim:
    return CronSim(text, _ANY_DATE)


def _increasing(found: Iterator[datetime], after: datetime) -> Iterator[datetime]:
    last = after
    try:
        for instant in found:
            if instant > last:
                last = instant
                yield instant
    except OverflowError:  # The calendar ends with the year 9999.
        return


def _offset(zone: tzinfo, instant: datetime) -> timedelta:
    offset = instant.astimezone(zone).utcoffset()
    assert offset is not None
    return offset


def _offset_change(zone: tzinfo, since: datetime, until: datetime) -> datetime | None:
    """The first whole second in (since, until] with another offset than `since` has, or None."""
    before = _offset(zone, since)
    low = high = since
    while high < until:
        low, high = high, min(high + _STRIDE, until)
        if _offset(zone, high) != before:
            break
    else:
        return None
    while high - low > _SECOND:
        middle = low + timedelta(seconds=(high - low) // _SECOND // 2)
        if _offset(zone, middle) == before:
            low = middle
        else:
            high = middle
    return high


def _refusal(message: str, hint: str) -> DorkError:
    return DorkError(ErrorCode.INVALID_CRON, message, hint=hint)
