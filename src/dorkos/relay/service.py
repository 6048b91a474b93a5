"""Relay as the rest of the system sees it: publishing, mailboxes, and the ports to Mesh and Pulse."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

import sqlalchemy as sa

from dorkos.clock import Clock
from dorkos.db.database import Database, Transaction
from dorkos.db.schema.relay import relay_endpoints, relay_index
from dorkos.errors import DorkError, ErrorCode
from dorkos.events import EventFeed
from dorkos.fleet import gate
from dorkos.identity.model import Caller
from dorkos.identity.tokens import require_live_run, require_live_token
from dorkos.ids import new_id
from dorkos.lifecycle import Loop
from dorkos.node import Node
from dorkos.relay import (
    breaker,
    deadletters,
    delivery,
    endpoints,
    inbox,
    messages,
    publish,
    replies,
    settlement,
    waterfall,
)
from dorkos.relay.abandoned import Abandoned
from dorkos.relay.access import AccessControl
from dorkos.relay.acks import Ack
from dorkos.relay.conversations import Conversations
from dorkos.relay.endpoints import MailboxLimits
from dorkos.relay.expiry import Expiry
from dorkos.relay.indexer import Indexer, find
from dorkos.relay.letters import DeadLetters
from dorkos.relay.metering import Measured, Metering, measured
from dorkos.relay.model import (
    Breaker,
    Claim,
    Delivery,
    Endpoint,
    Envelope,
    Lease,
    Mailbox,
    Receipt,
    Routes,
    RunStarter,
    SenderBudgets,
    StoredMessage,
)
from dorkos.relay.publish import Gates
from dorkos.relay.retention import RelayRetention
from dorkos.relay.runs import MessageRuns
from dorkos.relay.standing import Standing, standing
from dorkos.relay.subjects import AGENTS, matches, validate_subject
from dorkos.relay.wakeups import Wakeups
from dorkos.relay.waterfall import Waterfall
from dorkos.setting_groups.relay import RelaySettings
from dorkos.vocabulary import DeadLetterReason, DeliveryStatus, EndpointConsumer, RunReason, RunState

T = TypeVar("T")


class RelayService:
    """Carries messages between mailboxes. Every change returns after its commit was synced."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        settings: RelaySettings,
        feed: EventFeed,
        runs: RunStarter,
        budgets: SenderBudgets,
        routes: Routes,
        node: Node,
    ) -> None:
        """`runs` queues the runs that messages start; `feed` wakes those who wait for messages; `budgets`
        says what agents that send may spend, `routes` in which mailboxes of adapters a message is put. `node`
        is this server, for the work that one of several does."""
        self.settings = settings
        self._database = database
        self._clock = clock
        self._wakeups = Wakeups(feed)
        self._abandoned = Abandoned(database)
        self.access = AccessControl(database)
        self._gates = Gates(self.access, budgets, routes)
        self.conversations = Conversations(database, clock, self._wakeups, self.publish_in)
        self.message_runs = MessageRuns(database, feed, runs, settings)
        self.expiry = Expiry(database, clock)
        self.indexer = Indexer(database)
        self.retention = RelayRetention(database, node=node, settings=settings, indexer=self.indexer)
        self.metering = Metering(database)
        self.letters = DeadLetters(database, settings, self.access)

    @property
    def loops(self) -> tuple[Loop, ...]:
        """What works in the background; readiness asks each for its failure."""
        return (self.message_runs, self.expiry, self.retention, self.metering, self.indexer)

    def now(self) -> datetime:
        """The time by which answers say what is held at the moment."""
        return self._clock.now()

    async def start(self) -> None:
        """Start the loops. Publishing and claiming work before that, too."""
        await self.access.start()
        for loop in self.loops:
            await loop.start()

    async def stop(self) -> None:
        """End the waits of long polls and the loops. Publishing and claiming still work. Safe to repeat."""
        self._wakeups.end()
        await self._abandoned.settled()
        for loop in self.loops:
            await loop.stop()

    async def publish(self, caller: Caller, envelope: Envelope) -> Receipt:
        """Publish in a change of its own. See `publish.publish` for guarantees and refusals."""
        return await self._database.write(lambda tx: self.publish_in(tx, caller, envelope))

    def publish_in(self, tx: Transaction, caller: Caller, envelope: Envelope) -> Receipt:
        """Publish in the caller's change, to be committed with whatever else it does."""
        return publish.publish(tx, envelope, caller, self.settings, self._gates)

    async def open(
        self,
        caller: Caller,
        subject: str,
        *,
        description: str | None,
        limits: MailboxLimits | None = None,
        expires_at: datetime | None = None,
    ) -> Endpoint:
        """Open a mailbox that somebody claims from, or open a closed one again; it closes by itself at
        `expires_at`.

        Raises `endpoint_exists`, the refusals of a subject, and `validation_failed` for an agent's address,
        whose mailbox is opened by registering the agent, and for the address of a reply.
        """
        validate_subject(subject)
        if replies.is_address(subject):
            raise DorkError(
                ErrorCode.VALIDATION_FAILED,
                f"{subject} is the address of a reply.",
                hint="Its mailbox is opened with the request: use `dorkos relay request`.",
            )
        if matches(subject, AGENTS):
            raise DorkError(
                ErrorCode.VALIDATION_FAILED,
                f"{subject} is the address of an agent.",
                hint="Register the agent: its mailbox is opened with it.",
            )
        endpoint_id = new_id()

        def change(tx: Transaction) -> Endpoint:
            opened = endpoints.open_mailbox(
                tx,
                endpoint_id=endpoint_id,
                subject=subject,
                agent_id=None,
                consumer=EndpointConsumer.CLAIM,
                description=description,
                actor=caller.subject,
                limits=limits,
                expires_at=expires_at,
            )
            if not opened:
                raise DorkError(
                    ErrorCode.ENDPOINT_EXISTS,
                    f"The mailbox {subject} exists already.",
                    hint="Use it as it is, or choose another subject.",
                )
            return endpoints.get(tx, subject)

        return await self._database.write(change)

    async def close(self, caller: Caller, subject: str) -> None:
        """Close a mailbox; what waits in it becomes dead letters, its history stays readable.

        Raises `endpoint_not_found`, and `validation_failed` for the mailbox of a registered agent.
        """

        def change(tx: Transaction) -> None:
            endpoint = endpoints.get_open(tx, subject)
            if endpoint.agent_id is not None:
                raise DorkError(
                    ErrorCode.VALIDATION_FAILED,
                    f"{subject} is the mailbox of the agent {endpoint.agent_id}.",
                    hint="Unregister the agent: its mailbox is closed with it.",
                )
            if endpoint.consumer is EndpointConsumer.ADAPTER:
                raise DorkError(
                    ErrorCode.VALIDATION_FAILED,
                    f"{subject} is the mailbox of an adapter.",
                    hint="Remove the adapter: its mailbox is closed with it.",
                )
            _close(tx, relay_endpoints.c.id == endpoint.id, actor=caller.subject)

        await self._database.write(change)

    async def close_circuit(self, caller: Caller, subject: str) -> None:
        """Close the circuit of a mailbox by hand. Harmless if it is closed. Raises `endpoint_not_found`."""

        def change(tx: Transaction) -> None:
            breaker.success(tx, endpoints.get(tx, subject).id, subject=subject, actor=caller.subject)

        await self._database.write(change)

    def open_mailbox(
        self, tx: Transaction, *, endpoint_id: str, subject: str, agent_id: str, starts_runs: bool | None
    ) -> None:
        """Open an agent's mailbox, or open it again if the subject had one. Harmless to repeat.

        `starts_runs` None leaves an open mailbox as it is; one that is opened starts runs then.
        """
        consumer = EndpointConsumer.CLAIM if starts_runs is False else EndpointConsumer.RUN
        opened = endpoints.open_mailbox(
            tx, endpoint_id=endpoint_id, subject=subject, agent_id=agent_id, consumer=consumer
        )
        if not opened:
            kept = None if starts_runs is None else consumer
            endpoints.adopt(tx, subject=subject, agent_id=agent_id, consumer=kept)

    def close_in(self, tx: Transaction, subject: str, *, actor: str | None) -> None:
        """Close a mailbox in the caller's change, if it is open; what waits in it becomes dead letters."""
        _close(tx, relay_endpoints.c.subject == subject, actor=actor)

    def close_mailbox(self, tx: Transaction, *, agent_id: str) -> None:
        """Close the agent's mailboxes; what waits in them becomes dead letters. Harmless to repeat."""
        _close(tx, relay_endpoints.c.agent_id == agent_id, actor=None)

    def settle(
        self, tx: Transaction, *, delivery_id: str, run_id: str, state: RunState, reason: RunReason | None
    ) -> None:
        """Settle the message that started a run, in the commit that ends the run."""
        settlement.settle(
            tx,
            delivery_id=delivery_id,
            run_id=run_id,
            state=state,
            reason=reason,
            settings=self.settings,
        )

    async def claim(
        self, caller: Caller, subject: str, *, limit: int, lease_s: int | None = None, wait_ms: int = 0
    ) -> Claim:
        """Claim up to `limit` messages; with none there, wait up to `wait_ms` for the first.

        While the fleet is on hold nothing is claimed: the wait goes on, and if the hold outlasts it this
        raises `fleet_on_hold`, for the mailbox may well hold something. Raises `forbidden` for another's
        mailbox, `endpoint_not_found` for one that is not open, and `token_invalid` when the caller's token
        ends during the wait. Nothing is claimed for nobody: what is claimed for a caller that has gone away
        is given back at once.
        """
        _must_own(caller, subject)
        duration = timedelta(seconds=lease_s or self.settings.lease_seconds)
        timer = asyncio.get_running_loop()
        deadline = timer.time() + wait_ms / 1000
        look = partial(self._claim, caller=caller, subject=subject, limit=limit)
        while True:
            mark = self._wakeups.mark()
            lease = Lease(caller.run_id or caller.subject, caller.subject, new_id(), duration)
            claim = await self._abandoned.claim(partial(look, lease=lease), actor=caller.subject)
            look = partial(look, has_waited=True)
            if claim.deliveries:
                return claim
            if claim.next_in_s == 0.0:
                continue
            left_s = deadline - timer.time()
            if left_s <= 0 or self._wakeups.ended:
                if claim.held_by is not None:
                    raise claim.held_by.refusal("Nothing was claimed.")
                return claim
            within_s = left_s if claim.next_in_s is None else min(left_s, claim.next_in_s)
            await self._wakeups.wait(claim.endpoint_id, after=mark, within_s=within_s)

    async def ack(self, caller: Caller, subject: str, message_id: str, token: str) -> None:
        """Settle a claimed message as delivered. See `acks.Ack`."""
        _must_own(caller, subject)
        await self._database.write(Ack(caller, subject, message_id, token))

    async def nack(
        self, caller: Caller, subject: str, message_id: str, token: str, *, delay: timedelta, reject: bool
    ) -> DeliveryStatus:
        """Give a claimed message back, or reject it. See `delivery.nack`."""
        return await self._held(
            caller,
            subject,
            lambda tx, endpoint: delivery.nack(
                tx,
                endpoint,
                message_id,
                token,
                delay=delay,
                reject=reject,
                max_attempts=self.settings.max_attempts,
                actor=caller.subject,
            ),
        )

    async def extend(
        self, caller: Caller, subject: str, message_id: str, token: str, lease_s: int | None = None
    ) -> datetime:
        """Hold a claimed message longer; the new end. See `delivery.extend`."""
        duration = timedelta(seconds=lease_s or self.settings.lease_seconds)
        return await self._held(
            caller, subject, lambda tx, endpoint: delivery.extend(tx, endpoint, message_id, token, duration)
        )

    async def inbox(
        self, caller: Caller, subject: str, *, status: DeliveryStatus | None, before: str | None, limit: int
    ) -> list[Delivery]:
        """Look into a mailbox, open or closed, newest first. Nothing is consumed. Raises `forbidden`."""
        _must_own(caller, subject)

        def query(connection: sa.Connection) -> list[Delivery]:
            endpoint = endpoints.get(connection, subject)
            return inbox.newest_first(connection, endpoint.id, status=status, before=before, limit=limit)

        return await self._database.read(query)

    async def endpoints(self, *, include_closed: bool = False) -> list[Endpoint]:
        """Mailboxes, newest first."""
        return await self._database.read(
            lambda connection: endpoints.newest_first(connection, include_closed=include_closed)
        )

    async def circuits(self) -> Mapping[str, Breaker]:
        """The circuits on which something was counted, by mailbox."""
        return await self._database.read(breaker.every)

    async def message(self, message_id: str) -> StoredMessage:
        """One message with its deliveries. Raises `message_not_found`."""
        return await self._database.read(lambda connection: messages.get(connection, message_id))

    async def messages_of(self, ids: Sequence[str]) -> list[StoredMessage]:
        """Messages with their deliveries, in the order of the ids; those that are gone are left out."""
        return await self._database.read(lambda connection: messages.each_of(connection, ids))

    async def messages(
        self,
        *,
        subject: str | None = None,
        sender: str | None = None,
        status: DeliveryStatus | None = None,
        before: str | None = None,
        limit: int,
    ) -> list[StoredMessage]:
        """Messages with their deliveries, newest first."""
        return await self._database.read(
            lambda connection: messages.newest_first(
                connection, subject=subject, sender=sender, status=status, before=before, limit=limit
            )
        )

    async def search(self, text: str, *, before: str | None, limit: int) -> list[StoredMessage]:
        """Messages that have all the words of `text`, the last as a beginning, newest first.

        Raises `validation_failed` for a text without a word.
        """
        return await find(self._database, text, before=before, limit=limit)

    async def metrics(self) -> Measured:
        """How much is stored, why messages stopped, and how long deliveries took."""
        return await self._database.read(measured)

    async def standing(self, sender: str, target: str) -> Standing:
        """What besides the rules decides about a message from one to the other."""
        return await self._database.read(
            lambda connection: standing(connection, sender, target, self.settings, self.now())
        )

    async def trace_of_message(self, message_id: str) -> Waterfall:
        """The chain that a message belongs to. Raises `trace_not_found`."""
        return await self._database.read(lambda connection: waterfall.of_message(connection, message_id))

    async def trace(self, trace_id: str) -> Waterfall:
        """A chain by its id. Raises `trace_not_found`."""
        return await self._database.read(lambda connection: waterfall.of_chain(connection, trace_id))

    def _claim(
        self,
        tx: Transaction,
        *,
        caller: Caller,
        subject: str,
        lease: Lease,
        limit: int,
        has_waited: bool = False,
    ) -> Claim:
        fleet = gate(tx)
        _must_live(tx, caller)
        if has_waited and caller.token_id is not None:
            require_live_token(tx, caller.token_id)
        endpoint = endpoints.mailbox(tx, subject, is_open=True)
        if not fleet.starts:
            return Claim(endpoint.id, (), None, held_by=fleet)
        return delivery.claim(tx, endpoint, lease, limit=limit, max_attempts=self.settings.max_attempts)

    async def _held(self, caller: Caller, subject: str, change: Callable[[Transaction, Mailbox], T]) -> T:
        """Apply `change` to something the caller holds in a mailbox of its own."""
        _must_own(caller, subject)

        def held(tx: Transaction) -> T:
            _must_live(tx, caller)
            return change(tx, endpoints.mailbox(tx, subject))

        return await self._database.write(held)


def _must_live(tx: Transaction, caller: Caller) -> None:
    """A run that ended while its request waited takes and settles nothing more."""
    if caller.run_id is not None:
        require_live_run(tx, caller.run_id)


def _must_own(caller: Caller, subject: str) -> None:
    if not caller.owns_mailbox(subject):
        raise DorkError(
            ErrorCode.FORBIDDEN,
            f"{caller.subject} may not take messages from {subject}.",
            hint="A mailbox is read by its owner and by the operator.",
        )


def _close(tx: Transaction, which: sa.ColumnElement[bool], *, actor: str | None) -> None:
    for endpoint_id, subject in endpoints.mark_closed(tx, which, actor=actor):
        # What a run holds is settled when the run ends.
        waiting = sa.and_(relay_index.c.endpoint_id == endpoint_id, relay_index.c.run_id.is_(None))
        detail = f"The mailbox {subject} was closed."
        deadletters.fail(tx, waiting, DeadLetterReason.ENDPOINT_REMOVED, detail, actor=actor)
