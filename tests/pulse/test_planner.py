"""What the planner decides: catch-up, overlap, one instant, and the limit of a pass."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise

import pytest

from dorkos.pulse.planner import (
    WAITING_MAX,
    Active,
    Cron,
    Every,
    Once,
    Plan,
    PlannedSlot,
    Policy,
    due_instants,
    jitter,
    plan,
)
from dorkos.vocabulary import CatchUpPolicy, OverlapPolicy, SlotReason, Verdict

HOURLY = Cron("0 * * * *", UTC)
NINE = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
IDLE, BUSY = Active(), Active(running=1)


def one(due_at: datetime, verdict: Verdict, reason: SlotReason) -> PlannedSlot:
    """A slot of one instant."""
    return PlannedSlot(due_at, due_at, 1, verdict, reason)


def test_nothing_due_leaves_the_cursor() -> None:
    """Before the next instant there is nothing to store but when to look again."""
    assert plan(HOURLY, NINE, NINE + HOUR / 2) == Plan((), NINE, NINE + HOUR)


def test_an_instant_is_due_at_its_second() -> None:
    """At the instant itself it runs, and the next one follows."""
    made = plan(HOURLY, NINE, NINE + HOUR)
    assert made == Plan((one(NINE + HOUR, Verdict.RUN, SlotReason.DUE),), NINE + HOUR, NINE + 2 * HOUR)


def test_of_several_only_the_newest_runs() -> None:
    """After five hours the first four instants are one coalesced span, and the fifth runs as catch-up."""
    made = plan(HOURLY, NINE, NINE + 5 * HOUR)
    assert made.slots == (
        PlannedSlot(NINE + HOUR, NINE + 4 * HOUR, 4, Verdict.COALESCED, SlotReason.CATCH_UP),
        one(NINE + 5 * HOUR, Verdict.RUN, SlotReason.CATCH_UP),
    )
    assert made.next_due_at == NINE + 6 * HOUR


def test_a_late_decision_says_catch_up() -> None:
    """One instant decided more than a minute late was missed at first."""
    made = plan(HOURLY, NINE, NINE + HOUR + timedelta(seconds=61))
    assert made.slots == (one(NINE + HOUR, Verdict.RUN, SlotReason.CATCH_UP),)


def test_an_active_run_is_never_overlapped() -> None:
    """While a run waits or runs, the newest instant is skipped, with the reason."""
    made = plan(HOURLY, NINE, NINE + 2 * HOUR, active=BUSY)
    assert made.slots == (
        one(NINE + HOUR, Verdict.COALESCED, SlotReason.CATCH_UP),
        one(NINE + 2 * HOUR, Verdict.SKIPPED, SlotReason.OVERLAP),
    )
    assert made.decided_until == NINE + 2 * HOUR


def test_one_instant_is_due_once() -> None:
    """It runs, late or not, and is never due again."""
    at = Once(NINE + HOUR)
    first = plan(at, NINE, NINE + 9 * HOUR)
    assert first == Plan((one(NINE + HOUR, Verdict.RUN, SlotReason.CATCH_UP),), NINE + HOUR, None)
    assert plan(at, first.decided_until, NINE + 9 * HOUR) == Plan((), NINE + HOUR, None)


def test_a_clock_that_jumps_back_decides_nothing_again() -> None:
    """The cursor lies in the future then, and stays."""
    made = plan(HOURLY, NINE + 3 * HOUR, NINE)
    assert made == Plan((), NINE + 3 * HOUR, NINE + 4 * HOUR)


def test_a_pass_looks_at_no_more_than_its_limit() -> None:
    """With more due than the limit, what was seen is one span, and the next pass goes on behind it."""
    made = plan(HOURLY, NINE, NINE + 10 * HOUR, limit=4)
    assert made == Plan(
        (PlannedSlot(NINE + HOUR, NINE + 4 * HOUR, 4, Verdict.COALESCED, SlotReason.CATCH_UP),),
        NINE + 4 * HOUR,
        NINE + 5 * HOUR,
    )


def test_as_many_as_the_limit_are_decided_in_one_pass() -> None:
    """The limit is not one short: with exactly that many due the newest runs."""
    made = plan(HOURLY, NINE, NINE + 4 * HOUR, limit=4)
    assert [slot.verdict for slot in made.slots] == [Verdict.COALESCED, Verdict.RUN]


def test_instants_of_a_pause_of_the_fleet_are_skipped() -> None:
    """They are one span; those from its end on are decided as ever."""
    made = plan(HOURLY, NINE, NINE + 5 * HOUR, paused_before=NINE + 3 * HOUR)
    assert made.slots == (
        PlannedSlot(NINE + HOUR, NINE + 2 * HOUR, 2, Verdict.SKIPPED, SlotReason.FLEET_PAUSED),
        PlannedSlot(NINE + 3 * HOUR, NINE + 4 * HOUR, 2, Verdict.COALESCED, SlotReason.CATCH_UP),
        one(NINE + 5 * HOUR, Verdict.RUN, SlotReason.CATCH_UP),
    )
    assert made.next_due_at == NINE + 6 * HOUR


def test_an_instant_after_a_pause_is_on_time() -> None:
    """What the pause covered does not make it a catch-up."""
    made = plan(HOURLY, NINE, NINE + 2 * HOUR, paused_before=NINE + 2 * HOUR)
    assert made.slots == (
        one(NINE + HOUR, Verdict.SKIPPED, SlotReason.FLEET_PAUSED),
        one(NINE + 2 * HOUR, Verdict.RUN, SlotReason.DUE),
    )


def test_a_pause_of_the_fleet_goes_before_a_run_in_the_way() -> None:
    """Both would skip it; the fleet's pause is what a person has to know of."""
    made = plan(HOURLY, NINE, NINE + HOUR, active=BUSY, paused_before=NINE + 9 * HOUR)
    assert made.slots == (one(NINE + HOUR, Verdict.SKIPPED, SlotReason.FLEET_PAUSED),)


