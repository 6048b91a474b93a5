"""The fleet's mode on both engines: stored once, changed once, and never missed by who starts something."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa

from dorkos.clock import ManualClock, iso
from dorkos.db.database import Database, Transaction
from dorkos.db.hold import FLEET_KEY, hold_fleet
from dorkos.db.schema.system import events, system_state
from dorkos.errors import ErrorCode
from dorkos.fleet import Fleet, FleetService, Waiting, change, gate, read
from dorkos.vocabulary import FleetMode

ADA = "relay.human.ada"


async def told(db: Database) -> list[tuple[str | None, dict[str, Any]]]:
    """Actor and data of every change of the mode that was told."""
    statement = sa.select(events.c.actor, events.c.data).where(events.c.kind == "system.fleet.changed")
    return await db.read(
        lambda c: [(row.actor, row.data) for row in c.execute(statement.order_by(events.c.position))]
    )


async def store(db: Database, value: str) -> None:
    """Write the mode as somebody else might."""
    await db.write(lambda tx: tx.execute(system_state.insert().values(key=FLEET_KEY, value=value)))


async def test_a_fleet_that_nobody_touched_is_running(db: Database) -> None:
    """Without a row there is nothing to tell."""
    assert await FleetService(db).look() == (Fleet(), Waiting(0, 0, 0))
    assert await db.write(gate) == Fleet()


async def test_a_change_is_stored_and_told_in_one_commit(db: Database, clock: ManualClock) -> None:
    """Who, why and since when; the event says from what to what."""
    fleet, changed = await FleetService(db).change(FleetMode.HOLD, reason="too dear", actor=ADA)

    assert (fleet, changed) == (Fleet(FleetMode.HOLD, "too dear", ADA, clock.now()), True)
    assert await db.read(read) == await db.write(gate) == fleet
    assert await told(db) == [(ADA, {"from": "running", "to": "hold", "reason": "too dear"})]


@pytest.mark.parametrize("mode", FleetMode)
async def test_the_same_mode_again_changes_nothing(db: Database, clock: ManualClock, mode: FleetMode) -> None:
    """Neither time nor reason, and nothing is told a second time."""
    service = FleetService(db)
    first, _ = await service.change(mode, reason="first", actor=ADA)
    before = await told(db)
    clock.advance(timedelta(hours=1))

    assert await service.change(mode, reason="second", actor="relay.human.bob") == (first, False)
    assert await told(db) == before


async def test_a_change_that_fails_leaves_no_trace(db: Database) -> None:
    """The mode and its event belong to the transaction."""

    def failing(tx: Transaction) -> None:
        change(tx, FleetMode.STOP, reason=None, actor=ADA)
        raise LookupError

    with pytest.raises(LookupError):
        await db.write(failing)
    assert await db.read(read) == Fleet()
    assert await told(db) == []


async def test_of_many_who_set_a_mode_one_changes_it(db: Database) -> None:
    """At the same time: one change, one event."""
    answers = await asyncio.gather(
        *(FleetService(db).change(FleetMode.HOLD, reason=str(n), actor=ADA) for n in range(8))
    )

    assert sorted(changed for _, changed in answers) == [False] * 7 + [True]
    assert len({fleet for fleet, _ in answers}) == len(await told(db)) == 1


async def test_a_change_waits_for_the_starts_under_way(db: Database) -> None:
    """When it is answered, what was being started is stored: nothing appears afterwards."""
    inside, answered = threading.Event(), threading.Event()

    def start(tx: Transaction) -> FleetMode:
        mode = gate(tx).mode
        inside.set()
        # Only a missing lock lets the change be answered before this ends.
        answered.wait(0.5)
        tx.emit("system.node.started", "work")
        return mode

    starting = asyncio.create_task(db.write(start))
    await asyncio.to_thread(inside.wait, 30)
    await FleetService(db).change(FleetMode.HOLD, reason=None, actor=ADA)
    stored = sa.select(sa.func.count()).where(events.c.kind == "system.node.started")
    assert await db.read(lambda c: c.execute(stored).scalar_one()) == 1
    answered.set()

    assert await starting is FleetMode.RUNNING


async def test_a_start_behind_a_change_sees_it(db: Database) -> None:
    """Who asks while a change is being committed gets the new mode, not the one before."""
    inside, over = threading.Event(), threading.Event()

    def hold_slowly(tx: Transaction) -> None:
        change(tx, FleetMode.HOLD, reason=None, actor=ADA)
        inside.set()
        over.wait(0.5)

    def start(tx: Transaction) -> FleetMode:
        mode = gate(tx).mode
        over.set()
        return mode

    changing = asyncio.create_task(db.write(hold_slowly))
    await asyncio.to_thread(inside.wait, 30)
    assert await db.write(start) is FleetMode.HOLD
    await changing


@pytest.mark.parametrize(
    "value",
    ["", "null", "[]", "{", '{"mode":"asleep"}', '{"mode":"running","reason":1}', '{"mode":null}'],
)
async def test_a_mode_that_cannot_be_read_is_a_hold(db: Database, value: str) -> None:
    """Nobody knows then that work may start; setting any mode mends it."""
    await store(db, value)

    fleet = await db.read(read)
    assert (fleet.mode, fleet.starts) == (FleetMode.HOLD, False)
    assert fleet.reason is not None
    held, changed = await FleetService(db).change(FleetMode.HOLD, reason="known", actor=ADA)
    assert (held.reason, changed) == ("known", True)


async def test_the_hold_of_an_offline_command_is_the_same_hold(db: Database, clock: ManualClock) -> None:
    """What an adoption, an import or a restore leaves is read here, and lifted as any other."""
    since = clock.now()
    await db.write(lambda tx: hold_fleet(tx._group.connection, reason="adopted", now=since))

    assert await db.write(gate) == Fleet(FleetMode.HOLD, "adopted", None, since)
    clock.advance(timedelta(hours=1))
    lifted, _ = await FleetService(db).change(FleetMode.RUNNING, reason=None, actor=ADA)
    assert (lifted.fires, lifted.held_until) == (True, clock.now())
    # And again, over the row that is there by now.
    again = partial(hold_fleet, reason="restored", now=clock.now())
    await db.write(lambda tx: again(tx._group.connection))
    assert (await db.write(gate)).reason == "restored"


async def test_a_clock_that_jumps_back_gives_back_no_instants(db: Database, clock: ManualClock) -> None:
    """Lifted at ten and again at eight: until ten everything is over."""
    service = FleetService(db)
    for hours in (1, -2):
        await service.change(FleetMode.HOLD, reason=None, actor=ADA)
        clock.advance(timedelta(hours=hours))
        await service.change(FleetMode.RUNNING, reason=None, actor=ADA)

    assert (await service.fleet()).held_until == clock.now() + timedelta(hours=2)


async def test_a_refusal_says_what_to_do(db: Database, clock: ManualClock) -> None:
    """The mode, since when and why, and the command that lifts it."""
    fleet, _ = await FleetService(db).change(FleetMode.DRAIN, reason="maintenance.", actor=ADA)
    refusal = fleet.refusal("The run was not queued.")

    assert refusal.code is ErrorCode.FLEET_ON_HOLD
    assert refusal.message == (
        f"The fleet is draining since {iso(clock.now())}: maintenance. The run was not queued."
    )
    assert "dorkos fleet resume" in (refusal.hint or "")
    assert refusal.details == {"mode": "drain", "since": iso(clock.now())}
