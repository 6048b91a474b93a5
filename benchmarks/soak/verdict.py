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


def trends(samples: Sequence[Sample], *, after_s: float) -> list[Trend]:
    """A line through each series from `after_s` on: before that retention has nothing to take away yet."""
    late = [sample for sample in samples if sample.at_s >= after_s]
    found = []
    for name, (unit, tolerance) in _SERIES.items():
        points = [(sample.at_s, sample.values[name]) for sample in late if name in sample.values]
        if len(points) > 1:
            found.append(trend(name, unit, points, tolerance))
    counted = [sample for sample in late if sample.rows]
    tables = sorted({name for sample in counted for name in sample.rows})
    if len(counted) > 1:
        found.append(_rows("all tables", [(sample.at_s, sum(sample.rows.values())) for sample in counted]))
        found += [
            _rows(name, [(sample.at_s, sample.rows.get(name, 0)) for sample in counted]) for name in tables
        ]
    return found


def _rows(name: str, points: Sequence[tuple[float, float]]) -> Trend:
    return trend(f"rows of {name}", "", points, _ROWS)
