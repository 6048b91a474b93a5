"""Deciding about due instants. Pure: the time, the cursor and what is running are arguments.

Every instant in (decided_until, now] gets exactly one verdict:

- Catch-up is `latest`: of several instants only the newest is worth a run. The older ones form one slot,
  `coalesced` / `catch_up`.
- Overlap is `skip`: while a run of the schedule waits or runs, the newest is `skipped` / `overlap`.
- Otherwise the newest is `run`, with the reason `due`; or `catch_up` if it stands for older ones as well, or
  is decided more than a minute late, because then nobody was there to decide it in time.

The cursor moves to the newest instant that was decided and never back, also when the clock does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from itertools import islice

from dorkos.pulse import cron
from dorkos.vocabulary import SlotReason, Verdict

ENUMERATED_MAX = 10_000
_LATE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Cron:
    """Due whenever the expression says so in the zone."""

    expression: str
    zone: tzinfo


@dataclass(frozen=True, slots=True)
class Once:
    """Due at one instant, in UTC."""

    run_at: datetime


Trigger = Cron | Once


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
    has_active_run: bool,
    *,
    limit: int = ENUMERATED_MAX,
) -> Plan:
    """Decide what is due, looking at no more than `limit` instants.

    With more than that due, those seen become one coalesced slot and `next_due_at` is in the past: the
    next pass goes on from there. Raises `invalid_cron` for an expression that cannot be read.
    """
    coming = due_instants(trigger, decided_until)
    due: list[datetime] = []
    following: datetime | None = None
    for instant in islice(coming, limit + 1):
        if instant > now or len(due) == limit:
            following = instant
            break
        due.append(instant)
    if not due:
        return Plan((), decided_until, following)
    if following is not None and following <= now:
        return Plan((span(due, Verdict.COALESCED, SlotReason.CATCH_UP),), due[-1], following)
    return Plan(_verdicts(due, now, has_active_run), due[-1], following)


def due_instants(trigger: Trigger, after: datetime) -> Iterator[datetime]:
    """The instants of a trigger after `after`, strictly increasing. Raises `invalid_cron`."""
    if isinstance(trigger, Cron):
        return cron.instants(trigger.expression, trigger.zone, after)
    return iter((trigger.run_at,) if trigger.run_at > after else ())


def span(due: Sequence[datetime], verdict: Verdict, reason: SlotReason) -> PlannedSlot:
    """One slot for neighbouring instants that share a verdict."""
    return PlannedSlot(due[0], due[-1], len(due), verdict, reason)


def _verdicts(due: list[datetime], now: datetime, has_active_run: bool) -> tuple[PlannedSlot, ...]:
    *older, newest = due
    late = bool(older) or now - newest > _LATE
    if has_active_run:
        last = span([newest], Verdict.SKIPPED, SlotReason.OVERLAP)
    else:
        last = span([newest], Verdict.RUN, SlotReason.CATCH_UP if late else SlotReason.DUE)
    return (span(older, Verdict.COALESCED, SlotReason.CATCH_UP), last) if older else (last,)
