"""Instants and windows at the ends of the calendar, as operations answer them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dorkos.clock import ManualClock
from dorkos.errors import DorkError, ErrorCode
from dorkos.identity.model import OPERATOR
from dorkos.testing import create_test_db
from tests.pulse.workshop import Workshop, workshop


@pytest.fixture
async def shop(clock: ManualClock, tmp_path: Path) -> AsyncIterator[Workshop]:
    """Pulse on SQLite, its loops standing still."""
    async with create_test_db(clock=clock) as db:
        yield workshop(db, clock, tmp_path)


async def test_a_preview_ends_where_the_calendar_does(shop: Workshop) -> None:
    """It begins with the year 1 and ends with 9999; nothing is due beyond, which is no fault."""
    for zone in ("America/New_York", "Asia/Tokyo"):
        for cron in ("0 9 * * *", "*/5 * * * *", "@every 366d"):
            asked = {"cron": cron, "timezone": zone}
            first = await shop.ask("preview", OPERATOR, after="0001-01-01T00:00:00Z", **asked)
            assert len(first.next_runs) == 5
            last = await shop.ask("preview", OPERATOR, after="9999-12-30T00:00:00Z", **asked)
            assert all(at.startswith("9999-12-3") for at in last.next_runs)
            assert (last.next_runs == []) is cron.startswith("@")
    with pytest.raises(DorkError) as refusal:
        await shop.ask("preview", OPERATOR, after="9999-12-31T23:59:59Z", cron="0 9 * * *")
    assert refusal.value.code is ErrorCode.INVALID_CRON


async def test_a_window_ends_where_the_calendar_does(shop: Workshop) -> None:
    """One that would have to begin before it begins with it; one that ends there is empty."""
    made = await shop.schedule()
    for name, of in (("missed", {}), ("schedules.stats", {"id": made.id})):
        found = await shop.ask(name, OPERATOR, until="0001-01-01T12:00:00Z", **of)
        assert found.since == "0001-01-01T00:00:00.000Z"
        with pytest.raises(DorkError) as refusal:
            await shop.ask(name, OPERATOR, until="0001-01-01T00:00:00Z", **of)
        assert refusal.value.code is ErrorCode.INVALID_INSTANT
