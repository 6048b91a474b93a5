"""How an agent is judged, at every boundary."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dorkos.mesh.health import HealthReason, Thresholds, health
from dorkos.mesh.model import Work
from dorkos.setting_groups.mesh import MeshSettings
from dorkos.vocabulary import AgentStatus, HealthState

NOW = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)
MS = timedelta(milliseconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)

ACTIVE, INACTIVE, STALE = HealthState.ACTIVE, HealthState.INACTIVE, HealthState.STALE
UNREACHABLE, STUCK = HealthState.UNREACHABLE, HealthState.STUCK


def judged(
    last_seen_at: datetime | None = None,
    *,
    host_away: bool = False,
    status: AgentStatus = AgentStatus.ACTIVE,
    unreachable_since: datetime | None = None,
    **work: datetime,
) -> tuple[HealthState, list[HealthReason]]:
    """The state and the reasons, by the thresholds of the settings' defaults."""
    found = health(
        now=NOW,
        status=status,
        last_seen_at=last_seen_at,
        unreachable_since=unreachable_since,
        work=Work(**work),  # type: ignore[arg-type]  # Named by the test.
        thresholds=Thresholds.of(MeshSettings()),
        host_away=host_away,
    )
    return found.state, [because.reason for because in found.reasons]


@pytest.mark.parametrize(
    ("ago", "state"),
    [
        (timedelta(), ACTIVE),
        (HOUR - MS, ACTIVE),
        (HOUR, INACTIVE),
        (HOUR + MS, INACTIVE),
        (DAY - MS, INACTIVE),
        (DAY, STALE),
        (DAY + MS, STALE),
        (365 * DAY, STALE),
    ],
)
def test_the_age_of_the_last_sign_decides(ago: timedelta, state: HealthState) -> None:
    """At, just below and just above each threshold: an age that equals one is past it."""
    assert judged(NOW - ago) == (state, [HealthReason.SEEN])


@pytest.mark.parametrize(
    ("seen", "state", "reason"),
    [
        (None, STALE, HealthReason.NEVER_SEEN),
        (NOW + MINUTE - MS, ACTIVE, HealthReason.SEEN),
        (NOW + MINUTE, ACTIVE, HealthReason.SEEN),
        (NOW + MINUTE + MS, STALE, HealthReason.CLOCK),
        (NOW + 1000 * DAY, STALE, HealthReason.CLOCK),
        (datetime.max.replace(tzinfo=UTC), STALE, HealthReason.CLOCK),
        (datetime(2026, 3, 1, 9, 0), STALE, HealthReason.CLOCK),  # noqa: DTZ001  # That is the garbage.
    ],
    ids=str,
)
def test_no_sign_that_can_be_believed_is_none(
    seen: datetime | None, state: HealthState, reason: HealthReason
) -> None:
    """Never seen, in a future that clocks may differ by and beyond it, without a zone."""
    assert judged(seen) == (state, [reason])


@pytest.mark.parametrize(
    ("waits", "runs", "state"),
    [
        (30 * MINUTE - MS, None, ACTIVE),
        (30 * MINUTE, None, STUCK),
        (30 * MINUTE + MS, None, STUCK),
        (-HOUR, None, ACTIVE),
        # Behind a run that has not been at work for so long itself, waiting is only a queue.
        (HOUR, 30 * MINUTE - MS, ACTIVE),
        (HOUR, 30 * MINUTE, STUCK),
        (None, 5 * HOUR, ACTIVE),
    ],
)
def test_work_that_nobody_takes_makes_it_stuck(
    waits: timedelta | None, runs: timedelta | None, state: HealthState
) -> None:
    """However lately it was seen; at, below and above the threshold."""
    work: dict[str, Any] = {}
    if waits is not None:
        work["mail_waits_since"] = NOW - waits
    if runs is not None:
        work["running_since"] = NOW - runs

    assert judged(NOW, **work)[0] is state


def test_an_agent_at_work_is_active_whatever_was_seen_before() -> None:
    """A first long run counts from its start."""
    assert judged(None, running_since=NOW - DAY) == (ACTIVE, [HealthReason.AT_WORK])
    assert judged(NOW - 9 * DAY, running_since=NOW) == (ACTIVE, [HealthReason.AT_WORK, HealthReason.SEEN])


@pytest.mark.parametrize(
    ("ago", "due_in", "state", "reason"),
    [
        # Once a week: between its turns it is inactive, not stale.
        (6 * DAY, DAY, INACTIVE, HealthReason.NEXT_TURN),
        (6 * DAY, -HOUR + MS, INACTIVE, HealthReason.NEXT_TURN),
        (6 * DAY, -HOUR, STALE, HealthReason.OVERDUE),
        (6 * DAY, -HOUR - MS, STALE, HealthReason.OVERDUE),
        (2 * HOUR, -HOUR, STALE, HealthReason.OVERDUE),
        (HOUR - MS, -9 * HOUR, ACTIVE, HealthReason.SEEN),
        (2 * HOUR, DAY, INACTIVE, HealthReason.SEEN),
        (None, DAY, INACTIVE, HealthReason.NEXT_TURN),
        (None, -HOUR, STALE, HealthReason.OVERDUE),
    ],
)
def test_its_own_schedule_counts(
    ago: timedelta | None, due_in: timedelta, state: HealthState, reason: HealthReason
) -> None:
    """A turn ahead excuses silence; one that was not taken shows before the day is over."""
    found = judged(None if ago is None else NOW - ago, next_due_at=NOW + due_in)

    assert (found[0], found[1][0]) == (state, reason)


@pytest.mark.parametrize(
    ("status", "state", "reason"),
    [
        (AgentStatus.UNREACHABLE, UNREACHABLE, HealthReason.FOLDER_GONE),
        (AgentStatus.ARCHIVED, UNREACHABLE, HealthReason.FOLDER_GONE),
        (AgentStatus.INACTIVE, INACTIVE, HealthReason.DENIED),
    ],
)
def test_where_it_stands_goes_before_what_was_seen(
    status: AgentStatus, state: HealthState, reason: HealthReason
) -> None:
    """However busy it looks."""
    found = judged(
        NOW, status=status, unreachable_since=NOW - DAY, run_waits_since=NOW - DAY, running_since=NOW
    )

    assert found == (state, [reason])


def test_that_nobody_works_where_it_lies_is_told_and_decides_nothing() -> None:
    """Under every state, behind the reason that decides."""
    works: list[dict[str, datetime]] = [{}, {"running_since": NOW}, {"run_waits_since": NOW - DAY}]
    for work in works:
        state, reasons = judged(NOW - 2 * HOUR, **work)  # type: ignore[arg-type]  # As above.
        away, told = judged(NOW - 2 * HOUR, host_away=True, **work)  # type: ignore[arg-type]  # As above.
        assert (away, told[0]) == (state, reasons[0])
        assert sorted(told) == sorted([*reasons, HealthReason.HOST_AWAY])


def test_the_thresholds_are_settings() -> None:
    """Minutes, as the settings name them."""
    thresholds = Thresholds.of(MeshSettings(inactive_minutes=1, stale_minutes=2, stuck_minutes=3))

    assert thresholds == Thresholds(MINUTE, 2 * MINUTE, 3 * MINUTE)
