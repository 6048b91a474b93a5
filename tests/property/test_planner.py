"""The planner, pass after pass with a clock that also jumps back: each instant once, the cursor forward."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise, takewhile
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from dorkos.pulse.planner import Active, Cron, Every, Once, Policy, Trigger, due_instants, plan
from dorkos.vocabulary import CatchUpPolicy, OverlapPolicy, SlotReason, Verdict

START = datetime(2026, 10, 24, 22, 0, tzinfo=UTC)
TRIGGERS = st.sampled_from(
    (
        Cron("*/7 * * * *", ZoneInfo("Europe/Berlin")),
        Cron("*/10 * * * * *", ZoneInfo("UTC")),
        Cron("15 2 * * *", ZoneInfo("Australia/Lord_Howe")),
        Cron("30 1-3 * * *", ZoneInfo("Europe/Berlin")),
        Every(timedelta(minutes=17), START - timedelta(days=40, seconds=1)),
        Every(timedelta(seconds=30), START + timedelta(hours=1)),
    )
) | st.builds(lambda minutes: Once(START + timedelta(minutes=minutes)), st.integers(-60, 600))
ACTIVE = st.builds(Active, st.sampled_from((0, 0, 1, 150, 200)), st.integers(0, 2))
PASSES = st.lists(st.tuples(st.integers(-600, 7200), ACTIVE), max_size=30)
POLICIES = st.builds(
    Policy,
    st.sampled_from(OverlapPolicy),
    st.sampled_from(CatchUpPolicy),
    st.none() | st.builds(lambda seconds: timedelta(seconds=seconds), st.integers(1, 7200)),
    st.integers(1, 60),
    st.none() | st.sampled_from((SlotReason.PAUSED, SlotReason.PENDING_APPROVAL)),
)


def due_until(trigger: Trigger, after: datetime, until: datetime) -> list[datetime]:
    """The instants in (after, until]."""
    return list(takewhile(lambda instant: instant <= until, due_instants(trigger, after)))


@settings(max_examples=200, deadline=None)
@given(
    trigger=TRIGGERS,
    passes=PASSES,
    policy=POLICIES,
    limit=st.integers(1, 50),
    pause=st.none() | st.builds(lambda minutes: START + timedelta(minutes=minutes), st.integers(-60, 600)),
)
def test_every_due_instant_is_decided_exactly_once(
    trigger: Trigger,
    passes: list[tuple[int, Active]],
    policy: Policy,
    limit: int,
    pause: datetime | None,
) -> None:
    """Whatever the passes and policies: the slots cover the instants up to the cursor, in order, each once.

    Those of a pause, of the schedule or the fleet, are told as such, and nothing else is. Nothing worthless
    runs, and nothing that overlaps unless it may.
    """
    now = cursor = START
    decided: list[datetime] = []
    for seconds, active in passes:
        now += timedelta(seconds=seconds)
        made = plan(trigger, cursor, now, policy=policy, active=active, paused_before=pause, limit=limit)
        assert made.decided_until >= cursor
        covered = due_until(trigger, cursor, made.decided_until)
        assert sum(slot.count for slot in made.slots) == len(covered) <= limit
        position = 0
        for slot in made.slots:
            assert (slot.due_at, slot.through_at) == (
                covered[position],
                covered[position + slot.count - 1],
            )
            position += slot.count
            if policy.halted is not None:
                assert slot.reason is policy.halted
                continue
            assert (slot.reason is SlotReason.FLEET_PAUSED) == (pause is not None and slot.due_at < pause)
            assert pause is None or slot.due_at >= pause or slot.through_at < pause
        runs = [slot for slot in made.slots if slot.verdict is Verdict.RUN]
        assert len(runs) <= (policy.catch_up_max if policy.catch_up is CatchUpPolicy.ALL else 1)
        assert all(slot.count == 1 for slot in runs)
        assert all(policy.window is None or now - slot.due_at <= policy.window for slot in runs)
        assert not (runs and active.any and policy.overlap is OverlapPolicy.SKIP)
        assert not (runs and active.queued >= 200 and policy.overlap is OverlapPolicy.QUEUE)
        assert all(
            (one.verdict, one.reason) != (other.verdict, other.reason) or one.verdict is Verdict.RUN
            for one, other in pairwise(made.slots)
        )
        assert all(instant <= now for instant in covered)
        assert made.next_due_at == next(due_instants(trigger, made.decided_until), None)
        decided += covered
        cursor = made.decided_until

    assert len(set(decided)) == len(decided)
    assert decided == sorted(decided)


@settings(max_examples=50, deadline=None)
@given(trigger=TRIGGERS, hours=st.integers(0, 48), limit=st.integers(1, 20))
def test_passes_without_a_pause_reach_the_present(trigger: Trigger, hours: int, limit: int) -> None:
    """However small the limit, repeating the pass decides everything up to now, and only the newest runs."""
    now, cursor = START + timedelta(hours=hours), START
    verdicts: list[tuple[datetime, Verdict]] = []
    while True:
        made = plan(trigger, cursor, now, limit=limit)
        if not made.slots:
            break
        verdicts += [(slot.through_at, slot.verdict) for slot in made.slots]
        cursor = made.decided_until
    due = due_until(trigger, START, now)
    runs = [through for through, verdict in verdicts if verdict is Verdict.RUN]
    assert runs == due[-1:]
