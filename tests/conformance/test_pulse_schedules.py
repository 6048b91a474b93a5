"""Schedules on both engines: what is stored, what an edit does to when they fire, what deletion ends."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dorkos.clock import ManualClock, iso
from dorkos.db.database import Database
from dorkos.db.schema.pulse import pulse_schedules
from dorkos.errors import DorkError, ErrorCode
from dorkos.pulse.model import Schedule
from dorkos.vocabulary import (
    CatchUpPolicy,
    OverlapPolicy,
    RunReason,
    RunState,
    ScheduleStatus,
    SlotReason,
    Verdict,
)
from tests.pulse.workshop import ACTOR, HOURLY, LEASE, Workshop, author, hours, workshop


@pytest.fixture
def shop(db: Database, clock: ManualClock, tmp_path: Path) -> Workshop:
    """Pulse whose loops stand still; the clock says 09:00."""
    return workshop(db, clock, tmp_path)


async def refused(shop: Workshop, code: ErrorCode, **changes: Any) -> DorkError:
    """The refusal of a new schedule, after which nothing is stored."""
    with pytest.raises(DorkError) as refusal:
        await shop.schedule(**changes)
    assert refusal.value.code is code
    assert await shop.store.list_schedules() == []
    assert await shop.events("pulse.schedule.created") == []
    return refusal.value


async def edit(shop: Workshop, schedule: Schedule, **changes: Any) -> Schedule:
    """The schedule after an edit."""
    return await shop.pulse.update_schedule(schedule.id, changes, author=author())


async def test_a_schedule_comes_back_as_it_was_made(shop: Workshop, clock: ManualClock) -> None:
    """All fields are kept, it belongs to whoever made it, and its next instant is known."""
    made = await shop.schedule(description="weekly", cwd=None, max_runtime=60_000)
    assert await shop.store.get_schedule(made.id) == made
    assert made.command == ("true",)
    assert made.created_by == ACTOR
    assert made.revision == 1
    assert made.decided_until == clock.now()
    assert made.next_due_at == clock.now() + timedelta(hours=1)
    ((entity, facts),) = await shop.events("pulse.schedule.created")
    assert entity == made.id
    assert facts["nextRun"] == iso(clock.now() + timedelta(hours=1))


async def test_schedules_are_listed_oldest_first(shop: Workshop, clock: ManualClock) -> None:
    """Order is creation, ties by id, deleted ones gone."""
    made = [await shop.schedule(name=f"job {n}") for n in range(3)]
    hours(clock, -1)
    earlier = await shop.schedule(name="earlier")
    await shop.store.delete_schedule(made[1].id, actor=ACTOR)
    assert [one.id for one in await shop.store.list_schedules()] == [earlier.id, made[0].id, made[2].id]


async def test_bad_triggers_are_refused(shop: Workshop, clock: ManualClock, tmp_path: Path) -> None:
    """Cron, zone, instant and directory are checked before anything is stored."""
    await refused(shop, ErrorCode.INVALID_CRON, cron="every day at noon")
    await refused(shop, ErrorCode.INVALID_CRON, cron="0 0 30 2 *")
    await refused(shop, ErrorCode.INVALID_TIMEZONE, timezone="Mars/Olympus_Mons")
    await refused(shop, ErrorCode.INVALID_INSTANT, cron=None, run_at=clock.now())
    await refused(shop, ErrorCode.OUTSIDE_BOUNDARY, cwd=str(tmp_path.parent))
    await refused(shop, ErrorCode.OUTSIDE_BOUNDARY, cwd="relative")


async def test_exactly_one_target(shop: Workshop, tmp_path: Path) -> None:
    """Neither, both, an unknown agent and one without an entrypoint are refused, each with its own words."""
    agent = await shop.register("true", folder=tmp_path)
    idle = await shop.register(folder=tmp_path)
    await refused(shop, ErrorCode.VALIDATION_FAILED, command=None)
    await refused(shop, ErrorCode.VALIDATION_FAILED, agent_id=agent.id)
    await refused(shop, ErrorCode.AGENT_NOT_FOUND, command=None, agent_id="01J000000000000000000000AA")
    refusal = await refused(shop, ErrorCode.VALIDATION_FAILED, command=None, agent_id=idle.id)
    assert "no entrypoint" in refusal.message


async def test_an_edit_of_the_words_leaves_the_time(shop: Workshop, clock: ManualClock) -> None:
    """A new name or prompt adds one to the revision; what is due and not yet decided stays due."""
    made = await shop.schedule()
    hours(clock, 1)
    edited = await edit(shop, made, name="new name", prompt="new prompt")
    assert (edited.revision, edited.name, edited.prompt) == (2, "new name", "new prompt")
    assert (edited.decided_until, edited.next_due_at) == (made.decided_until, made.next_due_at)
    assert await shop.store.get_schedule(made.id) == edited


async def test_an_edit_of_the_time_begins_anew(shop: Workshop, clock: ManualClock) -> None:
    """From the edit on the new trigger counts; what was due before is a visible missed slot, not a run."""
    made = await shop.schedule()
    hours(clock, 2.5)
    edited = await edit(shop, made, cron="30 * * * *")
    assert edited.decided_until == clock.now()
    assert edited.next_due_at == clock.now() + timedelta(hours=1)
    (slot,) = await shop.store.list_slots(made.id, limit=10, offset=0)
    assert (slot.verdict, slot.reason, slot.count) == (Verdict.MISSED, SlotReason.DUE, 2)
    assert (slot.due_at, slot.through_at) == (
        made.next_due_at,
        made.decided_until + timedelta(hours=2),
    )
    assert await shop.store.list_runs() == []


async def test_a_clock_that_jumped_back_is_no_second_chance(shop: Workshop, clock: ManualClock) -> None:
    """An edit while the clock is up to an hour behind the cursor does not move the cursor back."""
    made = await shop.schedule()
    hours(clock, -1)
    edited = await edit(shop, made, cron="30 * * * *")
    assert edited.decided_until == made.decided_until


@pytest.mark.parametrize("changes", [{"enabled": False}, {"status": ScheduleStatus.PAUSED}, {"cron": None}])
async def test_what_does_not_fire_has_no_next_run(shop: Workshop, changes: dict[str, Any]) -> None:
    """Switched off, paused, on demand: no run is announced. Only the paused one is still decided."""
    made = await shop.schedule()
    edited = await edit(shop, made, **changes)
    assert edited.next_run_at is None
    assert (edited.next_due_at is None) == ("status" not in changes)
    assert (await shop.events("pulse.schedule.updated"))[-1][1]["nextRun"] is None


async def test_switching_on_again_starts_from_now(shop: Workshop, clock: ManualClock) -> None:
    """The time while it was off is not caught up."""
    made = await shop.schedule(enabled=False)
    hours(clock, 5)
    edited = await edit(shop, made, enabled=True)
    assert edited.next_due_at == clock.now() + timedelta(hours=1)
    assert await shop.store.list_slots(made.id, limit=10, offset=0) == []


async def test_an_instant_that_passed_may_be_sent_back(shop: Workshop, clock: ManualClock) -> None:
    """A schedule whose instant is over can be edited by sending all fields; a new past one is refused."""
    at = clock.now() + timedelta(hours=1)
    made = await shop.schedule(cron=None, run_at=at)
    hours(clock, 2)
    assert (await edit(shop, made, name="late", cron=None, run_at=at)).name == "late"
    with pytest.raises(DorkError) as refusal:
        await edit(shop, made, run_at=clock.now() - timedelta(minutes=1))
    assert refusal.value.code is ErrorCode.INVALID_INSTANT


async def test_a_refused_edit_changes_nothing(shop: Workshop) -> None:
    """All fields of an edit are stored or none."""
    made = await shop.schedule()
    for changes in (
        {"name": "x", "cron": "nonsense"},
        {"name": "x", "timezone": "Nowhere"},
        {"name": "x", "command": None},
        {"name": "x", "cwd": "/"},
    ):
        with pytest.raises(DorkError):
            await edit(shop, made, **changes)
    assert await shop.store.get_schedule(made.id) == made


async def test_a_schedule_whose_target_is_gone_can_be_switched_off(shop: Workshop, tmp_path: Path) -> None:
    """The target is checked when it changes and when the schedule begins to fire, not when it ends."""
    agent = await shop.register("true", folder=tmp_path)
    made = await shop.schedule(command=None, agent_id=agent.id)
    del shop.agents.known[agent.id]
    assert not (await edit(shop, made, enabled=False)).enabled
    with pytest.raises(DorkError) as refusal:
        await edit(shop, made, enabled=True)
    assert refusal.value.code is ErrorCode.AGENT_NOT_FOUND


async def test_a_stored_trigger_that_cannot_be_read_can_be_mended(
    shop: Workshop, db: Database, clock: ManualClock
) -> None:
    """A schedule with an unreadable expression can be edited, switched off and given a good one."""
    made = await shop.schedule()
    await db.write(lambda tx: tx.execute(sa.update(pulse_schedules).values(cron="every day at noon")))
    hours(clock, 2)
    assert (await edit(shop, made, name="odd")).name == "odd"
    mended = await edit(shop, made, cron="0 12 * * *")
    assert mended.next_due_at == clock.now() + timedelta(hours=1)


async def test_a_deleted_schedule_is_gone_at_once(shop: Workshop, clock: ManualClock) -> None:
    """It is not found, not due, and its waiting run is cancelled; the run itself stays as history."""
    made = await shop.schedule()
    waiting = await shop.store.trigger_run(made.id, actor=ACTOR)
    await shop.store.delete_schedule(made.id, actor=ACTOR)
    hours(clock, 2)

    for attempt in (
        shop.store.get_schedule(made.id),
        shop.store.delete_schedule(made.id, actor=ACTOR),
        shop.store.trigger_run(made.id, actor=ACTOR),
        edit(shop, made, name="x"),
    ):
        with pytest.raises(DorkError) as refusal:
            await attempt
        assert refusal.value.code is ErrorCode.SCHEDULE_NOT_FOUND
    assert await shop.store.due_schedules(clock.now(), limit=10) == []
    run = await shop.store.get_run(waiting)
    assert (run.status, run.reason) == (RunState.CANCELLED, RunReason.TARGET_REMOVED)
    assert [entity for entity, _ in await shop.events("pulse.schedule.deleted")] == [made.id]


async def test_deleting_asks_for_the_end_of_a_running_run(shop: Workshop) -> None:
    """Its server learns of it with the next renewal."""
    made = await shop.schedule()
    run_id = await shop.store.trigger_run(made.id, actor=ACTOR)
    (claim,) = await shop.claimed()
    await shop.store.delete_schedule(made.id, actor=ACTOR)
    assert await shop.store.renew_leases([claim.lease_token], lease=LEASE) == {run_id: True}
    assert [entity for entity, _ in await shop.events("pulse.run.cancel_requested")] == [run_id]


async def test_removing_an_agent_removes_its_schedules(shop: Workshop, db: Database, tmp_path: Path) -> None:
    """Its schedules are deleted and its waiting runs cancelled, in the caller's transaction; others stay."""
    agent = await shop.register("true", folder=tmp_path)
    made = await shop.schedule(command=None, agent_id=agent.id)
    other = await shop.schedule()
    waiting = await shop.store.trigger_run(made.id, actor=ACTOR)
    await db.write(lambda tx: shop.pulse.hide_schedules(tx, agent_id=agent.id))
    assert [one.id for one in await shop.store.list_schedules()] == [other.id]
    run = await shop.store.get_run(waiting)
    assert (run.status, run.reason) == (RunState.CANCELLED, RunReason.TARGET_REMOVED)


