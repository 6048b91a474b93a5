"""The system in the process of a command, while no server runs: under the lock, without port or loops."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from starlette.types import ASGIApp

from dorkos import __version__
from dorkos.app import System, build
from dorkos.clock import Clock, SystemClock
from dorkos.db.database import Database
from dorkos.errors import DorkError, ErrorCode
from dorkos.events import EventFeed
from dorkos.fleet import FleetService
from dorkos.home import Home
from dorkos.identity import operator_token
from dorkos.identity.model import Caller
from dorkos.node import this_node
from dorkos.operation import Operation
from dorkos.server.asgi import create_app
from dorkos.server.auth import Authenticator
from dorkos.server.fleet import FLEET
from dorkos.server.operations import OPERATIONS
from dorkos.server.sessions import BrowserSessions
from dorkos.server.system import SystemService
from dorkos.settings import LoadedSettings, load_settings
from dorkos.storage import be_up_to_date, open_database


@contextlib.asynccontextmanager
async def opened(home: Path, *, echo: Callable[[str], None]) -> AsyncIterator[System]:
    """The system in this process, for a call while no server runs: under the lock, without port or loops.

    What only a running server does is refused as `not_running`. Raises `home_locked` while a server, or
    another such call, holds the directory.
    """
    async with _stored(home, echo) as stored:
        system = build(
            stored.home,
            stored.loaded,
            stored.database,
            stored.clock,
            operations=[_offline(o) for o in OPERATIONS],
        )
        await system.feed.start()
        try:
            yield system
        finally:
            system.mesh.end_discoveries()
            await system.feed.stop()


@contextlib.asynccontextmanager
async def opened_fleet(home: Path, *, echo: Callable[[str], None]) -> AsyncIterator[ASGIApp]:
    """The operations on the fleet's mode alone, under the same conditions as `opened`.

    What puts everything on hold, or lets it go on, must not need the settings that only work needs, such as
    a boundary that is there on this machine.
    """
    async with _stored(home, echo) as stored:
        feed = EventFeed(stored.database)
        yield create_app(
            {"fleet": FleetService(stored.database)},
            system=SystemService(
                database=stored.database,
                clock=stored.clock,
                node=this_node(),
                feed=feed,
                started_at=stored.clock.now(),
                version=__version__,
                describe=dict,
            ),
            feed=feed,
            settings=stored.loaded.values.server,
            authenticate=Authenticator(
                stored.database, stored.clock, operator_token.load_or_create(stored.home.token_path)
            ),
            sessions=BrowserSessions(stored.database, stored.clock),
            readiness=(),
            operations=FLEET,
        )


@dataclass(frozen=True, slots=True)
class _Stored:
    """An open database that is up to date, and what it was found by."""

    home: Home
    loaded: LoadedSettings
    clock: Clock
    database: Database


@contextlib.asynccontextmanager
async def _stored(home: Path, echo: Callable[[str], None]) -> AsyncIterator[_Stored]:
    """The database of a directory, under the directory's lock."""
    place = Home(home)
    place.prepare()
    loaded = load_settings(place.config_path, environment=os.environ)
    url = loaded.values.database.url
    place.lock()
    try:
        clock = SystemClock()
        await asyncio.to_thread(be_up_to_date, place, url, clock, echo)
        database = open_database(place, url, clock)
        await database.open()
        try:
            yield _Stored(place, loaded, clock, database)
        finally:
            await database.close()
    finally:
        place.unlock()


def _offline(operation: Operation[Any, Any, Any]) -> Operation[Any, Any, Any]:
    """The operation as it is without a server."""

    async def refuse(_part: object, _caller: Caller, _asked: object) -> NoReturn:
        raise DorkError(
            ErrorCode.NOT_RUNNING,
            "No DorkOS server runs, so nothing would do this.",
            hint="Start one with `dorkos up`.",
        )

    return replace(operation, handler=refuse) if operation.live else operation
