"""The planner, pass after pass with a clock that also jumps back: each instant once, the cursor forward."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import takewhile
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from dorkos.pulse.planner import Cron, Once, Trigger, due_instants, plan
from dorkos.vocabulary import Verdict

START = datetime(2026, 10, 24, 22, 0, tzinfo=UTC)
TRIGGERS = st.sampled_from(
    (
        Cron("*/7 * * * *", ZoneInfo("Europe/Berlin")),
        Cron("*/10 * * * * *", ZoneInfo("UTC")),
        Cron("15 2 * * *", ZoneInfo("Australia/Lord_Howe")),
        Cron("30 1-3 * * *", ZoneInfo("Europe/Berlin")),
    )
) | st.builds(lambda minutes: Once(START + timedelta(minutes=minutes)), st.integers(-60, 600))
PASSES = st.lists(st.tuples(st.integers(-600, 7200), st.booleans()), max_size=30)


def due_until(trigger: Trigger, after: datetime, until: datetime) -> list[datetime]:
    """The instants in (after, until]."""
    return list(takewhile(lambda instant: instant <= until, due_instants(trigger, after)))


@settings(max_examples=200, deadline=None)
@given(trigger=TRIGGERS, passes=PASSES, limit=st.integers(1, 50))
def test_every_due_instant_is_decided_exactly_once(
    trigger: Trigger, passes: list[tuple[int, bool]], limit: int
) -> None:
    """Whatever the passes: the slots cover the instants up to the cursor, in order, each once."""
    now = cursor = START
    decided: list[datetime] = []
    for seconds, has_active_run in passes:
        now += timedelta(seconds=seconds)
        made = plan(trigger, cursor, now, has_active_run, limit=limit)
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
        runs = [slot for slot in made.slots if slot.verdict is Verdict.RUN]
        assert len(runs) <= 1
        assert all(slot.count == 1 for slot in runs)
        assert not (runs and has_active_run)
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
        made = plan(trigger, cursor, now, has_active_run=False, limit=limit)
        if not made.slots:
            break
        verdicts += [(slot.through_at, slot.verdict) for slot in made.slots]
        cursor = made.decided_until
    due = due_until(trigger, START, now)
    runs = [through for through, verdict in verdicts if verdict is Verdict.RUN]
    assert runs == due[-1:]
