"""Counting the calls of an agent, on both engines."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from dorkos.clock import ManualClock
from dorkos.db.database import Database
from dorkos.db.schema.mesh import agents, rate_limit_buckets
from dorkos.ids import new_id
from dorkos.mesh.budgets import NotAllowed, Refusal, Spent, forget_old_calls
from dorkos.mesh.editing import AgentEdit
from dorkos.vocabulary import LimitKind
from tests.mesh.fleet import ACTOR, Fleet, make_fleet, make_project

MINUTE = timedelta(minutes=1)


@pytest.fixture
def fleet(db: Database, clock: ManualClock, tmp_path: Path) -> Fleet:
    """Mesh and Relay on one database."""
    return make_fleet(db, clock, tmp_path)


async def agent_with(fleet: Fleet, calls: int | None, name: str = "scout") -> str:
    """A registered agent that may make so many calls an hour."""
    budget = {} if calls is None else {"budget": {"maxCallsPerHour": calls}}
    project = make_project(fleet.root / name, {"name": name, "runtime": "codex", **budget})
    return (await fleet.register(project)).agent.id


async def take(fleet: Fleet, agent_id: str) -> Refusal | None:
    """One call."""
    return await fleet.db.write(lambda tx: fleet.budgets.take_call(tx, agent_id))


async def spent(fleet: Fleet, agent_id: str, clock: ManualClock) -> Spent | None:
    """What is used."""
    return await fleet.db.read(lambda c: fleet.budgets.spent(c, agent_id, clock.now()))


async def test_calls_beyond_the_budget_are_refused_and_not_counted(fleet: Fleet, clock: ManualClock) -> None:
    """The refusal names the numbers, and when to come again."""
    agent_id = await agent_with(fleet, 2)
    assert [await take(fleet, agent_id) for _ in range(2)] == [None, None]

    refusal = await take(fleet, agent_id)

    assert refusal is not None
    assert refusal.code is NotAllowed.BUDGET_EXCEEDED
    assert "2 of 2 calls" in refusal.detail
    assert refusal.again_at == clock.now() + timedelta(hours=1)
    assert await spent(fleet, agent_id, clock) == Spent(2, 2, 5)


async def test_the_window_slides_by_the_minute(fleet: Fleet, clock: ManualClock) -> None:
    """A call counts for the rest of its minute and the 59 after it, no longer."""
    agent_id = await agent_with(fleet, 2)
    clock.advance(timedelta(seconds=59))
    assert await take(fleet, agent_id) is None
    clock.advance(30 * MINUTE)
    assert await take(fleet, agent_id) is None

    clock.advance(29 * MINUTE + timedelta(seconds=1) - timedelta(milliseconds=1))
    assert await take(fleet, agent_id) is not None
    clock.advance(timedelta(milliseconds=1))
    assert await take(fleet, agent_id) is None
    assert await take(fleet, agent_id) is not None
    clock.advance(30 * MINUTE)
    assert await take(fleet, agent_id) is None


async def test_agents_do_not_spend_for_each_other(fleet: Fleet, clock: ManualClock) -> None:
    """Without limits of their own the settings count."""
    small, other = await agent_with(fleet, 1, "small"), await agent_with(fleet, None, "other")
    await take(fleet, small)

    assert await take(fleet, small) is not None
    assert await take(fleet, other) is None
    assert await spent(fleet, other, clock) == Spent(1, 100, 5)


async def test_of_many_at_once_only_as_many_as_allowed_get_through(fleet: Fleet, clock: ManualClock) -> None:
    """However the changes overlap: the row of the agent is held while it is counted."""
    agent_id = await agent_with(fleet, 5)

    answers = await asyncio.gather(*(take(fleet, agent_id) for _ in range(20)))

    assert answers.count(None) == 5
    assert await spent(fleet, agent_id, clock) == Spent(5, 5, 5)


async def test_an_edit_counts_from_the_next_call(fleet: Fleet) -> None:
    """More lets it on, less stops it."""
    agent_id = await agent_with(fleet, 1)
    await take(fleet, agent_id)
    assert await take(fleet, agent_id) is not None

    await fleet.mesh.registry.update(agent_id, AgentEdit(max_calls_per_hour=2), actor=ACTOR)
    assert await take(fleet, agent_id) is None
    await fleet.mesh.registry.update(agent_id, AgentEdit(max_calls_per_hour=1), actor=ACTOR)
    assert await take(fleet, agent_id) is not None


async def test_a_lowered_limit_names_the_time_at_which_the_next_call_is_really_allowed(
    fleet: Fleet, clock: ManualClock
) -> None:
    """More than the oldest minute has to leave the window then."""
    agent_id = await agent_with(fleet, 4)
    await take(fleet, agent_id)
    clock.advance(10 * MINUTE)
    await take(fleet, agent_id)
    await take(fleet, agent_id)
    clock.advance(10 * MINUTE)
    await fleet.mesh.registry.update(agent_id, AgentEdit(max_calls_per_hour=2), actor=ACTOR)

    refusal = await take(fleet, agent_id)
    assert refusal is not None
    assert refusal.again_at == clock.now() + 50 * MINUTE
    clock.advance(50 * MINUTE - timedelta(milliseconds=1))
    assert await take(fleet, agent_id) is not None
    clock.advance(timedelta(milliseconds=1))
    assert await take(fleet, agent_id) is None


async def test_calls_from_a_future_that_the_clock_left_again_do_not_count(
    fleet: Fleet, clock: ManualClock
) -> None:
    """They would stand in the window for longer than an hour."""
    agent_id = await agent_with(fleet, 1)
    clock.advance(timedelta(hours=5))
    await take(fleet, agent_id)
    clock.advance(-timedelta(hours=5))

    assert await take(fleet, agent_id) is None


@pytest.mark.parametrize(
    "stored", [{"maxCallsPerHour": True}, {"maxCallsPerHour": 0}, {"maxCallsPerHour": "9"}, [], 7]
)
async def test_an_odd_budget_in_a_row_means_the_settings(
    fleet: Fleet, clock: ManualClock, stored: object
) -> None:
    """A row from elsewhere may hold anything; it neither opens nor closes."""
    agent_id = await agent_with(fleet, 3)
    await fleet.db.write(lambda tx: tx.execute(sa.update(agents).values(budget_json=stored)).rowcount)

    assert await spent(fleet, agent_id, clock) == Spent(0, 100, 5)
    assert await take(fleet, agent_id) is None


async def test_who_is_not_registered_has_no_budget(fleet: Fleet) -> None:
    """Nothing is counted for it either."""
    assert await take(fleet, new_id()) is None
    rows = sa.select(sa.func.count()).select_from(rate_limit_buckets)
    assert await fleet.db.read(lambda c: c.execute(rows).scalar_one()) == 0


async def test_a_denied_agent_may_not_act_at_all(fleet: Fleet) -> None:
    """Whatever it has left; lifting the denial lets it on."""
    agent_id = await agent_with(fleet, None)
    await fleet.deny(fleet.root)

    refusal = await take(fleet, agent_id)
    assert refusal is not None
    assert refusal.code is NotAllowed.PATH_DENIED

    await fleet.mesh.denials.clear(str(fleet.root), actor=ACTOR)
    assert await take(fleet, agent_id) is None


async def test_hops_are_the_agents_own_or_the_settings(fleet: Fleet) -> None:
    """Nobody's are unknown."""
    project = make_project(
        fleet.root / "short", {"name": "short", "runtime": "codex", "budget": {"maxHopsPerMessage": 2}}
    )
    short, other = (await fleet.register(project)).agent.id, await agent_with(fleet, None)

    found = await fleet.db.write(
        lambda tx: [fleet.budgets.max_hops(tx, agent_id) for agent_id in (short, other, new_id())]
    )

    assert found == [2, 5, None]


async def test_old_counts_are_cleared_away(fleet: Fleet, clock: ManualClock) -> None:
    """What a window can still reach stays, and so do the counts of others."""
    agent_id = await agent_with(fleet, None)
    await take(fleet, agent_id)
    other = {"kind": LimitKind.SENDER, "agent_id": "x", "bucket_minute": 1, "count": 1}
    await fleet.db.write(lambda tx: tx.execute(rate_limit_buckets.insert(), other).rowcount)
    clock.advance(120 * MINUTE)
    assert await forget_old_calls(fleet.db, clock.now()) == 0
    clock.advance(MINUTE)
    await take(fleet, agent_id)

    assert await forget_old_calls(fleet.db, clock.now()) == 1
    kinds = sa.select(rate_limit_buckets.c.kind).order_by(rate_limit_buckets.c.kind)
    assert await fleet.db.read(lambda c: list(c.execute(kinds).scalars())) == ["agent", "sender"]
