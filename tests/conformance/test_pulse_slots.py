"""Deciding, on both engines: every due instant once, whoever decides and however often."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from dorkos.clock import ManualClock
from dorkos.db.database import Database
from dorkos.db.schema.pulse import pulse_runs, pulse_schedules, pulse_slots
from dorkos.fleet import Fleet
from dorkos.pulse.planner import Once, plan
from dorkos.pulse.slots import decide
from dorkos.vocabulary import RunState, RunTrigger, SlotReason, Verdict
from tests.pulse.workshop import ACTOR, Workshop, author, hours, workshop


@pytest.fixture
def shop(db: Database, clock: ManualClock, tmp_path: Path) -> Workshop:
    """Pulse whose loops stand still; the clock says 09:00."""
    return workshop(db, clock, tmp_path)


async def verdicts(shop: Workshop, schedule_id: str) -> list[tuple[Verdict, SlotReason, int]]:
    """What was decided, oldest first."""
    slots = await shop.store.list_slots(schedule_id, limit=500, offset=0)
    return [(slot.verdict, slot.reason, slot.count) for slot in reversed(slots)]


async def test_a_due_instant_becomes_a_slot_and_a_run(shop: Workshop, clock: ManualClock) -> None:
    """Slot, queued run, events and cursor come together; the run knows its slot and the slot its run."""
    made = await shop.schedule()
    hours(clock, 1)
    await shop.scheduler().work()

    (slot,) = await shop.store.list_slots(made.id, limit=10, offset=0)
    (run,) = await shop.run_of(made)
    assert (slot.verdict, slot.reason, slot.count, slot.due_at) == (
        Verdict.RUN,
        SlotReason.DUE,
        1,
        clock.now(),
    )
    assert (run.id, run.slot_id) == (slot.run_id, slot.id)
    assert (run.status, run.trigger, run.attempt) == (RunState.QUEUED, RunTrigger.SCHEDULED, 1)
    assert (run.prompt, run.command, run.chain_id) == (made.prompt, made.command, run.id)
    after = await shop.store.get_schedule(made.id)
    assert after.decided_until == clock.now()
    assert after.next_due_at == clock.now() + timedelta(hours=1)
    assert [entity for entity, _ in await shop.events("pulse.slot.decided")] == [slot.id]
    assert [entity for entity, _ in await shop.events("pulse.run.queued")] == [run.id]


async def test_deciding_again_changes_nothing(shop: Workshop, clock: ManualClock) -> None:
    """A second pass at the same time finds nothing due."""
    made = await shop.schedule()
    hours(clock, 1)
    await shop.scheduler().work()
    await shop.scheduler().work()
    assert await verdicts(shop, made.id) == [(Verdict.RUN, SlotReason.DUE, 1)]


async def test_two_schedulers_make_one_run(shop: Workshop, clock: ManualClock) -> None:
    """Passes at the same time on one database: each instant of each schedule gets one slot and one run."""
    made = [await shop.schedule(name=f"job {n}") for n in range(20)]
    hours(clock, 1)
    await asyncio.gather(*(shop.scheduler().work() for _ in range(6)))
    for schedule in made:
        assert await verdicts(shop, schedule.id) == [(Verdict.RUN, SlotReason.DUE, 1)]
        assert len(await shop.run_of(schedule)) == 1


async def test_a_plan_made_from_an_old_cursor_is_dropped(shop: Workshop, clock: ManualClock) -> None:
    """Two plans from the same reading: the second finds the cursor moved and stores nothing."""
    made = await shop.schedule()
    hours(clock, 1)
    (due,) = await shop.store.due_schedules(clock.now(), limit=10)
    trigger = Once(clock.now())
    first, second = (decide(due.schedule, plan(trigger, made.decided_until, clock.now())) for _ in range(2))
    assert await shop.store.record_plans([first], made_under=Fleet()) == 1
    assert await shop.store.record_plans([second], made_under=Fleet()) == 0
    assert len(await shop.run_of(made)) == 1


async def test_a_plan_made_before_an_edit_is_dropped(shop: Workshop, clock: ManualClock) -> None:
    """An edit between reading and storing voids the plan, also one that did not touch the time."""
    made = await shop.schedule()
    hours(clock, 1)
    (due,) = await shop.store.due_schedules(clock.now(), limit=10)
    stale = decide(due.schedule, plan(Once(clock.now()), made.decided_until, clock.now()))
    await shop.pulse.update_schedule(made.id, {"prompt": "new"}, author=author())
    assert await shop.store.record_plans([stale], made_under=Fleet()) == 0
    await shop.scheduler().work()
    (run,) = await shop.run_of(made)
    assert run.prompt == "new"


async def test_a_plan_for_a_deleted_schedule_is_dropped(shop: Workshop, clock: ManualClock) -> None:
    """Nothing fires after the answer that it is deleted."""
    made = await shop.schedule()
    hours(clock, 1)
    (due,) = await shop.store.due_schedules(clock.now(), limit=10)
    stale = decide(due.schedule, plan(Once(clock.now()), made.decided_until, clock.now()))
    await shop.store.delete_schedule(made.id, actor=ACTOR)
    assert await shop.store.record_plans([stale], made_under=Fleet()) == 0
    assert await shop.run_of(made) == []


async def test_an_instant_with_a_slot_keeps_it(shop: Workshop, db: Database, clock: ManualClock) -> None:
    """Even if the cursor were set back by hand, an instant that was decided is not run again."""
    made = await shop.schedule()
    hours(clock, 1)
    await shop.scheduler().work()
    back = sa.update(pulse_schedules).values(decided_until=made.decided_until, next_due_at=made.next_due_at)
    await db.write(lambda tx: tx.execute(back))
    await db.write(lambda tx: tx.execute(sa.update(pulse_runs).values(status=RunState.COMPLETED)))
    await shop.scheduler().work()
    assert await verdicts(shop, made.id) == [(Verdict.RUN, SlotReason.DUE, 1)]
    assert len(await shop.run_of(made)) == 1


async def test_time_away_is_caught_up_once(shop: Workshop, clock: ManualClock) -> None:
    """After five hours only the newest instant runs; the others are one visible span."""
    made = await shop.schedule()
    hours(clock, 5)
    await shop.scheduler().work()
    assert await verdicts(shop, made.id) == [
        (Verdict.COALESCED, SlotReason.CATCH_UP, 4),
        (Verdict.RUN, SlotReason.CATCH_UP, 1),
    ]
    assert len(await shop.run_of(made)) == 1


async def test_a_run_in_the_way_is_a_visible_skip(shop: Workshop, clock: ManualClock) -> None:
    """While the last run waits or runs, the next instant is skipped / overlap; after its end it runs."""
    made = await shop.schedule()
    hours(clock, 1)
    await shop.scheduler().work()
    hours(clock, 1)
    await shop.scheduler().work()
    (claim,) = await shop.claimed()
    hours(clock, 1)
    await shop.scheduler().work()
    await shop.store.release_run(claim)
    await shop.store.cancel_run(claim.run.id, actor=ACTOR)
    hours(clock, 1)
    await shop.scheduler().work()
    assert await verdicts(shop, made.id) == [
        (Verdict.RUN, SlotReason.DUE, 1),
        (Verdict.SKIPPED, SlotReason.OVERLAP, 2),
        (Verdict.RUN, SlotReason.DUE, 1),
    ]
    decided = [facts["count"] for _, facts in await shop.events("pulse.slot.decided")]
    assert decided == [1, 1, 2, 1]


async def test_an_edit_begins_a_new_span(shop: Workshop, clock: ManualClock) -> None:
    """Instants of different revisions never share a row."""
    made = await shop.schedule()
    await shop.store.trigger_run(made.id, actor=ACTOR)
    for _ in range(2):
        hours(clock, 1)
        await shop.scheduler().work()
    await shop.pulse.update_schedule(made.id, {"prompt": "new"}, author=author())
    hours(clock, 1)
    await shop.scheduler().work()
    assert [count for _, _, count in await verdicts(shop, made.id)] == [2, 1]


async def test_a_changed_setting_moves_what_inherits_its_zone(
    db: Database, clock: ManualClock, tmp_path: Path
) -> None:
    """After a start with another zone nine o'clock is meant there, and nothing fires for the old one."""
    before = workshop(db, clock, tmp_path, timezone="America/New_York")
    inheriting = await before.schedule(cron="0 9 * * *", timezone=None)
    fixed = await before.schedule(cron="0 9 * * *", timezone="America/New_York")
    after = workshop(db, clock, tmp_path, timezone="Europe/London")
    hours(clock, 1)
    await after.scheduler().work()
    moved = await after.store.get_schedule(inheriting.id)
    assert moved.next_due_at == clock.now() + timedelta(hours=23)
    assert (await after.store.get_schedule(fixed.id)).next_due_at == fixed.next_due_at
    assert await after.store.list_runs() == []
    hours(clock, 23)
    await after.scheduler().work()
    assert len(await after.run_of(inheriting)) == 1


