"""Mailboxes whose messages start runs of the agent that owns them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from functools import partial

import sqlalchemy as sa

from dorkos.db.database import Database, Transaction
from dorkos.db.schema.relay import relay_adapters as a
from dorkos.db.schema.relay import relay_endpoints as e
from dorkos.db.schema.relay import relay_index as i
from dorkos.db.schema.relay import relay_messages as m
from dorkos.events import Event, EventFeed
from dorkos.fleet import CHANGED, Fleet, gate, read
from dorkos.ids import new_id
from dorkos.lifecycle import Loop
from dorkos.relay import delivery, endpoints
from dorkos.relay.chain import MESSAGE_VARIABLE, has_expired
from dorkos.relay.inbox import DELIVERIES, IS_PENDING, delivery_of
from dorkos.relay.model import Delivery, Message, RunRequest, RunStarter
from dorkos.relay.payload import prompt_of
from dorkos.relay.subjects import AGENTS, matches
from dorkos.setting_groups.relay import RelaySettings
from dorkos.telemetry import traceparent
from dorkos.vocabulary import EndpointConsumer

log = logging.getLogger("dorkos.relay")

_WAKING = (
    "relay.message.published",
    "relay.message.routed",
    "relay.message.dead_lettered",
    "relay.message.redriven",
    "relay.delivery.",
    "relay.endpoint.opened",
    "relay.adapter.updated",
    CHANGED,
)


# Ours, and the lineage's.
_SWITCHES = ("agent", "claude-code")


class MessageRuns(Loop):
    """Starts runs for messages: one at a time in each mailbox, in the order of acceptance.

    A message whose run failed keeps its place: it is tried again before any later one. What somebody has
    claimed by hand is passed by. While the fleet is on hold no message starts a run; while it is drained,
    only those that were accepted before, and those that runs send, which may be what another run waits for.
    """

    def __init__(
        self,
        database: Database,
        feed: EventFeed,
        runs: RunStarter,
        settings: RelaySettings,
        *,
        interval_s: float = 1.0,
    ) -> None:
        """`interval_s` bounds how late a retry, or a message from another server, is noticed."""
        super().__init__("relay.runs", interval_s=interval_s)
        self._database = database
        self._feed = feed
        self._runs = runs
        self._settings = settings
        self._follower: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to look, and to follow the events that say when."""
        await super().start()
        self._follower = asyncio.create_task(self._follow(), name="dorkos.relay.runs.follow")

    async def stop(self) -> None:
        """End. Runs that were queued stay queued."""
        if self._follower is not None:
            self._follower.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._follower
            self._follower = None
        await super().stop()

    async def work(self) -> float | None:
        """Look at every mailbox in which something waits and no run is at work, unless switched off."""
        if not self._settings.enabled:
            return None
        for endpoint_id in await self._database.read(_ready):
            if self.stopping:
                break
            run_id = new_id()
            try:
                await self._database.write(partial(self.start_next, endpoint_id=endpoint_id, run_id=run_id))
            except Exception:  # One mailbox that cannot start its run must not hold up all others.
                log.exception("no run could be queued for the mailbox %s", endpoint_id)
        return None

    def start_next(self, tx: Transaction, endpoint_id: str, run_id: str) -> bool:
        """Claim the first message of a mailbox for a run and queue the run, as one change.

        False if nothing may start: the fleet is on hold, the mailbox is closed, a run is at work, or the
        first message waits for its next attempt.
        """
        fleet = gate(tx)
        if not fleet.starts or _switched_off(tx):
            return False
        # The lock makes the look for a run at work hold: two servers must not start two.
        endpoint = endpoints.lock(tx, endpoint_id)
        if endpoint is None or endpoint.closed_at is not None or endpoint.agent_id is None:
            return False
        if endpoint.consumer is not EndpointConsumer.RUN or _run_at_work(tx, endpoint_id):
            return False
        first = self._first(tx, endpoint_id, fleet)
        if first is None or first.available_at > tx.now():
            return False
        tx.execute(
            sa.update(i)
            .where(i.c.id == first.id, IS_PENDING, i.c.run_id.is_(None))
            .values(
                run_id=run_id,
                attempts=i.c.attempts + 1,
                lease_token=None,
                lease_owner=None,
                claimed_at=tx.now(),
            )
        )
        delivery.emit(
            tx,
            "relay.delivery.claimed",
            first,
            actor=endpoint.subject,
            attempts=first.attempts + 1,
            runId=run_id,
        )
        self._runs.queue_run(tx, request_for(first, endpoint.agent_id), run_id=run_id)
        return True

    def _first(self, tx: Transaction, endpoint_id: str, fleet: Fleet) -> Delivery | None:
        """The first message that may become a run, now or later. Stale ones before it are dead-lettered."""
        for _ in range(2):
            first = _head(tx, endpoint_id, fleet)
            if first is None or not self._is_stale(first, tx):
                return first
            delivery.bury_stale(tx, endpoint_id, max_attempts=self._settings.max_attempts)
        return None

    def _is_stale(self, first: Delivery, tx: Transaction) -> bool:
        return has_expired(first.expires_at, tx.now()) or first.attempts >= self._settings.max_attempts

    async def _follow(self) -> None:
        """Wake when something may have become ready. A hint only: the loop looks by itself as well."""
        try:
            async for event in self._feed.watch():
                if event.kind.startswith(_WAKING) and _may_concern_an_agent(event):
                    self.wake()
        except Exception:  # Messages then start runs up to an interval later.
            log.exception("messages are noticed by polling only, because the events cannot be followed")


