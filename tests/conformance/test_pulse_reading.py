"""Reading on both engines: pages of runs, figures of a schedule, and what should have run and did not."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from dorkos.clock import ManualClock, iso
from dorkos.db.database import Database
from dorkos.db.schema.pulse import pulse_runs
from dorkos.errors import DorkError, ErrorCode
from dorkos.identity.model import OPERATOR
from dorkos.pulse.model import Outcome, Schedule
from dorkos.pulse.reading import Place, Window, percentile
from dorkos.vocabulary import RunReason, RunState, ScheduleStatus
from tests.pulse.workshop import ACTOR, Workshop, author, hours, workshop

ALWAYS = Window(None, None)


@pytest.fixture
def shop(db: Database, clock: ManualClock, tmp_path: Path) -> Workshop:
    """Pulse whose loops stand still; the clock says 09:00."""
    return workshop(db, clock, tmp_path)


async def trigger(shop: Workshop, schedule: Schedule) -> str:
    """One more run of it, waiting."""
    return await shop.store.trigger_run(schedule.id, actor=ACTOR)


async def end(shop: Workshop, clock: ManualClock, state: RunState, *, after_ms: int) -> str:
    """The oldest waiting run ends like this; its id."""
    [claim] = await shop.claimed()
    clock.advance(timedelta(milliseconds=after_ms))
    reason = None if state is RunState.COMPLETED else RunReason.EXIT_CODE
    assert await shop.store.finish_run(claim.run, claim.lease_token, Outcome(state, reason, "It broke."))
    return claim.run.id


async def test_pages_hold_still_while_runs_are_added(shop: Workshop, clock: ManualClock) -> None:
    """Newest first, those of one millisecond by id; none twice and none left out by a newer run."""
    made = await shop.schedule(cron=None, timezone=None)
    ids = []
    for number in range(7):
        ids.append(await trigger(shop, made))
        if number % 3 == 2:
            clock.advance(timedelta(milliseconds=1))
    found: list[str] = []
    after: Place | None = None
    while True:
        page = await shop.store.page_of_runs(
            schedule_id=made.id, states=[RunState.QUEUED], window=ALWAYS, after=after, limit=2, offset=0
        )
        if not page:
            break
        found += [run.id for run in page]
        after = Place.parse(str(Place(page[-1].created_at, page[-1].id)))
        clock.advance(timedelta(milliseconds=1))
        await trigger(shop, made)
    assert found == ids[::-1]


async def test_a_window_is_from_since_to_before_until(shop: Workshop, clock: ManualClock) -> None:
    """The first instant belongs to it, the last does not; exchanged ends and odd places are refused."""
    made = await shop.schedule(cron=None, timezone=None)
    start, ids = clock.now(), []
    for _ in range(3):
        ids.append(await trigger(shop, made))
        hours(clock, 1)
    bounds = {"since": iso(start + timedelta(hours=1)), "until": iso(start + timedelta(hours=2))}
    assert [run.id for run in await shop.ask("runs.list", OPERATOR, **bounds)] == [ids[1]]
    for fields, code in (
        ({"since": bounds["until"], "until": bounds["since"]}, ErrorCode.INVALID_INSTANT),
        ({"since": "yesterday"}, ErrorCode.INVALID_INSTANT),
        ({"cursor": "nonsense"}, ErrorCode.INVALID_CURSOR),
        ({"cursor": f"{bounds['since']}~ü"}, ErrorCode.INVALID_CURSOR),
    ):
        with pytest.raises(DorkError) as refusal:
            await shop.ask("runs.list", OPERATOR, **fields)
        assert refusal.value.code is code


async def test_figures_of_a_schedule(shop: Workshop, clock: ManualClock) -> None:
    """Success over what ended but the cancelled, durations by nearest rank, cost only where it is known."""
    made, other = await shop.schedule(cron=None, timezone=None), await shop.schedule()
    empty = await shop.ask("schedules.stats", OPERATOR, id=made.id)
    assert (empty.runs, empty.success_rate, empty.p50_duration_ms, empty.cost_usd) == (0, None, None, None)
    ids = []
    for took, state in ((100, RunState.COMPLETED), (300, RunState.COMPLETED), (200, RunState.FAILED)):
        await trigger(shop, made)
        ids.append(await end(shop, clock, state, after_ms=took))
    await shop.store.cancel_run(await trigger(shop, made), actor=ACTOR)
    await trigger(shop, made)
    await trigger(shop, other)
    await shop.db.write(
        lambda tx: tx.execute(
            pulse_runs.update().where(pulse_runs.c.id == ids[0]).values(cost_microusd=1_500_000)
        )
    )
    found = await shop.ask("schedules.stats", OPERATOR, id=made.id)
    assert found.by_state == {
        RunState.COMPLETED: 2,
        RunState.FAILED: 1,
        RunState.CANCELLED: 1,
        RunState.QUEUED: 1,
    }
    assert found.success_rate == pytest.approx(2 / 3)
    assert (found.runs, found.p50_duration_ms, found.p95_duration_ms) == (5, 200, 300)
    assert found.cost_usd == 1.5
    with pytest.raises(DorkError) as refusal:
        await shop.ask("schedules.stats", OPERATOR, id="nobody")
    assert refusal.value.code is ErrorCode.SCHEDULE_NOT_FOUND


def test_percentiles_are_values_that_occurred() -> None:
    """By nearest rank: of one value both are that value, of nothing there is none."""
    assert percentile([], 50) is None
    assert [percentile([7], share) for share in (50, 95)] == [7, 7]
    hundred = list(range(1, 101))
    assert [percentile(hundred, share) for share in (50, 95, 100)] == [50, 95, 100]


async def test_what_did_not_run_is_told_with_its_reason(shop: Workshop, clock: ManualClock) -> None:
    """What was skipped and what failed are there; what completed and what is under way are not."""
    start = clock.now()
    failing, fine = await shop.schedule(name="failing"), await shop.schedule(name="fine")
    paused = await shop.schedule(name="paused")
    await shop.pulse.update_schedule(paused.id, {"status": ScheduleStatus.PAUSED}, author=author())
    hours(clock, 1)
    await shop.scheduler().work()
    for claim in await shop.claimed(2):
        state = RunState.FAILED if claim.run.schedule_id == failing.id else RunState.COMPLETED
        reason = RunReason.EXIT_CODE if state is RunState.FAILED else None
        await shop.store.finish_run(claim.run, claim.lease_token, Outcome(state, reason, "It broke."))
    hours(clock, 1)
    await shop.scheduler().work()

    found = await shop.ask("missed", OPERATOR)
    told = {(one.schedule_name, one.what, one.reason, one.count) for one in found.missed}
    assert ("failing", "not_completed", "exit_code", 1) in told
    assert {row[:3] for row in told} == {
        ("failing", "not_completed", "exit_code"),
        ("paused", "not_run", "paused"),
    }
    [broke] = [one for one in found.missed if one.what == "not_completed"]
    assert (broke.error, broke.due_at, broke.state) == (
        "It broke.",
        iso(start + timedelta(hours=1)),
        RunState.FAILED,
    )
    assert broke.run_id
    first = await shop.ask("missed", OPERATOR, limit=1)
    assert (len(first.missed), first.more, found.more) == (1, True, False)
    await shop.store.delete_schedule(paused.id, actor=ACTOR)
    left = await shop.ask("missed", OPERATOR)
    assert {one.schedule_id for one in left.missed} == {failing.id}
    assert fine.id not in {one.schedule_id for one in found.missed}


async def test_what_nobody_looked_at_is_undecided(shop: Workshop, clock: ManualClock) -> None:
    """With no scheduler at work, the instant that passed is told, and is gone once it is decided."""
    made = await shop.schedule()
    hours(clock, 1)
    assert (await shop.ask("missed", OPERATOR)).missed == []
    clock.advance(timedelta(minutes=2))
    [overlooked] = (await shop.ask("missed", OPERATOR)).missed
    assert (overlooked.schedule_id, overlooked.what) == (made.id, "undecided")
    await shop.scheduler().work()
    assert (await shop.ask("missed", OPERATOR)).missed == []