def test_more_than_a_pass_can_see_is_parted_as_well() -> None:
    """Of the instants seen those of the pause are skipped, the others coalesced, and none runs."""
    made = plan(HOURLY, NINE, NINE + 9 * HOUR, paused_before=NINE + 2 * HOUR, limit=3)
    assert made.slots == (
        one(NINE + HOUR, Verdict.SKIPPED, SlotReason.FLEET_PAUSED),
        PlannedSlot(NINE + 2 * HOUR, NINE + 3 * HOUR, 2, Verdict.COALESCED, SlotReason.CATCH_UP),
    )
    assert (made.decided_until, made.next_due_at) == (NINE + 3 * HOUR, NINE + 4 * HOUR)


Said = tuple[str, str, int]


def decided(
    hours: float, *, trigger: Cron | Every | Once = HOURLY, active: Active = IDLE, **policy: object
) -> list[Said]:
    """Verdict, reason and count of each slot, decided that many hours after nine."""
    made = plan(trigger, NINE, NINE + hours * HOUR, policy=Policy(**policy), active=active)  # type: ignore[arg-type]  # Fields by name.
    return [(slot.verdict.value, slot.reason.value, slot.count) for slot in made.slots]


def test_an_interval_is_counted_from_its_anchor() -> None:
    """However late one was decided, the next is where it always was."""
    every = Every(timedelta(minutes=25), NINE)
    found = list(islice(due_instants(every, NINE + timedelta(minutes=51)), 2))
    assert found == [NINE + timedelta(minutes=75), NINE + timedelta(minutes=100)]
    late = plan(every, NINE, NINE + timedelta(minutes=51))
    assert (late.decided_until, late.next_due_at) == (NINE + timedelta(minutes=50), found[0])


def test_the_anchor_itself_is_not_due() -> None:
    """The first instant is one interval after it, also if the search begins long before."""
    every = Every(HOUR, NINE)
    assert next(due_instants(every, NINE - 100 * HOUR)) == NINE + HOUR
    assert next(due_instants(every, NINE)) == NINE + HOUR


def test_an_interval_ends_with_the_calendar() -> None:
    """An interval of a year is due until the year 9999, without a fault after it."""
    every = Every(timedelta(days=366), datetime(9997, 1, 1, tzinfo=UTC))
    assert len(list(due_instants(every, datetime(9997, 1, 1, tzinfo=UTC)))) == 2
    assert list(due_instants(every, datetime(9999, 12, 31, tzinfo=UTC))) == []


def test_catch_up_skip_runs_only_what_is_on_time() -> None:
    """After hours away everything is missed; an instant decided within the minute runs as ever."""
    assert decided(5.5, catch_up=CatchUpPolicy.SKIP) == [("missed", "catch_up", 5)]
    assert decided(5, catch_up=CatchUpPolicy.SKIP) == [("missed", "catch_up", 4), ("run", "due", 1)]
    assert decided(1, catch_up=CatchUpPolicy.SKIP) == [("run", "due", 1)]


def test_catch_up_all_runs_each() -> None:
    """Late ones say so, and the one on time does not."""
    late = ("run", "catch_up", 1)
    assert decided(3, catch_up=CatchUpPolicy.ALL) == [late, late, ("run", "due", 1)]


