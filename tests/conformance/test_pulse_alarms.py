"""What has no outcome in time, and schedules that fail too often, on both engines."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dorkos.clock import ManualClock, iso
from dorkos.db.database import Database
from dorkos.db.schema.pulse import pulse_slots
from dorkos.fleet import change
from dorkos.identity.model import Caller
from dorkos.pulse.model import Claim, Outcome, Schedule
from dorkos.vocabulary import FleetMode, RunReason, RunState, ScheduleStatus, Scope
from tests.pulse.workshop import ACTOR, Workshop, author, hours, workshop

FAILED = Outcome(RunState.FAILED, RunReason.EXIT_CODE, exit_code=1)
DONE = Outcome(RunState.COMPLETED, exit_code=0)
PERSON = Caller(ACTOR, frozenset(Scope))
MINUTE_MS = 60_000


@pytest.fixture
def shop(db: Database, clock: ManualClock, tmp_path: Path) -> Workshop:
    """Pulse whose loops stand still."""
    return workshop(db, clock, tmp_path, default_max_runtime_ms=30 * MINUTE_MS)


async def expectation(shop: Workshop) -> datetime | None:
    """When the outcome of the only slot is overdue."""
    return await shop.db.read(lambda c: c.execute(sa.select(pulse_slots.c.expected_by)).scalar_one())


async def due(shop: Workshop, clock: ManualClock, **changes: Any) -> Schedule:
    """A schedule whose first instant has come, with its run in the queue."""
    made = await shop.schedule(**changes)
    hours(clock, 1)
    await shop.scheduler().work()
    return made


async def shown(shop: Workshop, schedule: Schedule) -> str | None:
    """The alarm as the schedule's answers show it, alone and in the list."""
    alone = await shop.ask("schedules.get", PERSON, id=schedule.id)
    listed = {one.id: one.alarm for one in await shop.ask("schedules.list", PERSON)}
    assert alone.alarm == listed[schedule.id]
    return str(alone.alarm) if alone.alarm else None


async def end(shop: Workshop, claim: Claim, outcome: Outcome) -> None:
    """End a run as its holder does."""
    assert await shop.store.finish_run(claim.run, claim.lease_token, outcome)


async def by_hand(shop: Workshop, schedule: Schedule, outcome: Outcome) -> Schedule:
    """The schedule after one more run of it."""
    await shop.store.trigger_run(schedule.id, actor=ACTOR)
    (claim,) = await shop.claimed()
    await end(shop, claim, outcome)
    return await shop.store.get_schedule(schedule.id)


@pytest.mark.parametrize(
    ("fields", "minutes"),
    [
        ({"alarm_after_ms": 5 * MINUTE_MS}, 5),
        ({"alarm_after_ms": 5 * MINUTE_MS, "max_attempts": 3}, 5),
        ({"max_runtime": 20 * MINUTE_MS}, 30),
        ({"max_runtime": 20 * MINUTE_MS, "max_attempts": 3}, 70),
        ({}, 40),
        ({"jitter_ms": 2 * MINUTE_MS}, 42),
    ],
    ids=str,
)
async def test_when_an_outcome_is_overdue(
    shop: Workshop, clock: ManualClock, fields: dict[str, Any], minutes: int
) -> None:
    """After the schedule's own time, else when all attempts could have had theirs, and ten minutes more."""
    await due(shop, clock, **fields)
    assert await expectation(shop) == clock.now() + timedelta(minutes=minutes)


async def test_what_is_caught_up_is_not_late_from_the_start(shop: Workshop, clock: ManualClock) -> None:
    """The time counts from the decision, not from the instant that was missed."""
    await shop.schedule(cron="30 10 * * *", alarm_after_ms=5 * MINUTE_MS)
    hours(clock, 5)
    await shop.scheduler().work()
    assert await expectation(shop) == clock.now() + timedelta(minutes=5)


async def test_an_overdue_instant_raises_one_alarm(shop: Workshop, clock: ManualClock) -> None:
    """Once, whoever looks how often; the schedule shows it until the outcome is there."""
    made = await due(shop, clock, alarm_after_ms=5 * MINUTE_MS)
    instant = iso(clock.now())
    await shop.pulse.alarms.work()
    assert await shown(shop, made) is None

    clock.advance(timedelta(minutes=5))
    for _ in range(3):
        await shop.pulse.alarms.work()
    ((slot_id, facts),) = await shop.events("pulse.slot.overdue")
    assert facts == {"scheduleId": made.id, "dueAt": instant, "expectedBy": iso(clock.now())}
    assert await shown(shop, made) == instant

    (claim,) = await shop.claimed()
    await end(shop, claim, FAILED)
    assert claim.run.slot_id == slot_id
    assert await shown(shop, made) is None
    await shop.pulse.alarms.work()
    assert len(await shop.events("pulse.slot.overdue")) == 1


async def test_another_attempt_is_no_outcome(shop: Workshop, clock: ManualClock) -> None:
    """The expectation stands until the last attempt has ended."""
    await due(shop, clock, max_attempts=2, retry_delay_ms=0)
    (claim,) = await shop.claimed()
    await end(shop, claim, FAILED)
    assert await expectation(shop) is not None
    (claim,) = await shop.claimed()
    await end(shop, claim, FAILED)
    assert await expectation(shop) is None


