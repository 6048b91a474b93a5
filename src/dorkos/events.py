"""Committed events, from the `events` table to whoever watches in this process.

A change and its event are one commit, so a watcher sees exactly what is stored. Each watcher has a
cursor, `epoch:position`. The feed keeps the newest events in memory for all of them; one that has
fallen behind reads from the table. Nothing is queued per watcher, so a slow one costs nothing.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, partial
from itertools import takewhile

import sqlalchemy as sa

from dorkos.db.database import Database, Transaction
from dorkos.db.prepared import Prepared
from dorkos.db.schema.system import events, system_state
from dorkos.errors import DorkError, ErrorCode
from dorkos.lifecycle import Loop

# What each kind says. The part before the first dot is the topic.
EVENT_KINDS = {
    "pulse.schedule.created": "A schedule was created.",
    "pulse.schedule.updated": "A schedule was edited, paused or resumed.",
    "pulse.schedule.deleted": "A schedule was deleted.",
    "pulse.schedule.needs_attention": "When a schedule is due cannot be told; it waits for a person.",
    "pulse.schedule.ungranted": "When it was due, a schedule was not what had been approved; it waits again.",
    "pulse.schedule.paused": "A schedule was paused, because its runs failed as often in a row as it allows.",
    "pulse.schedule.overdue": "The next instant of a schedule has passed long ago, and nobody decided it.",
    "pulse.schedule.rewound": "The clock went back; what was decided of times to come is decided anew.",
    "pulse.question.asked": "A run is blocked on a question that only a person can answer.",
    "pulse.question.answered": "The question of a blocked run was answered, and the run is resumed.",
    "pulse.question.closed": "The question of a blocked run needs no answer any more; the data says why.",
    "pulse.approval.requested": "A person is asked whether a schedule may run.",
    "pulse.approval.approved": "A person approved a schedule.",
    "pulse.approval.rejected": "A person rejected a schedule; it is paused.",
    "pulse.approval.expired": "Nobody answered in time; the schedule is paused.",
    "pulse.approval.superseded": "The schedule was edited, paused or deleted before anybody answered.",
    "pulse.slot.decided": "A due instant, or a span of them, got its verdict.",
    "pulse.slot.overdue": "A due instant has no outcome in time.",
    "pulse.run.queued": "A run waits for a free place.",
    "pulse.run.started": "A run was claimed by a server.",
    "pulse.run.output": "A run printed something.",
    "pulse.run.cancel_requested": "Somebody asked to cancel a run.",
    "pulse.run.finished": "A run reached a final state.",
    "relay.endpoint.opened": "A mailbox was opened.",
    "relay.endpoint.closed": "A mailbox was closed.",
    "relay.endpoint.pressure": "A mailbox has passed the threshold of the warning, or is full.",
    "relay.breaker.opened": "Deliveries of a mailbox failed too often in a row; it takes nothing.",
    "relay.breaker.probed": "One message is tried in a mailbox whose circuit is open.",
    "relay.breaker.closed": "Deliveries of a mailbox succeed again.",
    "relay.message.published": "A message was stored for its recipients.",
    "relay.message.routed": "A message was also put into the mailbox of an adapter.",
    "relay.message.redriven": "A dead letter was put back into its mailbox.",
    "relay.messages.removed": "Messages or dead letters were taken away, by retention or by hand.",
    "relay.delivery.claimed": "A message was claimed from a mailbox.",
    "relay.delivery.acked": "A message was acknowledged: delivered.",
    "relay.delivery.nacked": "A message was given back, to be delivered again.",
    "relay.message.dead_lettered": "A message stopped; the reason is in the data.",
    "relay.rule.added": "An access rule was added; it binds every publish from then on.",
    "relay.rule.removed": "An access rule was removed.",
    "relay.adapter.added": "An adapter was added.",
    "relay.adapter.updated": "An adapter was changed, switched on or off, or started anew.",
    "relay.adapter.removed": "An adapter was removed.",
    "relay.adapter.state_changed": "An adapter connected, failed, or was refused; the data says which.",
    "relay.adapter.refused": "An adapter did not let something in; the data says what and why.",
    "mesh.agent.registered": "An agent was registered.",
    "mesh.agent.updated": "A registered agent's record changed.",
    "mesh.agent.unregistered": "An agent was removed.",
    "mesh.agent.moved": "An agent was moved to another folder, with its mailbox and its schedules.",
    "mesh.agent.copied": "A folder was seen that claims to be an agent registered elsewhere; it is not run.",
    "mesh.agent.status_changed": "An agent's folder went away, came back, was denied or allowed again.",
    "mesh.agent.manifest_changed": "A manifest was edited by hand; the data says what waits for a person.",
    "mesh.agent.token_issued": "An agent got a new long-lived token.",
    "mesh.path.denied": "A path was denied.",
    "mesh.path.allowed": "A denial was lifted.",
    "system.fleet.changed": "The fleet was put on hold, stopped, drained, or set running again.",
    "system.token.created": "An operator's or a read-only token was made.",
    "system.token.revoked": "A token was revoked.",
    "system.session.opened": "A browser was logged in with a one-time link.",
    "system.session.ended": "A browser was logged out.",
    "system.node.started": "A server started.",
    "system.node.stopped": "A server stopped.",
    "system.backup.made": "A daily backup was made and read back.",
    "system.backup.failed": "No daily backup could be made; the data says why.",
    "system.backup.rehearsed": "A backup was restored in rehearsal; the data says how that went.",
    "system.database.restored": "The database was restored from a backup; all before is of that time.",
}

# Who allowed, changed or removed what: these outlive the others, see `event_retention`.
AUDIT_KINDS = frozenset(
    {
        "pulse.schedule.created",
        "pulse.schedule.updated",
        "pulse.schedule.deleted",
        "pulse.schedule.paused",
        "pulse.schedule.ungranted",
        "pulse.question.asked",
        "pulse.question.answered",
        "pulse.question.closed",
        "pulse.approval.requested",
        "pulse.approval.approved",
        "pulse.approval.rejected",
        "pulse.approval.expired",
        "pulse.approval.superseded",
        "relay.endpoint.opened",
        "relay.endpoint.closed",
        "relay.rule.added",
        "relay.rule.removed",
        "mesh.agent.registered",
        "mesh.agent.updated",
        "mesh.agent.unregistered",
        "mesh.agent.moved",
        "mesh.agent.manifest_changed",
        "mesh.agent.token_issued",
        "mesh.path.denied",
        "mesh.path.allowed",
        "system.fleet.changed",
        "system.token.created",
        "system.token.revoked",
        "system.database.restored",
    }
)

_CREDENTIAL_ENDS = frozenset({"system.token.revoked", "system.session.ended"})

# The position up to which events may have been taken away, in `system_state`.
PRUNED_KEY = "events_pruned_to"

_PAGE = 500
_MEMORY = 2000
# Between two looks. A look costs about as much as a small commit, so those of a busy moment share one.
_PAUSE_S = 0.005

_AFTER = Prepared(
    # The data as text: most of it is looked at by nobody.
    sa.select(
        *(events.c.position, events.c.kind, events.c.entity_id, events.c.actor, events.c.at),
        sa.cast(events.c.data, sa.Text).label("text"),
    )
    .where(events.c.position > sa.bindparam("after"))
    .order_by(events.c.position)
    .limit(sa.bindparam("most"))
)


@dataclass(frozen=True)
class Event:
    """One committed state change. `text` is a JSON object; positions strictly increase, with gaps."""

    position: int
    kind: str
    entity_id: str
    actor: str | None
    at: datetime
    text: str

    @cached_property
    def data(self) -> dict[str, object]:
        """What the text says, read at the first use. All watchers share it: it is not to be changed."""
        found: dict[str, object] = json.loads(self.text)
        return found

    @property
    def topic(self) -> str:
        """The subsystem it belongs to: pulse, relay, mesh or system."""
        return self.kind.split(".", 1)[0]


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in one history of events. A restore starts a new epoch, and old cursors mean nothing then."""

    epoch: str
    position: int

    def __str__(self) -> str:
        """The form used as SSE id."""
        return f"{self.epoch}:{self.position}"

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Read `epoch:position`. Raises `invalid_cursor`."""
        epoch, _, position = text.rpartition(":")
        if not epoch or not position.isascii() or not position.isdigit() or len(position) > 18:
            raise DorkError(
                ErrorCode.INVALID_CURSOR,
                f"{text!r} is not an event cursor.",
                hint="Use the `id` of an event you received, or leave it out to follow from now.",
            )
        return cls(epoch, int(position))


class EventFeed(Loop):
    """Tails the `events` table and wakes the watchers."""

    def __init__(self, database: Database, *, interval_s: float = 1.0) -> None:
        """`interval_s` bounds how late events of other servers are seen."""
        super().__init__("events", interval_s=interval_s)
        self._database = database
        self._recent: deque[Event] = deque(maxlen=_MEMORY)
        self._arrived = asyncio.Event()
        self._looked_at = -_PAUSE_S
        self._credential_end = asyncio.Event()
        self.head = Cursor("", 0)

    async def start(self) -> None:
        """Find the newest position, then follow."""
        self.head = await self._database.read(_head)
        self._database.on_events(self.wake)
        await super().start()

    async def stop(self) -> None:
        """End, and end every watcher with it."""
        await super().stop()
        self._arrived.set()

    async def work(self) -> float | None:
        """Take in what was committed since."""
        now = asyncio.get_running_loop().time
        await asyncio.sleep(max(0.0, self._looked_at + _PAUSE_S - now()))
        while True:
            self._looked_at = now()
            found = await self._database.read(partial(_after, position=self.head.position, limit=_PAGE))
            if found:
                self._recent.extend(found)
                self.head = Cursor(self.head.epoch, found[-1].position)
                if any(event.kind in _CREDENTIAL_ENDS for event in found):
                    self._credential_end.set()
                    self._credential_end = asyncio.Event()
                self._arrived.set()
                self._arrived = asyncio.Event()
            if len(found) < _PAGE:
                return None

    @property
    def credential_end(self) -> asyncio.Event:
        """Set when somebody's token or session is next seen to have been ended, before any watcher gets an
        event that is younger."""
        return self._credential_end

    async def watch(self, after: Cursor | None = None) -> AsyncGenerator[Event, None]:
        """Every event after the cursor, in order, without gaps; without a cursor, what happens from now.

        Ends when the feed stops. A cursor of another epoch raises `invalid_cursor`: the caller must take a
        snapshot and begin anew. One ahead of what this server has seen waits until it gets there.
        """
        async with aclosing(self.pages(after)) as pages:
            async for page in pages:
                for event in page:
                    yield event

    async def pages(self, after: Cursor | None = None) -> AsyncGenerator[list[Event], None]:
        """The same, as many at once as are there."""
        position = self.start_of(after)
        while not self.stopping:
            arrived = self._arrived
            found = self._from_memory(position)
            if found is None:
                read = await self._database.read(partial(_after, position=position, limit=_PAGE))
                # What the feed has not looked at yet may come after the end of somebody's credential.
                found = [event for event in read if event.position <= self.head.position]
            if found:
                yield found
                position = found[-1].position
            else:
                await arrived.wait()

    def start_of(self, after: Cursor | None) -> int:
        """The position to begin after. Raises `invalid_cursor` for one that is not of this history."""
        if after is None:
            return self.head.position
        if after.epoch != self.head.epoch:
            raise DorkError(
                ErrorCode.INVALID_CURSOR,
                f"The cursor {after} belongs to another history of this database.",
                hint="Read the current state, then follow without a cursor.",
            )
        return after.position

    def _from_memory(self, position: int) -> list[Event] | None:
        """Events after `position`, or None if memory does not reach back that far."""
        if position >= self.head.position:
            return []
        if not self._recent or self._recent[0].position > position + 1:
            return None
        # From the newest: each watcher looks here at each event, and few are new to it.
        new = list(takewhile(lambda event: event.position > position, reversed(self._recent)))
        return new[::-1]


def pruned_to(connection: sa.Connection | Transaction) -> int:
    """The position up to which events may have been taken away; 0 if none was."""
    value = connection.execute(
        sa.select(system_state.c.value).where(system_state.c.key == PRUNED_KEY)
    ).scalar()
    return 0 if value is None else int(value)


def _head(connection: sa.Connection) -> Cursor:
    epoch = connection.execute(
        sa.select(system_state.c.value).where(system_state.c.key == "epoch")
    ).scalar_one()
    newest = connection.execute(sa.select(sa.func.max(events.c.position))).scalar()
    return Cursor(epoch, newest or 0)


def _after(connection: sa.Connection, position: int, limit: int) -> list[Event]:
    return [Event(*row) for row in _AFTER.run(connection, {"after": position, "most": limit})]
