"""Clocks that were wrong: what a clock decided that was ahead, on both engines."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from dorkos.clock import ManualClock, iso
from dorkos.db.database import Database
from dorkos.identity.model import OPERATOR
from dorkos.pulse.model import Schedule
from dorkos.vocabulary import RunState, ScheduleStatus, SlotReason, Verdict
from tests.pulse.workshop import Workshop, author, hours, workshop

YEAR = timedelta(days=365)
RUN = (Verdict.RUN, SlotReason.DUE, 1)


@pytest.fixture
def shop(db: Database, clock: ManualClock, tmp_path: Path) -> Workshop:
    """Pulse whose loops stand still."""
    return workshop(db, clock, tmp_path)


async def ledger(shop: Workshop, made: Schedule) -> list[tuple[Verdict, SlotReason, int]]:
    """What was decided of a schedule, the newest first."""
    slots = await shop.store.list_slots(made.id, limit=500, offset=0)
    return [(slot.verdict, slot.reason, slot.count) for slot in slots]


async def wrong_year(shop: Workshop, clock: ManualClock, made: Schedule) -> None:
    """The clock goes a year ahead, and is set right two hours later."""
    await shop.pulse.scheduler.work()
    clock.advance(YEAR)
    await shop.pulse.scheduler.work()
    clock.advance(timedelta(hours=2, minutes=1) - YEAR)
    far = await shop.store.get_schedule(made.id)
    assert far.next_due_at is not None
    assert far.next_due_at > clock.now() + timedelta(days=300)


async def test_who_sees_the_clock_go_back_decides_anew(shop: Workshop, clock: ManualClock) -> None:
    """It fires again at its next instant; each that has come has one verdict, and none to come has any."""
    made = await shop.schedule(jitter_ms=60_000)
    await wrong_year(shop, clock, made)
    await shop.pulse.scheduler.work()
    assert (await shop.store.get_schedule(made.id)).next_due_at == clock.now() + timedelta(minutes=59)
    early = (Verdict.RUN, SlotReason.CATCH_UP, 1)
    assert await ledger(shop, made) == [early, (Verdict.COALESCED, SlotReason.CATCH_UP, 2)]
    ((entity, facts),) = await shop.events("pulse.schedule.rewound")
    assert (entity, facts["name"]) == (made.id, made.name)

    # The run that was queued ahead of its time waits for no time of then.
    [claim] = await shop.claimed()
    await shop.store.cancel_run(claim.run.id, actor=OPERATOR.subject)
    hours(clock, 1)
    await shop.pulse.scheduler.work()
    assert [one[2] for one in await ledger(shop, made)] == [1, 1, 2]
    assert await shop.events("pulse.schedule.rewound") == [(entity, facts)]


async def test_an_instant_that_ran_too_early_does_not_run_again(shop: Workshop, clock: ManualClock) -> None:
    """Its slot is there when it comes, and is the only one."""
    made = await shop.schedule()
    clock.advance(timedelta(days=1))
    await shop.pulse.scheduler.work()
    clock.advance(-timedelta(days=1))
    await shop.pulse.scheduler.work()
    for _ in range(25):
        hours(clock, 1)
        await shop.pulse.scheduler.work()
    slots = await shop.store.list_slots(made.id, limit=500, offset=0)
    starts = [slot.due_at for slot in slots]
    assert len(starts) == len(set(starts))
    assert sum(slot.count for slot in slots) == 25
    assert len(await shop.store.list_runs(schedule_id=made.id)) == 1


async def test_a_small_step_back_is_waited_for(shop: Workshop, clock: ManualClock) -> None:
    """Half an hour twice that was decided is not decided again."""
    made = await shop.schedule()
    hours(clock, 1)
    await shop.pulse.scheduler.work()
    clock.advance(-timedelta(minutes=30))
    await shop.pulse.scheduler.work()
    clock.advance(timedelta(minutes=40))
    await shop.pulse.scheduler.work()
    assert await ledger(shop, made) == [RUN]
    assert await shop.events("pulse.schedule.rewound") == []


async def test_after_a_start_only_a_person_can_tell_which_clock_was_right(
    shop: Workshop, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """One that is not set yet looks the same: the schedule has an alarm; pausing and resuming mends it."""
    made = await shop.schedule()
    await wrong_year(shop, clock, made)
    await shop.scheduler().work()
    shown = await shop.ask("schedules.get", OPERATOR, id=made.id)
    assert shown.alarm == iso((await shop.store.get_schedule(made.id)).decided_until)
    assert "pause and resume them" in caplog.text

    for status in (ScheduleStatus.PAUSED, ScheduleStatus.ACTIVE):
        await shop.pulse.update_schedule(made.id, {"status": status}, author=author())
    shown = await shop.ask("schedules.get", OPERATOR, id=made.id)
    assert (shown.alarm, shown.next_run) == (None, iso(clock.now() + timedelta(minutes=59)))
    assert (await ledger(shop, made))[1:] == [(Verdict.COALESCED, SlotReason.CATCH_UP, 2)]
    [run] = await shop.run_of(made)
    assert run.status is RunState.QUEUED
