"""When agents were last seen at work: told from committed events, stored at most once a minute each.

So health rests on what agents really did: their runs began or ended, they sent, claimed or acknowledged a
message. Nobody has to call anything for it, and the paths on which messages travel pay nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

# The construct of the PostgreSQL dialect compiles for SQLite as well; there is no neutral one.
from sqlalchemy.dialects.postgresql import insert

from dorkos.clock import Clock
from dorkos.db.database import Database, Transaction
from dorkos.db.schema.mesh import agents
from dorkos.db.schema.system import system_state
from dorkos.errors import DorkError, ErrorCode
from dorkos.events import Cursor, Event, EventFeed
from dorkos.ids import is_ulid
from dorkos.lifecycle import Loop

log = logging.getLogger("dorkos.mesh")

_KEY = "mesh:seen"
_APART = timedelta(minutes=1)
_AGAIN_S = 1.0
_RUNS = ("pulse.run.started", "pulse.run.finished")
_AGENT = ("relay", "agent")


@dataclass(frozen=True, slots=True)
class Sighting:
    """An agent did something."""

    agent_id: str
    at: datetime
    event: str


def sighting_of(event: Event) -> Sighting | None:
    """What an event tells of an agent at work, if it does. Pure.

    A run's events name its agent. A message's events name who acted, by address: that somebody sent
    something to an agent is no sign of the agent.
    """
    if event.kind in _RUNS:
        agent_id = event.data.get("agentId")
    elif event.topic == "relay":
        tokens = (event.actor or "").split(".")
        agent_id = tokens[3] if len(tokens) == 4 and tuple(tokens[:2]) == _AGENT else None
    else:
        return None
    if not isinstance(agent_id, str) or not is_ulid(agent_id):
        return None
    return Sighting(agent_id, event.at, event.kind)


class Sightings(Loop):
    """Follows the events and stores who was seen, together with how far it has read: a restart goes on
    from there, and what happened in between is seen then."""

    def __init__(
        self, database: Database, feed: EventFeed, clock: Clock, *, interval_s: float = 60.0
    ) -> None:
        """`interval_s` is how late a further sign of an agent that was just seen may be stored."""
        super().__init__("mesh.seen", interval_s=interval_s)
        self._database = database
        self._feed = feed
        self._clock = clock
        self._waiting: dict[str, Sighting] = {}
        self._stored: set[str] = set()
        self._all_stored_at: datetime | None = None
        self._read_to: Cursor | None = None
        self._stored_to: Cursor | None = None
        self._follower: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin where the last server left off, or now, and follow."""
        self._read_to = await self._database.read(_stored_cursor) or self._feed.head
        await super().start()
        self._follower = asyncio.create_task(self._follow(), name="dorkos.mesh.seen.follow")

    async def stop(self) -> None:
        """End, and store what was seen last."""
        if self._follower is not None:
            self._follower.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._follower
            self._follower = None
        was_running = self.is_running
        await super().stop()
        if was_running:
            with contextlib.suppress(DorkError):  # The database is away; it is all read again then.
                await self._store(list(self._waiting.values()), self._read_to)

    async def work(self) -> float | None:
        """Store the first sign of each agent at once, and what came after it once a minute."""
        now = self._clock.now()
        if self._all_stored_at is None or now - self._all_stored_at >= _APART:
            self._all_stored_at = now
            self._stored = set()
            await self._store(list(self._waiting.values()), self._read_to)
        else:
            news = [sighting for key, sighting in self._waiting.items() if key not in self._stored]
            # The place is not stored: what waits would not be read again after a restart.
            await self._store(news, None)
        return None

    def take(self, event: Event) -> None:
        """Look at one event."""
        sighting = sighting_of(event)
        if sighting is None:
            return
        self._waiting[sighting.agent_id] = sighting
        if sighting.agent_id not in self._stored:
            self.wake()

    async def _store(self, seen: list[Sighting], read_to: Cursor | None) -> None:
        if seen or read_to not in (None, self._stored_to):
            await self._database.write(lambda tx: _store(tx, seen, read_to))
        self._stored_to = read_to or self._stored_to
        for sighting in seen:
            self._stored.add(sighting.agent_id)
            if self._waiting.get(sighting.agent_id) is sighting:
                del self._waiting[sighting.agent_id]

    async def _follow(self) -> None:
        while not self._feed.stopping:
            try:
                async for event in self._feed.watch(self._read_to):
                    self.take(event)
                    self._read_to = Cursor(self._feed.head.epoch, event.position)
            except DorkError as refusal:
                if refusal.code is not ErrorCode.INVALID_CURSOR:
                    log.error("events cannot be followed: %s", refusal.message)
                self._read_to = None  # Of another history, as after a restore: what is to come counts.
            except Exception:  # Signs of a moment are late, nothing else.
                log.exception("events cannot be followed")
            await asyncio.sleep(_AGAIN_S)


def record(tx: Transaction, sighting: Sighting) -> bool:
    """Store a sign of an agent unless a later one is known. False if there is no such agent."""
    known = sa.case(
        (
            sa.or_(agents.c.last_seen_at.is_(None), agents.c.last_seen_at < sighting.at),
            sa.literal(sighting.at, agents.c.last_seen_at.type),
        ),
        else_=agents.c.last_seen_at,
    )
    event = sa.case(
        (
            sa.or_(agents.c.last_seen_at.is_(None), agents.c.last_seen_at < sighting.at),
            sa.literal(sighting.event),
        ),
        else_=agents.c.last_seen_event,
    )
    statement = (
        sa.update(agents)
        .where(agents.c.id == sighting.agent_id)
        .values(last_seen_at=known, last_seen_event=event)
        .returning(agents.c.id)
    )
    return tx.execute(statement).one_or_none() is not None


def _store(tx: Transaction, seen: list[Sighting], read_to: Cursor | None) -> None:
    # In one order, so that two servers that store the same agents do not wait for each other.
    for sighting in sorted(seen, key=lambda each: each.agent_id):
        record(tx, sighting)
    if read_to is not None:
        statement = insert(system_state).values(key=_KEY, value=str(read_to))
        tx.execute(
            statement.on_conflict_do_update(index_elements=["key"], set_={"value": statement.excluded.value})
        )


def _stored_cursor(connection: sa.Connection) -> Cursor | None:
    stored = connection.execute(
        sa.select(system_state.c.value).where(system_state.c.key == _KEY)
    ).scalar_one_or_none()
    if stored is None:
        return None
    try:
        return Cursor.parse(stored)
    except DorkError:
        return None
