"""Catch-up, overlap, pauses and jitter as they are stored, on both engines."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dorkos.clock import ManualClock
from dorkos.db.database import Database
from dorkos.db.schema.pulse import pulse_runs
from dorkos.pulse.model import Outcome, Schedule, Slot
from dorkos.pulse.planner import WAITING_MAX, jitter
from dorkos.pulse.slots import Decision
from dorkos.vocabulary import (
    CatchUpPolicy,
    OverlapPolicy,
    RunReason,
    RunState,
    ScheduleStatus,
    Verdict,
)
from tests.pulse.workshop import ACTOR, Workshop, author, hours, workshop

Said = tuple[str, str, int]


@pytest.fixture
def shop(db: Database, clock: ManualClock, tmp_path: Path) -> Workshop:
    """Pulse whose loops stand still; the clock says 09:00."""
    return workshop(db, clock, tmp_path)


async def slots_of(shop: Workshop, schedule: Schedule) -> list[Slot]:
    """What was decided, oldest first."""
    return (await shop.store.list_slots(schedule.id, limit=500, offset=0))[::-1]


async def said(shop: Workshop, schedule: Schedule) -> list[Said]:
    """Verdict, reason and count of each slot, oldest first."""
    return [(slot.verdict.value, slot.reason.value, slot.count) for slot in await slots_of(shop, schedule)]


async def pass_hours(shop: Workshop, clock: ManualClock, count: float) -> None:
    """Time during which nobody decides, and then one pass."""
    hours(clock, count)
    await shop.scheduler().work()


async def edit(shop: Workshop, schedule: Schedule, **changes: Any) -> Schedule:
    """The schedule after an edit."""
    return await shop.pulse.update_schedule(schedule.id, changes, author=author())


@pytest.mark.parametrize(
    ("policy", "ledger"),
    [
        ({"catch_up": CatchUpPolicy.SKIP}, [("missed", "catch_up", 9)]),
        (
            {"catch_up": CatchUpPolicy.LATEST},
            [("coalesced", "catch_up", 8), ("run", "catch_up", 1)],
        ),
        (
            {"catch_up": CatchUpPolicy.LATEST, "catch_up_window_ms": 3_600_000},
            [("missed", "window_passed", 6), ("coalesced", "catch_up", 2), ("run", "catch_up", 1)],
        ),
        ({"catch_up": CatchUpPolicy.ALL}, [("run", "catch_up", 1)] * 9),
        (
            {"catch_up": CatchUpPolicy.ALL, "catch_up_max": 2, "catch_up_window_ms": 7_200_000},
            [("missed", "window_passed", 3), ("missed", "limit", 4), *[("run", "catch_up", 1)] * 2],
        ),
        (
            {"catch_up": CatchUpPolicy.ALL, "overlap": OverlapPolicy.CANCEL_PREVIOUS},
            [("coalesced", "overlap", 8), ("run", "catch_up", 1)],
        ),
    ],
    ids=str,
)
async def test_three_hours_away(
    shop: Workshop, clock: ManualClock, policy: dict[str, Any], ledger: list[Said]
) -> None:
    """Every twenty minutes, nobody there for three hours and ten minutes: each missed instant is told."""
    made = await shop.schedule(cron="*/20 * * * *", **policy)
    began = clock.now()
    await pass_hours(shop, clock, 3 + 1 / 6)

    assert await said(shop, made) == ledger
    covered = [
        slot.due_at + n * timedelta(minutes=20)
        for slot in await slots_of(shop, made)
        for n in range(slot.count)
    ]
    assert covered == [began + n * timedelta(minutes=20) for n in range(1, 10)]
    runs = await shop.run_of(made)
    assert len(runs) == sum(verdict == "run" for verdict, _, _ in ledger)
    assert {run.slot_id for run in runs} == {
        slot.id for slot in await slots_of(shop, made) if slot.verdict is Verdict.RUN
    }
    after = await shop.store.get_schedule(made.id)
    assert after.next_due_at == began + timedelta(minutes=200)
    await shop.scheduler().work()
    assert await said(shop, made) == ledger


@pytest.mark.parametrize(
    ("status", "reason"),
    [(ScheduleStatus.PAUSED, "paused"), (ScheduleStatus.PENDING_APPROVAL, "pending_approval")],
)
async def test_what_a_pause_kept_back_is_one_span(
    shop: Workshop, clock: ManualClock, status: ScheduleStatus, reason: str
) -> None:
    """However often it is decided; its instants wake nobody, and after the pause it runs as ever."""
    made = await shop.schedule()
    await pass_hours(shop, clock, 1)
    (run,) = await shop.run_of(made)
    await shop.store.cancel_run(run.id, actor=ACTOR)
    paused = await edit(shop, made, status=status)
    told = len(await shop.events("pulse.slot.decided"))
    for _ in range(3):
        await pass_hours(shop, clock, 1)
    hours(clock, 1)  # Undecided when the pause ends.
    await edit(shop, paused, status=ScheduleStatus.ACTIVE)
    await pass_hours(shop, clock, 1)

    assert [(verdict, why) for verdict, why, _ in await said(shop, made)] == [
        ("run", "due"),
        ("skipped", reason),
        ("run", "due"),
    ]
    assert [count for _, _, count in await said(shop, made)] == [1, 4, 1]
    assert len(await shop.events("pulse.slot.decided")) == told + 2


async def test_one_that_is_switched_off_has_no_slots(shop: Workshop, clock: ManualClock) -> None:
    """Nothing of it is due, so nothing is skipped either."""
    made = await edit(shop, await shop.schedule(), enabled=False)
    await pass_hours(shop, clock, 5)
    assert await said(shop, made) == []


async def test_in_line_each_instant_waits_its_turn(shop: Workshop, clock: ManualClock) -> None:
    """With `queue` nothing is skipped while an earlier run is not over."""
    made = await shop.schedule(overlap=OverlapPolicy.QUEUE)
    for _ in range(3):
        await pass_hours(shop, clock, 1)
    assert await said(shop, made) == [("run", "due", 1)] * 3
    assert [run.status for run in await shop.run_of(made)] == [RunState.QUEUED] * 3


async def test_the_line_has_an_end(shop: Workshop, clock: ManualClock) -> None:
    """Runs that were asked for by hand wait in it as well; at its end an instant is skipped for the limit."""
    made = await shop.schedule(overlap=OverlapPolicy.QUEUE)
    for _ in range(WAITING_MAX - 1):
        await shop.store.trigger_run(made.id, actor=ACTOR)
    for _ in range(3):
        await pass_hours(shop, clock, 1)
    assert await said(shop, made) == [("run", "due", 1), ("skipped", "limit", 2)]


async def test_the_newest_takes_the_place_of_the_earlier(shop: Workshop, clock: ManualClock) -> None:
    """One that runs is asked to end, one that waits is cancelled, in the change that queues the newest."""
    made = await shop.schedule(overlap=OverlapPolicy.CANCEL_PREVIOUS)
    other = await shop.schedule(name="other")
    untouched = await shop.store.trigger_run(other.id, actor=ACTOR)
    await pass_hours(shop, clock, 1)
    claims = {claim.run.id: claim for claim in await shop.claimed(2)}
    (first,) = await shop.run_of(made)
    by_hand = await shop.store.trigger_run(made.id, actor=ACTOR)
    await pass_hours(shop, clock, 1)

    newest = next(run for run in await shop.run_of(made) if run.id not in (first.id, by_hand))
    assert newest.status is RunState.QUEUED
    waiting = await shop.store.get_run(by_hand)
    assert (waiting.status, waiting.reason) == (RunState.CANCELLED, RunReason.OVERLAP)
    assert (await shop.store.get_run(first.id)).cancel_requested_at == clock.now()
    assert (await shop.store.get_run(untouched)).cancel_requested_at is None
    assert [run_id for run_id, _ in await shop.events("pulse.run.cancel_requested")] == [first.id]

    claim = claims[first.id]
    await shop.store.finish_run(
        claim.run, claim.lease_token, Outcome(RunState.CANCELLED, RunReason.CANCEL_REQUESTED, "cancelled")
    )
    ended = await shop.store.get_run(first.id)
    assert (ended.status, ended.reason) == (RunState.CANCELLED, RunReason.OVERLAP)
    assert ended.error == "A newer run of the schedule took its place."


async def test_a_dropped_plan_cancels_nothing(shop: Workshop, clock: ManualClock) -> None:
    """Of two servers with the same plan one stores it; the other must not cancel that one's run."""
    await shop.schedule(overlap=OverlapPolicy.CANCEL_PREVIOUS)
    hours(clock, 1)
    ((due,), fleet) = await shop.store.due_schedules(clock.now(), limit=10), await shop.store.fleet()
    plans = [shop.scheduler()._plan_one(due, clock.now(), fleet) for _ in range(2)]
    taken = [
        await shop.store.record_plans([one], made_under=fleet) for one in plans if isinstance(one, Decision)
    ]
    assert taken == [1, 0]
    assert [run.status for run in await shop.store.list_runs()] == [RunState.QUEUED]


