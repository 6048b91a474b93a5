"""Cron against a slow oracle that looks at every minute, in zones with every kind of clock change."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import pairwise, takewhile
from zoneinfo import ZoneInfo

from hypothesis import example, given, settings
from hypothesis import strategies as st

from dorkos.errors import DorkError, ErrorCode
from dorkos.pulse.cron import check, instants

MINUTE = timedelta(minutes=1)

# A day in the year around which the clocks change, for each zone.
PLACES = (
    (ZoneInfo("UTC"), datetime(2026, 3, 1, tzinfo=UTC)),
    (ZoneInfo("Europe/Berlin"), datetime(2026, 3, 28, 20, tzinfo=UTC)),
    (ZoneInfo("Europe/Berlin"), datetime(2026, 10, 24, 20, tzinfo=UTC)),
    (ZoneInfo("America/New_York"), datetime(2026, 3, 8, 0, tzinfo=UTC)),
    (ZoneInfo("America/New_York"), datetime(2026, 11, 1, 0, tzinfo=UTC)),
    # Half an hour of change.
    (ZoneInfo("Australia/Lord_Howe"), datetime(2026, 4, 4, 8, tzinfo=UTC)),
    (ZoneInfo("Australia/Lord_Howe"), datetime(2026, 10, 3, 8, tzinfo=UTC)),
    # Midnight does not exist on the day of the change.
    (ZoneInfo("Africa/Cairo"), datetime(2026, 4, 23, 12, tzinfo=UTC)),
    (ZoneInfo("Asia/Beirut"), datetime(2026, 3, 28, 12, tzinfo=UTC)),
    (ZoneInfo("America/Santiago"), datetime(2026, 9, 5, 12, tzinfo=UTC)),
    (ZoneInfo("America/Sao_Paulo"), datetime(2018, 11, 3, 12, tzinfo=UTC)),
    # Midnight comes twice.
    (ZoneInfo("America/Sao_Paulo"), datetime(2018, 2, 17, 12, tzinfo=UTC)),
    # The clocks go back in spring, by the zone's own reckoning.
    (ZoneInfo("Europe/Dublin"), datetime(2026, 3, 28, 20, tzinfo=UTC)),
    (ZoneInfo("Africa/Casablanca"), datetime(2026, 2, 14, 20, tzinfo=UTC)),
    # Two hours of change.
    (ZoneInfo("Antarctica/Troll"), datetime(2026, 3, 28, 20, tzinfo=UTC)),
    (ZoneInfo("Antarctica/Troll"), datetime(2026, 10, 24, 20, tzinfo=UTC)),
    # A whole day does not exist.
    (ZoneInfo("Pacific/Apia"), datetime(2011, 12, 29, 12, tzinfo=UTC)),
    (ZoneInfo("Asia/Kathmandu"), datetime(2026, 3, 1, tzinfo=UTC)),
)
WINDOW = timedelta(hours=40)


@dataclass(frozen=True)
class Fields:
    """Minutes, hours and days of the week, None standing for `*`."""

    minutes: frozenset[int] | None
    hours: frozenset[int] | None
    weekdays: frozenset[int] | None

    @property
    def text(self) -> str:
        minute, hour, weekday = (
            "*" if values is None else ",".join(map(str, sorted(values)))
            for values in (self.minutes, self.hours, self.weekdays)
        )
        return f"{minute} {hour} * * {weekday}"

    def matches(self, local: datetime) -> bool:
        return (
            (self.minutes is None or local.minute in self.minutes)
            and (self.hours is None or local.hour in self.hours)
            and (self.weekdays is None or local.isoweekday() % 7 in self.weekdays)
        )


def due(fields: Fields, zone: tzinfo, after: datetime, until: datetime) -> list[datetime]:
    """The oracle: what is due in (after, until], by looking at every minute."""
    if fields.minutes is None or fields.hours is None:
        minutes = (after + MINUTE * n for n in range(1, (until - after) // MINUTE + 1))
        return [minute for minute in minutes if fields.matches(minute.astimezone(zone))]
    found = set()
    local = (after - timedelta(days=2)).replace(tzinfo=None)
    while local < until.replace(tzinfo=None) + timedelta(days=2):
        if fields.matches(local):
            found.add(first_instant(local, zone))
        local += MINUTE
    return sorted(instant for instant in found if after < instant <= until)


def first_instant(local: datetime, zone: tzinfo) -> datetime:
    """The first instant at which clocks show `local`, or, in a gap, the instant right after the gap."""
    while True:
        instant = local.replace(tzinfo=zone).astimezone(UTC)
        if instant.astimezone(zone).replace(tzinfo=None) == local:
            return instant
        local += MINUTE


def sets(below: int) -> st.SearchStrategy[frozenset[int] | None]:
    return st.none() | st.frozensets(st.integers(0, below - 1), min_size=1, max_size=4)


ANY_FIELDS = st.builds(Fields, sets(60), sets(24), sets(7))


@settings(max_examples=150, deadline=None)
@given(fields=ANY_FIELDS, place=st.sampled_from(PLACES), offset=st.integers(0, 12 * 60))
@example(Fields(frozenset({0, 30}), None, None), PLACES[5], 0)
@example(Fields(None, frozenset({2}), None), PLACES[5], 0)
@example(Fields(frozenset({15}), frozenset({2}), None), PLACES[6], 0)
@example(Fields(frozenset({0}), frozenset({0}), None), PLACES[7], 0)
@example(Fields(frozenset({30}), frozenset({12}), None), PLACES[9], 0)
def test_instants_are_those_of_the_oracle(
    fields: Fields, place: tuple[ZoneInfo, datetime], offset: int
) -> None:
    """Around every kind of clock change exactly the oracle's instants come, wherever the search begins."""
    zone, start = place
    after = start + MINUTE * offset
    until = after + WINDOW
    found = list(takewhile(lambda instant: instant <= until, instants(fields.text, zone, after)))
    assert found == due(fields, zone, after, until)


@settings(max_examples=100, deadline=None)
@given(
    fields=ANY_FIELDS,
    second=st.sampled_from(("", "0 ", "*/20 ", "7,59 ")),
    place=st.sampled_from(PLACES),
    milliseconds=st.integers(0, 10**8),
)
def test_instants_strictly_increase(
    fields: Fields, second: str, place: tuple[ZoneInfo, datetime], milliseconds: int
) -> None:
    """With or without seconds, from any millisecond: after the start, whole seconds, none twice."""
    zone, start = place
    after = start + timedelta(milliseconds=milliseconds)
    found = [
        instant for _, instant in zip(range(300), instants(second + fields.text, zone, after), strict=False)
    ]
    assert found
    assert all(earlier < later for earlier, later in pairwise((after, *found)))
    assert all(instant.microsecond == 0 and instant.tzinfo is UTC for instant in found)


def read(text: str) -> ErrorCode | None:
    """The code of the refusal, or None."""
    try:
        check(text, UTC, datetime(2026, 1, 1, tzinfo=UTC))
    except DorkError as refusal:
        return refusal.code
    return None


@settings(max_examples=300, deadline=None)
@given(
    st.text(st.sampled_from("0123456789*/,-#LW?@ :+MONJAN\x00²ß"), max_size=40)
    | st.lists(st.text("0123456789*/,-#LW?", max_size=6), min_size=5, max_size=6).map(" ".join)
)
def test_any_text_is_read_or_refused(text: str) -> None:
    """Whatever is written as a cron expression, the only failure is the refusal `invalid_cron`."""
    assert read(text) in (None, ErrorCode.INVALID_CRON)