def _may_concern_an_agent(event: Event) -> bool:
    """Only the mailboxes of agents start runs, and most messages of a busy system go to others."""
    subject = event.data.get("mailbox") or event.data.get("subject")
    return not isinstance(subject, str) or matches(subject, AGENTS)


def request_for(claimed: Delivery, agent_id: str) -> RunRequest:
    """The run that a message asks for: its text as prompt, its envelope in the environment."""
    message = claimed.message
    return RunRequest(
        agent_id=agent_id,
        delivery_id=claimed.id,
        chain_id=message.chain_id,
        prompt=prompt_of(message.payload),
        context=_context(message),
    )


def _context(message: Message) -> dict[str, str]:
    """Environment variables. What the message does not have is left out, never empty."""
    known = {
        MESSAGE_VARIABLE: message.id,
        "TRACEPARENT": traceparent(message.chain_id, message.id),
        "DORKOS_MESSAGE_SUBJECT": message.subject,
        "DORKOS_MESSAGE_FROM": message.sender,
        "DORKOS_REPLY_TO": message.reply_to or message.sender,
    }
    return {name: value for name, value in known.items() if value is not None}


def _switched_off(source: sa.Connection | Transaction) -> bool:
    """Whether an adapter of the kind that stands for message runs is switched off."""
    statement = sa.select(a.c.id).where(a.c.type.in_(_SWITCHES), a.c.enabled == sa.false())
    return source.execute(statement.limit(1)).one_or_none() is not None


def _ready(connection: sa.Connection) -> list[str]:
    if not read(connection).starts or _switched_off(connection):
        return []
    held = sa.exists().where(i.c.endpoint_id == e.c.id, IS_PENDING, i.c.run_id.is_not(None))
    statement = sa.select(e.c.id).where(
        e.c.consumer == EndpointConsumer.RUN,
        e.c.closed_at.is_(None),
        e.c.agent_id.is_not(None),
        e.c.pending_count > 0,
        ~held,
    )
    return list(connection.execute(statement.order_by(e.c.id)).scalars())


def _run_at_work(tx: Transaction, endpoint_id: str) -> bool:
    statement = sa.select(i.c.id).where(i.c.endpoint_id == endpoint_id, IS_PENDING, i.c.run_id.is_not(None))
    return tx.execute(statement.limit(1)).one_or_none() is not None


def _head(tx: Transaction, endpoint_id: str, fleet: Fleet) -> Delivery | None:
    statement = (
        DELIVERIES.where(i.c.endpoint_id == endpoint_id, delivery.nobody_holds(tx.now()), _accepted(fleet))
        .order_by(i.c.position)
        .limit(1)
        .with_for_update(of=i, skip_locked=True)
    )
    row = tx.execute(statement).one_or_none()
    return None if row is None else delivery_of(row)


def _accepted(fleet: Fleet) -> sa.ColumnElement[bool]:
    """The condition of a message that may start a run in this mode, which lets some start."""
    if fleet.fires or fleet.since is None:
        return sa.true()
    return sa.or_(m.c.run_id.is_not(None), m.c.created_at < fleet.since)
