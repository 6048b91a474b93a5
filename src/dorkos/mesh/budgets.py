"""Budgets: how many calls an agent may make in an hour, counted where they are made.

A call is a message that the agent sends or a run of it that starts. Calls are counted by the minute, and
the window is the current minute with the 59 before it, so it slides by the minute. A call that is refused
is not counted: an agent that goes on asking is let in again as soon as the window has moved.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

# The construct of the PostgreSQL dialect compiles for SQLite as well; there is no neutral one.
from sqlalchemy.dialects.postgresql import insert

from dorkos.clock import iso
from dorkos.db.database import Database, Transaction
from dorkos.db.prepared import Prepared
from dorkos.db.schema.mesh import agents, rate_limit_buckets
from dorkos.mesh.model import Source
from dorkos.vocabulary import AgentStatus, LimitKind

WINDOW_MINUTES = 60
# Deleted at a time, by whoever clears up.
_CHUNK = 500

_b = rate_limit_buckets.c
_mine = sa.and_(_b.kind == sa.bindparam("kind"), _b.agent_id == sa.bindparam("agent"))

# The row is held until the change ends: without that, two servers could both take the last call. NO KEY,
# because rows that refer to the agent may be added meanwhile. SQLite has one writer and knows no such lock.
_HOLD = Prepared(
    sa.select(agents.c.status, agents.c.budget_json, agents.c.name)
    .where(agents.c.id == sa.bindparam("agent"))
    .with_for_update(key_share=True)
)
_BUDGET = Prepared(sa.select(agents.c.budget_json).where(agents.c.id == sa.bindparam("agent")))
_in_window = sa.and_(
    _mine, _b.bucket_minute > sa.bindparam("after"), _b.bucket_minute <= sa.bindparam("until")
)
_USED = Prepared(sa.select(sa.func.coalesce(sa.func.sum(_b.count), 0)).where(_in_window))
_BY_MINUTE = Prepared(sa.select(_b.bucket_minute, _b.count).where(_in_window).order_by(_b.bucket_minute))
_insert = insert(rate_limit_buckets)
_COUNT = Prepared(
    _insert.on_conflict_do_update(
        index_elements=["kind", "agent_id", "bucket_minute"], set_={"count": rate_limit_buckets.c.count + 1}
    ),
    "kind",
    "agent_id",
    "bucket_minute",
    "count",
)


class NotAllowed(StrEnum):
    """Why a call is refused, by the word that Relay and Pulse store with what they refused."""

    BUDGET_EXCEEDED = "budget_exceeded"
    PATH_DENIED = "path_denied"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an agent may not do this now. `again_at` is when it may, if that is only a matter of time."""

    code: NotAllowed
    detail: str
    again_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Spent:
    """Calls of the last hour, how many are allowed, and how many messages a chain may have."""

    used: int
    allowed: int
    max_hops: int


