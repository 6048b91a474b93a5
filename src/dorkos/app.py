"""The composition root: from settings to a running system. The only file that knows all the others.

Everything is handed its collaborators as required arguments. Nothing is optional and nothing builds a
substitute of its own: a part that cannot start fails the start, or makes readiness red and says why.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from starlette.types import ASGIApp

from dorkos import __version__
from dorkos.boundary import Boundary
from dorkos.clock import Clock
from dorkos.clock_watch import ClockWatch
from dorkos.db.daily import DailyBackup
from dorkos.db.database import Database, Transaction
from dorkos.db.growth import GrowthNotes
from dorkos.errors import DorkError
from dorkos.event_retention import EventRetention
from dorkos.events import EventFeed
from dorkos.fleet import FleetService
from dorkos.home import Home
from dorkos.identity import operator_token
from dorkos.identity.token_list import TokenService
from dorkos.mesh.budgets import CallBudgets
from dorkos.mesh.hosts import Hosts
from dorkos.mesh.service import MeshService, Ports
from dorkos.mesh.store import agent_by_id
from dorkos.node import Heartbeat, Node, record_start, record_stop, this_node
from dorkos.operation import Operation
from dorkos.ports.connections import MailConnections
from dorkos.ports.questions import MailQuestions
from dorkos.ports.requests import MailRequests
from dorkos.ports.rules import NamespaceRules
from dorkos.ports.traffic import MailTraffic
from dorkos.ports.work import AgentsWork
from dorkos.pulse import clock_back as pulse_clock
from dorkos.pulse.model import AgentTarget
from dorkos.pulse.service import PulseService
from dorkos.readiness import checks
from dorkos.relay import clock_back as relay_clock
from dorkos.relay.adapters.routes import AdapterRoutes
from dorkos.relay.adapters.service import AdapterService
from dorkos.relay.service import RelayService
from dorkos.relay.settlement import settle
from dorkos.runtimes.catalog import RuntimeCatalog
from dorkos.server.asgi import create_app
from dorkos.server.auth import Authenticator
from dorkos.server.configuration import Configuration
from dorkos.server.database_care import DatabaseCare
from dorkos.server.health import ReadinessCheck
from dorkos.server.http import HttpServer
from dorkos.server.operations import OPERATIONS
from dorkos.server.sessions import BrowserSessions
from dorkos.server.system import SystemService
from dorkos.setting_groups.relay import RelaySettings
from dorkos.settings import LoadedSettings
from dorkos.spans import SpanFollower
from dorkos.telemetry import from_environment
from dorkos.vocabulary import RunReason, RunState
from dorkos.workspace.place import Workspace
from dorkos.workspace.transcripts import transcripts_folder

if TYPE_CHECKING:
    pass

log = logging.getLogger("dorkos")


class _Agents:
    """Pulse's port to Mesh."""

    def __init__(self, budgets: CallBudgets, hosts: Hosts) -> None:
        self.take_call = budgets.take_call
        self.is_here = hosts.ids_here

    def find_agent(self, connection: sa.Connection | Transaction, agent_id: str) -> AgentTarget | None:
        """The agent as Pulse sees it, or None if it is not registered."""
        agent = agent_by_id(connection, agent_id)
        if agent is None:
            return None
        return AgentTarget(
            agent.id,
            agent.name,
            agent.subject,
            agent.project_path,
            agent.entrypoint,
            kind=agent.runtime,
            persona=agent.looks.persona if agent.looks.persona_enabled else None,
        )


class _Deliveries:
    """Pulse's port to Relay."""

    def __init__(self, settings: RelaySettings) -> None:
        self._settings = settings

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
            settings=self._settings,
        )


