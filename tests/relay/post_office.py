"""What Relay's tests share: a service on a database, callers, a port to Pulse that keeps what it is asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial

import sqlalchemy as sa

from dorkos.clock import Clock
from dorkos.db.database import Database, Transaction
from dorkos.db.schema.mesh import agents
from dorkos.db.schema.pulse import pulse_runs
from dorkos.db.schema.relay import (
    relay_dead_letters,
    relay_endpoints,
    relay_index,
    relay_messages,
)
from dorkos.db.schema.system import events
from dorkos.events import EventFeed
from dorkos.identity.model import OPERATOR, Caller
from dorkos.identity.tokens import NewToken, mint, new_secret
from dorkos.ids import new_id
from dorkos.node import this_node
from dorkos.relay.model import CallRefusal, Envelope, Message, Receipt, Routes, RunRequest
from dorkos.relay.payload import encode
from dorkos.relay.service import RelayService
from dorkos.setting_groups.relay import RelaySettings
from dorkos.vocabulary import (
    AgentRuntime,
    AgentStatus,
    DeliveryStatus,
    RunReason,
    RunState,
    RunTrigger,
    Scope,
)

INBOX = "relay.human.ada"
ADA = Caller(INBOX, frozenset({Scope.SEND, Scope.RECEIVE}))
BOB = Caller("relay.human.bob", frozenset({Scope.SEND, Scope.RECEIVE}))


@dataclass
class QueuedRuns:
    """Stands where Pulse stands: the runs it was asked to queue, by id. It fails for agents in `refusing`."""

    queued: dict[str, RunRequest] = field(default_factory=dict)
    refusing: set[str] = field(default_factory=set)
    before_commit: Callable[[], None] = lambda: None

    def queue_run(self, tx: Transaction, request: RunRequest, *, run_id: str) -> None:
        if request.agent_id in self.refusing:
            raise RuntimeError("this agent cannot run")
        self.queued[run_id] = request
        self.before_commit()


@dataclass
class Budgets:
    """Stands where Mesh stands: which agents may not send, and why; and how many hops some may have."""

    refusing: dict[str, CallRefusal] = field(default_factory=dict)
    hops: dict[str, int] = field(default_factory=dict)
    taken: list[str] = field(default_factory=list)

    def take_call(self, tx: Transaction, agent_id: str) -> CallRefusal | None:
        self.taken.append(agent_id)
        return self.refusing.get(agent_id)

    def max_hops(self, tx: Transaction, agent_id: str) -> int | None:
        return self.hops.get(agent_id)


@dataclass
class RoutesTo:
    """Stands where the adapters stand: the mailboxes in which a message to a subject is put as well."""

    mailboxes: dict[str, list[str]] = field(default_factory=dict)

    def also(self, tx: Transaction, message: Message, /) -> Sequence[str]:
        return self.mailboxes.get(message.subject, ())


@dataclass
class PostOffice:
    """A Relay service with the parts that tests look at."""

    db: Database
    relay: RelayService
    runs: QueuedRuns
    feed: EventFeed
    budgets: Budgets
    routes: RoutesTo

    async def open(self, subject: str = INBOX) -> None:
        await self.relay.open(OPERATOR, subject, description=None)

    async def open_for_agent(self, name: str, *, starts_runs: bool = True) -> Caller:
        """A registered agent with a mailbox; the caller that its long-lived token would be."""
        agent_id, endpoint_id = new_id(), new_id()
        subject = f"relay.agent.test.{agent_id}"

        def change(tx: Transaction) -> None:
            tx.execute(
                agents.insert(),
                {
                    "id": agent_id,
                    "name": name,
                    "runtime": AgentRuntime.COMMAND,
                    "project_path": f"/srv/{name}",
                    "capabilities_json": [],
                    "status": AgentStatus.ACTIVE,
                    "registered_at": tx.now(),
                    "updated_at": tx.now(),
                },
            )
            self.relay.open_mailbox(
                tx, endpoint_id=endpoint_id, subject=subject, agent_id=agent_id, starts_runs=starts_runs
            )

        await self.db.write(change)
        return Caller(subject, frozenset({Scope.SEND, Scope.RECEIVE}), agent_id=agent_id)

    async def send(
        self, payload: object = "hello", *, to: str = INBOX, caller: Caller = BOB, **fields: object
    ) -> Receipt:
        envelope = Envelope(id=new_id(), subject=to, payload=encode(payload), **fields)  # type: ignore[arg-type]  # Named by the test.
        return await self.relay.publish(caller, envelope)

    async def claim_one(self, caller: Caller = ADA, subject: str = INBOX) -> tuple[str, str]:
        """Message id and lease token of the one message claimed."""
        (delivery,) = (await self.relay.claim(caller, subject, limit=1)).deliveries
        assert delivery.lease_token is not None
        return delivery.message.id, delivery.lease_token

    async def start_run(self, mailbox: Caller) -> Caller | None:
        """Let a message start a run, as the loop does; the caller that the run is, or None."""
        before = set(self.runs.queued)
        await self.relay.message_runs.work()
        started = [
            run_id
            for run_id in self.runs.queued.keys() - before
            if self.runs.queued[run_id].agent_id == mailbox.agent_id
        ]
        return Caller(mailbox.subject, mailbox.scopes, started[0], mailbox.agent_id) if started else None

    async def scheduled_run(self, who: Caller) -> Caller:
        """A run at work that no message started, with its token; the caller that it is."""
        run_id = new_id()
        token = NewToken(new_id(), new_secret(), who.subject, who.scopes, run_id=run_id)

        def change(tx: Transaction) -> None:
            row = {
                "id": run_id,
                "status": RunState.QUEUED,
                "trigger": RunTrigger.MANUAL,
                "prompt": "work",
                "chain_id": run_id,
                "created_at": tx.now(),
            }
            tx.execute(pulse_runs.insert(), row)
            mint(tx, token, expires_at=tx.now() + timedelta(minutes=1))

        await self.db.write(change)
        return replace(who, run_id=run_id)

    async def finish_run(
        self, run: Caller, state: RunState = RunState.COMPLETED, reason: RunReason | None = None
    ) -> None:
        """End a run as Pulse does: in the change that ends it, its message is settled."""
        assert run.run_id is not None
        delivery_id = self.runs.queued[run.run_id].delivery_id
        await self.db.write(
            partial(self.relay.settle, delivery_id=delivery_id, run_id=run.run_id, state=state, reason=reason)
        )


def post_office(
    db: Database, clock: Clock, *, adapters: Routes | None = None, **settings: object
) -> PostOffice:
    """Relay on this database, its loops not started. `adapters` may be the real ones."""
    runs, budgets, routes = QueuedRuns(), Budgets(), RoutesTo()
    feed = EventFeed(db, interval_s=3600)
    relay = RelayService(
        database=db,
        clock=clock,
        settings=RelaySettings.model_validate(settings),
        feed=feed,
        runs=runs,
        budgets=budgets,
        routes=adapters or routes,
        node=this_node(),
    )
    return PostOffice(db, relay, runs, feed, budgets, routes)


@dataclass(frozen=True)
class Stored:
    """What the tables say about one message."""

    statuses: list[DeliveryStatus]
    reasons: list[str]
    events: list[str]


async def stored(db: Database, message_id: str) -> Stored:
    """The rows of one message: its deliveries, dead letters and events."""

    def query(connection: sa.Connection) -> Stored:
        of = connection.execute
        exists = of(sa.select(relay_messages.c.id).where(relay_messages.c.id == message_id)).one_or_none()
        assert exists is not None, "the message is not stored"
        return Stored(
            list(of(sa.select(relay_index.c.status).where(relay_index.c.message_id == message_id)).scalars()),
            list(
                of(
                    sa.select(relay_dead_letters.c.reason).where(
                        relay_dead_letters.c.message_id == message_id
                    )
                ).scalars()
            ),
            list(
                of(
                    sa.select(events.c.kind)
                    .where(events.c.entity_id == message_id)
                    .order_by(events.c.position)
                ).scalars()
            ),
        )

    return await db.read(query)


async def assert_counters_hold(db: Database) -> None:
    """Each mailbox's row says exactly what a recount of its deliveries says."""

    def query(connection: sa.Connection) -> None:
        for endpoint in connection.execute(sa.select(relay_endpoints)).all():
            mine = relay_index.c.endpoint_id == endpoint.id
            pending = connection.execute(
                sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(relay_messages.c.bytes), 0))
                .join_from(relay_index, relay_messages, relay_messages.c.id == relay_index.c.message_id)
                .where(mine, relay_index.c.status == DeliveryStatus.PENDING)
            ).one()
            assert (endpoint.pending_count, endpoint.pending_bytes) == (int(pending[0]), int(pending[1]))
            last = connection.execute(sa.select(sa.func.max(relay_index.c.position)).where(mine)).scalar_one()
            assert endpoint.position >= (last or 0)

    await db.read(query)
