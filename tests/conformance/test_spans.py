"""From what was committed to spans and counts, on both engines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from dorkos.clock import ManualClock
from dorkos.db.database import Database
from dorkos.events import Cursor
from dorkos.spans import SpanFollower
from dorkos.telemetry import Span
from tests.relay.post_office import ADA, BOB, INBOX, PostOffice, post_office


@dataclass
class Told:
    """A sink that keeps what it is told."""

    spans: list[Span] = field(default_factory=list)
    counts: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    values: list[tuple[str, float]] = field(default_factory=list)
    closed: int = 0
    told: asyncio.Event = field(default_factory=asyncio.Event)

    def span(self, span: Span) -> None:
        self.spans.append(span)
        self.told.set()

    def count(self, name: str, attributes: Mapping[str, str]) -> None:
        self.counts.append((name, dict(attributes)))

    def record(self, name: str, value: float) -> None:
        self.values.append((name, value))

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
async def office(db: Database, clock: ManualClock) -> AsyncIterator[PostOffice]:
    """Relay with Ada's mailbox, whose events are followed."""
    office = post_office(db, clock)
    await office.feed.start()
    await office.open()
    yield office
    await office.feed.stop()


async def told(office: PostOffice, ends: int) -> Told:
    """All that happened, told, up to so many ends of messages."""
    sink = Told()
    follower = SpanFollower(office.db, office.feed, lambda: sink)
    async for event in office.feed.watch(Cursor(office.feed.head.epoch, 0)):
        await follower.tell(event, sink)
        if len(sink.counts) == ends:
            break
    return sink


async def test_an_acknowledged_message_is_a_span(office: PostOffice, clock: ManualClock) -> None:
    """From publish to acknowledgement, with the trace that its sender named as a link."""
    link = f"00-{'a' * 32}-{'b' * 16}-01"
    receipt = await office.send(traceparent=link)
    clock.advance(timedelta(seconds=2))
    message_id, token = await office.claim_one()
    await office.relay.ack(ADA, INBOX, message_id, token)
    sink = await told(office, 1)

    (span,) = sink.spans
    assert (span.name, span.trace, span.own, span.parent) == (
        "relay.message",
        receipt.chain_id,
        receipt.message_id,
        None,
    )
    assert span.ended - span.begun == timedelta(seconds=2)
    assert (span.error, span.link) == (None, link)
    assert span.attributes["dorkos.sender"] == BOB.subject
    assert sink.counts == [("dorkos.relay.messages", {"outcome": "delivered"})]
    assert sink.values == [("dorkos.relay.latency", 2000.0)]


async def test_a_stopped_message_is_a_span_with_the_reason(office: PostOffice) -> None:
    """Whether it came into a mailbox or not."""
    await office.send(to="relay.human.nobody")
    await office.send()
    message_id, token = await office.claim_one()
    await office.relay.nack(ADA, INBOX, message_id, token, delay=timedelta(), reject=True)
    sink = await told(office, 2)
    assert [span.error for span in sink.spans] == [
        "There is no mailbox relay.human.nobody.",
        f"{ADA.subject} rejected it.",
    ]
    assert [counted["outcome"] for _, counted in sink.counts] == ["no_recipient", "rejected"]


async def test_what_follows_has_its_cause_as_parent(office: PostOffice) -> None:
    """In the trace of the chain."""
    agent = await office.open_for_agent("a", starts_runs=False)
    first = await office.send(to=agent.subject)
    await office.claim_one(agent, agent.subject)
    second = await office.send(caller=agent)
    message_id, token = await office.claim_one()
    await office.relay.ack(ADA, INBOX, message_id, token)
    (span,) = (await told(office, 1)).spans
    assert (span.trace, span.own, span.parent) == (first.chain_id, second.message_id, first.message_id)


async def test_the_sink_is_closed_once(office: PostOffice) -> None:
    """When the server stops; and not at all if it never began."""
    sink = Told()
    follower = SpanFollower(office.db, office.feed, lambda: sink)
    await follower.stop()
    follower.start()
    await office.send(to="relay.human.nobody")
    await asyncio.wait_for(sink.told.wait(), 30)
    await follower.stop()
    await follower.stop()
    assert (sink.closed, len(sink.spans)) == (1, 1)


async def test_without_a_sink_nothing_is_followed(office: PostOffice) -> None:
    """Most servers have no collector."""
    follower = SpanFollower(office.db, office.feed, lambda: None)
    follower.start()
    await follower.stop()
    assert office.feed.is_running
