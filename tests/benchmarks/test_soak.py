"""The soak in short: that it does what it says, and that it would notice something that grows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks.soak.__main__ import main
from benchmarks.soak.report import Report
from benchmarks.soak.sampling import Sample
from benchmarks.soak.trend import Tolerance, trend
from benchmarks.soak.verdict import trends


def series(name: str, values: Sequence[float]) -> list[Sample]:
    return [Sample(float(number), {name: value}) for number, value in enumerate(values)]


@pytest.mark.timeout(300)  # A whole server with everything on it, on whatever else is at work.
def test_a_soak_keeps_every_part_busy_and_reports_each_series(tmp_path: Path) -> None:
    """Messages, followers, runs, visits and discovery; no client sees a fault."""
    out = tmp_path / "soak.md"
    asked = {
        "minutes": 0.05,
        "every": 0.2,
        "rate": 30,
        "due": 1,
        "schedules": 3,
        "folder": tmp_path,
        "out": out,
    }
    main([f"--{name}={value}" for name, value in asked.items()])
    report = json.loads(out.with_suffix(".json").read_text("utf-8"))
    assert report["faults"] == {}
    done = {name for sample in report["samples"] for name, value in sample.items() if value}
    assert done >= {"published", "acknowledged", "streams opened", "visits", "discoveries"}
    assert report["runs"] > 0
    names = {one["name"] for one in report["trends"]}
    assert names >= {"memory", "open files", "threads", "database", "WAL", "event loop stall"}
    assert names >= {"publish p50", "publish over HTTP p99", "rows of relay_messages", "rows of events"}
    assert "| memory |" in out.read_text("utf-8")
    again = Report.again(report)
    assert {one.name for one in again.trends} == names


def test_what_grows_steadily_is_said_to_grow() -> None:
    """A tenth in an hour, under noise and with an outlier at the begin that would turn a mean."""
    leak = [900.0, *(100 + number / 36 + (number % 3) for number in range(360))]
    (found,) = trends(series("memory", leak), after_s=0)
    assert found.grows
    assert found.rise == pytest.approx(10, abs=0.5)


def test_what_swings_is_flat() -> None:
    """As the rows that retention takes away every few minutes, or with an outlier at the end."""
    saw = [100 + number % 20 for number in range(360)]
    (found,) = trends(series("memory", [*saw, 900.0]), after_s=0)
    assert not found.grows


def test_what_came_before_retention_began_to_work_does_not_count() -> None:
    """Everything is filled from empty at first."""
    filling = [float(min(number, 180)) for number in range(360)]
    assert not trends(series("memory", filling), after_s=180)[0].grows
    assert trends(series("memory", filling), after_s=0)[0].grows


def test_what_is_allowed_is_the_larger_of_a_share_and_a_size() -> None:
    """A small series is judged by its size, a large one by its share."""
    rising = [(0.0, 10.0), (1.0, 14.0)]
    assert trend("a", "", rising, Tolerance(share=0.05, least=3)).grows
    assert not trend("a", "", rising, Tolerance(share=0.05, least=5)).grows
    assert not trend("a", "", rising, Tolerance(share=0.5, least=3)).grows


def test_what_is_stored_may_rise_as_the_messages_of_a_day_do() -> None:
    """A machine that gets idle lets more of them come; what rises faster than they do, grows."""

    def soaked(power: float) -> list[bool]:
        samples = [
            Sample(float(at), {"published": 100.0 + at, "database": (100.0 + at) ** power})
            for at in range(100)
        ]
        return [one.grows for one in trends(samples, after_s=50, day_s=1)]

    assert soaked(1) == [False]
    assert soaked(2) == [True]