def test_catch_up_all_has_a_cap() -> None:
    """The newest run, and those before are missed for the limit."""
    late = ("run", "catch_up", 1)
    assert decided(6.5, catch_up=CatchUpPolicy.ALL, catch_up_max=2) == [("missed", "limit", 4), late, late]


@pytest.mark.parametrize("policy", CatchUpPolicy)
def test_an_instant_older_than_its_window_is_missed(policy: CatchUpPolicy) -> None:
    """Whatever the catch-up: a run would be worthless by then. At exactly the window it is not yet."""
    made = decided(5.5, catch_up=policy, window=2.5 * HOUR)
    assert made[0] == ("missed", "window_passed", 2)
    assert made[0] not in made[1:]


def test_one_instant_whose_window_passed_never_runs() -> None:
    """Its slot says why, and nothing is due any more."""
    assert decided(9, trigger=Once(NINE + HOUR), window=HOUR) == [("missed", "window_passed", 1)]


@pytest.mark.parametrize("reason", [SlotReason.PAUSED, SlotReason.PENDING_APPROVAL])
def test_a_halted_schedule_skips_everything(reason: SlotReason) -> None:
    """One span, whatever else would be said about its instants."""
    made = decided(5, halted=reason, window=HOUR, catch_up=CatchUpPolicy.ALL, active=BUSY)
    assert made == [("skipped", reason.value, 5)]


@pytest.mark.parametrize("overlap", [OverlapPolicy.QUEUE, OverlapPolicy.ALLOW])
def test_waiting_in_line_is_bounded(overlap: OverlapPolicy) -> None:
    """With a run at work the next waits; with as many waiting as may, it is skipped for the limit."""
    assert decided(1, overlap=overlap, active=BUSY) == [("run", "due", 1)]
    full = Active(queued=WAITING_MAX, running=1)
    assert decided(1, overlap=overlap, active=full) == [("skipped", "limit", 1)]
    nearly = Active(queued=WAITING_MAX - 1)
    assert decided(3, overlap=overlap, catch_up=CatchUpPolicy.ALL, active=nearly) == [
        ("run", "catch_up", 1),
        ("skipped", "limit", 2),
    ]


def test_the_newest_takes_the_place_of_earlier_ones() -> None:
    """`cancel_previous` runs beside an active run, which is cancelled, and of several only the newest."""
    previous = OverlapPolicy.CANCEL_PREVIOUS
    assert decided(1, overlap=previous, active=BUSY) == [("run", "due", 1)]
    assert decided(3, overlap=previous, catch_up=CatchUpPolicy.ALL, active=BUSY) == [
        ("coalesced", "overlap", 2),
        ("run", "catch_up", 1),
    ]


def test_a_batch_of_catch_up_is_not_in_its_own_way() -> None:
    """With `skip` all of it runs, one after the other; with another run in the way none of it does."""
    assert len(decided(3, catch_up=CatchUpPolicy.ALL)) == 3
    assert decided(3, catch_up=CatchUpPolicy.ALL, active=BUSY) == [("skipped", "overlap", 3)]


def test_more_than_a_pass_can_see_keeps_the_newest_for_catch_up_all() -> None:
    """Over several passes exactly the newest run that the cap allows, as if one pass had seen all."""
    policy = Policy(catch_up=CatchUpPolicy.ALL, catch_up_max=3)
    cursor, runs, missed = NINE, [], 0
    while True:
        made = plan(HOURLY, cursor, NINE + 20.5 * HOUR, policy=policy, limit=6)
        if not made.slots:
            break
        runs += [slot.due_at for slot in made.slots if slot.verdict is Verdict.RUN]
        missed += sum(slot.count for slot in made.slots if slot.reason is SlotReason.LIMIT)
        cursor = made.decided_until
    assert runs == [NINE + n * HOUR for n in (18, 19, 20)]
    assert missed == 17


def test_jitter_is_derived_from_the_slot() -> None:
    """The same for everyone who asks, within its bound, spread, and another for each instant and schedule."""
    drawn = [jitter("01J", NINE + n * HOUR, 60_000) for n in range(200)]
    assert drawn == [jitter("01J", NINE + n * HOUR, 60_000) for n in range(200)]
    assert all(timedelta(0) <= one <= timedelta(minutes=1) for one in drawn)
    assert len(set(drawn)) > 190
    assert max(drawn) > timedelta(seconds=50)
    assert min(drawn) < timedelta(seconds=10)
    assert any(later != earlier for earlier, later in pairwise(drawn))
    assert jitter("01J", NINE, 60_000) != jitter("01K", NINE, 60_000)
    assert jitter("01J", NINE, 0) == timedelta(0)
