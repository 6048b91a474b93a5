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
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import sqlalchemy as sa
from starlette.types import ASGIApp

from dorkos import __version__
from dorkos.boundary import Boundary
from dorkos.clock import Clock, SystemClock
from dorkos.db.daily import DailyBackup
from dorkos.db.database import Database, Transaction
from dorkos.db.engine import is_postgres
from dorkos.db.legacy.recognition import holds_only_older_stores
from dorkos.db.migrate import MigrationReport, migrate_postgres, migrate_sqlite, rehearse_sqlite
from dorkos.db.postgres import PostgresDatabase
from dorkos.db.replace import finish_replacement
from dorkos.db.sqlite import SqliteDatabase
from dorkos.errors import DorkError, ErrorCode
from dorkos.events import EventFeed
from dorkos.fleet import FleetService
from dorkos.home import Home
from dorkos.identity import operator_token
from dorkos.identity.model import Caller
from dorkos.mesh.budgets import CallBudgets
from dorkos.mesh.service import MeshService, Ports
from dorkos.mesh.store import agent_by_id
from dorkos.node import Node, record_start, record_stop, this_node
from dorkos.operation import Operation
from dorkos.plain_file import write_file
from dorkos.ports.questions import MailQuestions
from dorkos.ports.rules import NamespaceRules
from dorkos.ports.traffic import MailTraffic
from dorkos.ports.work import AgentsWork
from dorkos.pulse import cron
from dorkos.pulse.model import AgentTarget
from dorkos.pulse.service import PulseService
from dorkos.pulse.zones import Zones
from dorkos.readiness import checks
from dorkos.relay.service import RelayService
from dorkos.relay.settlement import settle
from dorkos.server.asgi import create_app
from dorkos.server.auth import Authenticator
from dorkos.server.fleet import FLEET
from dorkos.server.health import ReadinessCheck
from dorkos.server.http import HttpServer
from dorkos.server.operations import OPERATIONS
from dorkos.server.system import SystemService
from dorkos.settings import RelaySettings, Settings, load_settings
from dorkos.vocabulary import RunReason, RunState

if TYPE_CHECKING:
    from dorkos.db.legacy.adopt import Adoption
    from dorkos.db.legacy.collecting import Rules

log = logging.getLogger("dorkos")

_LEVELS = {"fatal": 50, "error": 40, "warn": 30, "info": 20, "debug": 10, "trace": 5}


class _Agents:
    """Pulse's port to Mesh."""

    def __init__(self, budgets: CallBudgets) -> None:
        self.take_call = budgets.take_call

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
    fleet: FleetService
    backups: DailyBackup
    application: ASGIApp
    http: HttpServer
    readiness: tuple[ReadinessCheck, ...]

    async def start(self) -> None:
        """Listen first, then begin to work: a port in use must not have fired a schedule."""
        await self.feed.start()
        await self.http.start()
        await self.database.write(lambda tx: record_start(tx, self.node))
        await self.relay.start()
        await self.pulse.start()
        await self.mesh.start()
        await self.backups.start()

    async def stop(self) -> None:
        """Take no new requests, end the runs and mark them, then the rest. Safe after half a start."""
        self.mesh.end_discoveries()
        self.database.begin_to_stop()
        await asyncio.gather(
            self.http.stop(), self.relay.stop(), self.pulse.stop(), self.mesh.stop(), self.backups.stop()
        )
        await self.feed.stop()
        try:
            await self.database.write(lambda tx: record_stop(tx, self.node))
        except DorkError as refusal:
            # The database is away. Others see this server end when its leases do.
            log.warning("the stop could not be stored: %s", refusal.message)


