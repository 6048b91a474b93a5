"""Counting latencies in steps."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dorkos.relay.metrics import OTHERS, SLICES, SUBJECTS_MAX, Totals, count_slice, latency, step_of, traffic

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=60))
def test_percentiles_are_never_too_low_and_at_most_five_percent_too_high(latencies: list[int]) -> None:
    """Against a sorted list."""
    totals = Totals("e", 0)
    for each in latencies:
        totals.took(NOW, each)
    found = latency(totals, NOW)
    ranked = sorted(latencies)
    for told, share in ((found.p50_ms, 0.5), (found.p95_ms, 0.95), (found.p99_ms, 0.99)):
        exact = ranked[-(-int(share * 100) * len(ranked) // 100) - 1] / 1000
        assert told is not None
        assert exact * 0.999999 <= told <= exact * 1.050001


@given(st.integers(0, 10**12), st.integers(0, 10**12))
def test_steps_are_in_order(one: int, other: int) -> None:
    """A longer latency never falls into a lower step."""
    assert (step_of(min(one, other))) <= step_of(max(one, other))


def test_without_latencies_nothing_is_told() -> None:
    """Not zero: nothing was measured."""
    assert latency(Totals("e", 0), NOW).p99_ms is None


def test_subjects_beyond_the_most_are_counted_together() -> None:
    """What is kept stays small, whoever sends where."""
    totals = Totals("e", 0)
    for number in range(SUBJECTS_MAX + 5):
        totals.count_subject(f"relay.human.h{number}", 1)
    assert totals.subjects[OTHERS] == 5
    assert len(totals.subjects) == SUBJECTS_MAX + 1


def test_totals_are_read_as_they_were_kept() -> None:
    """All of it, counters and hours; what lacks the traffic is of an earlier version, and of no use."""
    totals = Totals("e", 7, 3, 1, 1, 1, Counter(expired=1), Counter({"a.b": 3}))
    totals.took(NOW, 1500)
    count_slice(totals.sent, NOW, 2)
    assert Totals.from_json(totals.as_json()) == totals
    with pytest.raises((TypeError, KeyError)):
        Totals.from_json({"position": 1})
    with pytest.raises(KeyError):
        Totals.from_json({name: value for name, value in totals.as_json().items() if name != "sent"})


def test_traffic_is_told_for_each_ten_minutes_of_a_day() -> None:
    """Those without any as well; the last is under way, and what is older is left out."""
    totals = Totals("e", 0)
    for ago, count in ((timedelta(minutes=3), 4), (timedelta(hours=5), 2), (timedelta(hours=25), 9)):
        count_slice(totals.sent, NOW - ago, count)
    count_slice(totals.stopped, NOW, 1)
    told = traffic(totals, NOW + timedelta(minutes=4))
    assert (len(told), told[-1].begun, told[0].begun) == (SLICES + 1, NOW, NOW - timedelta(hours=24))
    assert [(each.begun, each.sent, each.stopped) for each in told if each.sent or each.stopped] == [
        (NOW - timedelta(hours=5), 2, 0),
        (NOW - timedelta(minutes=10), 4, 0),
        (NOW, 0, 1),
    ]


def test_no_more_traffic_is_kept_than_told_even_of_a_clock_that_was_ahead() -> None:
    """What happens now is always among it."""
    kept: Counter[str] = Counter()
    for number in range(SLICES + 20):
        count_slice(kept, NOW + timedelta(days=3, minutes=10 * number), 1)
    count_slice(kept, NOW, 1)
    assert len(kept) == SLICES + 1
    assert min(kept) == "2026-03-01T12:0"
