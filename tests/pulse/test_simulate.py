"""The forecast: what is due, what waits, what is skipped, and when it is busiest."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from dorkos.pulse import simulate as simulation
from dorkos.pulse.planner import Cron, Every
from dorkos.pulse.simulate import Simulated, Tally, simulate
from dorkos.vocabulary import OverlapPolicy

START = datetime(2026, 3, 1, 9, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def hourly(name: str, *, lasts: int, overlap: OverlapPolicy = OverlapPolicy.SKIP) -> Simulated:
    """Due at each full hour; its runs last so many minutes."""
    return Simulated(name, name, Cron("0 * * * *", UTC), overlap, None, lasts * MINUTE)


def test_what_shares_an_instant_waits_for_a_place() -> None:
    """Three at once on two places: one waits as long as the first to end takes."""
    found = simulate(
        [hourly(name, lasts=10) for name in "abc"], start=START, end=START + timedelta(hours=2), places=2
    )
    assert (found.most_at_work, found.most_waiting, found.collisions) == (2, 1, 2)
    assert found.busiest[0] == (START + timedelta(hours=1), 3)
    assert found.tallies["a"] == Tally(due=2, started=2)
    assert found.tallies["c"] == Tally(due=2, started=2, longest_wait=10 * MINUTE)


@pytest.mark.parametrize(
    ("overlap", "expected"),
    [
        (OverlapPolicy.SKIP, Tally(due=4, started=2, skipped=2)),
        (OverlapPolicy.QUEUE, Tally(due=4, started=4, longest_wait=90 * MINUTE)),
        (OverlapPolicy.CANCEL_PREVIOUS, Tally(due=4, started=4, replaced=3)),
        (OverlapPolicy.ALLOW, Tally(due=4, started=4)),
    ],
)
def test_a_run_that_outlasts_its_hour(overlap: OverlapPolicy, expected: Tally) -> None:
    """What each policy makes of it."""
    one = hourly("slow", lasts=90, overlap=overlap)
    found = simulate([one], start=START, end=START + timedelta(hours=4), places=3)
    assert found.tallies["slow"] == expected


def test_it_ends_before_it_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies behind the last instant that was looked at is said to be left out."""
    monkeypatch.setattr(simulation, "INSTANTS_MAX", 100)
    often = Simulated("often", "often", Every(timedelta(seconds=1), START), OverlapPolicy.SKIP, None, MINUTE)
    found = simulate([often], start=START, end=START + timedelta(days=1), places=1)
    assert found.until == START + timedelta(seconds=101)
    assert found.tallies["often"].due == 100


def test_nothing_is_due() -> None:
    """No schedules, no peaks."""
    found = simulate([], start=START, end=START + timedelta(days=1), places=1)
    assert (found.busiest, found.most_at_work, dict(found.tallies)) == ([], 0, {})
