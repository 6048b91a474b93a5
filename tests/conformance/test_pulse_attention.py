"""Schedules that cannot be computed, on both engines: told once, visible, mended by hand."""

from __future__ import annotations

import logging
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dorkos.clock import ManualClock
from dorkos.db.database import Database
from dorkos.db.schema.pulse import pulse_schedules
from dorkos.errors import DorkError, ErrorCode
from dorkos.pulse.model import Schedule
from dorkos.pulse.triggers import trigger_of
from dorkos.vocabulary import ScheduleStatus
from tests.pulse.workshop import Workshop, author, hours, workshop

BROKEN = ({"cron": "every day at noon"}, {"timezone": "Mars/Olympus_Mons"}, {"cron": "0 0 30 2 *"})


@pytest.fixture
def shop(db: Database, clock: ManualClock, tmp_path: Path) -> Workshop:
    """Pulse whose loops stand still; the clock says 09:00."""
    return workshop(db, clock, tmp_path)


async def spoil(shop: Workshop, schedule: Schedule, **columns: Any) -> None:
    """Put into the row what no edit would store, as an import may."""
    statement = sa.update(pulse_schedules).where(pulse_schedules.c.id == schedule.id).values(**columns)
    await shop.db.write(lambda tx: tx.execute(statement))


async def in_need(shop: Workshop, clock: ManualClock, **columns: Any) -> Schedule:
    """A schedule that the scheduler has found to be broken."""
    made = await shop.schedule()
    await spoil(shop, made, **(columns or BROKEN[0]))
    hours(clock, 1)
    await shop.scheduler().work()
    return await shop.store.get_schedule(made.id)


async def edit(shop: Workshop, schedule: Schedule, **changes: Any) -> Schedule:
    """The schedule after an edit."""
    return await shop.pulse.update_schedule(schedule.id, changes, author=author())


@pytest.mark.parametrize("columns", BROKEN, ids=str)
async def test_it_needs_attention_and_says_why(
    shop: Workshop, clock: ManualClock, columns: dict[str, str]
) -> None:
    """What a person wrote stays word for word; it is not due any more, and one event tells of it."""
    found = await in_need(shop, clock, **columns)

    assert found.status is ScheduleStatus.NEEDS_ATTENTION
    assert found.status_reason
    assert (found.revision, found.next_due_at) == (2, None)
    assert {name: getattr(found, name) for name in columns} == columns
    assert await shop.events("pulse.schedule.needs_attention") == [
        (found.id, {"name": found.name, "reason": found.status_reason})
    ]


