"""What is promised of costs with much stored."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.growth.fit import Curve
from benchmarks.growth.operations import METRICS, NEWEST_RUNS, PUBLISH, PUBLISH_ONE
from benchmarks.report import Row


def rows(curves: Sequence[Curve]) -> list[Row]:
    """The promised numbers, with the most that was stored."""
    by = {curve.name: curve for curve in curves}
    most = max(by[PUBLISH].values)
    least = min(by[PUBLISH].values)
    return [
        Row(f"{PUBLISH}, {most:,} stored to {least:,}", by[PUBLISH].ratio, "x", 1.3),
        Row(f"{PUBLISH_ONE}, {most:,} stored to {least:,}", by[PUBLISH_ONE].ratio, "x", 1.3),
        Row(f"{NEWEST_RUNS} of {most:,}", by[NEWEST_RUNS].values[most], "ms", 2),
        Row(f"{METRICS} of {most:,} messages", by[METRICS].values[most], "ms", 5),
    ]
