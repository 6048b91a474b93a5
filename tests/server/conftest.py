"""The server of each test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.server.kit import Served, serving


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    """A server with the small subsystem of the kit."""
    async with serving() as served:
        yield served