@dataclass(frozen=True)
class System:
    """A wired system over an open database. Nothing works yet until `start`."""

    node: Node
    heartbeat: Heartbeat
    database: Database
    feed: EventFeed
    pulse: PulseService
    relay: RelayService
    adapters: AdapterService
    mesh: MeshService
    fleet: FleetService
    backups: DailyBackup
    growth: GrowthNotes
    event_retention: EventRetention
    clock_watch: ClockWatch
    application: ASGIApp
    http: HttpServer
    readiness: tuple[ReadinessCheck, ...]
    spans: SpanFollower

    async def start(self) -> None:
        """Listen first, then begin to work: a port in use must not have fired a schedule."""
        await self.feed.start()
        await self.http.start()
        await self.database.write(lambda tx: record_start(tx, self.node))
        await self.heartbeat.start()
        await self.relay.start()
        await self.pulse.start()
        await self.mesh.start()
        await self.backups.start()
        await self.growth.start()
        await self.event_retention.start()
        await self.clock_watch.start()
        await self.adapters.start()
        self.spans.start()

    async def stop(self) -> None:
        """Take no new requests, end the runs and mark them, then the rest. Safe after half a start."""
        self.mesh.end_discoveries()
        self.database.begin_to_stop()
        await asyncio.gather(
            self.heartbeat.stop(),
            self.http.stop(),
            self.relay.stop(),
            self.adapters.stop(),
            self.pulse.stop(),
            self.mesh.stop(),
            self.backups.stop(),
            self.growth.stop(),
            self.event_retention.stop(),
            self.clock_watch.stop(),
        )
        await self.spans.stop()
        await self.feed.stop()
        try:
            await self.database.write(lambda tx: record_stop(tx, self.node))
        except DorkError as refusal:
            # The database is away. Others see this server end when its leases do.
            log.warning("the stop could not be stored: %s", refusal.message)


def build(
    home: Home,
    loaded: LoadedSettings,
    database: Database,
    clock: Clock,
    *,
    operations: Sequence[Operation[Any, Any, Any]] = OPERATIONS,
) -> System:
    """Wire the parts. `database` is open and up to date; the home is prepared and locked."""
    settings = loaded.values
    node = this_node(settings.mesh.host)
    hosts = Hosts(node.host, shared=database.dialect == "postgresql")
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
        agents=_Agents(budgets, hosts),
        deliveries=_Deliveries(settings.relay),
        runtimes=RuntimeCatalog(settings.runtimes, home.path / "runtimes"),
        relay=MailRequests(lambda *envelope: relay.publish_in(*envelope)),  # noqa: PLW0108 - Made below.
        server_url=lambda: http.url,
        feed=feed,
    )
    routes = AdapterRoutes()
    relay = RelayService(
        database=database,
        clock=clock,
        settings=settings.relay,
        feed=feed,
        runs=pulse,
        budgets=budgets,
        routes=routes,
        node=node,
    )
    adapters = AdapterService(
        database=database,
        clock=clock,
        feed=feed,
        relay=relay,
        routes=routes,
        owner=node.id,
        folder=home.path / "mailboxes",
    )
    mesh = MeshService(
        database,
        clock,
        settings.mesh,
        boundary,
        hosts=hosts,
        feed=feed,
        budgets=budgets,
        ports=Ports(
            mailboxes=relay,
            schedules=pulse,
            work=AgentsWork(clock),
            rules=NamespaceRules(),
            traffic=MailTraffic(),
            connections=MailConnections(),
            questions=MailQuestions(relay, clock),
        ),
    )
    heartbeat = Heartbeat(database, node)
    fleet = FleetService(database)
    event_retention = EventRetention(database, node=node, settings=settings.events)
    repairs = (relay_clock.bring_forward, relay_clock.let_circuits_be_tried, pulse_clock.bring_forward)
    clock_watch = ClockWatch(database, clock, repairs=repairs)
    readiness = checks(
        database=database,
        node=node,
        loops=(
            feed,
            heartbeat,
            *pulse.loops,
            *relay.loops,
            *adapters.loops,
            *mesh.loops,
            event_retention,
            clock_watch,
        ),
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
    config = Configuration(
        home.config_path, loaded, boundary=boundary, url=lambda: http.url or None, uptime_s=service.uptime_s
    )
    application = create_app(
        {
            "pulse": pulse,
            "relay": relay,
            "adapters": adapters,
            "mesh": mesh,
            "db": DatabaseCare(database, home.database_path, home.backups_path, clock, settings.database.url),
            "fleet": fleet,
            "config": config,
            "tokens": TokenService(database, clock),
            "workspace": Workspace(
                boundary, clock, default=config.workplace, transcripts=transcripts_folder(os.environ)
            ),
        },
        system=service,
        feed=feed,
        settings=settings.server,
        authenticate=Authenticator(database, clock, token),
        sessions=BrowserSessions(database, clock),
        readiness=readiness,
        operations=operations,
    )
    backups = DailyBackup(
        database, home.database_path, home.backups_path, clock=clock, settings=settings.backups
    )
    http = HttpServer(application, settings.server.host, settings.server.port)
    return System(
        node,
        heartbeat,
        database,
        feed,
        pulse,
        relay,
        adapters,
        mesh,
        fleet,
        backups,
        GrowthNotes(database),
        event_retention,
        clock_watch,
        application,
        http,
        readiness,
        SpanFollower(database, feed, lambda: from_environment(os.environ, version=__version__)),
    )
