"""How long events are kept, on both engines."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from operator import methodcaller

import sqlalchemy as sa

from dorkos.clock import ManualClock
from dorkos.db.database import Database, Transaction
from dorkos.db.schema.system import events
from dorkos.event_retention import EventRetention
from dorkos.events import AUDIT_KINDS, EVENT_KINDS, pruned_to
from dorkos.fleet import change
from dorkos.maintenance import take_lease
from dorkos.setting_groups.events import EventsSettings
from dorkos.vocabulary import FleetMode
from tests.pulse.workshop import a_node

STREAM, AUDIT = "pulse.run.output", "relay.rule.added"


def retention(db: Database, *, stream_days: int = 30, audit_days: int = 0) -> EventRetention:
    """Retention that stands still until it is told to work."""
    settings = EventsSettings(stream_days=stream_days, audit_days=audit_days)
    return EventRetention(db, node=a_node(), settings=settings)


async def tell(db: Database, clock: ManualClock, *kinds: str) -> None:
    """One event of each kind, a day apart."""
    for kind in kinds:
        await db.write(methodcaller("emit", kind, "X"))
        clock.advance(timedelta(days=1))


async def kept(db: Database) -> list[tuple[int, str]]:
    """Position and kind of what is left."""
    ordered = sa.select(events.c.position, events.c.kind).order_by(events.c.position)
    return [(row.position, row.kind) for row in await db.read(lambda c: c.execute(ordered).all())]


async def floor(db: Database) -> int:
    """The position up to which events may be gone."""
    return await db.read(pruned_to)


async def test_what_is_older_than_its_days_goes_and_what_was_decided_by_people_stays(
    db: Database, clock: ManualClock
) -> None:
    """To the millisecond, and the place from which all is left is remembered."""
    await tell(db, clock, STREAM, AUDIT, STREAM, STREAM, AUDIT)
    loop = retention(db, stream_days=3)
    await loop.work()
    assert await kept(db) == [(2, AUDIT), (3, STREAM), (4, STREAM), (5, AUDIT)]
    assert await floor(db) == 2
    clock.advance(timedelta(milliseconds=1))
    await loop.work()
    assert (await kept(db), await floor(db)) == ([(2, AUDIT), (4, STREAM), (5, AUDIT)], 3)


async def test_the_audit_goes_when_it_is_told_so(db: Database, clock: ManualClock) -> None:
    """By its own days, and never before the stream around it."""
    await tell(db, clock, AUDIT, STREAM, AUDIT, STREAM)
    loop = retention(db, stream_days=2, audit_days=3)
    await loop.work()
    assert await kept(db) == [(3, AUDIT), (4, STREAM)]
    clock.advance(timedelta(days=10))
    await loop.work()
    assert (await kept(db), await floor(db)) == ([], 4)


async def test_an_unknown_kind_stays(db: Database, clock: ManualClock) -> None:
    """What a newer version wrote may be an audit."""
    await tell(db, clock, "pulse.thing.of_tomorrow", STREAM)
    clock.advance(timedelta(days=400))
    await retention(db, audit_days=1).work()
    assert await kept(db) == [(1, "pulse.thing.of_tomorrow")]


async def test_many_go_in_small_commits(db: Database, clock: ManualClock) -> None:
    """More than fit into one are all taken, and the number is told."""

    def many(tx: Transaction) -> None:
        for _ in range(1203):
            tx.emit(STREAM, "X")

    await db.write(many)
    await tell(db, clock, AUDIT)
    clock.advance(timedelta(days=31))
    await tell(db, clock, STREAM)
    loop = retention(db)
    loop.pruned.enable()
    await loop.work()
    assert await loop.pruned.wait(0) == 1203
    assert [kind for _, kind in await kept(db)] == [AUDIT, STREAM]


async def test_a_clock_that_was_ahead_for_a_while_holds_nothing_up_for_ever(
    db: Database, clock: ManualClock
) -> None:
    """Positions are the order of events: what stands before something old is old, whatever its time says."""
    await tell(db, clock, STREAM)
    clock.advance(timedelta(days=3650))
    await tell(db, clock, STREAM)
    clock.advance(timedelta(days=-3651))
    await tell(db, clock, STREAM, STREAM, STREAM)
    clock.advance(timedelta(days=60))
    await retention(db).work()
    assert await kept(db) == []


async def test_on_hold_everything_stays(db: Database, clock: ManualClock) -> None:
    """What was restored or brought over is there until somebody lifts the hold."""
    await tell(db, clock, STREAM)
    clock.advance(timedelta(days=60))
    await db.write(partial(change, mode=FleetMode.HOLD, reason=None, actor="relay.human.ada"))
    await retention(db).work()
    assert STREAM in [kind for _, kind in await kept(db)]
    await db.write(partial(change, mode=FleetMode.RUNNING, reason=None, actor="relay.human.ada"))
    await retention(db).work()
    assert STREAM not in [kind for _, kind in await kept(db)]


async def test_one_server_at_a_time_does_it(db: Database, clock: ManualClock) -> None:
    """Whoever holds the maintenance lease."""
    await tell(db, clock, STREAM)
    clock.advance(timedelta(days=60))
    assert await db.write(partial(take_lease, node=a_node()))
    loop = retention(db)
    await loop.work()
    assert await kept(db) == [(1, STREAM)]
    clock.advance(timedelta(hours=2))
    await loop.work()
    assert await kept(db) == []


async def test_an_empty_history_is_no_fault(db: Database) -> None:
    """Nothing is taken, nothing remembered."""
    await retention(db, audit_days=1).work()
    assert await floor(db) == 0


def test_every_audit_kind_is_a_kind() -> None:
    """A word that no event has would keep nothing."""
    assert set(EVENT_KINDS) > AUDIT_KINDS