async def test_it_never_fires_and_is_not_reported_again(
    shop: Workshop, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """One line in the log, one event, however often the scheduler looks; the others fire."""
    good = await shop.schedule(name="good")
    with caplog.at_level(logging.ERROR, logger="dorkos.pulse"):
        found = await in_need(shop, clock)
        for _ in range(3):
            hours(clock, 1)
            await shop.scheduler().work()

    assert len([record for record in caplog.records if found.name in record.getMessage()]) == 1
    assert len(await shop.events("pulse.schedule.needs_attention")) == 1
    assert await shop.run_of(found) == []
    assert len(await shop.run_of(good)) == 1


async def test_a_fault_of_a_library_stops_no_other(
    shop: Workshop, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is raised while one is planned, that one needs attention, and the pass goes on."""
    odd, good = await shop.schedule(name="odd"), await shop.schedule(name="good")

    def failing(schedule: Schedule, zones: Any) -> Any:
        if schedule.id == odd.id:
            raise ZeroDivisionError("a calendar \x00 without days")
        return trigger_of(schedule, zones)

    monkeypatch.setattr("dorkos.pulse.scheduler.trigger_of", failing)
    hours(clock, 1)
    await shop.scheduler().work()

    found = await shop.store.get_schedule(odd.id)
    assert found.status is ScheduleStatus.NEEDS_ATTENTION
    assert "ZeroDivisionError" in (found.status_reason or "")
    assert len(await shop.run_of(good)) == 1


async def test_an_edit_in_between_is_not_overwritten(shop: Workshop, clock: ManualClock) -> None:
    """Who mended it while it was looked at has mended it."""
    made = await shop.schedule()
    mended = await edit(shop, made, cron="30 * * * *")

    assert not await shop.store.need_attention(made, "cannot be read")
    assert await shop.store.get_schedule(made.id) == mended


@pytest.mark.parametrize("status", [ScheduleStatus.PAUSED, ScheduleStatus.PENDING_APPROVAL])
async def test_it_does_not_lose_that_it_is_not_to_fire(shop: Workshop, status: ScheduleStatus) -> None:
    """A paused or unapproved one stays so: mending its time must not start it."""
    made = await shop.schedule()
    await spoil(shop, made, status=status)

    assert await shop.store.need_attention(await shop.store.get_schedule(made.id), "cannot be read")
    found = await shop.store.get_schedule(made.id)
    assert (found.status, found.status_reason) == (status, "cannot be read")


@pytest.mark.parametrize(
    ("broken", "mending"),
    [
        ({"cron": "every day at noon"}, {"cron": "0 12 * * *"}),
        ({"timezone": "Mars/Olympus_Mons"}, {"timezone": "Europe/Berlin"}),
        ({"timezone": "Mars/Olympus_Mons"}, {"timezone": None}),
        ({"cron": "every day at noon"}, {"cron": "0 12 * * *", "status": ScheduleStatus.NEEDS_ATTENTION}),
    ],
    ids=str,
)
async def test_mending_its_time_makes_it_active(
    shop: Workshop, clock: ManualClock, broken: dict[str, Any], mending: dict[str, Any]
) -> None:
    """It fires from now on; also for a client that sends back the state that it read."""
    found = await in_need(shop, clock, **broken)
    mended = await edit(shop, found, **mending)

    assert (mended.status, mended.status_reason) == (ScheduleStatus.ACTIVE, None)
    assert mended.next_due_at is not None
    assert mended.next_due_at > clock.now()
    assert mended == await shop.store.get_schedule(found.id)
    hours(clock, 24)
    await shop.scheduler().work()
    assert len(await shop.run_of(mended)) == 1


async def test_mending_and_pausing_leaves_it_paused(shop: Workshop, clock: ManualClock) -> None:
    """What the edit says about the status counts."""
    found = await in_need(shop, clock)
    mended = await edit(shop, found, cron="0 12 * * *", status=ScheduleStatus.PAUSED)

    assert mended.status is ScheduleStatus.PAUSED
    hours(clock, 24)
    await shop.scheduler().work()
    assert await shop.run_of(mended) == []


async def test_an_edit_of_other_things_leaves_it_in_need(shop: Workshop, clock: ManualClock) -> None:
    """A new name mends nothing, nor does sending back the same expression."""
    found = await in_need(shop, clock)
    for changes in ({"name": "new"}, {"cron": found.cron, "enabled": True}):
        edited = await edit(shop, found, **changes)
        assert edited.status is ScheduleStatus.NEEDS_ATTENTION
        assert edited.status_reason == found.status_reason
        assert edited.next_due_at is None


@pytest.mark.parametrize("changes", [{}, {"enabled": False}], ids=str)
async def test_it_cannot_be_made_active_as_it_is(
    shop: Workshop, clock: ManualClock, changes: dict[str, bool]
) -> None:
    """The refusal is that of a new schedule, and nothing is changed; switched off or not."""
    found = await in_need(shop, clock)
    with pytest.raises(DorkError) as refusal:
        await edit(shop, found, status=ScheduleStatus.ACTIVE, **changes)

    assert refusal.value.code is ErrorCode.INVALID_CRON
    assert await shop.store.get_schedule(found.id) == found


async def test_one_that_can_be_told_after_all_is_made_active(shop: Workshop, clock: ManualClock) -> None:
    """Where what was wrong is right by now, such as a zone that the machine did not know."""
    found = await in_need(shop, clock, timezone="Mars/Olympus_Mons")
    await spoil(shop, found, timezone="Europe/Berlin")
    active = await edit(shop, found, status=ScheduleStatus.ACTIVE)

    assert (active.status, active.status_reason) == (ScheduleStatus.ACTIVE, None)
    assert active.next_due_at == clock.now() + timedelta(hours=1)


async def test_a_paused_one_keeps_the_reason_and_is_not_resumed_as_it_is(
    shop: Workshop, clock: ManualClock
) -> None:
    """Pausing it is no way around the mending."""
    found = await in_need(shop, clock)
    paused = await edit(shop, found, status=ScheduleStatus.PAUSED)
    assert (paused.status, paused.status_reason) == (ScheduleStatus.PAUSED, found.status_reason)
    with pytest.raises(DorkError) as refusal:
        await edit(shop, paused, status=ScheduleStatus.ACTIVE)
    assert refusal.value.code is ErrorCode.INVALID_CRON


async def test_nobody_but_dorkos_says_that_it_needs_attention(shop: Workshop) -> None:
    """As a wish it is refused, with the status that was meant."""
    made = await shop.schedule()
    with pytest.raises(DorkError) as refusal:
        await edit(shop, made, status=ScheduleStatus.NEEDS_ATTENTION)

    assert refusal.value.code is ErrorCode.VALIDATION_FAILED
    assert "paused" in (refusal.value.hint or "")
    assert await shop.store.get_schedule(made.id) == made
