"""Mesh as the rest of the system sees it: discovery, registry, denials, and what is seen of agents."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from dorkos.boundary import Boundary
from dorkos.clock import Clock
from dorkos.db.database import Database, Transaction
from dorkos.errors import DorkError, ErrorCode
from dorkos.events import EventFeed
from dorkos.identity.model import Caller
from dorkos.lifecycle import Loop
from dorkos.mesh.access import NamespaceAccess
from dorkos.mesh.budgets import CallBudgets
from dorkos.mesh.copies import Copies
from dorkos.mesh.denials import DenialList
from dorkos.mesh.discovery import DEFAULT_LIMITS, Limits
from dorkos.mesh.explorer import Explorer
from dorkos.mesh.folders import Folders
from dorkos.mesh.health import Thresholds
from dorkos.mesh.hosts import Hosts
from dorkos.mesh.model import (
    AccessRules,
    AgentSchedules,
    AgentWork,
    Connections,
    Discovery,
    Mailboxes,
    ObservedTraffic,
    Questions,
)
from dorkos.mesh.observing import Observatory
from dorkos.mesh.ping import Ping, ping
from dorkos.mesh.projects import Projects
from dorkos.mesh.reconcile import Reconciler
from dorkos.mesh.registry import AgentRegistry
from dorkos.mesh.sightings import Sighting, Sightings, record
from dorkos.mesh.strategies.order import STRATEGIES
from dorkos.mesh.strategies.protocol import Strategy
from dorkos.setting_groups.mesh import MeshSettings


@dataclass(frozen=True, slots=True)
class Ports:
    """What Mesh needs of the others."""

    mailboxes: Mailboxes
    schedules: AgentSchedules
    work: AgentWork
    rules: AccessRules
    traffic: ObservedTraffic
    connections: Connections
    questions: Questions


class MeshService:
    """The parts of Mesh, wired."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        settings: MeshSettings,
        boundary: Boundary,
        *,
        hosts: Hosts,
        feed: EventFeed,
        budgets: CallBudgets,
        ports: Ports,
        strategies: tuple[Strategy, ...] = STRATEGIES,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        """`limits` bounds each discovery; its depth is the default of those that name none."""
        self._database = database
        self._clock = clock
        self._projects = Projects(boundary, strategies)
        self._questions = ports.questions
        self.budgets = budgets
        copies = Copies(database, hosts)
        self.explorer = Explorer(
            database,
            clock,
            settings,
            boundary,
            strategies=strategies,
            limits=limits,
            hosts=hosts,
            copies=copies,
        )
        self.registry = AgentRegistry(
            database,
            boundary,
            self._projects,
            mailboxes=ports.mailboxes,
            schedules=ports.schedules,
            rules=ports.rules,
            hosts=hosts,
            copies=copies,
            token_lifetime=timedelta(days=settings.token_days),
        )
        self.denials = DenialList(database, boundary, ports.mailboxes)
        folders = Folders(self._projects)
        self.reconciler = Reconciler(
            database, clock, settings, folders, self.registry, mailboxes=ports.mailboxes, hosts=hosts
        )
        self.sightings = Sightings(database, feed, clock)
        self.observatory = Observatory(
            database,
            clock,
            Thresholds.of(settings),
            budgets=budgets,
            folders=folders,
            hosts=hosts,
            copies=copies,
            work=ports.work,
            rules=ports.rules,
            traffic=ports.traffic,
            connections=ports.connections,
        )
        self.access = NamespaceAccess(database, ports.rules)

    @property
    def loops(self) -> tuple[Loop, ...]:
        """What works in the background; readiness asks each for its failure."""
        return (self.reconciler, self.sightings)

    async def start(self) -> None:
        """Begin to look at the agents' folders, and to note who is seen."""
        for loop in self.loops:
            await loop.start()

    async def stop(self) -> None:
        """End the loops and the discoveries that are at work. Safe to repeat, and before a start."""
        self.end_discoveries()
        await asyncio.gather(*(loop.stop() for loop in self.loops))

    async def ping(self, caller: Caller, agent_id: str, *, within_s: float) -> Ping:
        """Ask an agent for a sign of life; see `ping.ping`. Raises `agent_not_found` and `conflict`."""
        agent = (await self.observatory.agent(agent_id, self.observatory.viewer(caller))).agent
        return await ping(self._questions, self._clock, caller, agent, within_s=within_s)

    async def heartbeat(self, caller: Caller, agent_id: str, *, event: str) -> None:
        """Note that an agent says it is alive. Only it and a person may say so. Raises `forbidden` and
        `agent_not_found`."""
        agent = (await self.observatory.agent(agent_id, self.observatory.viewer(caller))).agent
        if not caller.owns_mailbox(agent.subject):
            raise DorkError(
                ErrorCode.FORBIDDEN,
                f"{caller.subject} may not speak for {agent.name!r}.",
                hint="Use the agent's own token.",
            )

        def change(tx: Transaction) -> None:
            record(tx, Sighting(agent_id, tx.now(), event))

        await self._database.write(change)

    async def discover(
        self, roots: Sequence[str] | None = None, *, max_depth: int | None = None
    ) -> Discovery:
        """Look for agents on disk; see `Explorer`."""
        return await self.explorer.discover(roots, max_depth=max_depth)

    def end_discoveries(self) -> None:
        """End the discoveries that are at work, so that a shutdown need not wait for them."""
        self.explorer.stop()
