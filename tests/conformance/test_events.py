"""The event feed: every committed event once, in order, from any cursor."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from operator import methodcaller

import pytest

from dorkos.db.database import Database
from dorkos.db.schema.system import events
from dorkos.errors import DorkError, ErrorCode
from dorkos.events import Cursor, Event, EventFeed


async def emit(db: Database, *names: str) -> None:
    """One commit for each name."""
    for name in names:
        await db.write(methodcaller("emit", "system.node.started", name))


async def take(feed: EventFeed, count: int, after: Cursor | None = None) -> list[Event]:
    """The next events of a watcher."""
    taken = []
    async with asyncio.timeout(30):
        async for event in feed.watch(after):
            taken.append(event)
            if len(taken) == count:
                break
    return taken


@pytest.fixture
async def feed(db: Database) -> EventFeed:
    """A started feed; the fixture of the database outlives it."""
    feed = EventFeed(db, interval_s=3600)
    await feed.start()
    return feed


async def test_a_watcher_without_a_cursor_sees_what_happens_from_now(db: Database, feed: EventFeed) -> None:
    """History is not repeated for somebody who did not ask for it."""
    await emit(db, "before")
    feed.wake()
    while feed.head.position == 0:
        await feed.work()
    watching = asyncio.ensure_future(take(feed, 2))
    await asyncio.wait([watching], timeout=0)
    await emit(db, "a", "b")

    assert [event.entity_id for event in await watching] == ["a", "b"]
    await feed.stop()


async def test_a_cursor_continues_without_gap_and_without_repetition(db: Database, feed: EventFeed) -> None:
    """Cut anywhere, the two parts make the whole, whether from memory or from the table."""
    start = feed.head
    await emit(db, *"abcdefgh")
    everything = await take(feed, 8, start)
    for cut in everything[:-1]:
        rest = await take(feed, 8 - 1 - everything.index(cut), Cursor(start.epoch, cut.position))
        assert everything[everything.index(cut) + 1 :] == rest

    late = EventFeed(db, interval_s=3600)
    await late.start()
    assert everything == await take(late, 8, start)
    await feed.stop()
    await late.stop()


async def test_nobody_gets_ahead_of_the_feed(db: Database, feed: EventFeed) -> None:
    """Also not who reads from the table, because memory does not go back so far: where a token ended, its
    streams are closed when the feed comes to that, before anything younger is sent."""
    await emit(db, "a", "b")
    late = EventFeed(db, interval_s=3600)
    late.worked.enable()
    await late.start()
    await late.worked.wait()
    end = late.credential_end
    # As another server stores it: nobody here is told to look.
    kinds = ("system.token.revoked", "system.node.started")
    await db.write(
        lambda tx: [
            tx.execute(events.insert(), {"kind": kind, "entity_id": kind, "at": tx.now(), "data": {}})
            for kind in kinds
        ]
    )
    async with aclosing(late.pages(Cursor(late.head.epoch, 0))) as pages:
        assert [event.entity_id for event in await anext(pages)] == ["a", "b"]
        assert not end.is_set()
        late.wake()
        assert [event.kind for event in await anext(pages)] == list(kinds)
        assert end.is_set()
    await feed.stop()
    await late.stop()


async def test_a_watcher_sees_every_event_while_writers_are_at_work(db: Database, feed: EventFeed) -> None:
    """Two hundred commits at once are seen once each, in rising positions."""
    watching = asyncio.ensure_future(take(feed, 200, feed.head))
    await asyncio.gather(*[emit(db, f"{n}") for n in range(200)])
    seen = await watching

    assert {f"{n}" for n in range(200)} == {event.entity_id for event in seen}
    assert sorted(event.position for event in seen) == [event.position for event in seen]
    await feed.stop()


async def test_a_cursor_of_another_history_is_refused(feed: EventFeed) -> None:
    """After a restore the old positions mean other events."""
    with pytest.raises(DorkError) as refusal:
        await take(feed, 1, Cursor("another", 1))

    assert refusal.value.code == ErrorCode.INVALID_CURSOR
    await feed.stop()


async def test_stopping_the_feed_ends_its_watchers(feed: EventFeed) -> None:
    """Shutdown does not wait for clients to go away."""
    watching = asyncio.ensure_future(take(feed, 1))
    await asyncio.wait([watching], timeout=0)
    await feed.stop()

    assert await watching == []


@pytest.mark.parametrize("text", ["", "7", ":7", "e:", "e:x", "e:-1", "e:٣", "e:" + "9" * 30])
def test_a_text_that_is_no_cursor_is_refused(text: str) -> None:
    """The cursor comes back from outside, so it is checked like everything from there."""
    with pytest.raises(DorkError) as refusal:
        Cursor.parse(text)

    assert refusal.value.code == ErrorCode.INVALID_CURSOR


def test_a_cursor_is_read_back_as_it_was_written() -> None:
    """The SSE id is the cursor."""
    assert Cursor("0f", 12) == Cursor.parse(str(Cursor("0f", 12)))
