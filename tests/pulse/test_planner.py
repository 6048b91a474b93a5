"""What the planner decides: catch-up, overlap, one instant, and the limit of a pass."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from dorkos.pulse.planner import Cron, Once, Plan, PlannedSlot, plan
from dorkos.vocabulary import SlotReason, Verdict

HOURLY = Cron("0 * * * *", UTC)
NINE = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


def one(due_at: datetime, verdict: Verdict, reason: SlotReason) -> PlannedSlot:
    """A slot of one instant."""
    return PlannedSlot(due_at, due_at, 1, verdict, reason)


def test_nothing_due_leaves_the_cursor() -> None:
    """Before the next instant there is nothing to store but when to look again."""
    assert plan(HOURLY, NINE, NINE + HOUR / 2, False) == Plan((), NINE, NINE + HOUR)


def test_an_instant_is_due_at_its_second() -> None:
    """At the instant itself it runs, and the next one follows."""
    made = plan(HOURLY, NINE, NINE + HOUR, False)
    assert made == Plan((one(NINE + HOUR, Verdict.RUN, SlotReason.DUE),), NINE + HOUR, NINE + 2 * HOUR)


def test_of_several_only_the_newest_runs() -> None:
    """After five hours the first four instants are one coalesced span, and the fifth runs as catch-up."""
    made = plan(HOURLY, NINE, NINE + 5 * HOUR, False)
    assert made.slots == (
        PlannedSlot(NINE + HOUR, NINE + 4 * HOUR, 4, Verdict.COALESCED, SlotReason.CATCH_UP),
        one(NINE + 5 * HOUR, Verdict.RUN, SlotReason.CATCH_UP),
    )
    assert made.next_due_at == NINE + 6 * HOUR


def test_a_late_decision_says_catch_up() -> None:
    """One instant decided more than a minute late was missed at first."""
    made = plan(HOURLY, NINE, NINE + HOUR + timedelta(seconds=61), False)
    assert made.slots == (one(NINE + HOUR, Verdict.RUN, SlotReason.CATCH_UP),)


def test_an_active_run_is_never_overlapped() -> None:
    """While a run waits or runs, the newest instant is skipped, with the reason."""
    made = plan(HOURLY, NINE, NINE + 2 * HOUR, True)
    assert made.slots == (
        one(NINE + HOUR, Verdict.COALESCED, SlotReason.CATCH_UP),
        one(NINE + 2 * HOUR, Verdict.SKIPPED, SlotReason.OVERLAP),
    )
    assert made.decided_until == NINE + 2 * HOUR


def test_one_instant_is_due_once() -> None:
    """It runs, late or not, and is never due again."""
    at = Once(NINE + HOUR)
    first = plan(at, NINE, NINE + 9 * HOUR, False)
    assert first == Plan((one(NINE + HOUR, Verdict.RUN, SlotReason.CATCH_UP),), NINE + HOUR, None)
    assert plan(at, first.decided_until, NINE + 9 * HOUR, False) == Plan((), NINE + HOUR, None)


def test_a_clock_that_jumps_back_decides_nothing_again() -> None:
    """The cursor lies in the future then, and stays."""
    made = plan(HOURLY, NINE + 3 * HOUR, NINE, False)
    assert made == Plan((), NINE + 3 * HOUR, NINE + 4 * HOUR)


def test_a_pass_looks_at_no_more_than_its_limit() -> None:
    """With more due than the limit, what was seen is one span, and the next pass goes on behind it."""
    made = plan(HOURLY, NINE, NINE + 10 * HOUR, False, limit=4)
    assert made == Plan(
        (PlannedSlot(NINE + HOUR, NINE + 4 * HOUR, 4, Verdict.COALESCED, SlotReason.CATCH_UP),),
        NINE + 4 * HOUR,
        NINE + 5 * HOUR,
    )


def test_as_many_as_the_limit_are_decided_in_one_pass() -> None:
    """The limit is not one short: with exactly that many due the newest runs."""
    made = plan(HOURLY, NINE, NINE + 4 * HOUR, False, limit=4)
    assert [slot.verdict for slot in made.slots] == [Verdict.COALESCED, Verdict.RUN]
