"""The composition root: from settings to a running system. The only file that knows all the others.

Everything is handed its collaborators as required arguments. Nothing is optional and nothing builds a
substitute of its own: a part that cannot start fails the start, or makes readiness red and says why.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from dorkos import __version__
from dorkos.boundary import Boundary
from dorkos.clock import Clock, SystemClock
from dorkos.db.database import Database, Transaction
from dorkos.db.engine import is_postgres
from dorkos.db.migrate import MigrationReport, migrate_postgres, migrate_sqlite
from dorkos.db.postgres import PostgresDatabase
from dorkos.db.sqlite import SqliteDatabase
from dorkos.errors import DorkError, ErrorCode
from dorkos.events import EventFeed
from dorkos.home import Home
from dorkos.identity import operator_token
from dorkos.mesh.service import MeshService
from dorkos.mesh.store import agent_by_id
from dorkos.node import Node, record_start, record_stop, this_node
from dorkos.pulse.model import AgentTarget
from dorkos.pulse.service import PulseService
from dorkos.readiness import checks
from dorkos.relay.service import RelayService
from dorkos.relay.settlement import settle
from dorkos.server.asgi import create_app
from dorkos.server.auth import Authenticator
from dorkos.server.health import ReadinessCheck
from dorkos.server.http import HttpServer
from dorkos.server.system import SystemService
from dorkos.settings import RelaySettings, Settings, load_settings
from dorkos.vocabulary import RunReason, RunState

log = logging.getLogger("dorkos")

_LEVELS = {"fatal": 50, "error": 40, "warn": 30, "info": 20, "debug": 10, "trace": 5}


class _Agents:
    """Pulse's port to Mesh."""

    def find_agent(self, connection: sa.Connection | Transaction, agent_id: str) -> AgentTarget | None:
        """The agent as Pulse sees it, or None if it is not registered."""
        agent = agent_by_id(connection, agent_id)
        if agent is None:
            return None
        return AgentTarget(agent.id, agent.name, agent.subject, agent.project_path, agent.entrypoint)


class _Deliveries:
    """Pulse's port to Relay."""

    def __init__(self, settings: RelaySettings) -> None:
        self._max_attempts = settings.max_attempts

    def settle(
        self, tx: Transaction, *, delivery_id: str, run_id: str, state: RunState, reason: RunReason | None
    ) -> None:
        """Settle the message that started a run, in the commit that ends the run."""
        settle(
            tx,
            delivery_id=delivery_id,
            run_id=run_id,
            state=state,
            reason=reason,
            max_attempts=self._max_attempts,
        )


@dataclass(frozen=True)
class System:
    """A wired system over an open database. Nothing works yet until `start`."""

    node: Node
    database: Database
    feed: EventFeed
    pulse: PulseService
    relay: RelayService
    mesh: MeshService
    http: HttpServer
    readiness: tuple[ReadinessCheck, ...]

    async def start(self) -> None:
        """Listen first, then begin to work: a port in use must not have fired a schedule."""
        await self.feed.start()
        await self.http.start()
        await self.database.write(lambda tx: record_start(tx, self.node))
        await self.relay.start()
        await self.pulse.start()

    async def stop(self) -> None:
        """Take no new requests, end the runs and mark them, then the rest. Safe after half a start."""
        self.mesh.stop()
        await asyncio.gather(self.http.stop(), self.relay.stop(), self.pulse.stop())
        await self.feed.stop()
        try:
            await self.database.write(lambda tx: record_stop(tx, self.node))
        except DorkError as refusal:
            # The database is away. Others see this server end when its leases do.
            log.warning("the stop could not be stored: %s", refusal.message)


