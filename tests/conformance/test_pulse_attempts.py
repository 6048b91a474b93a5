"""Attempts, and which run may start when, on both engines."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from dorkos.clock import ManualClock
from dorkos.db.database import Database
from dorkos.pulse.attempts import RETRY_DELAY_MAX_MS, pause_before
from dorkos.pulse.model import Claim, Outcome, Run, Schedule
from dorkos.vocabulary import OverlapPolicy, RunReason, RunState, RunTrigger, ScheduleStatus
from tests.pulse.workshop import ACTOR, Workshop, author, hours, workshop

FAILED = Outcome(RunState.FAILED, RunReason.EXIT_CODE, exit_code=1)
DONE = Outcome(RunState.COMPLETED, exit_code=0)
LATE = Outcome(RunState.TIMEOUT, RunReason.DEADLINE)
SHUT_DOWN = Outcome(RunState.INTERRUPTED, RunReason.SHUTDOWN)
UNCONFIRMED = Outcome(RunState.INTERRUPTED, RunReason.UNCONFIRMED)
SILENT = Outcome(RunState.TIMEOUT, RunReason.NO_REPLY)
CANCELLED = Outcome(RunState.CANCELLED, RunReason.CANCEL_REQUESTED)
BLOCKED = Outcome(RunState.BLOCKED, RunReason.QUESTION)
REMOVED = Outcome(RunState.FAILED, RunReason.TARGET_REMOVED)


@pytest.fixture
def shop(db: Database, clock: ManualClock, tmp_path: Path) -> Workshop:
    """Pulse whose loops stand still."""
    return workshop(db, clock, tmp_path)


async def due(shop: Workshop, clock: ManualClock, **changes: Any) -> tuple[Schedule, Claim]:
    """A schedule, and its first run, which is at work."""
    made = await shop.schedule(**changes)
    hours(clock, 1)
    await shop.scheduler().work()
    (claim,) = await shop.claimed()
    return made, claim


async def end(shop: Workshop, claim: Claim, outcome: Outcome) -> None:
    """End a run as its holder does."""
    assert await shop.store.finish_run(claim.run, claim.lease_token, outcome)


async def attempts(shop: Workshop, schedule: Schedule) -> list[tuple[int, RunState]]:
    """The runs of a schedule by attempt."""
    return sorted((run.attempt, run.status) for run in await shop.run_of(schedule))


async def waiting(shop: Workshop, schedule: Schedule) -> Run:
    """The run of a schedule that waits."""
    (run,) = await shop.store.list_runs(schedule_id=schedule.id, states=[RunState.QUEUED])
    return run


async def test_a_failed_attempt_is_followed_by_another(shop: Workshop, clock: ManualClock) -> None:
    """It is queued by the end of the first, does the same, in the same chain, after the pause."""
    made, first = await due(shop, clock, max_attempts=2, retry_delay_ms=60_000)
    await shop.pulse.update_schedule(made.id, {"prompt": "Something else."}, author=author())
    await end(shop, first, FAILED)
    second = await waiting(shop, made)
    assert (second.attempt, second.slot_id, second.chain_id) == (2, first.run.slot_id, first.run.chain_id)
    assert (second.prompt, second.command) == (first.run.prompt, first.run.command)
    pause = pause_before(first.run.id, attempt=1, retry_delay_ms=60_000)
    assert second.available_at == clock.now() + pause

    assert await shop.claimed() == []
    clock.advance(pause)
    (again,) = await shop.claimed()
    assert again.run.id == second.id
    await end(shop, again, FAILED)
    assert await attempts(shop, made) == [(1, RunState.FAILED), (2, RunState.FAILED)]


@pytest.mark.parametrize(
    ("outcome", "repeatable", "follows"),
    [
        (FAILED, False, True),
        (LATE, False, True),
        (SHUT_DOWN, False, True),
        (UNCONFIRMED, False, False),
        (UNCONFIRMED, True, True),
        (SILENT, False, False),
        (SILENT, True, True),
        (CANCELLED, True, False),
        (BLOCKED, True, False),
        (REMOVED, True, False),
        (DONE, True, False),
    ],
    ids=lambda value: f"{value.state}-{value.reason}" if isinstance(value, Outcome) else str(value),
)
async def test_only_after_what_is_provably_over(
    shop: Workshop, clock: ManualClock, outcome: Outcome, repeatable: bool, follows: bool
) -> None:
    """An end that does not prove it is over is tried again only if doing it twice is declared harmless."""
    made, claim = await due(shop, clock, max_attempts=5, repeatable=repeatable)
    await end(shop, claim, outcome)
    assert len(await attempts(shop, made)) == (2 if follows else 1)


async def test_an_end_that_is_not_stored_queues_nothing(shop: Workshop, clock: ManualClock) -> None:
    """Of many who end a run, one does, and there is one next attempt."""
    made, claim = await due(shop, clock, max_attempts=5)
    answers = await asyncio.gather(
        *(shop.store.finish_run(claim.run, claim.lease_token, FAILED) for _ in range(4))
    )
    assert sorted(answers) == [False, False, False, True]
    assert await attempts(shop, made) == [(1, RunState.FAILED), (2, RunState.QUEUED)]


async def test_what_was_halted_does_not_go_on_by_itself(shop: Workshop, clock: ManualClock) -> None:
    """Switched off, paused or deleted while the first attempt runs: there is no second."""
    for change in ({"enabled": False}, {"status": ScheduleStatus.PAUSED}):
        made, claim = await due(shop, clock, max_attempts=5)
        await shop.pulse.update_schedule(made.id, change, author=author())
        await end(shop, claim, FAILED)
        assert await attempts(shop, made) == [(1, RunState.FAILED)]
    made, claim = await due(shop, clock, max_attempts=5)
    await shop.store.delete_schedule(made.id, actor=ACTOR)
    await end(shop, claim, FAILED)
    assert await attempts(shop, made) == [(1, RunState.FAILED)]


async def test_a_run_by_hand_has_one_attempt(shop: Workshop) -> None:
    """Whoever started it sees how it ended."""
    made = await shop.schedule(max_attempts=5)
    await shop.store.trigger_run(made.id, actor=ACTOR)
    (claim,) = await shop.claimed()
    await end(shop, claim, FAILED)
    assert await attempts(shop, made) == [(1, RunState.FAILED)]


def test_the_pause_doubles_up_to_an_hour() -> None:
    """Each is at least what was asked for and at most a quarter longer, and the same run has one pause."""
    for attempt, least_s in ((1, 30), (2, 60), (3, 120), (7, 1920), (8, 3600), (5000, 3600)):
        pause = pause_before("01J", attempt=attempt, retry_delay_ms=30_000)
        assert timedelta(seconds=least_s) <= pause <= timedelta(seconds=least_s * 1.25)
        assert pause == pause_before("01J", attempt=attempt, retry_delay_ms=30_000)
    longest = timedelta(milliseconds=RETRY_DELAY_MAX_MS)
    assert pause_before("01J", attempt=1, retry_delay_ms=RETRY_DELAY_MAX_MS) >= longest
    pauses = {pause_before(str(n), attempt=1, retry_delay_ms=30_000) for n in range(50)}
    assert len(pauses) > 40
    assert pause_before("01J", attempt=3, retry_delay_ms=0) == timedelta(0)


@pytest.mark.parametrize("overlap", [o for o in OverlapPolicy if o is not OverlapPolicy.ALLOW])
async def test_one_run_of_a_schedule_at_a_time(shop: Workshop, overlap: OverlapPolicy) -> None:
    """The next one waits until the earlier has ended; it keeps nobody else from starting."""
    made = await shop.schedule(overlap=overlap)
    for _ in range(3):
        await shop.store.trigger_run(made.id, actor=ACTOR)
    other = await shop.queued("true")
    first, beside = await shop.claimed(10)
    assert (first.run.schedule_id, beside.run.id) == (made.id, other)
    assert await shop.claimed(10) == []
    await end(shop, first, DONE)
    assert len(await shop.claimed(10)) == 1


async def test_overlapping_runs_up_to_the_cap(shop: Workshop) -> None:
    """With `allow` all start, or as many as `max_active`, counting those already at work."""
    free = await shop.schedule(overlap=OverlapPolicy.ALLOW)
    capped = await shop.schedule(overlap=OverlapPolicy.ALLOW, max_active=2)
    for made in (capped, free):
        for _ in range(4):
            await shop.store.trigger_run(made.id, actor=ACTOR)
    (first,) = await shop.claimed(1)
    at_work = [first, *await shop.claimed(20)]
    assert sum(claim.run.schedule_id == free.id for claim in at_work) == 4
    assert sum(claim.run.schedule_id == capped.id for claim in at_work) == 2
    await end(shop, first, DONE)
    assert [claim.run.schedule_id for claim in await shop.claimed(20)] == [capped.id]


async def test_an_agent_has_as_many_runs_as_the_setting_allows(
    db: Database, clock: ManualClock, tmp_path: Path
) -> None:
    """The cap counts runs of all its schedules; others start meanwhile."""
    shop = workshop(db, clock, tmp_path, max_concurrent_per_agent=2)
    agent = await shop.register("true", folder=tmp_path)
    for _ in range(4):
        made = await shop.schedule(command=None, agent_id=agent.id)
        await shop.store.trigger_run(made.id, actor=ACTOR)
    other = await shop.queued("true")
    claims = await shop.claimed(10)
    assert [claim.run.agent_id for claim in claims] == [agent.id, agent.id, None]
    assert claims[-1].run.id == other
    await end(shop, claims[0], DONE)
    assert len(await shop.claimed(10)) == 1


async def test_many_servers_keep_the_caps_together(shop: Workshop) -> None:
    """Claims at the same time never start two runs of one schedule."""
    made = [await shop.schedule() for _ in range(3)]
    for schedule in made * 5:
        await shop.store.trigger_run(schedule.id, actor=ACTOR)
    claims = [claim for got in await asyncio.gather(*(shop.claimed(5) for _ in range(8))) for claim in got]
    assert sorted(claim.run.schedule_id or "" for claim in claims) == sorted(one.id for one in made)


async def test_those_that_must_wait_do_not_hide_the_others(shop: Workshop) -> None:
    """However many runs of a busy schedule wait in front, one behind them is found."""
    busy = await shop.schedule()
    for _ in range(120):
        await shop.store.trigger_run(busy.id, actor=ACTOR)
    behind = await shop.queued("true")
    assert [claim.run.id for claim in await shop.claimed(2)][1:] == [behind]


async def test_a_waiting_attempt_holds_up_nobody_else(shop: Workshop, clock: ManualClock) -> None:
    """Until its pause is over it waits, and what came after it starts."""
    made, claim = await due(shop, clock, max_attempts=2, retry_delay_ms=3_600_000)
    await end(shop, claim, FAILED)
    hours(clock, 0.999)
    await shop.scheduler().work()
    assert [run.trigger for run in await shop.run_of(made)] == [RunTrigger.SCHEDULED] * 2
    assert await shop.queued("true") in [claim.run.id for claim in await shop.claimed(2)]
