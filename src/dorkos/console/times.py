"""Instants as the reader's clock shows them."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, tzinfo

from dorkos.clock import from_iso
from dorkos.errors import DorkError
from dorkos.pulse.zones import load_zone

_INSTANT = re.compile(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))


class Times:
    """The instants of one page, seen from `now` in the reader's zone."""

    def __init__(self, now: datetime, zone: str | None) -> None:
        """`zone` is an IANA name as the reader's browser says it; what is none of those means UTC."""
        self.now = now
        self.zone_name, self._zone = _zone(zone, now)

    @property
    def zone(self) -> tzinfo:
        """The reader's zone."""
        return self._zone

    def at(self, text: str | None) -> str:
        """`14:05` today, `Mon 14:05` within a week, `3 Mar 14:05` within the year, else with the year."""
        if not text:
            return "\u2013"
        moment, today = self.local(text), self.now.astimezone(self._zone)
        if moment.date() == today.date():
            return moment.strftime("%H:%M:%S")
        if abs(moment - today) < timedelta(days=6):
            return moment.strftime("%a %H:%M")
        day = f"{moment.day} {moment:%b}"
        return f"{day} {moment:%H:%M}" if moment.year == today.year else f"{day} {moment.year}"

    def full(self, text: str | None, zone: str | None = None) -> str:
        """With everything: `Sun 29 Nov 2026, 14:05:12 CET`. `zone` is another than the reader's."""
        if not text:
            return ""
        moment = self.local(text) if zone is None else from_iso(text).astimezone(_zone(zone, self.now)[1])
        return f"{moment:%a} {moment.day} {moment:%b %Y, %H:%M:%S} {moment.tzname()}"

    def elsewhere(self, text: str, zone: str | None) -> str:
        """The same instant in another zone; empty if it reads the same there. Without the day if that is the
        same: `09:00:00 UTC`."""
        if self.full(text) == self.full(text, zone):
            return ""
        there = from_iso(text).astimezone(_zone(zone, self.now)[1])
        same_day = there.date() == self.local(text).date()
        return f"{there:%H:%M:%S} {there.tzname()}" if same_day else self.full(text, zone)

    def ago(self, text: str | None) -> str:
        """`3 min ago`, `in 2 h`, `now`."""
        if not text:
            return "never"
        seconds = int((self.now - from_iso(text)).total_seconds())
        size = abs(seconds)
        if size < 5:
            return "now"
        length, unit = next(each for each in _UNITS if size >= each[0])
        amount = f"{size // length}\u202f{unit}"
        return f"{amount} ago" if seconds > 0 else f"in {amount}"

    def since_ms(self, text: str) -> int:
        """Milliseconds from an instant until now."""
        return int((self.now - from_iso(text)).total_seconds() * 1000)

    def told(self, text: str | None) -> str:
        """A sentence of the server with its instants on the reader's clock."""
        return _INSTANT.sub(lambda found: self.at(found.group()), text or "")

    def between(self, first: str, second: str) -> int:
        """Milliseconds from one instant to another."""
        return int((from_iso(second) - from_iso(first)).total_seconds() * 1000)

    def local(self, text: str) -> datetime:
        """An instant on the reader's clock."""
        return from_iso(text).astimezone(self._zone)


def _zone(name: str | None, now: datetime) -> tuple[str, tzinfo]:
    if name:
        try:
            zone = load_zone(name)
        except DorkError:
            pass
        else:
            return zone.key, zone
    found = now.tzinfo
    assert found is not None
    return "UTC", found
