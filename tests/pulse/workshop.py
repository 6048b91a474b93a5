"""What Pulse's tests share: a service on a database, an agent directory, and programs to run."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from dorkos.boundary import Boundary
from dorkos.clock import Clock, ManualClock
from dorkos.db.database import Database, Transaction
from dorkos.db.schema.mesh import agents
from dorkos.db.schema.system import events
from dorkos.errors import DorkError, ErrorCode
from dorkos.events import EventFeed
from dorkos.identity.model import Caller
from dorkos.identity.tokens import new_secret
from dorkos.ids import new_id
from dorkos.node import Node, current_boot_id
from dorkos.pulse.approvals import Author
from dorkos.pulse.model import (
    AgentTarget,
    Answer,
    AnswerState,
    CallRefusal,
    Claim,
    Offer,
    Question,
    Run,
    Schedule,
    ScheduleDraft,
)
from dorkos.pulse.operations import OPERATIONS
from dorkos.pulse.scheduler import SchedulerService
from dorkos.pulse.service import PulseService
from dorkos.pulse.store import PulseStore
from dorkos.runtimes.catalog import RuntimeCatalog
from dorkos.setting_groups.pulse import SchedulerSettings
from dorkos.setting_groups.runtimes import RuntimeSettings
from dorkos.vocabulary import ACTIVE_RUN_STATES, AgentRuntime, AgentStatus, RunReason, RunState

ACTOR = "relay.human.ada"
LEASE = timedelta(seconds=30)
HOURLY = ScheduleDraft(
    name="report", prompt="Write the report.", cron="0 * * * *", timezone="UTC", command=("true",)
)


@dataclass
class Directory:
    """Stands where Mesh stands. `refusing` says of which agents no run may start, and why."""

    known: dict[str, AgentTarget] = field(default_factory=dict)
    refusing: dict[str, CallRefusal] = field(default_factory=dict)
    taken: list[str] = field(default_factory=list)

    def take_call(self, tx: Transaction, agent_id: str) -> CallRefusal | None:
        self.taken.append(agent_id)
        return self.refusing.get(agent_id)

    def find_agent(self, connection: sa.Connection | Transaction, agent_id: str) -> AgentTarget | None:
        return self.known.get(agent_id)

    def is_here(self, agent_id: sa.ColumnElement[Any]) -> None:
        return None


@dataclass
class Settlements:
    """Stands where Relay stands: what it was told, by delivery."""

    settled: dict[str, tuple[RunState, RunReason | None]] = field(default_factory=dict)

    def settle(
        self, tx: Transaction, *, delivery_id: str, run_id: str, state: RunState, reason: RunReason | None
    ) -> None:
        self.settled[delivery_id] = (state, reason)


@dataclass
class Mail:
    """Stands where Relay's requests stand: what was asked, and what came back, by message."""

    asked: dict[str, Question] = field(default_factory=dict)
    answers: dict[str, Answer] = field(default_factory=dict)
    closed: list[str] = field(default_factory=list)
    refusing: str | None = None

    def check_subject(self, subject: str) -> None:
        if "*" in subject:
            raise DorkError(ErrorCode.WILDCARD_NOT_ALLOWED, "A pattern.")

    def ask(self, tx: Transaction, question: Question) -> str | None:
        if self.refusing is None:
            self.asked[question.message_id] = question
        return self.refusing

    def look(self, source: sa.Connection | Transaction, message_id: str, now: datetime) -> Answer:
        return self.answers.get(message_id, Answer(AnswerState.PENDING))

    def close(self, tx: Transaction, message_id: str) -> bool:
        self.closed.append(message_id)
        return False


@dataclass(frozen=True)
class Request:
    """A run that a message asks for."""

    agent_id: str
    delivery_id: str
    chain_id: str
    prompt: str
    context: dict[str, str]


