"""What the samples say: a line through each series, and whether it is flat."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.soak.sampling import Sample
from benchmarks.soak.trend import Tolerance, Trend, trend

# Unit and tolerance of each series that has to be flat. Times feel whatever else the machine does: there more
# is let pass.
_SERIES = {
    "memory": ("MB", Tolerance(0.05, 8)),
    "open files": ("", Tolerance(0, 4)),
    "threads": ("", Tolerance(0, 4)),
    "database": ("MB", Tolerance(0.05, 4)),
    "WAL": ("MB", Tolerance(0.25, 8)),
    "logs": ("MB", Tolerance(0, 1)),
    "publish p50": ("ms", Tolerance(1, 10)),
    "publish p99": ("ms", Tolerance(2, 200)),
    "publish over HTTP p50": ("ms", Tolerance(1, 20)),
    "publish over HTTP p99": ("ms", Tolerance(2, 200)),
    "event loop stall": ("ms", Tolerance(2, 200)),
}
_ROWS = Tolerance(0.1, 500)
_STORED = ("database",)


def trends(samples: Sequence[Sample], *, after_s: float, day_s: float = 0) -> list[Trend]:
    """A line through each series from `after_s` on: before that retention has nothing to take away yet.

    On a machine that gets idler more messages come within a day of retention, and so many are kept: what is
    stored may rise in that proportion.
    """
    late = [sample for sample in samples if sample.at_s >= after_s]
    explained = _explained(samples, after_s, day_s)
    found = []
    for name, (unit, tolerance) in _SERIES.items():
        points = [(sample.at_s, sample.values[name]) for sample in late if name in sample.values]
        if len(points) > 1:
            more = explained if name in _STORED else 0
            found.append(trend(name, unit, points, tolerance, explained=more))
    counted = [sample for sample in late if sample.rows]
    tables = sorted({name for sample in counted for name in sample.rows})
    if len(counted) > 1:
        in_all = [(sample.at_s, float(sum(sample.rows.values()))) for sample in counted]
        found.append(trend("rows of all tables", "", in_all, _ROWS, explained=explained))
        for name in tables:
            points = [(sample.at_s, float(sample.rows.get(name, 0))) for sample in counted]
            found.append(trend(f"rows of {name}", "", points, _ROWS, explained=explained))
    return found


def _explained(samples: Sequence[Sample], after_s: float, day_s: float) -> float:
    """By what share the messages of the day before each sample rose in the time that is judged."""
    kept = []
    for last in samples:
        if last.at_s >= after_s:
            of_day = [one for one in samples if last.at_s - day_s < one.at_s <= last.at_s]
            rate = sum(one.values.get("published", 0) for one in of_day) / max(len(of_day), 1)
            kept.append((last.at_s, rate))
    if len(kept) < 2:
        return 0
    line = trend("kept", "", kept, _ROWS)
    return max(line.rise, 0) / line.middle if line.middle else 0
