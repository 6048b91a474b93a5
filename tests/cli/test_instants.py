"""Times and durations as people write and read them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import datetime
from unittest import mock

import pytest

from dorkos.cli.instants import duration, instant, local_time, milliseconds, whole_seconds, zone_label
from dorkos.errors import DorkError, ErrorCode


@pytest.fixture
def berlin() -> Iterator[None]:
    """The machine's zone is Europe/Berlin."""
    with mock.patch.dict(os.environ, {"TZ": "Europe/Berlin"}):
        time.tzset()
        yield
    time.tzset()


def _at(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.mark.usefixtures("berlin")
def test_an_instant_of_today_is_shown_as_a_time_on_the_local_clock() -> None:
    """UTC of the API becomes the time on the wall."""
    assert local_time("2026-03-01T09:00:00.000Z", now=_at("2026-03-01T20:00:00+01:00")) == "10:00:00"


@pytest.mark.usefixtures("berlin")
def test_an_instant_of_another_day_shows_its_date() -> None:
    """The day is that of the local calendar, not of UTC."""
    now = _at("2026-03-02T00:10:00+01:00")
    assert local_time("2026-03-01T23:05:00Z", now=now) == "00:05:00"
    assert local_time("2026-03-01T22:55:00Z", now=now) == "2026-03-01 23:55"


@pytest.mark.usefixtures("berlin")
def test_an_instant_beyond_a_clock_change_names_its_own_zone() -> None:
    """The heading says CET in winter; a summer instant must not be read as CET."""
    now = _at("2026-03-01T12:00:00+01:00")
    assert local_time("2026-07-01T09:00:00Z", now=now) == "2026-07-01 11:00 CEST"


def test_what_is_no_instant_is_shown_as_it_is() -> None:
    """An unknown form still shows, and nothing shows as nothing."""
    assert (local_time(None), local_time("@manual")) == ("", "@manual")


@pytest.mark.usefixtures("berlin")
def test_the_zone_has_a_name() -> None:
    """The name that stands in headings is that of the local clock."""
    assert zone_label() in ("CET", "CEST")


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (None, ""),
        (0, "0 ms"),
        (999, "999 ms"),
        (3400, "3.4 s"),
        (59_960, "59.9 s"),
        (60_000, "1 m 0 s"),
        (125_000, "2 m 5 s"),
        (3_780_000, "1 h 3 m"),
        (49 * 3_600_000, "2 d 1 h"),
    ],
)
def test_durations_are_shown_in_the_units_that_matter(given: int | None, shown: str) -> None:
    """Two units at most, and never `60.0 s`."""
    assert duration(given) == shown


@pytest.mark.parametrize(
    ("text", "expected"),
    [("500ms", 500), ("90s", 90_000), ("10m", 600_000), ("1h30m", 5_400_000), ("2d", 172_800_000)],
)
def test_durations_are_read_with_their_units(text: str, expected: int) -> None:
    """Units add up."""
    assert milliseconds(text, "--wait") == expected


@pytest.mark.parametrize("text", ["", "10", "m", "10 m", "-5s", "1.5h", "10x", "5sx"])
def test_a_duration_without_a_unit_is_refused(text: str) -> None:
    """A bare number could mean anything; the message names the option and shows how to write it."""
    with pytest.raises(DorkError, match="--wait") as refusal:
        milliseconds(text, "--wait")
    assert refusal.value.code is ErrorCode.USAGE
    assert refusal.value.hint is not None
    assert "10m" in refusal.value.hint


def test_a_fraction_of_a_second_is_refused_where_seconds_are_meant() -> None:
    """A lease of 1500 ms is not silently cut to one second."""
    assert whole_seconds("2m", "--lease") == 120
    with pytest.raises(DorkError, match="whole seconds"):
        whole_seconds("1500ms", "--lease")


@pytest.mark.usefixtures("berlin")
def test_an_instant_without_a_zone_is_on_the_given_or_the_local_clock() -> None:
    """`--at 09:00` means nine on the clock that the person looks at."""
    assert instant("2026-03-01T09:00", None) == "2026-03-01T08:00:00.000Z"
    assert instant("2026-03-01T09:00", "America/New_York") == "2026-03-01T14:00:00.000Z"
    assert instant("2026-03-01T09:00+05:00", "America/New_York") == "2026-03-01T04:00:00.000Z"


@pytest.mark.parametrize(
    ("text", "zone", "code"),
    [
        ("soon", None, ErrorCode.INVALID_INSTANT),
        ("2026-13-01T09:00", None, ErrorCode.INVALID_INSTANT),
        ("2026-03-01T09:00", "Mars/Olympus_Mons", ErrorCode.INVALID_TIMEZONE),
        ("2026-03-01T09:00", "../etc", ErrorCode.INVALID_TIMEZONE),
        ("2026-03-01T09:00", "Europe", ErrorCode.INVALID_TIMEZONE),
        ("0001-01-01T00:00", "Asia/Tokyo", ErrorCode.INVALID_INSTANT),
        ("9999-12-31T23:59", "America/New_York", ErrorCode.INVALID_INSTANT),
    ],
)
def test_what_is_no_instant_or_no_zone_is_refused(text: str, zone: str | None, code: ErrorCode) -> None:
    """Each with the code that the server would use."""
    with pytest.raises(DorkError) as refusal:
        instant(text, zone)
    assert refusal.value.code is code