async def test_a_run_is_kept_back_for_its_jitter(shop: Workshop, clock: ManualClock) -> None:
    """It may be started a while after its instant, the same on every server."""
    made = await shop.schedule(jitter_ms=600_000)
    await pass_hours(shop, clock, 1)
    (run,) = await shop.run_of(made)
    assert await available_at(shop, run.id) == clock.now() + jitter(made.id, clock.now(), 600_000)
    plain = await shop.schedule(name="plain")
    await pass_hours(shop, clock, 1)
    (run,) = await shop.run_of(plain)
    assert await available_at(shop, run.id) is None


async def test_only_a_neighbour_becomes_part_of_a_span(shop: Workshop, clock: ManualClock) -> None:
    """A verdict like that of the last slot is a row of its own, where something else lies between."""
    made = await shop.schedule()
    await shop.store.trigger_run(made.id, actor=ACTOR)
    await pass_hours(shop, clock, 1)
    await pass_hours(shop, clock, 3)
    assert await said(shop, made) == [
        ("skipped", "overlap", 1),
        ("coalesced", "catch_up", 2),
        ("skipped", "overlap", 1),
    ]
    for one, other in zip(await slots_of(shop, made), (await slots_of(shop, made))[1:], strict=False):
        assert one.through_at < other.due_at


