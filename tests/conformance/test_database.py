"""`Database`: what `read` and `write` promise, on both engines."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from dorkos.clock import ManualClock
from dorkos.db.database import Change, Database, Transaction
from dorkos.db.postgres import PostgresDatabase
from dorkos.db.schema.pulse import pulse_schedules
from dorkos.db.schema.system import events, system_state
from dorkos.errors import DorkError, ErrorCode
from dorkos.vocabulary import PermissionMode, ScheduleStatus


def running(statement: sa.Executable) -> Change[None]:
    """A change of one statement."""

    def change(tx: Transaction) -> None:
        tx.execute(statement)

    return change


async def value_of(db: Database, key: str) -> str | None:
    """What is stored under a key."""
    return await db.read(
        lambda c: c.execute(sa.select(system_state.c.value).where(system_state.c.key == key)).scalar()
    )


async def test_a_write_is_visible_to_the_next_read(db: Database) -> None:
    """Acknowledged means readable by everybody."""
    await db.write(running(system_state.insert().values(key="k", value="v")))

    assert await value_of(db, "k") == "v"


async def test_a_change_that_raises_stores_nothing_not_even_its_events(db: Database) -> None:
    """One change is one unit."""

    def change(tx: Transaction) -> None:
        tx.execute(system_state.insert(), {"key": "k", "value": "v"})
        tx.emit("system.node.started", "k")
        raise LookupError("on purpose")

    with pytest.raises(LookupError):
        await db.write(change)

    assert await value_of(db, "k") is None
    assert (
        await db.read(lambda c: c.execute(sa.select(sa.func.count()).select_from(events)).scalar_one()) == 0
    )


async def test_a_counter_taken_by_one_conditional_update_is_exact_under_concurrency(db: Database) -> None:
    """Two hundred changes at once: every increment counts, whatever the engine does to order them."""
    await db.write(running(system_state.insert().values(key="n", value="0")))
    plus_one = (
        system_state.update()
        .where(system_state.c.key == "n")
        .values(value=sa.cast(sa.cast(system_state.c.value, sa.Integer) + 1, sa.Text))
    )

    await asyncio.gather(*[db.write(running(plus_one)) for _ in range(200)])

    assert await value_of(db, "n") == "200"


async def test_events_get_rising_positions_in_the_order_of_their_changes(db: Database) -> None:
    """Within a change in the order of emission, across changes in the order of commits."""

    def change(tx: Transaction) -> None:
        tx.emit("system.node.started", "a")
        tx.emit("system.node.stopped", "b", {"why": "é"}, actor="ada")

    await db.write(change)
    await db.write(lambda tx: tx.emit("system.node.started", "c"))
    rows = await db.read(lambda c: c.execute(sa.select(events).order_by(events.c.position)).all())

    assert [row.entity_id for row in rows] == ["a", "b", "c"]
    assert rows[1].data == {"why": "é"}
    assert rows[1].actor == "ada"


async def test_listeners_hear_of_commits_with_events_only(db: Database) -> None:
    """A commit without events wakes nobody."""
    heard = []
    db.on_events(lambda: heard.append(1))
    await db.write(running(system_state.insert().values(key="k", value="v")))
    assert heard == []

    await db.write(lambda tx: tx.emit("system.node.started", "a"))
    await db.write(lambda tx: tx.emit("system.node.started", "b"))
    assert heard


async def test_every_type_comes_back_as_it_was_stored(db: Database, clock: ManualClock) -> None:
    """Instants to the millisecond in UTC, flags, JSON, enums, 64-bit integers and NULL."""
    instant = datetime(2026, 10, 25, 2, 30, 0, 123_000, tzinfo=UTC)
    row = {
        "id": "01KA0000000000000000000000",
        "name": "ünïcode \N{OLD PERSONAL COMPUTER} 'quoted' %s",
        "prompt": "line\nline",
        "command": ["a", "b c", "é"],
        "enabled": False,
        "status": ScheduleStatus.PAUSED,
        "permission_mode": PermissionMode.PLAN,
        "max_runtime": 2**62,
        "decided_until": instant,
        "created_at": clock.now(),
        "updated_at": clock.now(),
    }
    await db.write(running(pulse_schedules.insert().values(row)))
    stored = await db.read(lambda c: c.execute(sa.select(pulse_schedules)).mappings().one())

    assert row == {key: stored[key] for key in row}
    assert stored["cron"] is None
    assert stored["next_due_at"] is None


async def test_text_sorts_by_code_point(db: Database) -> None:
    """Both engines sort alike, so that pages are cut at the same places."""
    for key in ("b", "A", "a", "B", "é", "_"):
        await db.write(running(system_state.insert().values(key=f"k{key}", value="")))
    found = await db.read(
        lambda c: (
            c.execute(
                sa.select(system_state.c.key)
                .where(system_state.c.key.like("k%"))
                .order_by(system_state.c.key)
            )
            .scalars()
            .all()
        )
    )

    assert list(found) == ["kA", "kB", "k_", "ka", "kb", "ké"]


async def test_an_unknown_enum_value_is_refused_by_the_table_itself(db: Database) -> None:
    """The CHECK holds even for a statement that goes around the Python types."""
    statement = sa.text(
        "INSERT INTO pulse_schedules (id, name, prompt, status, decided_until, created_at, updated_at)"
        " VALUES ('x', 'n', 'p', 'sleeping', '2026-01-01T00:00:00.000Z', '2026-01-01T00:00:00.000Z',"
        " '2026-01-01T00:00:00.000Z')"
    )
    with pytest.raises(sa.exc.IntegrityError):
        await db.write(running(statement))


async def test_the_time_of_a_change_does_not_move_within_it(db: Database, clock: ManualClock) -> None:
    """Leases and cursors of one change are measured from one instant, in milliseconds."""
    first, second = await db.write(lambda tx: (tx.now(), tx.now()))

    assert first == second == clock.now()
    clock.advance(timedelta(seconds=1))
    assert clock.now() == await db.write(lambda tx: tx.now())


async def test_a_connection_lost_during_commit_is_told_as_unknown(db: Database) -> None:
    """Neither yes nor no would be true. SQLite has no connection to lose: there the commit is plain."""
    if not isinstance(db, PostgresDatabase):
        assert await db.write(lambda tx: "k") == "k"
        return
    other = sa.create_engine(db.url)

    def cut(connection: sa.Connection) -> None:
        raw = connection.connection.dbapi_connection
        assert raw is not None
        pid = raw.info.backend_pid
        with other.connect() as admin:
            admin.execute(sa.text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})

    sa.event.listen(db.engine, "commit", cut)
    with pytest.raises(DorkError) as refusal:
        await db.write(running(system_state.insert().values(key="k", value="v")))
    sa.event.remove(db.engine, "commit", cut)
    other.dispose()

    assert refusal.value.code == ErrorCode.OUTCOME_UNKNOWN
    assert await value_of(db, "k") is None