class CallBudgets:
    """Port for Relay and Pulse: each asks here, in the change in which an agent does something."""

    def __init__(self, *, calls_per_hour: int, hops_per_message: int) -> None:
        """What counts for agents that have no limits of their own."""
        self.calls_per_hour = calls_per_hour
        self.hops_per_message = hops_per_message

    def take_call(self, tx: Transaction, agent_id: str) -> Refusal | None:
        """Count one call of the agent, or say why it may not make it: nothing is counted then.

        An agent whose path is denied may do nothing. One that is not registered has no budget: None.
        Changes that take calls of several agents must not mind running again: on PostgreSQL two of them
        may wait for each other, and one is repeated.
        """
        held = tx.run(_HOLD, {"agent": agent_id})
        if not held:
            return None
        status, budget, name = held[0]
        if status is AgentStatus.INACTIVE:
            return Refusal(
                NotAllowed.PATH_DENIED, f"The agent {name!r} lies in a denied path: it may not act."
            )
        now = tx.now()
        minute = _minute(now)
        window = _window(agent_id, minute)
        ((used,),) = tx.run(_USED, window)
        allowed = self._calls(budget)
        if used >= allowed:
            again_at = _again_at(tx.run(_BY_MINUTE, window), allowed)
            return Refusal(
                NotAllowed.BUDGET_EXCEEDED,
                f"The agent {name!r} has made {used} of {allowed} calls in the last hour; "
                f"the next is allowed at {iso(again_at)}.",
                again_at,
            )
        tx.run(_COUNT, {"kind": LimitKind.AGENT, "agent_id": agent_id, "bucket_minute": minute, "count": 1})
        return None

    def max_hops(self, tx: Transaction, agent_id: str) -> int | None:
        """How many messages a chain may have that the agent sends into; None if it is not registered."""
        rows = tx.run(_BUDGET, {"agent": agent_id})
        return self._hops(rows[0][0]) if rows else None

    def spent(self, source: Source, agent_id: str, now: datetime) -> Spent | None:
        """What the agent has used of its budget; None if it is not registered."""
        row = source.execute(sa.select(agents.c.budget_json).where(agents.c.id == agent_id)).one_or_none()
        if row is None:
            return None
        minute = _minute(now)
        counted = sa.select(sa.func.coalesce(sa.func.sum(_b.count), 0)).where(
            _b.kind == LimitKind.AGENT,
            _b.agent_id == agent_id,
            _b.bucket_minute > minute - WINDOW_MINUTES,
            _b.bucket_minute <= minute,
        )
        used = int(source.execute(counted).scalar_one())
        return Spent(used, self._calls(row.budget_json), self._hops(row.budget_json))

    def _calls(self, budget: Any) -> int:
        return _limit(budget, "maxCallsPerHour", self.calls_per_hour)

    def _hops(self, budget: Any) -> int:
        return _limit(budget, "maxHopsPerMessage", self.hops_per_message)


async def forget_old_calls(database: Database, now: datetime) -> int:
    """Delete counted calls that no window reaches any more; how many rows."""
    oldest = _minute(now) - 2 * WINDOW_MINUTES
    old = (
        sa.select(_b.agent_id, _b.bucket_minute)
        .where(_b.kind == LimitKind.AGENT, _b.bucket_minute < oldest)
        .limit(_CHUNK)
    )

    def change(tx: Transaction) -> int:
        statement = sa.delete(rate_limit_buckets).where(
            _b.kind == LimitKind.AGENT, sa.tuple_(_b.agent_id, _b.bucket_minute).in_(old)
        )
        return tx.execute(statement).rowcount

    deleted = 0
    while (batch := await database.write(change)) > 0:
        deleted += batch
        if batch < _CHUNK:
            break
    return deleted


def _window(agent_id: str, minute: int) -> dict[str, object]:
    return {
        "kind": LimitKind.AGENT,
        "agent": agent_id,
        # A bucket of the future, from before a clock was set back, must not be counted: it would stay
        # in the window for longer than an hour.
        "after": minute - WINDOW_MINUTES,
        "until": minute,
    }


def _again_at(counted: list[tuple[Any, ...]], allowed: int) -> datetime:
    """When enough of the calls counted by the minute have left the window for one more. Of a limit that was
    lowered more than the first minute has to leave it."""
    left = sum(count for _, count in counted)
    for minute, count in counted:
        left -= count
        if left < allowed:
            return _instant(minute + WINDOW_MINUTES)
    raise AssertionError("a limit is at least 1, so an empty window allows a call")


def _limit(budget: Any, key: str, inherited: int) -> int:
    # What a row from elsewhere holds may be anything; only a number that we would store counts.
    value = budget.get(key) if isinstance(budget, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 1 else inherited


def _minute(now: datetime) -> int:
    return int(now.timestamp()) // 60


def _instant(minute: int) -> datetime:
    return datetime.fromtimestamp(0, UTC) + timedelta(minutes=minute)