@dataclass
class Workshop:
    """A Pulse service with the parts that tests look at."""

    db: Database
    pulse: PulseService
    feed: EventFeed
    node: Node
    agents: Directory
    deliveries: Settlements
    mail: Mail

    @property
    def store(self) -> PulseStore:
        return self.pulse.store

    def scheduler(self) -> SchedulerService:
        """One more scheduler on the same database."""
        return SchedulerService(self.store, self.pulse.zones)

    async def schedule(self, draft: ScheduleDraft = HOURLY, **changes: Any) -> Schedule:
        return await self.pulse.create_schedule(replace(draft, **changes), author=author())

    async def propose(
        self, subject: str, reason: str, *, run_id: str | None = None, **changes: Any
    ) -> Schedule:
        """What an agent asks for."""
        writer = replace(author(subject, is_agent=True), run_id=run_id)
        return await self.pulse.create_schedule(replace(HOURLY, reason=reason, **changes), author=writer)

    async def ask(self, name: str, caller: Caller, **fields: Any) -> Any:
        """What the handler of an operation answers this caller, whom nobody else has looked at."""
        [operation] = [one for one in OPERATIONS if one.name == f"pulse.{name}"]
        return await operation.handler(self.pulse, caller, operation.input.model_validate(fields))

    async def queued(self, *argv: str, prompt: str = "go", **changes: Any) -> str:
        """A run of a program, waiting."""
        made = await self.schedule(cron=None, timezone=None, command=argv, prompt=prompt, **changes)
        return await self.store.trigger_run(made.id, actor=ACTOR)

    async def claimed(self, count: int = 1) -> list[Claim]:
        offers = [Offer(new_id(), new_id(), new_secret()) for _ in range(count)]
        return await self.store.claim_runs(offers, node=self.node, lease=LEASE)

    async def run_of(self, schedule: Schedule) -> list[Run]:
        return await self.store.list_runs(schedule_id=schedule.id)

    async def finished(self, run_id: str, *, within_s: float = 60) -> Run:
        """The run, once it has ended."""
        async with asyncio.timeout(within_s):
            after = self.feed.head
            while (run := await self.store.get_run(run_id)).status in ACTIVE_RUN_STATES:
                async for event in self.feed.watch(after):
                    if event.kind == "pulse.run.finished" and event.entity_id == run_id:
                        break
        return run

    async def printed(self, run_id: str, text: str) -> None:
        """Wait until the run has printed `text`."""
        async with asyncio.timeout(60):
            after = self.feed.head
            while text not in await self.text(run_id):
                async for event in self.feed.watch(after):
                    if event.kind == "pulse.run.output" and event.entity_id == run_id:
                        after = replace(after, position=event.position)
                        break

    async def text(self, run_id: str) -> str:
        """Everything the run printed that was kept."""
        pieces, after = [], 0
        while (page := await self.store.read_output(run_id, after=after, limit=500)).chunks:
            pieces += [chunk.text for chunk in page.chunks]
            after = page.chunks[-1].seq
        return "".join(pieces)

    async def register(self, *entrypoint: str, folder: Path) -> AgentTarget:
        """A registered agent; without an entrypoint, one that no program of ours can start."""
        agent_id = new_id()
        target = AgentTarget(
            agent_id, "writer", f"relay.agent.default.{agent_id}", folder, entrypoint or None
        )
        self.agents.known[agent_id] = target
        await self.db.write(lambda tx: _insert_agent(tx, target))
        return target

    async def events(self, kind: str) -> list[tuple[str, dict[str, Any]]]:
        statement = sa.select(events.c.entity_id, events.c.data).where(events.c.kind == kind)
        return await self.db.read(
            lambda c: [(row.entity_id, row.data) for row in c.execute(statement.order_by(events.c.position))]
        )


def workshop(
    db: Database, clock: Clock, folder: Path, *, node: Node | None = None, **settings: Any
) -> Workshop:
    """Pulse on `db`; working directories lie in `folder`."""
    feed, directory, deliveries, mail = EventFeed(db), Directory(), Settlements(), Mail()
    node = node or a_node()
    pulse = PulseService(
        database=db,
        clock=clock,
        settings=SchedulerSettings(**{"timezone": "UTC", **settings}),
        boundary=Boundary(folder, data_directory=folder / ".dork"),
        node=node,
        agents=directory,
        deliveries=deliveries,
        runtimes=RuntimeCatalog(RuntimeSettings(), folder / ".dork" / "runtimes"),
        relay=mail,
        server_url=lambda: "http://127.0.0.1:4242",
        feed=feed,
    )
    return Workshop(db, pulse, feed, node, directory, deliveries, mail)


@asynccontextmanager
async def working(shop: Workshop) -> AsyncIterator[Workshop]:
    """The workshop with its feed and its executor at work."""
    await shop.feed.start()
    await shop.pulse.start()
    try:
        yield shop
    finally:
        await shop.pulse.stop()
        await shop.feed.stop()


def a_node(**changes: Any) -> Node:
    """A server on this machine, in this boot, with a process id that is in nobody's use."""
    return replace(Node(new_id(), "this-host", current_boot_id(), 2**22 + 1), **changes)


def author(subject: str = ACTOR, *, is_agent: bool = False) -> Author:
    """Who writes a schedule: a person, unless said otherwise."""
    return Author(subject, is_agent, new_id(), timedelta(days=7))


def python(program: str) -> tuple[str, ...]:
    """argv that runs a Python program, printing without delay."""
    return (sys.executable, "-u", "-c", program)


def hours(clock: ManualClock, count: float) -> None:
    clock.advance(timedelta(hours=count))


def _insert_agent(tx: Transaction, target: AgentTarget) -> None:
    tx.execute(
        agents.insert(),
        {
            "id": target.id,
            "name": target.name,
            "runtime": AgentRuntime.COMMAND,
            "project_path": f"{target.project_path}/{target.id}",
            "namespace": "default",
            "capabilities_json": [],
            "status": AgentStatus.ACTIVE,
            "registered_at": tx.now(),
            "updated_at": tx.now(),
        },
    )
