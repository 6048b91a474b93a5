"""How much Relay carries, as numbers that equal what is stored.

They are counted from the events that the changes themselves committed, so no hot path keeps a counter and
no list is read to count it. What was counted up to a position is kept as one fact; a question adds the few
events since, in one snapshot, and so sees exactly what the tables hold. Latencies are counted in steps of
five percent, by the hour of the acknowledgement.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from dorkos.clock import iso

# Subjects that are counted each for itself; the rest is counted together.
SUBJECTS_MAX = 500
OTHERS = "(others)"
# Hours of latencies, and of traffic, that are kept and told.
HOURS = 24
# Traffic is counted in slices of ten minutes. One is named by the text of its beginning, up to the tens.
SLICE = timedelta(minutes=10)
SLICES = HOURS * 6
SLICE_NAME_LENGTH = len("2026-03-01T09:2")
_STEP = math.log(1.05)
_REPLIES = "relay.system.reply."

KINDS = (
    "relay.message.published",
    "relay.message.routed",
    "relay.message.dead_lettered",
    "relay.message.redriven",
    "relay.messages.removed",
    "relay.delivery.acked",
)


@dataclass
class Totals:
    """What was counted up to an event. Deliveries by status; standing dead letters by reason.

    `hours` holds for each hour the steps of latency with how often each occurred, and under `sum` their sum
    in microseconds; `sent` and `stopped` for each slice how many messages and dead letters came. What was
    taken away since was sent all the same.
    """

    epoch: str
    position: int
    messages: int = 0
    pending: int = 0
    delivered: int = 0
    failed: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    subjects: Counter[str] = field(default_factory=Counter)
    hours: dict[str, Counter[str]] = field(default_factory=dict)
    sent: Counter[str] = field(default_factory=Counter)
    stopped: Counter[str] = field(default_factory=Counter)

    @property
    def dead_letters(self) -> int:
        """All that stand."""
        return sum(self.reasons.values())

    def fold(self, events: Iterable[tuple[int, str, datetime, Mapping[str, Any]]]) -> None:
        """Count events of KINDS, given as (position, kind, instant, data), in their order."""
        for position, kind, at, data in events:
            _COUNTS[kind](self, at, data)
            self.position = position

    def published(self, at: datetime, data: Mapping[str, Any]) -> None:
        """A message came into its first mailbox."""
        self.pending += 1
        if not data.get("further"):
            self._message(at, data)

    def routed(self, _at: datetime, _data: Mapping[str, Any]) -> None:
        """It came into another as well."""
        self.pending += 1

    def dead_lettered(self, at: datetime, data: Mapping[str, Any]) -> None:
        """It stopped, before or after it came into a mailbox."""
        self.reasons[data["reason"]] += 1
        count_slice(self.stopped, at, 1)
        if data.get("deliveryId") is not None:
            self.pending -= 1
            self.failed += 1
        elif data.get("first"):
            self._message(at, data)

    def redriven(self, _at: datetime, data: Mapping[str, Any]) -> None:
        """A dead letter was put back."""
        self.reasons[data["reason"]] -= 1
        self.pending += 1
        if not data["newDelivery"]:
            self.failed -= 1

    def removed(self, _at: datetime, data: Mapping[str, Any]) -> None:
        """Something was taken away."""
        self.messages -= data["messages"]
        self.delivered -= data["delivered"]
        self.failed -= data["failed"]
        self.reasons.subtract(data["reasons"])
        for subject, count in data["subjects"].items():
            self.count_subject(subject, -count)

    def acked(self, at: datetime, data: Mapping[str, Any]) -> None:
        """A delivery was acknowledged."""
        self.pending -= 1
        self.delivered += 1
        latency_us = data.get("latencyUs")
        if latency_us is not None:
            self.took(at, latency_us)

    def took(self, at: datetime, latency_us: int) -> None:
        """Count a latency."""
        hour = self.hours.setdefault(iso(at)[:13], Counter())
        hour[str(step_of(latency_us))] += 1
        hour["sum"] += latency_us
        while len(self.hours) > HOURS + 1:
            del self.hours[min(self.hours)]

    def count_subject(self, subject: str, count: int) -> None:
        """Count messages to a subject."""
        self.subjects[self._known(subject)] += count

    def as_json(self) -> dict[str, Any]:
        """What `from_json` reads. Counts of nothing are left out."""
        return {
            "epoch": self.epoch,
            "position": self.position,
            "messages": self.messages,
            "pending": self.pending,
            "delivered": self.delivered,
            "failed": self.failed,
            "reasons": {name: count for name, count in self.reasons.items() if count},
            "subjects": {name: count for name, count in self.subjects.items() if count},
            "hours": {hour: dict(steps) for hour, steps in self.hours.items()},
            "sent": dict(self.sent),
            "stopped": dict(self.stopped),
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Totals:
        """The totals that were kept. Raises TypeError or KeyError for what is none."""
        hours = {hour: Counter(steps) for hour, steps in stored["hours"].items()}
        counted = {
            name: Counter(stored[name])  # What an earlier version kept lacks some, and is counted anew.
            for name in ("reasons", "subjects", "sent", "stopped")
        }
        return cls(**(dict(stored) | counted | {"hours": hours}))

    def _message(self, at: datetime, data: Mapping[str, Any]) -> None:
        self.messages += 1
        count_slice(self.sent, at, 1)
        self.count_subject(data["subject"], 1)

    def _known(self, subject: str) -> str:
        """The name under which a subject is counted: replies together, and so what is one too many."""
        if subject.startswith(_REPLIES):
            return f"{_REPLIES}*"
        if subject in self.subjects or len(self.subjects) < SUBJECTS_MAX:
            return subject
        return OTHERS


_COUNTS = dict(
    zip(
        KINDS,
        (
            Totals.published,
            Totals.routed,
            Totals.dead_lettered,
            Totals.redriven,
            Totals.removed,
            Totals.acked,
        ),
        strict=True,
    )
)


@dataclass(frozen=True, slots=True)
class Latency:
    """How long deliveries took from publish to acknowledgement, in milliseconds; None if there were none.

    The percentiles are at most five percent too high, never too low.
    """

    count: int
    average_ms: float | None
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None


def latency(totals: Totals, now: datetime) -> Latency:
    """The latencies of the last 24 hours."""
    since = iso(now - timedelta(hours=HOURS))[:13]
    steps: Counter[int] = Counter()
    whole = 0
    for hour, counted in totals.hours.items():
        if hour > since:
            whole += counted["sum"]
            steps.update({int(step): count for step, count in counted.items() if step != "sum"})
    count = sum(steps.values())
    if count == 0:
        return Latency(0, None, None, None, None)
    return Latency(
        count, whole / count / 1000, *(_percentile(steps, count, share) for share in (0.5, 0.95, 0.99))
    )


@dataclass(frozen=True, slots=True)
class Slice:
    """Ten minutes: what was sent in them, and what stopped."""

    begun: datetime
    sent: int
    stopped: int


def traffic(totals: Totals, now: datetime) -> list[Slice]:
    """The last 24 hours, oldest first, up to the slice under way; none is left out."""
    newest = slice_begun(now)
    begins = [newest - SLICE * number for number in range(SLICES, -1, -1)]
    return [Slice(begun, totals.sent[_name(begun)], totals.stopped[_name(begun)]) for begun in begins]


def slice_begun(instant: datetime) -> datetime:
    """When the slice of an instant begins."""
    return instant.replace(minute=instant.minute // 10 * 10, second=0, microsecond=0)


def count_slice(counted: Counter[str], at: datetime, count: int) -> None:
    """Count in the slice of an instant; of slices only as many are kept as are told.

    Those of a clock that was ahead go first: as the newest they would push out what happens now.
    """
    counted[_name(at)] += count
    while len(counted) > SLICES + 1:
        newest = max(counted)
        del counted[newest if newest > _name(at + timedelta(hours=1)) else min(counted)]


def _name(at: datetime) -> str:
    return iso(at)[:SLICE_NAME_LENGTH]


def step_of(latency_us: int) -> int:
    """The step that a latency falls into: the first whose end is not below it."""
    return 0 if latency_us <= 0 else math.ceil(math.log(latency_us) / _STEP) + 1


def _percentile(steps: Mapping[int, int], count: int, share: float) -> float:
    rank = math.ceil(share * count)
    for step in sorted(steps):
        rank -= steps[step]
        if rank <= 0:
            return 0.0 if step == 0 else math.exp((step - 1) * _STEP) / 1000
    raise AssertionError("the shares are below one")
