"""Instants are cut to milliseconds and written in one fixed width."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from dorkos.clock import ManualClock, SystemClock, from_iso, iso


def test_an_instant_is_written_in_utc_with_milliseconds_and_z() -> None:
    """Another offset is turned into UTC, and microseconds are cut, not rounded."""
    instant = datetime(2026, 3, 1, 10, 0, 0, 999_999, tzinfo=timezone(timedelta(hours=1)))

    assert iso(instant) == "2026-03-01T09:00:00.999Z"


def test_an_instant_survives_being_written_and_read() -> None:
    """Reading gives back the same instant."""
    instant = SystemClock().now()

    assert instant == from_iso(iso(instant))


def test_a_time_without_a_zone_is_refused() -> None:
    """Nobody can know which zone was meant."""
    with pytest.raises(ValueError, match="time zone"):
        from_iso("2026-03-01T09:00:00")


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+23:00", "9999-12-31T23:59:59-23:00"])
def test_an_instant_beyond_the_calendar_is_refused(text: str) -> None:
    """In UTC it would lie before the year 1 or after the year 9999."""
    with pytest.raises(ValueError, match="not an instant"):
        from_iso(text)


def test_early_years_keep_the_fixed_width() -> None:
    """Text order is time order only if every year has four digits."""
    assert iso(datetime(33, 4, 3, tzinfo=UTC)) == "0033-04-03T00:00:00.000Z"


def test_a_jump_back_moves_the_wall_clock_only() -> None:
    """The monotonic clock never goes back, as on a real machine."""
    clock = ManualClock(datetime(2026, 3, 1, tzinfo=UTC))
    clock.advance(timedelta(seconds=5))
    clock.advance(timedelta(hours=-1))

    assert datetime(2026, 2, 28, 23, 0, 5, tzinfo=UTC) == clock.now()
    assert clock.monotonic() == 5.0
