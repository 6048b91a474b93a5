"""Timelines, waterfalls and differences as they are drawn."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from dorkos.clock import iso
from dorkos.console.times import Times
from dorkos.console.views.differences import differences
from dorkos.console.views.timeline import drawn, spark
from dorkos.console.views.waterfall import waterfall

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def lane(*marks: tuple[int, str], coming: tuple[int, ...] = ()) -> dict[str, Any]:
    """A lane with marks some minutes before now, and instants some minutes after it."""
    return {
        "scheduleId": "s",
        "name": "a lane",
        "marks": [
            {
                "dueAt": iso(NOW - timedelta(minutes=ago)),
                "throughAt": iso(NOW - timedelta(minutes=ago)),
                "count": 1,
                "outcome": outcome,
                "reason": None,
                "runId": None,
            }
            for ago, outcome in marks
        ],
        "coming": [iso(NOW + timedelta(minutes=after)) for after in coming],
    }


def shown(given: dict[str, Any]) -> dict[str, Any]:
    """A day back and a day ahead of this lane."""
    day = timedelta(days=1)
    window = {"since": iso(NOW - day), "now": iso(NOW), "until": iso(NOW + day), "lanes": [given]}
    found: dict[str, Any] = drawn(window, Times(NOW, "UTC"))["lanes"][0]
    return found


def test_an_instant_stands_where_it_was_due() -> None:
    """Half of the window is behind now."""
    [tick] = shown(lane((12 * 60, "completed")))["ticks"]
    assert (tick.x, tick.tone) == ("25.00%", "good")


def test_of_instants_in_one_place_the_worst_is_drawn() -> None:
    """One failure among a hundred successes must not be painted over."""
    [tick] = shown(lane((63, "completed"), (62, "failed"), (61, "completed")))["ticks"]
    assert tick.tone == "bad"
    assert "one of 3" in tick.title


def test_a_lane_is_told_in_words_as_well() -> None:
    """For whoever does not see the drawing."""
    told = shown(lane((60, "completed"), (90, "skipped"), coming=(10, 20)))["told"]
    assert told == "1 completed, 1 skipped; 2 to come"


def test_the_newest_outcome_stands_at_the_right_end() -> None:
    """However few there are."""
    assert [x for x, _ in spark(["completed", "failed"])] == [108, 114]


def test_a_waterfall_shows_what_is_under_way_up_to_now() -> None:
    """It has no duration yet."""
    spans = [
        {
            "kind": "message",
            "messageId": "m",
            "depth": 0,
            "offsetMs": 0,
            "durationMs": 500,
            "status": "delivered",
        },
        {"kind": "run", "runId": "r", "depth": 1, "offsetMs": 500, "status": "running"},
    ]
    first, second = waterfall(spans, 1000)
    assert (first.x, first.width) == ("0.00%", "50.00%")
    assert (second.x, second.width, second.took) == ("50.00%", "50.00%", "500 ms so far")
    assert second.address == "/pulse/runs/r"


def test_only_what_differs_is_shown_with_a_little_around_it() -> None:
    """A field that is new or gone counts as changed."""
    before = {"prompt": "one\ntwo\nthree", "same": "x", "gone": "y"}
    after = {"prompt": "one\n2\nthree", "same": "x"}
    changed = {change.field: change.lines for change in differences(before, after)}
    assert changed == {
        "prompt": [("same", "one"), ("del", "two"), ("ins", "2"), ("same", "three")],
        "gone": [("del", "y")],
    }
