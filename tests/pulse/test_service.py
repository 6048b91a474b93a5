"""Pulse as a whole: from a due instant to a finished run, switched off, and stopped at any moment."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from dorkos.clock import ManualClock, SystemClock
from dorkos.testing import create_test_db
from dorkos.vocabulary import RunState, RunTrigger, Verdict
from tests.pulse.workshop import Workshop, author, hours, python, working, workshop


async def first_finished(shop: Workshop) -> str:
    """The id of the first run that ends from now on."""
    async with asyncio.timeout(60):
        async for event in shop.feed.watch():
            if event.kind == "pulse.run.finished":
                return event.entity_id
    raise AssertionError("the feed ended")


async def test_a_due_instant_ends_as_a_finished_run(tmp_path: Path) -> None:
    """With the machine's clock: the schedule is due, the program runs, its output is there."""
    clock = SystemClock()
    async with create_test_db(clock=clock) as db, working(workshop(db, clock, tmp_path)) as shop:
        finished = asyncio.create_task(first_finished(shop))
        made = await shop.schedule(cron="* * * * * *", command=python("print('tick')"))
        run = await shop.store.get_run(await finished)
        assert (run.status, run.trigger) == (RunState.COMPLETED, RunTrigger.SCHEDULED)
        assert (run.schedule_id, run.output) == (made.id, "tick\n")
        (*_, slot) = await shop.store.list_slots(made.id, limit=500, offset=0)
        assert (slot.verdict, slot.run_id) == (Verdict.RUN, run.id)


async def test_an_edit_wakes_the_scheduler_and_a_run_the_executor(
    clock: ManualClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With rounds an hour apart, committed events alone bring a due instant to its end."""
    monkeypatch.setattr("dorkos.pulse.scheduler._INTERVAL_S", 3600.0)
    monkeypatch.setattr("dorkos.pulse.executor._INTERVAL_S", 3600.0)
    async with create_test_db(clock=clock) as db, working(workshop(db, clock, tmp_path)) as shop:
        made = await shop.schedule(cron="@hourly")
        hours(clock, 1)
        finished = asyncio.create_task(first_finished(shop))
        await shop.pulse.update_schedule(made.id, {"name": "renamed"}, author=author())
        run = await shop.store.get_run(await finished)
        assert run.schedule_id == made.id


async def test_switched_off_nothing_fires_and_nothing_starts(clock: ManualClock, tmp_path: Path) -> None:
    """With `scheduler.enabled` off a queued run waits, visibly, and only what ends things works."""
    async with (
        create_test_db(clock=clock) as db,
        working(workshop(db, clock, tmp_path, enabled=False)) as shop,
    ):
        waiting = await shop.queued("true")
        names = [loop.name for loop in shop.pulse.loops]
        assert names == ["pulse.rescue", "pulse.answers", "pulse.retention", "pulse.approvals"]
        assert shop.pulse.executor._task is None
        assert shop.pulse.scheduler._task is None
        assert (await shop.store.get_run(waiting)).status is RunState.QUEUED


async def test_stopping_is_safe_at_any_moment(tmp_path: Path) -> None:
    """Before a start, twice, and with runs being claimed: it ends, and nothing is left running."""
    clock = SystemClock()
    async with create_test_db(clock=clock) as db:
        idle = workshop(db, clock, tmp_path)
        await idle.pulse.stop()
        shop = workshop(db, clock, tmp_path, max_concurrent_runs=20)
        run_ids = [await shop.queued(*python("import signal; signal.pause()")) for _ in range(20)]
        await shop.feed.start()
        await shop.pulse.start()
        async with asyncio.timeout(30):
            await shop.pulse.stop()
            await shop.pulse.stop()
        await shop.feed.stop()
        for run_id in run_ids:
            run = await shop.store.get_run(run_id)
            assert run.status in (RunState.QUEUED, RunState.INTERRUPTED)
        assert shop.pulse.executor.active == {}


async def test_a_run_claimed_while_stopping_waits_again(clock: ManualClock, tmp_path: Path) -> None:
    """A run that was claimed but not started when the server stops goes back to the queue."""
    async with create_test_db(clock=clock) as db:
        shop = workshop(db, clock, tmp_path)
        run_id = await shop.queued("true")
        await shop.pulse.executor.work()
        await shop.pulse.executor.stop()
        run = await shop.store.get_run(run_id)
        assert (run.status, run.started_at) == (RunState.QUEUED, None)


async def test_the_preview_is_what_will_fire(clock: ManualClock, tmp_path: Path) -> None:
    """Five instants from now on for what fires, none for what does not."""
    async with create_test_db(clock=clock) as db:
        shop = workshop(db, clock, tmp_path)
        made = await shop.schedule()
        assert shop.pulse.preview(made) == [clock.now() + timedelta(hours=n) for n in range(1, 6)]
        off = await shop.pulse.update_schedule(made.id, {"enabled": False}, author=author())
        assert shop.pulse.preview(off) == []
