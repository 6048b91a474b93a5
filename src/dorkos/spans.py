"""Following what was committed, and telling it as spans and counts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial

import sqlalchemy as sa

from dorkos.db.database import Database
from dorkos.db.schema.pulse import pulse_runs as r
from dorkos.db.schema.relay import relay_endpoints as e
from dorkos.db.schema.relay import relay_messages as m
from dorkos.db.schema.relay import relay_traces as t
from dorkos.events import Event, EventFeed
from dorkos.telemetry import Sink, Span

log = logging.getLogger("dorkos.telemetry")

_MESSAGE_ENDS = ("relay.delivery.acked", "relay.message.dead_lettered")


class SpanFollower:
    """Turns each end of a message or run into a span. What happened while no server ran is not told."""

    def __init__(self, database: Database, feed: EventFeed, find: Callable[[], Sink | None]) -> None:
        """`find` gives the sink, or None if nothing is to be told; it is asked at the start."""
        self._database = database
        self._feed = feed
        self._find = find
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin with what happens from now, if there is somebody to tell."""
        sink = self._find()
        if sink is not None:
            self._task = asyncio.create_task(self._follow(sink), name="dorkos.telemetry")

    async def stop(self) -> None:
        """End, and send what is left. Safe to call again, or before start."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def tell(self, event: Event, sink: Sink) -> None:
        """What an event means for spans and counts; most mean nothing."""
        if event.kind in _MESSAGE_ENDS:
            await self._message(event, sink)
        elif event.kind == "pulse.run.finished":
            await self._run(event, sink)

    async def _follow(self, sink: Sink) -> None:
        try:
            async for event in self._feed.watch():
                try:
                    await self.tell(event, sink)
                except Exception:  # What watches must not end for one thing that it cannot tell.
                    log.exception("the event %s could not be told", event.position)
        finally:
            await asyncio.to_thread(sink.close)

    async def _message(self, event: Event, sink: Sink) -> None:
        hop_id = event.data.get("deliveryId")
        span = await self._database.read(partial(_span_of_hop, message_id=event.entity_id, hop_id=hop_id))
        if event.kind == "relay.delivery.acked":
            sink.count("dorkos.relay.messages", {"outcome": "delivered"})
            latency = event.data.get("latencyUs")
            if isinstance(latency, int):
                sink.record("dorkos.relay.latency", latency / 1000)
        else:
            sink.count("dorkos.relay.messages", {"outcome": str(event.data["reason"])})
        if span is not None:
            sink.span(span)

    async def _run(self, event: Event, sink: Sink) -> None:
        span = await self._database.read(partial(_span_of_run, run_id=event.entity_id))
        if span is not None:
            sink.count("dorkos.pulse.runs", {"state": str(span.attributes["dorkos.state"])})
            sink.span(span)


def _span_of_hop(connection: sa.Connection, message_id: str, hop_id: object) -> Span | None:
    mine = t.c.message_id == message_id if hop_id is None else t.c.id == str(hop_id)
    row = connection.execute(
        sa.select(t, e.c.subject.label("mailbox"), m.c.traceparent, m.c.run_id.label("sent_by"))
        .join_from(t, e, e.c.id == t.c.endpoint_id, isouter=True)
        .join(m, m.c.id == t.c.message_id, isouter=True)
        .where(mine)
        .order_by(t.c.id.desc())
        .limit(1)
    ).one_or_none()
    if row is None:
        return None
    is_side = row.mailbox is not None and row.mailbox != row.subject
    attributes = {
        "dorkos.message": row.message_id,
        "dorkos.subject": row.subject,
        "dorkos.sender": row.sender,
        "dorkos.mailbox": row.mailbox,
        "dorkos.hop": row.hop_count,
        "dorkos.status": row.status.value,
        "dorkos.run": row.run_id,
    }
    return Span(
        "relay.message",
        row.trace_id,
        row.id if is_side else row.message_id,
        row.message_id if is_side else row.sent_by or row.parent_id,
        row.sent_at,
        row.processed_at or row.sent_at,
        {name: value for name, value in attributes.items() if value is not None},
        row.error_message,
        row.traceparent,
    )


def _span_of_run(connection: sa.Connection, run_id: str) -> Span | None:
    row = connection.execute(
        sa.select(
            *(r.c.id, r.c.chain_id, r.c.created_at, r.c.finished_at, r.c.status, r.c.trigger, r.c.error),
            *(r.c.agent_id, r.c.schedule_id, t.c.message_id),
        )
        .join_from(r, t, t.c.id == r.c.delivery_id, isouter=True)
        .where(r.c.id == run_id)
    ).one_or_none()
    if row is None or row.finished_at is None:
        return None
    attributes = {
        "dorkos.run": row.id,
        "dorkos.state": row.status.value,
        "dorkos.trigger": row.trigger.value,
        "dorkos.agent": row.agent_id,
        "dorkos.schedule": row.schedule_id,
    }
    return Span(
        "pulse.run",
        row.chain_id,
        row.id,
        row.message_id,
        row.created_at,
        row.finished_at,
        {name: value for name, value in attributes.items() if value is not None},
        None if row.status == "completed" else row.error or row.status.value,
    )
