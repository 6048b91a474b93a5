"""How long history is kept, on both engines."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa

from dorkos.clock import ManualClock
from dorkos.db.database import Database, Transaction
from dorkos.db.schema.pulse import pulse_run_output, pulse_runs, pulse_schedules, pulse_slots
from dorkos.fleet import change
from dorkos.ids import new_id
from dorkos.pulse import retention
from dorkos.pulse.model import Claim, Outcome, OutputChunk, Schedule
from dorkos.pulse.retention import Removed, Retention
from dorkos.setting_groups.pulse import SchedulerSettings
from dorkos.vocabulary import FleetMode, OutputStream, OverlapPolicy, RunReason, RunState
from tests.pulse.workshop import ACTOR, Request, Workshop, a_node, hours, workshop

DONE = Outcome(RunState.COMPLETED, exit_code=0)


@pytest.fixture
def shop(db: Database, clock: ManualClock, tmp_path: Path) -> Workshop:
    """Pulse whose loops stand still, keeping three of each and nothing for longer than ten days."""
    return workshop(db, clock, tmp_path, retention_count=3, retention_days=10)


async def rows(shop: Workshop) -> tuple[int, int, int, int]:
    """How many schedules, slots, runs and pieces of output are stored."""
    tables = (pulse_schedules, pulse_slots, pulse_runs, pulse_run_output)
    counts = [sa.select(sa.func.count()).select_from(table).scalar_subquery() for table in tables]
    row = await shop.db.read(lambda c: c.execute(sa.select(*counts)).one())
    return (row[0], row[1], row[2], row[3])


async def end(shop: Workshop, claim: Claim, outcome: Outcome = DONE) -> None:
    """A run that prints a line and ends."""
    await shop.store.append_output(claim, [OutputChunk(1, OutputStream.STDOUT, "line\n")])
    assert await shop.store.finish_run(claim.run, claim.lease_token, outcome)


async def fire(shop: Workshop, clock: ManualClock, times: int) -> None:
    """As many hours, with a run each, that ends."""
    for _ in range(times):
        hours(clock, 1)
        await shop.scheduler().work()
        for claim in await shop.claimed(5):
            await end(shop, claim)


async def instants(shop: Workshop, schedule: Schedule) -> list[int]:
    """The hours of the slots that are left, newest first."""
    return [slot.due_at.hour for slot in await shop.store.list_slots(schedule.id, limit=500, offset=0)]


async def test_the_newest_slots_stay_with_their_runs(shop: Workshop, clock: ManualClock) -> None:
    """Those before go, with their runs and what they printed; of each schedule for itself."""
    first, second = await shop.schedule(), await shop.schedule()
    await fire(shop, clock, 5)
    before = await instants(shop, first)
    await shop.pulse.retention.work()
    assert await instants(shop, first) == await instants(shop, second) == before[:3]
    assert await rows(shop) == (2, 6, 6, 6)
    assert await shop.store.list_runs(schedule_id=first.id) == [
        run for run in await shop.store.list_runs() if run.schedule_id == first.id
    ]


async def test_what_was_pruned_is_not_decided_again(shop: Workshop, clock: ManualClock) -> None:
    """The cursor stands behind it."""
    made = await shop.schedule()
    await fire(shop, clock, 5)
    await shop.pulse.retention.work()
    kept = await instants(shop, made)
    await shop.scheduler().work()
    assert await instants(shop, made) == kept


async def test_runs_by_hand_are_counted_for_themselves(shop: Workshop, clock: ManualClock) -> None:
    """The newest of them stay, beside those of due instants."""
    made = await shop.schedule()
    await fire(shop, clock, 2)
    for _ in range(5):
        clock.advance(timedelta(minutes=1))
        await shop.store.trigger_run(made.id, actor=ACTOR)
        (claim,) = await shop.claimed()
        await end(shop, claim)
    await shop.pulse.retention.work()
    assert await rows(shop) == (1, 2, 5, 5)


async def test_nothing_stays_longer_than_the_days(shop: Workshop, clock: ManualClock, tmp_path: Path) -> None:
    """However few there are; runs that messages started as well."""
    agent = await shop.register("true", folder=tmp_path)
    made = await shop.schedule(run_at=clock.now() + timedelta(hours=1), cron=None, timezone=None)
    await fire(shop, clock, 1)
    await shop.store.trigger_run(made.id, actor=ACTOR)
    request = Request(agent.id, new_id(), new_id(), "hello", {})
    await shop.db.write(lambda tx: shop.pulse.queue_run(tx, request, run_id=new_id()))
    for claim in await shop.claimed(5):
        await end(shop, claim)
    await shop.pulse.retention.work()
    assert await rows(shop) == (1, 1, 3, 3)
    clock.advance(timedelta(days=11))
    await shop.pulse.retention.work()
    assert await rows(shop) == (1, 0, 0, 0)


async def test_what_has_not_ended_is_never_taken(shop: Workshop, clock: ManualClock) -> None:
    """Neither a run that waits or is at work, nor an attempt before it, nor their slot."""
    made = await shop.schedule(overlap=OverlapPolicy.ALLOW, max_attempts=2, retry_delay_ms=3_600_000)
    hours(clock, 1)
    await shop.scheduler().work()
    (claim,) = await shop.claimed()
    await end(shop, claim, Outcome(RunState.FAILED, RunReason.EXIT_CODE))
    by_hand = await shop.store.trigger_run(made.id, actor=ACTOR)
    assert [one.run.id for one in await shop.claimed()] == [by_hand]
    clock.advance(timedelta(days=20))
    await shop.pulse.retention.work()
    assert await rows(shop) == (1, 1, 3, 1)


async def test_a_slot_that_is_just_attempted_again_stays(
    shop: Workshop, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though it was old and at rest when it was found: a run at work would go with it."""
    made = await shop.schedule()
    await fire(shop, clock, 5)
    delete = retention._delete

    def late(tx: Transaction, *, table: sa.Table, ids: Sequence[str]) -> int:
        again = {
            "id": new_id(),
            "schedule_id": made.id,
            "slot_id": ids[0],
            "attempt": 2,
            "status": RunState.QUEUED,
            "prompt": "again",
            "chain_id": new_id(),
            "created_at": tx.now(),
        }
        tx.execute(pulse_runs.insert(), again)
        return delete(tx, table=table, ids=ids)

    monkeypatch.setattr(retention, "_delete", late)
    shop.pulse.retention.pruned.enable()
    await shop.pulse.retention.work()
    assert await shop.pulse.retention.pruned.wait() == Removed(slots=1)
    assert len(await instants(shop, made)) == 4


