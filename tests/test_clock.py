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


def test_a_jump_back_moves_the_wall_clock_only() -> None:
    """The monotonic clock never goes back, as on a real machine."""
    clock = ManualClock(datetime(2026, 3, 1, tzinfo=UTC))
    clock.advance(timedelta(seconds=5))
    clock.advance(timedelta(hours=-1))

    assert datetime(2026, 2, 28, 23, 0, 5, tzinfo=UTC) == clock.now()
    assert clock.monotonic() == 5.0
