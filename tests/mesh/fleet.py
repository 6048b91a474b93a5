"""What Mesh's tests share: projects on disk, and a service on a database with a real Relay beside it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sa

from dorkos.boundary import Boundary
from dorkos.clock import Clock
from dorkos.db.database import Database, Transaction
from dorkos.db.schema.relay import relay_endpoints
from dorkos.db.schema.system import events
from dorkos.events import EventFeed
from dorkos.mesh.budgets import CallBudgets
from dorkos.mesh.discovery import DEFAULT_LIMITS, Limits
from dorkos.mesh.hosts import Hosts
from dorkos.mesh.registry import Registered
from dorkos.mesh.service import MeshService, Ports
from dorkos.mesh.statement import Statement
from dorkos.node import this_node
from dorkos.ports.connections import MailConnections
from dorkos.ports.questions import MailQuestions
from dorkos.ports.rules import NamespaceRules
from dorkos.ports.traffic import MailTraffic
from dorkos.ports.work import AgentsWork
from dorkos.relay.model import NoRoutes
from dorkos.relay.service import RelayService
from dorkos.setting_groups.mesh import MeshSettings
from dorkos.setting_groups.relay import RelaySettings
from dorkos.vocabulary import EndpointConsumer
from tests.relay.post_office import QueuedRuns

ACTOR = "relay.human.operator"
A_ULID = "01JNA0000000000000000000AA"


def make_project(path: Path, manifest: object = None, *, claude: str | None = None) -> Path:
    """A folder, with a manifest (as JSON, or as bytes) and a CLAUDE.md if asked for."""
    path.mkdir(parents=True, exist_ok=True)
    if manifest is not None:
        (path / ".dork").mkdir(exist_ok=True)
        data = manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode()
        (path / ".dork" / "agent.json").write_bytes(data)
    if claude is not None:
        (path / "CLAUDE.md").write_text(claude, encoding="utf-8")
    return path


def manifest_of(project: Path) -> dict[str, object]:
    """What the project's manifest file says."""
    document: dict[str, object] = json.loads((project / ".dork" / "agent.json").read_bytes())
    return document


@dataclass
class HiddenSchedules:
    """Stands where Pulse stands: the agents whose schedules it was asked to hide."""

    hidden: list[str] = field(default_factory=list)

    def hide_schedules(self, tx: Transaction, *, agent_id: str) -> None:
        self.hidden.append(agent_id)


@dataclass
class Fleet:
    """A Mesh service with the parts that tests look at. `root` is its boundary."""

    db: Database
    mesh: MeshService
    root: Path
    schedules: HiddenSchedules
    relay: RelayService
    feed: EventFeed
    budgets: CallBudgets
    rules: NamespaceRules

    async def register(self, project: Path, **overrides: object) -> Registered:
        return await self.mesh.registry.register(
            str(project),
            Statement(**overrides),  # type: ignore[arg-type]  # Named by the test.
            approver="ada",
            actor=ACTOR,
        )

    async def deny(self, path: Path, reason: str | None = None) -> None:
        await self.mesh.denials.deny(str(path), reason=reason, denier="ada", actor=ACTOR)

    async def agent_ids(self) -> list[str]:
        agents, _ = await self.mesh.registry.list()
        return [agent.id for agent in agents]

    async def event_kinds(self, topic: str = "mesh") -> list[str]:
        statement = sa.select(events.c.kind).order_by(events.c.position)
        kinds = await self.db.read(lambda connection: list(connection.execute(statement).scalars()))
        return [kind for kind in kinds if kind.startswith(f"{topic}.")]

    async def open_mailboxes(self) -> dict[str, EndpointConsumer]:
        """Who takes messages out of each open mailbox, by its subject."""
        statement = sa.select(relay_endpoints).where(relay_endpoints.c.closed_at.is_(None))
        return await self.db.read(
            lambda connection: {row.subject: row.consumer for row in connection.execute(statement)}
        )


def make_fleet(
    db: Database,
    clock: Clock,
    root: Path,
    *,
    settings: MeshSettings | None = None,
    limits: Limits = DEFAULT_LIMITS,
    host: str = "",
    shared: bool = False,
) -> Fleet:
    """A service confined to `root`, whose folder `data` is the data directory.

    `host` is the machine that it is on, and `shared` whether others may use the database.
    """
    (root / "data").mkdir(exist_ok=True)
    feed = EventFeed(db, interval_s=3600)
    budgets = CallBudgets(calls_per_hour=100, hops_per_message=5)
    relay = RelayService(
        database=db,
        clock=clock,
        settings=RelaySettings(),
        feed=feed,
        runs=QueuedRuns(),
        budgets=budgets,
        routes=NoRoutes(),
        node=this_node(),
    )
    schedules = HiddenSchedules()
    rules = NamespaceRules()
    mesh = MeshService(
        db,
        clock,
        settings or MeshSettings(),
        Boundary(root, data_directory=root / "data"),
        hosts=Hosts(host or this_node().host, shared=shared),
        feed=feed,
        budgets=budgets,
        ports=Ports(
            mailboxes=relay,
            schedules=schedules,
            work=AgentsWork(clock),
            rules=rules,
            traffic=MailTraffic(),
            connections=MailConnections(),
            questions=MailQuestions(relay, clock),
        ),
        limits=limits,
    )
    return Fleet(db, mesh, root, schedules, relay, feed, budgets, rules)
