"""What a database remembers of its size, on both engines."""

from __future__ import annotations

from datetime import timedelta

import sqlalchemy as sa

from dorkos.clock import ManualClock
from dorkos.db.database import Database
from dorkos.db.growth import GrowthNotes, SizeNote, database_size, kept, note_size, read_growth
from dorkos.db.schema.system import GROWTH_KEY, events, system_state


async def test_the_size_is_noted_once_an_hour_whoever_looks(db: Database, clock: ManualClock) -> None:
    """Two servers at it make one note, and none of them tells anybody: it is no event."""
    loops = [GrowthNotes(db, settle_s=0), GrowthNotes(db, settle_s=0)]
    for loop in loops:
        assert await loop.work() == 0
    newest = sa.select(sa.func.max(events.c.position))
    before = await db.read(lambda connection: connection.execute(newest).scalar())
    began = clock.now()
    for _ in range(5):
        for loop in loops:
            await loop.work()
        clock.advance(timedelta(minutes=20))
    notes = await db.read(read_growth)
    assert [note.at - began for note in notes] == [timedelta(), timedelta(hours=1)]
    assert {note.size_bytes > 0 for note in notes} == {True}
    assert await db.read(lambda connection: connection.execute(newest).scalar()) == before
    assert await db.read(database_size) > 0


async def test_notes_that_cannot_be_read_count_as_none(db: Database) -> None:
    """The next note begins anew."""
    await db.write(lambda tx: tx.execute(sa.insert(system_state).values(key=GROWTH_KEY, value="[[1]]")))
    assert await db.read(read_growth) == []
    await db.write(lambda tx: note_size(tx, 7))
    assert [note.size_bytes for note in await db.read(read_growth)] == [7]


def test_of_a_week_each_hour_stays_and_before_it_the_last_of_a_day() -> None:
    """For two years; what a clock that was ahead had noted goes."""
    now = ManualClock().now()
    every = [SizeNote(now - timedelta(hours=number), number) for number in range(-5, 24 * 800, 1)]
    notes = kept(every, now)
    assert [note.size_bytes for note in reversed(notes)][: 24 * 8] == list(range(24 * 8))
    older = notes[: -24 * 8]
    assert len({note.at.date() for note in older}) == len(older)
    assert all(note.at.hour == 23 for note in older[:-1])
    assert timedelta(days=730) <= now - notes[0].at < timedelta(days=731)
    assert len(notes) < 24 * 8 + 731