def build(home: Home, settings: Settings, database: Database, clock: Clock) -> System:
    """Wire the parts. `database` is open and up to date; the home is prepared and locked."""
    node = this_node()
    feed = EventFeed(database)
    boundary = Boundary(settings.server.boundary or Path.home(), data_directory=home.path)
    token = operator_token.load_or_create(home.token_path)
    pulse = PulseService(
        database=database,
        clock=clock,
        settings=settings.scheduler,
        boundary=boundary,
        node=node,
        agents=_Agents(),
        deliveries=_Deliveries(settings.relay),
        server_url=lambda: http.url,
        feed=feed,
    )
    relay = RelayService(database=database, clock=clock, settings=settings.relay, feed=feed, runs=pulse)
    mesh = MeshService(database, clock, settings.mesh, boundary, mailboxes=relay, schedules=pulse)
    readiness = checks(database=database, loops=(feed, *pulse.loops, *relay.loops), relay=relay, mesh=mesh)
    service = SystemService(
        database=database,
        clock=clock,
        node=node,
        feed=feed,
        started_at=clock.now(),
        version=__version__,
        describe=lambda: {
            "home": str(home.path),
            "pulse": {"enabled": settings.scheduler.enabled},
            "relay": {"enabled": settings.relay.enabled},
            "mesh": {"enabled": settings.mesh.enabled},
        },
    )
    application = create_app(
        {"pulse": pulse, "relay": relay, "mesh": mesh},
        system=service,
        feed=feed,
        settings=settings.server,
        authenticate=Authenticator(database, clock, token),
        readiness=readiness,
    )
    http = HttpServer(application, settings.server.host, settings.server.port)
    return System(node, database, feed, pulse, relay, mesh, http, readiness)


def run(home: Path, flags: Mapping[str, object], *, echo: Callable[[str], None]) -> int:
    """Run a server on the data directory `home` until SIGINT or SIGTERM; returns the exit code.

    `flags` are settings given by hand, by their dotted keys. `echo` gets each line meant for a person.
    Raises a refusal if the directory, the database or the port cannot be had; nothing has fired then.
    """
    place = Home(home)
    place.prepare()
    settings = load_settings(place.config_path, environment=os.environ, flags=flags).values
    _log_to_stderr(settings.logging.level)
    place.lock()
    try:
        clock = SystemClock()
        migrate(place, settings.database.url, clock, echo)
        asyncio.run(_serve(place, settings, clock, echo))
    finally:
        place.unlock()
    return 0


def migrate(home: Home, url: str | None, clock: Clock, echo: Callable[[str], None]) -> MigrationReport:
    """Bring the database up to date, or refuse and change nothing."""
    if url is not None and is_postgres(url):
        report = migrate_postgres(url, clock=clock, progress=echo)
    elif url is None:
        report = migrate_sqlite(home.database_path, backups=home.backups_path, clock=clock, progress=echo)
    else:
        raise DorkError(
            ErrorCode.INVALID_SETTING,
            f"database.url names no PostgreSQL: {url.split(':', 1)[0]}:…",
            hint="Use postgresql://user@host/name, or leave it empty for SQLite in the data directory.",
        )
    for note in report.notes:
        echo(note)
    return report


def open_database(home: Home, url: str | None, clock: Clock) -> Database:
    """The database that the settings name; it still has to be opened."""
    if url is None:
        return SqliteDatabase(home.database_path, clock=clock)
    return PostgresDatabase(url)


async def _serve(home: Home, settings: Settings, clock: Clock, echo: Callable[[str], None]) -> None:
    stop_requested = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        # A second signal sets an event that is set already: the stop goes on as it began.
        loop.add_signal_handler(number, stop_requested.set)
    database = open_database(home, settings.database.url, clock)
    await database.open()
    try:
        system = build(home, settings, database, clock)
        try:
            await system.start()
            await _be_ready(system)
            with _announced(home, system.http.url):
                echo(f"DorkOS ready on {system.http.url}")
                await stop_requested.wait()
                echo("Stopping: runs that are at work are ended and marked")
        finally:
            await system.stop()
    finally:
        await database.close()
    echo("DorkOS stopped")


async def _be_ready(system: System) -> None:
    """Raise what is not ready: the ready line is a promise."""
    for readiness in system.readiness:
        await readiness.check()


@contextlib.contextmanager
def _announced(home: Home, url: str) -> Iterator[None]:
    """Tell the command line where the server is. Information only: the lock decides who runs."""
    place = home.server_path
    with contextlib.suppress(OSError):
        place.write_text(json.dumps({"url": url, "pid": os.getpid()}) + "\n", encoding="utf-8")
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            place.unlink(missing_ok=True)


def _log_to_stderr(level: str) -> None:
    logging.basicConfig(
        level=_LEVELS[level],
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        datefmt="%H:%M:%S",
    )
    if level != "trace":
        # These two tell of every request and every connection.
        for chatty in ("httpx", "uvicorn.access"):
            logging.getLogger(chatty).setLevel(logging.WARNING)