async def test_the_inherited_zone_is_resolved_when_computing(
    db: Database, clock: ManualClock, tmp_path: Path
) -> None:
    """A schedule without a zone means nine o'clock in the zone of the setting, and stays without one."""
    shop = workshop(db, clock, tmp_path, timezone="Asia/Tokyo")
    made = await shop.schedule(cron="0 9 * * *", timezone=None)
    assert made.timezone is None
    assert made.next_due_at == datetime.fromisoformat("2026-03-02T00:00:00Z")
    assert shop.pulse.zone_name(made) == "Asia/Tokyo"
    utc = await shop.schedule(cron="0 9 * * *", timezone="UTC")
    assert utc.next_due_at == datetime.fromisoformat("2026-03-02T09:00:00Z")


def test_the_hourly_draft_is_what_these_tests_say() -> None:
    """The clock of these tests stands at a full hour, which they count on."""
    assert HOURLY.cron == "0 * * * *"
    assert ManualClock().now().minute == 0


async def test_an_interval_keeps_its_beat(shop: Workshop, clock: ManualClock) -> None:
    """Counted from its creation, also through edits of other things and a pause; a new one from its edit."""
    made = await shop.schedule(cron=None, every_ms=3_600_000)
    began = clock.now()
    assert (made.anchor_at, made.next_due_at) == (began, began + timedelta(hours=1))
    hours(clock, 2.5)
    paused = await edit(shop, made, status=ScheduleStatus.PAUSED, prompt="new")
    hours(clock, 1)
    resumed = await edit(shop, paused, status=ScheduleStatus.ACTIVE)
    assert (resumed.anchor_at, resumed.next_due_at) == (began, began + timedelta(hours=4))
    other = await edit(shop, made, every_ms=1_800_000)
    assert (other.anchor_at, other.next_due_at) == (clock.now(), clock.now() + timedelta(minutes=30))
    cron = await edit(shop, made, every_ms=None, cron="0 * * * *")
    assert (cron.anchor_at, cron.next_due_at) == (None, began + timedelta(hours=4))


