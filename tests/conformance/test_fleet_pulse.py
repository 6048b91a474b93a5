"""Pulse under each mode of the fleet, on both engines: what fires, what starts, what is ended."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from dorkos.clock import ManualClock
from dorkos.db.database import Database
from dorkos.db.hold import hold_fleet
from dorkos.db.schema.pulse import pulse_schedules
from dorkos.errors import DorkError, ErrorCode
from dorkos.fleet import Fleet, FleetService
from dorkos.ids import new_id
from dorkos.pulse.model import Outcome
from dorkos.pulse.planner import Once, plan
from dorkos.pulse.slots import decide
from dorkos.vocabulary import FleetMode, RunReason, RunState, SlotReason, Verdict
from tests.pulse.workshop import ACTOR, LEASE, Request, Workshop, author, hours, python, working, workshop

PAUSING = (FleetMode.DRAIN, FleetMode.HOLD, FleetMode.STOP)
HOLDING = (FleetMode.HOLD, FleetMode.STOP)
CANCELLED = Outcome(RunState.CANCELLED, RunReason.CANCEL_REQUESTED, "Run cancelled")
PAUSED = (Verdict.SKIPPED, SlotReason.FLEET_PAUSED)
RAN = (Verdict.RUN, SlotReason.DUE)


@pytest.fixture
def shop(db: Database, clock: ManualClock, tmp_path: Path) -> Workshop:
    """Pulse whose loops stand still; the clock says 09:00."""
    return workshop(db, clock, tmp_path)


async def put(shop: Workshop, mode: FleetMode) -> None:
    """Set the mode, as a person does."""
    await FleetService(shop.db).change(mode, reason=None, actor=ACTOR)


async def verdicts(shop: Workshop, schedule_id: str) -> list[tuple[Verdict, SlotReason, int]]:
    """What was decided, oldest first."""
    slots = await shop.store.list_slots(schedule_id, limit=100, offset=0)
    return [(slot.verdict, slot.reason, slot.count) for slot in reversed(slots)]


async def hourly_passes(shop: Workshop, clock: ManualClock, count: int) -> None:
    """A server that looks each hour."""
    scheduler = shop.scheduler()
    for _ in range(count):
        hours(clock, 1)
        await scheduler.work()


@pytest.mark.parametrize("mode", PAUSING)
async def test_nothing_fires_and_nothing_is_caught_up(
    shop: Workshop, clock: ManualClock, mode: FleetMode
) -> None:
    """The instants of the pause share one visible slot; the first one after it runs, on time."""
    made = await shop.schedule()
    await put(shop, mode)
    await hourly_passes(shop, clock, 3)
    await put(shop, FleetMode.RUNNING)
    await shop.scheduler().work()
    assert await verdicts(shop, made.id) == [(*PAUSED, 3)]
    assert await shop.store.list_runs() == []

    await hourly_passes(shop, clock, 1)
    assert await verdicts(shop, made.id) == [(*PAUSED, 3), (*RAN, 1)]


async def test_a_pause_without_a_server_is_accounted_for(shop: Workshop, clock: ManualClock) -> None:
    """Nobody decided its instants; the first pass after it does, and runs only what came due since."""
    made = await shop.schedule()
    once = await shop.schedule(cron=None, run_at=clock.now() + timedelta(minutes=90))
    await put(shop, FleetMode.HOLD)
    hours(clock, 2.5)
    await put(shop, FleetMode.RUNNING)
    hours(clock, 2)
    await shop.scheduler().work()

    assert await verdicts(shop, made.id) == [
        (*PAUSED, 2),
        (Verdict.COALESCED, SlotReason.CATCH_UP, 1),
        (Verdict.RUN, SlotReason.CATCH_UP, 1),
    ]
    assert await verdicts(shop, once.id) == [(*PAUSED, 1)]
    assert (await shop.store.get_schedule(once.id)).next_due_at is None


async def test_a_tick_that_is_being_planned_when_the_hold_comes_runs_nothing(
    shop: Workshop, clock: ManualClock
) -> None:
    """The plan was made while the fleet ran. It is dropped, and the instant is decided anew."""
    made = await shop.schedule()
    hours(clock, 1)
    (due,) = await shop.store.due_schedules(clock.now(), limit=10)
    planned = decide(due.schedule, plan(Once(clock.now()), made.decided_until, clock.now()))
    await put(shop, FleetMode.HOLD)

    assert await shop.store.record_plans([planned], made_under=Fleet()) == 0
    assert await shop.store.list_runs() == []
    await shop.scheduler().work()
    assert await verdicts(shop, made.id) == [(*PAUSED, 1)]


async def test_a_plan_made_before_a_pause_that_is_over_is_dropped(shop: Workshop, clock: ManualClock) -> None:
    """On hold and lifted between planning and storing: the instant fell into the pause."""
    made = await shop.schedule()
    hours(clock, 1)
    (due,) = await shop.store.due_schedules(clock.now(), limit=10)
    planned = decide(due.schedule, plan(Once(clock.now()), made.decided_until, clock.now()))
    clock.advance(timedelta(seconds=1))
    await put(shop, FleetMode.HOLD)
    await put(shop, FleetMode.RUNNING)

    assert await shop.store.record_plans([planned], made_under=Fleet()) == 0
    await shop.scheduler().work()
    assert await verdicts(shop, made.id) == [(*PAUSED, 1)]


async def test_an_edit_accounts_for_the_pause(shop: Workshop, clock: ManualClock) -> None:
    """What an edit cuts off is told apart: paused until the fleet was lifted, missed since."""
    made = await shop.schedule()
    await put(shop, FleetMode.HOLD)
    hours(clock, 2)
    await shop.pulse.update_schedule(made.id, {"cron": "30 * * * *"}, author=author())
    hours(clock, 1)
    await put(shop, FleetMode.RUNNING)
    hours(clock, 1)
    await shop.pulse.update_schedule(made.id, {"cron": "0 * * * *"}, author=author())

    assert await verdicts(shop, made.id) == [
        (*PAUSED, 2),
        (*PAUSED, 1),
        (Verdict.MISSED, SlotReason.DUE, 1),
    ]


@pytest.mark.parametrize("mode", HOLDING)
async def test_queued_runs_stay_queued(
    shop: Workshop, db: Database, clock: ManualClock, tmp_path: Path, mode: FleetMode
) -> None:
    """No server starts them; when the hold is lifted they start in their order."""
    queued = [await shop.queued("true") for _ in range(2)]
    other = workshop(db, clock, tmp_path)
    await put(shop, mode)
    assert await shop.claimed(5) == []
    assert await other.claimed(5) == []
    assert [(await shop.store.get_run(run_id)).status for run_id in queued] == [RunState.QUEUED] * 2

    await put(other, FleetMode.RUNNING)
    assert [claim.run.id for claim in await shop.claimed(5)] == queued


async def test_a_drain_finishes_what_was_accepted(shop: Workshop, tmp_path: Path) -> None:
    """Queued runs are started, and one that a message asks for can be queued."""
    agent = await shop.register("true", folder=tmp_path)
    waiting, asked = await shop.queued("true"), new_id()
    await put(shop, FleetMode.DRAIN)
    request = Request(agent.id, new_id(), new_id(), "hello", {})
    await shop.db.write(lambda tx: shop.pulse.queue_run(tx, request, run_id=asked))

    assert [claim.run.id for claim in await shop.claimed(5)] == [waiting, asked]


@pytest.mark.parametrize("mode", PAUSING)
async def test_no_run_is_asked_for_by_hand(shop: Workshop, mode: FleetMode) -> None:
    """It is refused with the way out, and nothing waits for later unseen."""
    made = await shop.schedule()
    await put(shop, mode)
    with pytest.raises(DorkError) as refusal:
        await shop.store.trigger_run(made.id, actor=ACTOR)

    assert refusal.value.code is ErrorCode.FLEET_ON_HOLD
    assert "dorkos fleet resume" in (refusal.value.hint or "")
    assert await shop.store.list_runs() == []


@pytest.mark.parametrize("mode", PAUSING)
async def test_what_is_at_work_may_end(shop: Workshop, mode: FleetMode) -> None:
    """Its lease is renewed, its output is kept, and it ends as it would."""
    run_id = await shop.queued("true")
    (claim,) = await shop.claimed()
    await put(shop, mode)
    assert await shop.store.renew_leases([claim.lease_token], lease=LEASE) == {run_id: False}
    assert await shop.store.finish_run(claim.run, claim.lease_token, Outcome(RunState.COMPLETED))
    run = await shop.store.get_run(run_id)
    assert (run.status, run.reason) == (RunState.COMPLETED, None)


@pytest.mark.parametrize("mode", [FleetMode.RUNNING, FleetMode.DRAIN, FleetMode.HOLD])
async def test_only_a_stop_ends_what_is_at_work(shop: Workshop, mode: FleetMode) -> None:
    """In every other mode nobody is asked to end a run."""
    run_id = await shop.queued("true")
    await shop.claimed()
    await put(shop, mode)
    await shop.pulse.fleet_stop.work()
    assert await shop.store.cancel_for_stop(limit=10) == 0
    assert (await shop.store.get_run(run_id)).cancel_requested_at is None


async def test_a_stop_ends_every_run_on_every_server(
    shop: Workshop, db: Database, clock: ManualClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever looks first asks for all ends, each once; the end says why; what waits goes on waiting."""
    monkeypatch.setattr("dorkos.pulse.stopping._CHUNK", 2)
    other = workshop(db, clock, tmp_path)
    queued = [await shop.queued("true") for _ in range(6)]
    mine, others = await shop.claimed(2), await other.claimed(3)
    await put(shop, FleetMode.STOP)
    for server in (shop, other):
        await server.pulse.fleet_stop.work()
    asked = await shop.events("pulse.run.cancel_requested")
    assert sorted(run_id for run_id, _ in asked) == sorted(queued[:5])
    assert {facts["reason"] for _, facts in asked} == {"fleet_stopped"}

    for server, claims in ((shop, mine), (other, others)):
        for claim in claims:
            assert await server.store.renew_leases([claim.lease_token], lease=LEASE) == {claim.run.id: True}
            assert await server.store.finish_run(claim.run, claim.lease_token, CANCELLED)
            run = await server.store.get_run(claim.run.id)
            assert (run.status, run.reason) == (RunState.CANCELLED, RunReason.FLEET_STOPPED)
            assert run.error == "The fleet was stopped."
    told = [facts["reason"] for _, facts in await shop.events("pulse.run.finished")]
    assert told == ["fleet_stopped"] * 5
    assert (await shop.store.get_run(queued[5])).status is RunState.QUEUED


