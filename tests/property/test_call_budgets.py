"""An agent's window of calls, against a list that remembers every one of them."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from dorkos.clock import ManualClock
from dorkos.db.schema.mesh import agents
from dorkos.ids import new_id
from dorkos.mesh.budgets import CallBudgets
from dorkos.testing import create_test_db
from dorkos.vocabulary import AgentRuntime, AgentStatus

_ALLOWED = 4

# Steps of a clock, mostly small beside the window; a call follows each.
_STEPS = st.lists(
    st.one_of(
        st.integers(min_value=0, max_value=90),
        st.integers(min_value=0, max_value=20 * 60),
        st.integers(min_value=55 * 60, max_value=65 * 60),
    ),
    min_size=1,
    max_size=40,
)


class _EveryCall:
    """Remembers each call that was let through, and counts those of the last 60 minutes of the clock."""

    def __init__(self) -> None:
        self.calls: list[datetime] = []

    def take(self, now: datetime) -> bool:
        def minute(at: datetime) -> int:
            return int(at.timestamp()) // 60

        recent = [at for at in self.calls if minute(now) - minute(at) < 60]
        if len(recent) >= _ALLOWED:
            return False
        self.calls.append(now)
        return True


@settings(max_examples=60, deadline=None)
@given(_STEPS)
def test_the_window_lets_through_what_a_full_record_would(steps: list[int]) -> None:
    """Each call in turn; and of any 59 minutes never more than are allowed."""
    taken = asyncio.run(_walk(steps))

    for start in taken:
        within = [at for at in taken if start <= at < start + timedelta(minutes=59)]
        assert len(within) <= _ALLOWED


async def _walk(steps: list[int]) -> list[datetime]:
    clock, naive, agent_id = ManualClock(), _EveryCall(), new_id()
    budgets = CallBudgets(calls_per_hour=_ALLOWED, hops_per_message=5)
    async with create_test_db("sqlite", clock=clock) as db:
        row = {
            "id": agent_id,
            "name": "scout",
            "runtime": AgentRuntime.CODEX,
            "project_path": "/srv/scout",
            "status": AgentStatus.ACTIVE,
            "registered_at": clock.now(),
            "updated_at": clock.now(),
        }
        await db.write(lambda tx: tx.execute(agents.insert(), row).rowcount)
        for step in steps:
            clock.advance(timedelta(seconds=step))
            refusal = await db.write(lambda tx: budgets.take_call(tx, agent_id))
            assert (refusal is None) is naive.take(clock.now())
            assert refusal is None or refusal.again_at is not None
            if refusal is not None and refusal.again_at is not None:
                assert refusal.again_at > clock.now()
    return naive.calls