async def test_an_interval_is_decided_and_caught_up_like_any_other(
    shop: Workshop, clock: ManualClock
) -> None:
    """Its instants are counted from its anchor, whenever they were decided."""
    made = await shop.schedule(cron=None, timezone=None, every_ms=1_500_000)
    began = clock.now()
    await pass_hours(shop, clock, 1.1)
    assert await said(shop, made) == [("coalesced", "catch_up", 1), ("run", "catch_up", 1)]
    after = await shop.store.get_schedule(made.id)
    assert (after.decided_until, after.next_due_at) == (
        began + timedelta(minutes=50),
        began + timedelta(minutes=75),
    )


async def test_many_slots_of_one_schedule_are_stored_whole(
    shop: Workshop, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backlog larger than a commit is meant to be is not parted, and the others come with the next."""
    monkeypatch.setattr("dorkos.pulse.scheduler._SLOTS", 5)
    many = await shop.schedule(cron="*/5 * * * *", catch_up=CatchUpPolicy.ALL)
    others = [await shop.schedule(name=f"job {n}") for n in range(12)]
    await pass_hours(shop, clock, 2)
    assert len(await shop.run_of(many)) == 24
    for other in others:
        assert len(await shop.run_of(other)) == 1


async def available_at(shop: Workshop, run_id: str) -> datetime | None:
    """Before when the run is not to be started."""
    statement = sa.select(pulse_runs.c.available_at).where(pulse_runs.c.id == run_id)
    found: datetime | None = await shop.db.read(lambda c: c.execute(statement).scalar_one())
    return found
