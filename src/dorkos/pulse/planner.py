"""Deciding about due instants. Pure: the time, the cursor and what is under way are arguments.

Every instant in (decided_until, now] gets exactly one verdict. The first rule that speaks about it counts:

1. The schedule is paused or waits for approval: `skipped` / `paused` or `pending_approval`.
2. It fell into a pause of the whole fleet (before `paused_before`): `skipped` / `fleet_paused`.
3. It is older than the schedule's window, so a run would be worthless: `missed` / `window_passed`.
4. Catch-up. `latest`: only the newest is worth a run, the older ones are `coalesced` / `catch_up`. `skip`:
   only the newest, and only if it is no more than a minute late; the others are `missed` / `catch_up`.
   `all`: each, but no more than the newest `catch_up_max`; those before are `missed` / `limit`.
5. Overlap, if a run of the schedule waits or runs. `skip`: `skipped` / `overlap`. `queue` and `allow`: it
   waits its turn, unless `WAITING_MAX` runs wait already: `skipped` / `limit`. `cancel_previous`: it takes
   the place of the earlier ones; of several at once only the newest does, the others are `coalesced` /
   `overlap`.
6. Otherwise `run`, with the reason `due`; or `catch_up` if it stands for older ones as well, or is decided
   more than a minute late, because then nobody was there to decide it in time.

The runs that one pass of `all` makes are one batch, which `skip` does not break up: they wait for each
other. Neighbours with one verdict other than `run` are one slot. The cursor moves to the newest instant that
was decided and never back, also when the clock does.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from hashlib import blake2b
from itertools import islice

from dorkos.pulse import cron
from dorkos.vocabulary import CatchUpPolicy, OverlapPolicy, SlotReason, Verdict

ENUMERATED_MAX = 10_000
# How many runs of one schedule may wait at once.
WAITING_MAX = 200
CATCH_UP_MAX = 100
_LATE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Cron:
    """Due whenever the expression says so in the zone."""

    expression: str
    zone: tzinfo


@dataclass(frozen=True, slots=True)
class Every:
    """Due at `anchor` plus each positive multiple of `interval`, whenever it was decided before."""

    interval: timedelta
    anchor: datetime


@dataclass(frozen=True, slots=True)
class Once:
    """Due at one instant, in UTC."""

    run_at: datetime


Trigger = Cron | Every | Once


@dataclass(frozen=True, slots=True)
class Policy:
    """What a schedule wants for instants that are late or in each other's way.

    `window` None: an instant is never too old. `halted`: why nothing of it runs now, if so.
    """

    overlap: OverlapPolicy = OverlapPolicy.SKIP
    catch_up: CatchUpPolicy = CatchUpPolicy.LATEST
    window: timedelta | None = None
    catch_up_max: int = CATCH_UP_MAX
    halted: SlotReason | None = None


@dataclass(frozen=True, slots=True)
class Active:
    """How many runs of a schedule wait and run."""

    queued: int = 0
    running: int = 0

    @property
    def any(self) -> bool:
        """Whether there is one in the way."""
        return self.queued + self.running > 0


@dataclass(frozen=True, slots=True)
class PlannedSlot:
    """A verdict on one instant, or on `count` neighbouring ones from `due_at` through `through_at`."""

    due_at: datetime
    through_at: datetime
    count: int
    verdict: Verdict
    reason: SlotReason


@dataclass(frozen=True, slots=True)
class Plan:
    """What to store: the slots in order, the new cursor, and the next instant to decide, if there is one."""

    slots: tuple[PlannedSlot, ...]
    decided_until: datetime
    next_due_at: datetime | None


def plan(
    trigger: Trigger,
    decided_until: datetime,
    now: datetime,
    *,
    policy: Policy = Policy(),
    active: Active = Active(),
    paused_before: datetime | None = None,
    limit: int = ENUMERATED_MAX,
) -> Plan:
    """Decide what is due, looking at no more than `limit` instants.

    With more than that due, none of those seen is the newest, so none runs, and `next_due_at` is in the
    past: the next pass goes on from there. With nothing due, only `next_due_at` is told anew. Raises
    `invalid_cron` for an expression that cannot be read.
    """
    due, following = _due(trigger, decided_until, now, limit)
    if not due:
        return Plan((), decided_until, following)
    more_due = following is not None and following <= now
    if more_due and policy.catch_up is CatchUpPolicy.ALL and policy.halted is None:
        # The newest of these may still be among those that run: the next pass sees how many come after.
        kept = min(policy.catch_up_max, limit - 1)
        if kept:
            following = due[-kept]
            del due[-kept:]
    slots = _decided(due, now, policy, active, paused_before, more_due=more_due)
    return Plan(tuple(slots), due[-1], following)


def due_instants(trigger: Trigger, after: datetime) -> Iterator[datetime]:
    """The instants of a trigger after `after`, strictly increasing. Raises `invalid_cron`."""
    match trigger:
        case Cron(expression, zone):
            return cron.instants(expression, zone, after)
        case Every(interval, anchor):
            return _every(interval, anchor, after)
        case Once(run_at):
            return iter((run_at,) if run_at > after else ())


def split(due: list[datetime], before: datetime | None) -> tuple[list[datetime], list[datetime]]:
    """Instants in order, parted into those before a bound, if there is one, and the others."""
    first = 0 if before is None else bisect_left(due, before)
    return due[:first], due[first:]


def span(due: Sequence[datetime], verdict: Verdict, reason: SlotReason) -> PlannedSlot:
    """One slot for neighbouring instants that share a verdict."""
    return PlannedSlot(due[0], due[-1], len(due), verdict, reason)


def jitter(schedule_id: str, due_at: datetime, most_ms: int) -> timedelta:
    """How long after its instant a run is to start: up to `most_ms`, the same wherever it is computed."""
    if most_ms == 0:
        return timedelta(0)
    seed = f"{schedule_id} {due_at.timestamp():.3f}".encode()
    drawn = int.from_bytes(blake2b(seed, digest_size=8).digest(), "big")
    return timedelta(milliseconds=drawn % (most_ms + 1))


def _due(
    trigger: Trigger, after: datetime, now: datetime, limit: int
) -> tuple[list[datetime], datetime | None]:
    """Up to `limit` instants in (after, now], and the one that follows."""
    due: list[datetime] = []
    for instant in islice(due_instants(trigger, after), limit + 1):
        if instant > now or len(due) == limit:
            return due, instant
        due.append(instant)
    return due, None


def _every(interval: timedelta, anchor: datetime, after: datetime) -> Iterator[datetime]:
    passed = max(0, (after - anchor) // interval)
    try:
        instant = anchor + (passed + 1) * interval
        while True:
            yield instant
            instant += interval
    except OverflowError:  # The calendar ends with the year 9999.
        return


def _decided(
    due: list[datetime],
    now: datetime,
    policy: Policy,
    active: Active,
    paused_before: datetime | None,
    *,
    more_due: bool,
) -> Iterator[PlannedSlot]:
    if policy.halted is not None:
        yield span(due, Verdict.SKIPPED, policy.halted)
        return
    paused, others = split(due, paused_before)
    if paused:
        yield span(paused, Verdict.SKIPPED, SlotReason.FLEET_PAUSED)
    worthless, others = split(others, None if policy.window is None else now - policy.window)
    if worthless:
        yield span(worthless, Verdict.MISSED, SlotReason.WINDOW_PASSED)
    left, wanted, verdict, reason = _caught_up(others, now, policy, more_due=more_due)
    if left:
        yield span(left, verdict, reason)
    stands_for_older = bool(left) and verdict is Verdict.COALESCED
    yield from _in_turn(wanted, now, policy.overlap, active, stands_for_older=stands_for_older)


def _caught_up(
    due: list[datetime], now: datetime, policy: Policy, *, more_due: bool
) -> tuple[list[datetime], list[datetime], Verdict, SlotReason]:
    """The instants that are not worth a run, those that are, and what to say about the former."""
    if policy.catch_up is CatchUpPolicy.LATEST:
        wanted, verdict, reason = 1, Verdict.COALESCED, SlotReason.CATCH_UP
    elif policy.catch_up is CatchUpPolicy.SKIP:
        on_time = bool(due) and now - due[-1] <= _LATE
        wanted, verdict, reason = int(on_time), Verdict.MISSED, SlotReason.CATCH_UP
    else:
        wanted, verdict, reason = policy.catch_up_max, Verdict.MISSED, SlotReason.LIMIT
    first = len(due) if more_due else max(0, len(due) - wanted)
    return due[:first], due[first:], verdict, reason


def _in_turn(
    due: list[datetime], now: datetime, overlap: OverlapPolicy, active: Active, *, stands_for_older: bool
) -> Iterator[PlannedSlot]:
    """Slots for instants that are worth a run each, one of which or another run may be in their way."""
    if not due:
        return
    if overlap is OverlapPolicy.SKIP:
        first, room, refusal = 0, 0 if active.any else len(due), SlotReason.OVERLAP
    elif overlap is OverlapPolicy.CANCEL_PREVIOUS:
        first, room, refusal = len(due) - 1, 1, SlotReason.OVERLAP
    else:
        first, room, refusal = 0, max(0, WAITING_MAX - active.queued), SlotReason.LIMIT
    replaced, due = due[:first], due[first:]
    if replaced:
        yield span(replaced, Verdict.COALESCED, SlotReason.OVERLAP)
    for instant in due[:room]:
        late = stands_for_older or bool(replaced) or now - instant > _LATE
        yield span([instant], Verdict.RUN, SlotReason.CATCH_UP if late else SlotReason.DUE)
    if due[room:]:
        yield span(due[room:], Verdict.SKIPPED, refusal)