def build(
    home: Home,
    settings: Settings,
    database: Database,
    clock: Clock,
    *,
    operations: Sequence[Operation[Any, Any, Any]] = OPERATIONS,
) -> System:
    """Wire the parts. `database` is open and up to date; the home is prepared and locked."""
    node = this_node()
    feed = EventFeed(database)
    boundary = Boundary(settings.server.boundary or Path.home(), data_directory=home.path)
    token = operator_token.load_or_create(home.token_path)
    budgets = CallBudgets(
        calls_per_hour=settings.mesh.max_calls_per_hour, hops_per_message=settings.relay.max_hops
    )
    pulse = PulseService(
        database=database,
        clock=clock,
        settings=settings.scheduler,
        boundary=boundary,
        node=node,
        agents=_Agents(budgets),
        deliveries=_Deliveries(settings.relay),
        server_url=lambda: http.url,
        feed=feed,
    )
    relay = RelayService(
        database=database, clock=clock, settings=settings.relay, feed=feed, runs=pulse, budgets=budgets
    )
    mesh = MeshService(
        database,
        clock,
        settings.mesh,
        boundary,
        node=node,
        feed=feed,
        budgets=budgets,
        ports=Ports(
            mailboxes=relay,
            schedules=pulse,
            work=AgentsWork(clock),
            rules=NamespaceRules(),
            traffic=MailTraffic(),
            questions=MailQuestions(relay, clock),
        ),
    )
    fleet = FleetService(database)
    readiness = checks(
        database=database,
        loops=(feed, *pulse.loops, *relay.loops, *mesh.loops),
        relay=relay,
        mesh=mesh,
        fleet=fleet,
    )
    service = SystemService(
        database=database,
        clock=clock,
        node=node,
        feed=feed,
        started_at=clock.now(),
        version=__version__,
        describe=lambda: {
            "home": str(home.path),
            "url": http.url or None,
            "backups": settings.backups.model_dump(by_alias=True),
            "pulse": {"enabled": settings.scheduler.enabled},
            "relay": {"enabled": settings.relay.enabled},
            "mesh": {"enabled": settings.mesh.enabled},
        },
    )
    application = create_app(
        {"pulse": pulse, "relay": relay, "mesh": mesh, "fleet": fleet},
        system=service,
        feed=feed,
        settings=settings.server,
        authenticate=Authenticator(database, clock, token),
        readiness=readiness,
        operations=operations,
    )
    backups = DailyBackup(
        database, home.database_path, home.backups_path, clock=clock, settings=settings.backups
    )
    http = HttpServer(application, settings.server.host, settings.server.port)
    return System(node, database, feed, pulse, relay, mesh, fleet, backups, application, http, readiness)


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
        _be_up_to_date(place, settings.database.url, clock, echo)
        asyncio.run(_serve(place, settings, clock, echo))
    finally:
        place.unlock()
    return 0


@contextlib.asynccontextmanager
async def opened(home: Path, *, echo: Callable[[str], None]) -> AsyncIterator[System]:
    """The system in this process, for a call while no server runs: under the lock, without port or loops.

    What only a running server does is refused as `not_running`. Raises `home_locked` while a server, or
    another such call, holds the directory.
    """
    async with _stored(home, echo) as stored:
        system = build(
            stored.home,
            stored.settings,
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
            settings=stored.settings.server,
            authenticate=Authenticator(
                stored.database, stored.clock, operator_token.load_or_create(stored.home.token_path)
            ),
            readiness=(),
            operations=FLEET,
        )


@dataclass(frozen=True, slots=True)
class _Stored:
    """An open database that is up to date, and what it was found by."""

    home: Home
    settings: Settings
    clock: Clock
    database: Database


@contextlib.asynccontextmanager
async def _stored(home: Path, echo: Callable[[str], None]) -> AsyncIterator[_Stored]:
    """The database of a directory, under the directory's lock."""
    place = Home(home)
    place.prepare()
    settings = load_settings(place.config_path, environment=os.environ).values
    place.lock()
    try:
        clock = SystemClock()
        await asyncio.to_thread(_be_up_to_date, place, settings.database.url, clock, echo)
        database = open_database(place, settings.database.url, clock)
        await database.open()
        try:
            yield _Stored(place, settings, clock, database)
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


def _be_up_to_date(home: Home, url: str | None, clock: Clock, echo: Callable[[str], None]) -> None:
    for note in migrate(home, url, clock, echo).notes:
        echo(note)


