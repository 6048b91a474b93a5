"""Fixtures for every test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from dorkos.clock import ManualClock
from dorkos.db.database import Database
from dorkos.testing import ENGINES, create_test_db


@pytest.fixture
def clock() -> ManualClock:
    """A clock that only the test moves."""
    return ManualClock()


@pytest.fixture(params=ENGINES)
async def db(request: pytest.FixtureRequest, clock: ManualClock) -> AsyncIterator[Database]:
    """An open, migrated, empty database on each engine; its transactions tell the time of `clock`."""
    async with create_test_db(request.param, clock=clock) as database:
        yield database
