"""Amounts over time, as they are drawn."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from dorkos.clock import iso
from dorkos.console.times import Times
from dorkos.console.views.curves import HEIGHT, growth, traffic

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
TIMES = Times(NOW, "Europe/Berlin")


def sent(*counts: tuple[int, int]) -> dict[str, Any]:
    """Slices of ten minutes up to now, each with what was sent and what stopped."""
    begin = NOW - timedelta(minutes=10 * len(counts))
    slices = [
        {"at": iso(begin + timedelta(minutes=10 * place)), "sent": each[0], "stopped": each[1]}
        for place, each in enumerate(counts)
    ]
    return {"sliceMs": 600_000, "slices": slices}


def sizes(*points: tuple[float, int]) -> dict[str, Any]:
    """Sizes some hours ago."""
    return {"sizes": [{"at": iso(NOW - timedelta(hours=ago)), "sizeBytes": size} for ago, size in points]}


def test_the_highest_bar_is_the_most_and_one_message_can_be_seen() -> None:
    """What stopped stands before what was sent, by the same measure."""
    drawn = traffic(sent((0, 0), (500, 0), (1, 250)), TIMES)
    assert [(bar.tone, bar.height, bar.y) for bar in drawn["bars"]] == [
        ("calm", HEIGHT, 0),
        ("calm", 2, HEIGHT - 2),
        ("bad", HEIGHT // 2, HEIGHT // 2),
    ]
    assert drawn["bars"][-1].title == "12:50:00: 1 sent, 250 stopped"
    assert drawn["told"] == "501 messages, 250 stopped; at most 500 in ten minutes"


def test_a_day_without_messages_has_no_bars() -> None:
    """Nor does it divide by nothing."""
    drawn = traffic(sent((0, 0), (0, 0)), TIMES)
    assert (drawn["bars"], drawn["total"]) == ([], 0)


def test_growth_is_a_line_from_the_first_note_to_now() -> None:
    """With what came in a week, and labels at the reader's midnights that do not run into one another."""
    drawn = growth(sizes((20 * 24, 1_000_000), (8 * 24, 4_000_000), (0, 2_000_000)), TIMES)
    assert drawn is not None
    assert drawn["line"] == "0.0,42.5 600.0,2.0 1000.0,29.0"
    assert drawn["grew"] == "\u22122.0 MB in 7 days"
    assert drawn["told"] == "from 1.0 MB to 2.0 MB, at most 4.0 MB"
    assert [label.text for label in drawn["labels"]] == ["22 Feb", "26 Feb", "2 Mar", "6 Mar"]


def test_a_short_growth_says_since_when_and_has_hours() -> None:
    """A day is told as a day once there is one; under two hours there is nothing to draw."""
    assert growth(sizes((1.5, 100), (0, 5000)), TIMES) is None
    short = growth(sizes((5, 1000), (0, 5000)), TIMES)
    day = growth(sizes((30, 1000), (0, 5000)), TIMES)
    assert short is not None
    assert day is not None
    assert (short["grew"], day["grew"]) == ("+4 kB since it is noted", "+4 kB in 24 h")
    assert ":00" in short["labels"][0].text
