"""No hot statement of Pulse reads a whole table, however many schedules, slots, runs and chunks there are."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from dorkos.clock import ManualClock
from dorkos.db.sqlite import SqliteDatabase
from dorkos.ids import new_id
from dorkos.pulse.model import Outcome, OutputChunk
from dorkos.pulse.reading import Place, Window
from dorkos.testing import create_test_db
from dorkos.vocabulary import ApprovalStatus, OutputStream, RunReason, RunState
from tests.pulse.workshop import ACTOR, LEASE, Workshop, a_node, hours, workshop


@pytest.fixture
async def shop(clock: ManualClock, tmp_path: Path) -> AsyncIterator[Workshop]:
    """Pulse on SQLite, its loops standing still."""
    async with create_test_db(clock=clock) as db:
        yield workshop(db, clock, tmp_path)


async def plans(shop: Workshop, statements: list[tuple[str, Any]]) -> dict[str, list[str]]:
    """SQLite's plan of each statement."""

    def explain(connection: sa.Connection) -> dict[str, list[str]]:
        return {
            text: [str(row[3]) for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", values)]
            for text, values in statements
        }

    return await shop.db.read(explain)


async def test_every_statement_uses_an_index(shop: Workshop, clock: ManualClock) -> None:
    """Deciding, claiming, renewing, output, ending, rescue, cancelling and listing all search."""
    assert isinstance(shop.db, SqliteDatabase)
    seen: list[tuple[str, Any]] = []

    def note(_c: object, _k: object, text: str, values: Any, _x: object, many: bool) -> None:
        if (
            text.startswith(("SELECT", "UPDATE", "DELETE"))
            and not many
            and ("pulse_" in text or "approvals" in text)
        ):
            seen.append((text, values))

    made = await shop.schedule()
    other = await shop.schedule()
    for engine in (shop.db._read_engine, shop.db._write_engine):
        event.listen(engine, "before_cursor_execute", note)
    hours(clock, 1)
    await shop.scheduler().work()
    await shop.store.due_schedules(clock.now(), after=(clock.now(), made.id), limit=10)
    claim, waiting = await shop.claimed(2)
    await shop.store.release_run(waiting)
    await shop.store.renew_leases([claim.lease_token], lease=LEASE)
    await shop.store.record_process(claim, pid=1, started_at="1")
    await shop.store.append_output(claim, [OutputChunk(1, OutputStream.STDOUT, "x")])
    await shop.store.read_output(claim.run.id)
    await shop.store.cancel_run(claim.run.id, actor=ACTOR)
    await shop.store.finish_run(
        claim.run, claim.lease_token, Outcome(RunState.CANCELLED, RunReason.CANCEL_REQUESTED)
    )
    await shop.store.expired_runs(clock.now())
    await shop.store.runs_of_local_nodes(a_node())
    await shop.store.list_runs()
    await shop.store.list_runs(schedule_id=made.id)
    await shop.store.list_runs(states=[RunState.QUEUED, RunState.RUNNING])
    await shop.store.list_slots(made.id, limit=10, offset=0)
    await shop.store.mark_overdue(limit=10)
    await shop.store.alarms()
    await shop.store.alarms(made.id)
    await shop.store.figures(made.id, Window(clock.now(), clock.now()))
    await shop.store.approvals.list(status=ApprovalStatus.PENDING, limit=10, offset=0)
    await shop.pulse.approval_expiry.work()
    await shop.store.trigger_run(made.id, actor=ACTOR)
    await shop.store.delete_schedule(other.id, actor=ACTOR)
    await shop.db.write(lambda tx: shop.pulse.hide_schedules(tx, agent_id=new_id()))

    assert len(seen) > 20
    for text, steps in (await plans(shop, seen)).items():
        scans = [
            step for step in steps if step.startswith("SCAN") and "INDEX" not in step and "nodes" not in step
        ]
        assert not scans, (text, steps)


async def test_listings_are_read_in_order(shop: Workshop) -> None:
    """Newest runs, runs of a schedule, waiting runs and due schedules need no sorting."""
    assert isinstance(shop.db, SqliteDatabase)
    seen: list[tuple[str, Any]] = []

    def note(_c: object, _k: object, text: str, values: Any, _x: object, _many: bool) -> None:
        if text.startswith("SELECT"):
            seen.append((text, values))

    made = await shop.schedule()
    event.listen(shop.db._read_engine, "before_cursor_execute", note)
    await shop.store.list_runs()
    await shop.store.list_runs(schedule_id=made.id)
    place = Place(made.created_at, made.id)
    for of in (made.id, None):
        await shop.store.page_of_runs(
            schedule_id=of, states=None, window=Window(None, None), after=place, limit=50, offset=0
        )
    await shop.store.approvals.list(status=ApprovalStatus.PENDING, limit=10, offset=0)
    await shop.store.list_slots(made.id, limit=10, offset=0)
    await shop.store.read_output(await shop.store.trigger_run(made.id, actor=ACTOR))
    assert seen
    for text, steps in (await plans(shop, seen)).items():
        assert not [step for step in steps if "TEMP B-TREE" in step], (text, steps)


async def test_what_was_missed_is_searched_by_schedule(shop: Workshop, clock: ManualClock) -> None:
    """Only the schedules are gone through; their slots and the runs of those are looked up."""
    assert isinstance(shop.db, SqliteDatabase)
    seen: list[tuple[str, Any]] = []

    def note(_c: object, _k: object, text: str, values: Any, _x: object, _many: bool) -> None:
        if text.startswith("SELECT"):
            seen.append((text, values))

    await shop.schedule()
    event.listen(shop.db._read_engine, "before_cursor_execute", note)
    await shop.store.missed(since=clock.now(), until=clock.now() + LEASE, limit=100)
    assert len(seen) == 3
    for text, steps in (await plans(shop, seen)).items():
        scans = [step for step in steps if step.startswith("SCAN") and step.split()[1] != "pulse_schedules"]
        assert not scans, (text, steps)