async def test_a_stop_leaves_the_reason_of_whoever_came_first(shop: Workshop) -> None:
    """A run that a person cancelled before is cancelled by that person."""
    run_id = await shop.queued("true")
    (claim,) = await shop.claimed()
    await shop.store.cancel_run(run_id, actor=ACTOR)
    await put(shop, FleetMode.STOP)
    await shop.pulse.fleet_stop.work()
    assert await shop.store.finish_run(claim.run, claim.lease_token, CANCELLED)
    assert (await shop.store.get_run(run_id)).reason is RunReason.CANCEL_REQUESTED


async def test_a_run_that_ends_by_itself_during_a_stop_says_so(shop: Workshop) -> None:
    """The wish to end it comes too late, and is no reason."""
    run_id = await shop.queued("true")
    (claim,) = await shop.claimed()
    await put(shop, FleetMode.STOP)
    await shop.pulse.fleet_stop.work()
    assert await shop.store.finish_run(claim.run, claim.lease_token, Outcome(RunState.COMPLETED))
    run = await shop.store.get_run(run_id)
    assert (run.status, run.reason) == (RunState.COMPLETED, None)


async def test_a_stopped_run_that_never_began_waits_again(shop: Workshop) -> None:
    """Given back by a server that shuts down, it is one that waits: a later start does not cancel it."""
    run_id = await shop.queued("true")
    (claim,) = await shop.claimed()
    await put(shop, FleetMode.STOP)
    await shop.pulse.fleet_stop.work()
    assert await shop.store.release_run(claim)
    run = await shop.store.get_run(run_id)
    assert (run.status, run.reason, run.cancel_requested_at) == (RunState.QUEUED, None, None)


