"""What the next days would bring: due instants against the caps. Pure: triggers and the time are arguments.

A forecast, not a promise: each run is taken to last as long as its schedule's runs usually do, on one server
with `places` for runs, and to complete at the first attempt. Jitter and runs by hand are left out.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import takewhile

from dorkos.pulse.planner import WAITING_MAX, Trigger, due_instants
from dorkos.vocabulary import OverlapPolicy

# Far more than anybody looks at; what lies behind is said to be left out.
INSTANTS_MAX = 100_000


@dataclass(frozen=True, slots=True)
class Simulated:
    """A schedule as it would run."""

    id: str
    name: str
    trigger: Trigger
    overlap: OverlapPolicy
    max_active: int | None
    lasts: timedelta


@dataclass(slots=True)
class Tally:
    """What would become of one schedule's instants. `longest_wait` is from the due instant to the start."""

    due: int = 0
    started: int = 0
    skipped: int = 0
    replaced: int = 0
    longest_wait: timedelta = timedelta()


@dataclass(slots=True)
class Forecast:
    """`busiest` are the minutes in which most is due, `collisions` counts instants that several share.

    `until` is how far it reaches: to the end that was asked for, unless there were too many instants.
    """

    until: datetime
    tallies: dict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    busiest: list[tuple[datetime, int]] = field(default_factory=list)
    collisions: int = 0
    most_at_work: int = 0
    most_waiting: int = 0


@dataclass(slots=True)
class _Server:
    """The places of one server, by the end of what occupies them, and who waits for one in order."""

    places: int
    ends: list[tuple[datetime, int]] = field(default_factory=list)
    owners: dict[int, Simulated] = field(default_factory=dict)
    waiting: deque[tuple[datetime, Simulated]] = field(default_factory=deque)
    started: int = 0

    # Counted beside, because thousands may wait and each new one asks.
    active: Counter[str] = field(default_factory=Counter)
    queued: Counter[str] = field(default_factory=Counter)


def simulate(schedules: Sequence[Simulated], *, start: datetime, end: datetime, places: int) -> Forecast:
    """Play through what is due after `start` up to `end`."""
    forecast, server = Forecast(end), _Server(places)
    minutes: Counter[datetime] = Counter()
    last, shared = None, False
    for number, (instant, index) in enumerate(_in_order(schedules, start, end)):
        if number == INSTANTS_MAX:
            forecast.until = instant
            break
        minutes[instant.replace(second=0, microsecond=0)] += 1
        forecast.collisions += instant == last and not shared
        shared, last = instant == last, instant
        _advance(server, forecast, instant)
        _arrive(server, forecast, schedules[index], instant)
        _start(server, forecast, instant)
        forecast.most_waiting = max(forecast.most_waiting, len(server.waiting))
    # What waits at the end starts some time; how long that takes belongs to the answer.
    while server.waiting and server.ends:
        _advance(server, forecast, server.ends[0][0])
    forecast.busiest = sorted(minutes.items(), key=lambda each: (-each[1], each[0]))[:10]
    return forecast


def _in_order(
    schedules: Sequence[Simulated], start: datetime, end: datetime
) -> Iterator[tuple[datetime, int]]:
    return heapq.merge(*(_instants(one, index, start, end) for index, one in enumerate(schedules)))


def _instants(
    schedule: Simulated, index: int, start: datetime, end: datetime
) -> Iterator[tuple[datetime, int]]:
    due = takewhile(lambda instant: instant <= end, due_instants(schedule.trigger, start))
    return ((instant, index) for instant in due)


def _advance(server: _Server, forecast: Forecast, now: datetime) -> None:
    """End what is over by now; each place that is freed goes to who waits, at that moment."""
    while server.ends and server.ends[0][0] <= now:
        ended, number = heapq.heappop(server.ends)
        server.active[server.owners.pop(number).id] -= 1
        _start(server, forecast, ended)


def _arrive(server: _Server, forecast: Forecast, schedule: Simulated, instant: datetime) -> None:
    tally = forecast.tallies[schedule.id]
    tally.due += 1
    busy, queued = server.active[schedule.id], server.queued[schedule.id]
    if schedule.overlap is OverlapPolicy.SKIP and busy + queued:
        tally.skipped += 1
        return
    if schedule.overlap is OverlapPolicy.CANCEL_PREVIOUS and busy + queued:
        tally.replaced += busy + queued
        server.owners = {n: one for n, one in server.owners.items() if one.id != schedule.id}
        server.ends = [each for each in server.ends if each[1] in server.owners]
        heapq.heapify(server.ends)
        server.waiting = deque(each for each in server.waiting if each[1].id != schedule.id)
        server.active[schedule.id] = server.queued[schedule.id] = 0
    elif queued >= WAITING_MAX:
        tally.skipped += 1
        return
    server.waiting.append((instant, schedule))
    server.queued[schedule.id] += 1


def _start(server: _Server, forecast: Forecast, now: datetime) -> None:
    """Give free places to those who wait, in order; one that may not start yet lets others pass."""
    held: deque[tuple[datetime, Simulated]] = deque()
    while server.waiting and len(server.owners) < server.places:
        due, schedule = server.waiting.popleft()
        if server.active[schedule.id] >= _at_once(schedule, server.places):
            held.append((due, schedule))
            continue
        server.started += 1
        server.queued[schedule.id] -= 1
        server.active[schedule.id] += 1
        server.owners[server.started] = schedule
        heapq.heappush(server.ends, (now + schedule.lasts, server.started))
        tally = forecast.tallies[schedule.id]
        tally.started += 1
        tally.longest_wait = max(tally.longest_wait, now - due)
        forecast.most_at_work = max(forecast.most_at_work, len(server.owners))
    server.waiting.extendleft(reversed(held))


def _at_once(schedule: Simulated, places: int) -> int:
    return (schedule.max_active or places) if schedule.overlap is OverlapPolicy.ALLOW else 1
