"""Fixtures for every test."""

from __future__ import annotations

import gc
import os
from collections.abc import AsyncIterator

import pytest
from _pytest.nodeid import NodeId

from dorkos.clock import ManualClock
from dorkos.db.database import Database
from dorkos.testing import ENGINES, create_test_db, folder_in_memory

pytest_plugins = ["tests.groups"]

gc.disable()  # Until everything is collected: none of it is garbage.


def pytest_configure() -> None:
    """Let temporary folders be in memory: waiting for the disk was half of the time of a run."""
    memory = folder_in_memory()
    if memory is not None:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(memory))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let the tests of an `xdist_group` run on one worker: its name has to stand at the end of their ids.

    pytest-xdist 3.8 writes it to where pytest 9.2 no longer looks, so that each worker started a browser.
    """
    if not getattr(config.option, "loadgroup", False):
        return
    for item in items:
        group = item.get_closest_marker("xdist_group")
        if group is not None and not item.nodeid.endswith(f"@{group.args[0]}"):
            item._id = NodeId.parse(f"{item.nodeid}@{group.args[0]}")


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