async def test_one_instant_runs_once(shop: Workshop, clock: ManualClock) -> None:
    """It fires late if nobody was there, once, and has no next instant after that."""
    made = await shop.schedule(cron=None, run_at=clock.now() + timedelta(minutes=5))
    hours(clock, 24)
    await shop.scheduler().work()
    hours(clock, 24)
    await shop.scheduler().work()
    assert await verdicts(shop, made.id) == [(Verdict.RUN, SlotReason.CATCH_UP, 1)]
    assert (await shop.store.get_schedule(made.id)).next_due_at is None


async def test_a_clock_that_jumps_back_fires_nothing_twice(shop: Workshop, clock: ManualClock) -> None:
    """Two hours forward, two back, two forward: the instants in between are decided once."""
    made = await shop.schedule()
    for step in (2, -2, 2):
        hours(clock, step)
        await shop.scheduler().work()
    assert sum(count for _, _, count in await verdicts(shop, made.id)) == 2


async def test_one_unreadable_schedule_stops_no_other(
    shop: Workshop, db: Database, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """It is reported once by name, and everything else is decided."""
    odd, good = await shop.schedule(name="odd"), await shop.schedule(name="good")
    spoil = sa.update(pulse_schedules).where(pulse_schedules.c.id == odd.id).values(timezone="Mars/Base")
    await db.write(lambda tx: tx.execute(spoil))
    hours(clock, 1)
    scheduler = shop.scheduler()
    with caplog.at_level(logging.ERROR, logger="dorkos.pulse"):
        for _ in range(3):
            await scheduler.work()
    assert len(await shop.run_of(good)) == 1
    assert await shop.run_of(odd) == []
    assert [odd.name in record.getMessage() for record in caplog.records] == [True]


async def test_pages_reach_everything_behind_unreadable_schedules(
    shop: Workshop, db: Database, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Schedules that stay due for ever do not fill the page and hide the others."""
    monkeypatch.setattr("dorkos.pulse.scheduler._PAGE", 2)
    odd = [await shop.schedule(name=f"odd {n}") for n in range(5)]
    await db.write(lambda tx: tx.execute(sa.update(pulse_schedules).values(cron="nonsense")))
    good = [await shop.schedule(name=f"good {n}") for n in range(3)]
    hours(clock, 1)
    await shop.scheduler().work()
    for schedule in good:
        assert len(await shop.run_of(schedule)) == 1
    assert len(odd) == 5


async def test_the_scheduler_says_when_to_look_again(shop: Workshop, clock: ManualClock) -> None:
    """It waits until the next instant, but never longer than a second."""
    assert await shop.scheduler().work() == 1.0
    await shop.schedule(cron="* * * * * *")
    clock.advance(timedelta(milliseconds=250))
    assert await shop.scheduler().work() == 0.75


async def test_many_due_at_once_are_all_decided(shop: Workshop, clock: ManualClock) -> None:
    """More than a chunk of schedules due in the same minute: each has one run."""
    for n in range(250):
        await shop.schedule(name=f"job {n}")
    hours(clock, 1)
    await shop.scheduler().work()
    counted = sa.select(sa.func.count(), sa.func.count(sa.distinct(pulse_runs.c.schedule_id)))
    assert tuple(await shop.db.read(lambda c: c.execute(counted).one())) == (250, 250)
    slots = sa.select(sa.func.count()).select_from(pulse_slots)
    assert await shop.db.read(lambda c: c.execute(slots).scalar_one()) == 250


async def test_an_edit_leaves_no_instant_out_however_many_were_due(
    shop: Workshop, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With nobody to decide, more may have been due than one change tells of."""
    for module in ("service", "schedules"):
        monkeypatch.setattr(f"dorkos.pulse.{module}.ENUMERATED_MAX", 3)
    made = await shop.schedule()
    hours(clock, 10)
    await shop.pulse.update_schedule(made.id, {"cron": "30 * * * *"}, author=author())
    slots = await shop.store.list_slots(made.id, limit=50, offset=0)
    assert {slot.verdict for slot in slots} == {Verdict.MISSED}
    assert sum(slot.count for slot in slots) == 10
    assert slots[0].through_at == clock.now()