async def test_a_cancelled_run_is_an_outcome(shop: Workshop, clock: ManualClock) -> None:
    """Somebody decided it, also while it waited."""
    made = await due(shop, clock)
    (run,) = await shop.run_of(made)
    await shop.store.cancel_run(run.id, actor=ACTOR)
    assert await expectation(shop) is None


async def test_nothing_is_expected_of_what_does_not_run(shop: Workshop, clock: ManualClock) -> None:
    """A skipped instant has its outcome in its verdict."""
    await due(shop, clock, status=ScheduleStatus.PAUSED)
    assert await expectation(shop) is None


async def test_an_instant_that_nobody_decides_raises_an_alarm(shop: Workshop, clock: ManualClock) -> None:
    """Also while the scheduler stands still; told once, at the second look, and over when decided."""
    made = await shop.schedule()
    due_at = made.next_due_at
    assert due_at is not None
    hours(clock, 1)
    await shop.pulse.alarms.work()
    assert await shown(shop, made) is None
    clock.advance(timedelta(minutes=6))
    await shop.pulse.alarms.work()
    assert await shop.events("pulse.schedule.overdue") == []
    for _ in range(3):
        await shop.pulse.alarms.work()
    assert await shop.events("pulse.schedule.overdue") == [(made.id, {"dueAt": iso(due_at)})]
    assert await shown(shop, made) == iso(due_at)
    await shop.scheduler().work()
    assert await shown(shop, made) is None


async def test_failures_in_a_row_pause_a_schedule(shop: Workshop, clock: ManualClock) -> None:
    """In the commit that ends the run: status, reason, event. A success in between begins anew."""
    made = await shop.schedule(pause_after_failures=2)
    for outcome, failures in ((FAILED, 1), (DONE, 0), (FAILED, 1)):
        after = await by_hand(shop, made, outcome)
        assert (after.status, after.failures_in_row) == (ScheduleStatus.ACTIVE, failures)
    assert await shop.events("pulse.schedule.paused") == []

    paused = await by_hand(shop, made, Outcome(RunState.TIMEOUT, RunReason.DEADLINE))
    assert (paused.status, paused.status_reason) == (
        ScheduleStatus.PAUSED,
        "2 runs in a row have failed.",
    )
    assert paused.revision == made.revision + 1
    ((entity, facts),) = await shop.events("pulse.schedule.paused")
    assert (entity, facts["failures"]) == (made.id, 2)
    hours(clock, 1)
    await shop.scheduler().work()
    (slot,) = await shop.store.list_slots(made.id, limit=10, offset=0)
    assert (slot.verdict, slot.reason) == ("skipped", "paused")

    resumed = await shop.pulse.update_schedule(made.id, {"status": ScheduleStatus.ACTIVE}, author=author())
    assert (resumed.failures_in_row, resumed.status_reason) == (0, None)
    assert (await shop.store.get_schedule(made.id)).failures_in_row == 0
    assert (await by_hand(shop, made, FAILED)).status is ScheduleStatus.ACTIVE


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome(RunState.INTERRUPTED, RunReason.SHUTDOWN),
        Outcome(RunState.CANCELLED, RunReason.CANCEL_REQUESTED),
        Outcome(RunState.BLOCKED, RunReason.QUESTION),
    ],
    ids=lambda outcome: str(outcome.state),
)
async def test_other_ends_neither_count_nor_break_the_row(shop: Workshop, outcome: Outcome) -> None:
    """A server that stops, or a person who cancels, says nothing about the schedule."""
    made = await shop.schedule(pause_after_failures=2)
    await by_hand(shop, made, FAILED)
    assert (await by_hand(shop, made, outcome)).failures_in_row == 1
    assert (await by_hand(shop, made, FAILED)).status is ScheduleStatus.PAUSED


async def test_attempts_of_one_instant_are_one_failure(shop: Workshop, clock: ManualClock) -> None:
    """Only the last one counts."""
    made = await due(shop, clock, max_attempts=2, retry_delay_ms=0, pause_after_failures=5)
    for failures in (0, 1):
        (claim,) = await shop.claimed()
        await end(shop, claim, FAILED)
        assert (await shop.store.get_schedule(made.id)).failures_in_row == failures


async def test_a_schedule_that_does_not_say_so_is_never_paused(shop: Workshop) -> None:
    """Its failures are counted and shown, nothing else."""
    made = await shop.schedule()
    for failures in range(1, 5):
        after = await by_hand(shop, made, FAILED)
        assert (after.status, after.failures_in_row) == (ScheduleStatus.ACTIVE, failures)


async def test_a_hold_of_the_fleet_raises_no_alarm_of_its_own(shop: Workshop, clock: ManualClock) -> None:
    """What fell due during a hold is decided as skipped, so nothing is expected of it."""
    made = await shop.schedule()
    await shop.db.write(lambda tx: change(tx, FleetMode.HOLD, reason=None, actor=ACTOR))
    hours(clock, 1)
    await shop.scheduler().work()
    hours(clock, 0.5)
    await shop.pulse.alarms.work()
    assert await shown(shop, made) is None
