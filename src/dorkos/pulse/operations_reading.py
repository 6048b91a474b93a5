"""Operations that tell what happened: figures of a schedule, and what should have run and did not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import Field

from dorkos.clock import iso
from dorkos.errors import DorkError, ErrorCode
from dorkos.identity.model import Caller
from dorkos.operation import McpTool, Operation, Wire
from dorkos.pulse.reading import Missed, Window
from dorkos.pulse.service import PulseService
from dorkos.pulse.triggers import read_instant
from dorkos.pulse.wire import Identifier, Text
from dorkos.vocabulary import RunState, Scope

_STATS = timedelta(days=30)
_MISSED = timedelta(days=1)


class StatsQuery(Wire):
    """Which schedule, and over which runs: from `since`, 30 days ago unless said, to `until`."""

    id: Identifier
    since: Text | None = None
    until: Text | None = None


class StatsOut(Wire):
    """How the runs of a schedule ended.

    `successRate` is from 0 to 1, completed over all that ended but the cancelled; percentiles are of those
    that had begun and ended. What nothing is known of is null.
    """

    schedule_id: str
    since: str
    until: str
    runs: int
    by_state: dict[RunState, int]
    success_rate: float | None
    p50_duration_ms: int | None
    p95_duration_ms: int | None
    cost_usd: float | None
    truncated: bool


class MissedQuery(Wire):
    """Over which due instants: from `since`, a day ago unless said, to `until`."""

    since: Text | None = None
    until: Text | None = None
    limit: int = Field(100, ge=1, le=500)


class MissedOut(Wire):
    """Due instants without a completed run.

    `what` is `not_run` (decided so), `not_completed` (it ran and ended otherwise), `overdue` (no outcome in
    time) or `undecided` (nobody has looked at it).
    """

    schedule_id: str
    schedule_name: str
    due_at: str
    through_at: str
    count: int
    what: str
    reason: str | None
    state: RunState | None
    run_id: str | None
    error: str | None


class MissedList(Wire):
    """The newest first; `more` says that there are older ones in the window."""

    since: str
    until: str
    missed: list[MissedOut]
    more: bool


def window_of(since: str | None, until: str | None) -> Window:
    """What was written, either end of which may be open. Raises `invalid_instant`."""
    window = Window(read_instant(since) if since else None, read_instant(until) if until else None)
    if window.since is not None and window.until is not None and window.since >= window.until:
        raise DorkError(
            ErrorCode.INVALID_INSTANT, "`since` is not before `until`.", hint="Exchange the two instants."
        )
    return window


async def show_stats(pulse: PulseService, _caller: Caller, asked: StatsQuery) -> StatsOut:
    """Success rate, usual and long durations, and cost of a schedule."""
    since, until = await _span(pulse, asked.since, asked.until, _STATS)
    found = await pulse.store.figures(asked.id, Window(since, until))
    cost = found.cost_microusd
    return StatsOut(
        schedule_id=asked.id,
        since=iso(since),
        until=iso(until),
        runs=found.runs,
        by_state=found.by_state,
        success_rate=found.success_rate,
        p50_duration_ms=found.p50_ms,
        p95_duration_ms=found.p95_ms,
        cost_usd=None if cost is None else cost / 1_000_000,
        truncated=found.truncated,
    )


async def list_missed(pulse: PulseService, _caller: Caller, asked: MissedQuery) -> MissedList:
    """What should have run and did not, with the reason for each."""
    since, until = await _span(pulse, asked.since, asked.until, _MISSED)
    found = await pulse.store.missed(since=since, until=until, limit=asked.limit + 1)
    return MissedList(
        since=iso(since),
        until=iso(until),
        missed=[_out(one) for one in found[: asked.limit]],
        more=len(found) > asked.limit,
    )


async def _span(
    pulse: PulseService, since: str | None, until: str | None, default: timedelta
) -> tuple[datetime, datetime]:
    given = window_of(since, until)
    # The newest millisecond belongs to it, so that what ends just now is counted.
    end = given.until or await pulse.store.now() + timedelta(milliseconds=1)
    begin = given.since or _before(end, default)
    window_of(iso(begin), iso(end))
    return begin, end


def _before(end: datetime, span: timedelta) -> datetime:
    try:
        return end - span
    except OverflowError:  # The calendar begins with the year 1.
        return datetime.min.replace(tzinfo=UTC)


def _out(missed: Missed) -> MissedOut:
    return MissedOut(
        schedule_id=missed.schedule_id,
        schedule_name=missed.schedule_name,
        due_at=iso(missed.due_at),
        through_at=iso(missed.through_at),
        count=missed.count,
        what=missed.what,
        reason=missed.reason,
        state=missed.state,
        run_id=missed.run_id,
        error=missed.error,
    )


READING: tuple[Operation[PulseService, Any, Any], ...] = (
    Operation(
        "pulse.schedules.stats",
        "Show how often a schedule succeeds, how long it takes and what it costs",
        "pulse",
        "GET",
        "/api/pulse/schedules/{id}/stats",
        Scope.OBSERVE,
        StatsQuery,
        StatsOut,
        show_stats,
        mcp=McpTool(
            "get_schedule_stats",
            "Show how often a schedule succeeds, how long it takes and what it costs.",
            read_only=True,
        ),
    ),
    Operation(
        "pulse.missed",
        "List what should have run and did not, and why",
        "pulse",
        "GET",
        "/api/pulse/missed",
        Scope.OBSERVE,
        MissedQuery,
        MissedList,
        list_missed,
        mcp=McpTool("list_missed", "List what should have run and did not, and why.", read_only=True),
    ),
)