def migrate(home: Home, url: str | None, clock: Clock, echo: Callable[[str], None]) -> MigrationReport:
    """Bring the database up to date, or refuse and change nothing. Whoever calls tells the notes."""
    if url is not None and is_postgres(url):
        report = migrate_postgres(url, clock=clock, progress=echo)
    elif url is None:
        finish_replacement(home.database_path)
        report = _migrate_file(home, clock, echo)
    else:
        raise DorkError(
            ErrorCode.INVALID_SETTING,
            f"database.url names no PostgreSQL: {url.split(':', 1)[0]}:…",
            hint="Use postgresql://user@host/name, or leave it empty for SQLite in the data directory.",
        )
    return report


def _migrate_file(home: Home, clock: Clock, echo: Callable[[str], None]) -> MigrationReport:
    """Bring the file in the data directory up to date, taking over what DorkOS for Node left there."""
    if not holds_only_older_stores(home.path):
        try:
            return migrate_sqlite(home.database_path, backups=home.backups_path, clock=clock, progress=echo)
        except DorkError as refusal:
            if refusal.code is not ErrorCode.DATABASE_LINEAGE:
                raise
    # Needed once in the life of a home.
    from dorkos.db.legacy.inplace import take_over

    adoption = take_over(home.path, backups=home.backups_path, clock=clock, rules=_rules(home), say=echo)
    return _taken_over(adoption)


def rehearse(home: Home, clock: Clock, echo: Callable[[str], None]) -> MigrationReport:
    """Do what `migrate` would do to the file in the data directory, to a copy that is thrown away."""
    if not holds_only_older_stores(home.path):
        try:
            return rehearse_sqlite(home.database_path, clock=clock, progress=echo)
        except DorkError as refusal:
            if refusal.code is not ErrorCode.DATABASE_LINEAGE:
                raise
    from dorkos.db.legacy import inplace

    return _taken_over(inplace.rehearse(home.path, clock=clock, rules=_rules(home), say=echo))


def adopt(home: Home, source: Path, url: str | None, clock: Clock, echo: Callable[[str], None]) -> Adoption:
    """Import what DorkOS for Node left in `source` into the database of `home`, or the one that `url` names.

    Takes the directory's lock. A refusal of the source comes before the directory is made.
    """
    from dorkos.db.legacy.adopt import adopt_into_postgres, adopt_into_sqlite, refuse_source

    refuse_source(source, home.path, is_target=url is None)
    home.prepare()
    home.lock()
    try:
        rules = _rules(home)
        if url is not None:
            return adopt_into_postgres(source, url, clock=clock, rules=rules, say=echo)
        finish_replacement(home.database_path)
        return adopt_into_sqlite(
            source, home.database_path, backups=home.backups_path, clock=clock, rules=rules, say=echo
        )
    finally:
        home.unlock()


def _taken_over(adoption: Adoption) -> MigrationReport:
    from dorkos.db.legacy.summary import lines

    return MigrationReport(
        snapshot=adoption.snapshot,
        notes=tuple(lines(adoption.report)),
        adopted=adoption.report.answer(),
    )


def _rules(home: Home) -> Rules:
    """How an import is to judge schedules: as Pulse would if somebody made them today."""
    from dorkos.db.legacy.collecting import Rules

    zone = load_settings(home.config_path, environment=os.environ).values.scheduler.timezone
    zones, now = Zones(zone), SystemClock().now()

    def problem(expression: str, timezone: str | None) -> str | None:
        try:
            cron.check(expression, zones.resolve(timezone), now)
        except DorkError as refusal:
            return refusal.message
        return None

    return Rules(problem, zone)


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
                fleet = await system.fleet.fleet()
                if not fleet.fires:
                    mode = str(fleet).rstrip(".")
                    echo(f"{mode}. `dorkos fleet` shows what waits, `dorkos fleet resume` lets it go on.")
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
        write_file(place, json.dumps({"url": url, "pid": os.getpid()}) + "\n")
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
        # These tell of every request, connection, lock and migration.
        for chatty in ("alembic", "asyncio", "filelock", "httpx", "mcp", "uvicorn.access"):
            logging.getLogger(chatty).setLevel(logging.WARNING)