async def test_a_deleted_schedule_goes_when_its_time_is_over(shop: Workshop, clock: ManualClock) -> None:
    """Its history is there until then, and then the row itself goes too."""
    made = await shop.schedule()
    await fire(shop, clock, 2)
    await shop.store.delete_schedule(made.id, actor=ACTOR)
    await shop.pulse.retention.work()
    assert await rows(shop) == (1, 2, 2, 2)
    clock.advance(timedelta(days=11))
    await shop.pulse.retention.work()
    assert await rows(shop) == (0, 0, 0, 0)


async def test_on_hold_everything_stays(shop: Workshop, clock: ManualClock) -> None:
    """What was restored or brought over is there until somebody lifts the hold."""
    await shop.schedule()
    await fire(shop, clock, 5)
    for mode, slots in ((FleetMode.HOLD, 5), (FleetMode.STOP, 5), (FleetMode.RUNNING, 3)):
        await shop.db.write(partial(change, mode=mode, reason=None, actor=ACTOR))
        await shop.pulse.retention.work()
        assert (await rows(shop))[1] == slots


async def test_many_rows_go_in_small_commits(shop: Workshop, clock: ManualClock) -> None:
    """More than fit into one are all taken."""
    made = await shop.schedule()
    for _ in range(50):
        clock.advance(timedelta(minutes=1))
        await shop.store.trigger_run(made.id, actor=ACTOR)
        (claim,) = await shop.claimed()
        await end(shop, claim)
    shop.pulse.retention.pruned.enable()
    await shop.pulse.retention.work()
    assert await shop.pulse.retention.pruned.wait() == Removed(runs=47)
    assert await rows(shop) == (1, 0, 3, 3)


async def test_one_server_at_a_time_does_it(shop: Workshop, clock: ManualClock) -> None:
    """The lease belongs to one until it has run out; its holder keeps it."""
    settings = SchedulerSettings(retention_count=1, retention_days=10)
    other = Retention(shop.db, node=a_node(), settings=settings)
    await shop.pulse.retention.work()
    await shop.schedule()
    await fire(shop, clock, 1)
    clock.advance(timedelta(minutes=-10))
    await shop.pulse.retention.work()
    clock.advance(timedelta(minutes=30))
    other.pruned.enable()
    await other.work()
    with pytest.raises(TimeoutError):
        await other.pruned.wait(0)
    clock.advance(timedelta(hours=1))
    await other.work()
    assert await other.pruned.wait(0) == Removed()


async def test_one_pass_takes_away_however_much_is_old(
    shop: Workshop, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though it looks for only so much at a time, and of several schedules at once."""
    monkeypatch.setattr("dorkos.pulse.retention._FOUND_MAX", 2)
    made = [await shop.schedule(name=name) for name in ("a", "b")]
    await fire(shop, clock, 6)
    before = await instants(shop, made[0])
    await shop.pulse.retention.work()
    assert [await instants(shop, one) for one in made] == [before[:3]] * 2