async def test_a_program_at_work_is_ended_by_a_stop(
    db: Database, clock: ManualClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the mode, set through another server, to the end of the process, without waiting for a round."""
    for module in ("stopping", "executor", "scheduler"):
        monkeypatch.setattr(f"dorkos.pulse.{module}._INTERVAL_S", 3600.0)
    another = FleetService(db)
    async with working(workshop(db, clock, tmp_path)) as shop:
        run_id = await shop.queued(*python("import signal; print('up'); signal.pause()"))
        await shop.printed(run_id, "up")
        await another.change(FleetMode.STOP, reason=None, actor=ACTOR)
        run = await shop.finished(run_id)
    assert (run.status, run.reason) == (RunState.CANCELLED, RunReason.FLEET_STOPPED)


async def test_lifting_a_hold_wakes_the_executor(
    db: Database, clock: ManualClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waited starts at once, not a round later."""
    monkeypatch.setattr("dorkos.pulse.executor._INTERVAL_S", 3600.0)
    shop = workshop(db, clock, tmp_path)
    run_id = await shop.queued(*python("print('done')"))
    await put(shop, FleetMode.HOLD)
    async with working(shop):
        shop.pulse.executor.worked.enable()
        shop.pulse.executor.wake()
        await shop.pulse.executor.worked.wait()
        assert (await shop.store.get_run(run_id)).status is RunState.QUEUED
        await put(shop, FleetMode.RUNNING)
        assert (await shop.finished(run_id)).status is RunState.COMPLETED


async def test_the_cursors_of_an_offline_hold_are_taken_up(shop: Workshop, clock: ManualClock) -> None:
    """They stand at the hold and mean "look again": the next instant is told anew, and nothing old fires."""
    made = await shop.schedule()
    old = await shop.schedule(cron=None, run_at=clock.now() + timedelta(minutes=5))
    coming = await shop.schedule(cron=None, run_at=clock.now() + timedelta(hours=9))
    by_hand = await shop.schedule(cron=None, timezone=None)
    paused = await shop.schedule()
    await shop.pulse.update_schedule(paused.id, {"enabled": False}, author=author())
    hours(clock, 3.5)
    await shop.db.write(lambda tx: hold_fleet(tx._group.connection, reason="restored", now=clock.now()))
    await shop.scheduler().work()

    async def next_due(schedule_id: str) -> object:
        return (await shop.store.get_schedule(schedule_id)).next_due_at

    assert await next_due(made.id) == clock.now() + timedelta(minutes=30)
    assert await next_due(coming.id) == coming.run_at
    assert [await next_due(one.id) for one in (old, by_hand, paused)] == [None, None, None]
    assert await shop.store.list_runs() == []
    for schedule in (made, old, coming, by_hand, paused):
        assert await verdicts(shop, schedule.id) == []


async def test_an_interval_is_taken_up_from_an_offline_hold(shop: Workshop, clock: ManualClock) -> None:
    """Its instants are still counted from its anchor, and none before the hold is due."""
    made = await shop.schedule(cron=None, timezone=None)
    anchor = clock.now()
    interval = sa.update(pulse_schedules).values(every_ms=60_000, anchor_at=anchor)
    await shop.db.write(lambda tx: tx.execute(interval))
    clock.advance(timedelta(minutes=90, seconds=30))
    await shop.db.write(lambda tx: hold_fleet(tx._group.connection, reason="restored", now=clock.now()))
    assert (await shop.store.get_schedule(made.id)).next_due_at == clock.now()
    await shop.scheduler().work()

    assert (await shop.store.get_schedule(made.id)).next_due_at == anchor + timedelta(minutes=91)
    assert await verdicts(shop, made.id) == []
