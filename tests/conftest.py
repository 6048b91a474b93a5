"""Fixtures for every test."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import AsyncIterator

import pytest

from dorkos.clock import ManualClock
from dorkos.db.database import Database
from dorkos.testing import ENGINES, create_test_db, folder_in_memory
from tests.server_process import ServerProcess

pytest_plugins = ["tests.groups"]

gc.disable()  # Until everything is collected: none of it is garbage.


def pytest_configure() -> None:
    """Let temporary folders be in memory: waiting for the disk was half of the time of a run.

    And let programs hear an interrupt, which a shell has ignored by what it starts in the background; and
    servers be copies, since loading what they consist of was most of what they cost.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    memory = folder_in_memory()
    if memory is not None:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(memory))
    # Others have no sockets that keep requests apart, and take a while longer.
    ServerProcess.copied = sys.platform == "linux"


def pytest_collection_finish() -> None:
    """Take the thousands of tests out of the garbage collector's sight, or it would look at them for ever."""
    gc.freeze()
    gc.enable()


@pytest.fixture
def clock() -> ManualClock:
    """A clock that only the test moves."""
    return ManualClock()


@pytest.fixture(params=ENGINES)
async def db(request: pytest.FixtureRequest, clock: ManualClock) -> AsyncIterator[Database]:
    """An open, migrated, empty database on each engine; its transactions tell the time of `clock`."""
    async with create_test_db(request.param, clock=clock) as database:
        yield database