async def test_limits_that_would_never_count_are_refused(shop: Workshop) -> None:
    """A cap without its policy, and a jitter as long as the interval, at creation and at an edit."""
    await refused(shop, ErrorCode.VALIDATION_FAILED, max_active=2)
    await refused(shop, ErrorCode.VALIDATION_FAILED, catch_up_max=2)
    await refused(
        shop, ErrorCode.VALIDATION_FAILED, cron=None, timezone=None, every_ms=60_000, jitter_ms=60_000
    )
    made = await shop.schedule(overlap=OverlapPolicy.ALLOW, max_active=2)
    with pytest.raises(DorkError) as refusal:
        await edit(shop, made, overlap=OverlapPolicy.QUEUE)
    assert refusal.value.code is ErrorCode.VALIDATION_FAILED
    assert (await edit(shop, made, overlap=OverlapPolicy.QUEUE, max_active=None)).max_active is None


async def test_policies_come_back_as_they_were_made(shop: Workshop) -> None:
    """Every field that a person decides is stored, and read back the same."""
    made = await shop.schedule(
        runtime="command",
        overlap=OverlapPolicy.ALLOW,
        max_active=3,
        catch_up=CatchUpPolicy.ALL,
        catch_up_window_ms=7_200_000,
        catch_up_max=12,
        jitter_ms=5000,
        max_attempts=4,
        retry_delay_ms=10_000,
        repeatable=True,
        idle_timeout_ms=60_000,
        alarm_after_ms=600_000,
        pause_after_failures=5,
    )
    assert await shop.store.get_schedule(made.id) == made
    assert (await shop.store.list_schedules()) == [made]
    assert (made.max_active, made.catch_up_max, made.repeatable) == (3, 12, True)
