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
# Hours of latencies that are kept and told.
HOURS = 24
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
    in microseconds.
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

    @property
    def dead_letters(self) -> int:
        """All that stand."""
        return sum(self.reasons.values())

    def fold(self, events: Iterable[tuple[int, str, datetime, Mapping[str, Any]]]) -> None:
        """Count events of KINDS, given as (position, kind, instant, data), in their order."""
        for position, kind, at, data in events:
            _COUNTS[kind](self, at, data)
            self.position = position

    def published(self, _at: datetime, data: Mapping[str, Any]) -> None:
        """A message came into its first mailbox."""
        self.pending += 1
        if not data.get("further"):
            self._message(data)

    def routed(self, _at: datetime, _data: Mapping[str, Any]) -> None:
        """It came into another as well."""
        self.pending += 1

    def dead_lettered(self, _at: datetime, data: Mapping[str, Any]) -> None:
        """It stopped, before or after it came into a mailbox."""
        self.reasons[data["reason"]] += 1
        if data.get("deliveryId") is not None:
            self.pending -= 1
            self.failed += 1
        elif data.get("first"):
            self._message(data)

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
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Totals:
        """The totals that were kept. Raises TypeError or KeyError for what is none."""
        hours = {hour: Counter(steps) for hour, steps in stored["hours"].items()}
        counted = {"reasons": Counter(stored["reasons"]), "subjects": Counter(stored["subjects"])}
        return cls(**(dict(stored) | counted | {"hours": hours}))

    def _message(self, data: Mapping[str, Any]) -> None:
        self.messages += 1
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
