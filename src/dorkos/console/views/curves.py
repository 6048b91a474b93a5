"""Amounts over time, drawn: messages as bars, the size of the database as a line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from dorkos.clock import from_iso
from dorkos.console.times import Times
from dorkos.console.views.timeline import Label, axis
from dorkos.console.words import byte_size, count

HEIGHT = 56
# The share of its place that a bar fills.
_FILLED = 0.8
# What is not nothing can be seen.
_LEAST = 2
# A line over less than this says nothing yet.
_LEAST_SPAN = timedelta(hours=2)
# Labels of days at most, so that they do not run into one another on a phone.
_DAY_LABELS = 6


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar; `x` and `width` are percent, `y` and `height` pixels of HEIGHT."""

    x: str
    width: str
    y: int
    height: int
    tone: str
    title: str


def traffic(answer: Mapping[str, Any], times: Times) -> dict[str, Any]:
    """Messages of a day, and in front of them those that stopped."""
    slices = answer["slices"]
    most = max((max(each["sent"], each["stopped"]) for each in slices), default=0)
    since = from_iso(slices[0]["at"])
    until = from_iso(slices[-1]["at"]) + timedelta(milliseconds=answer["sliceMs"])
    total, stopped = (sum(each[name] for each in slices) for name in ("sent", "stopped"))
    busiest = max(each["sent"] for each in slices)
    return {
        "bars": [
            bar for place, each in enumerate(slices) for bar in _bars(place, each, len(slices), most, times)
        ],
        "labels": axis(since, until, times),
        "height": HEIGHT,
        "total": total,
        "told": f"{count(total, 'message')}, {stopped} stopped; at most {busiest} in ten minutes",
        "latest": slices[-1]["sent"] + (slices[-2]["sent"] if len(slices) > 1 else 0),
    }


def growth(answer: Mapping[str, Any], times: Times) -> dict[str, Any] | None:
    """The size as a line from the first note to now; None as long as there is nothing to see."""
    points = [(from_iso(each["at"]), int(each["sizeBytes"])) for each in answer["sizes"]]
    since, until = points[0][0], points[-1][0]
    if until - since < _LEAST_SPAN:
        return None
    most = max(size for _, size in points)
    places = [
        ((at - since) / (until - since) * 1000, HEIGHT - size / (most or 1) * (HEIGHT - _LEAST))
        for at, size in points
    ]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    return {
        "line": line,
        "area": f"0,{HEIGHT} {line} 1000,{HEIGHT}",
        "height": HEIGHT,
        "labels": axis(since, until, times)
        if until - since < timedelta(days=2)
        else _days(since, until, times),
        "most": most,
        "told": f"from {byte_size(points[0][1])} to {byte_size(points[-1][1])}, at most {byte_size(most)}",
        "grew": _grew(points, until),
    }


def _grew(points: Sequence[tuple[datetime, int]], until: datetime) -> str:
    """How much came in the last day, week or as long as is known."""
    for days, words in ((7, "7 days"), (1, "24 h")):
        before = [size for at, size in points if until - at >= timedelta(days=days)]
        if before:
            return f"{_signed(points[-1][1] - before[-1])} in {words}"
    return f"{_signed(points[-1][1] - points[0][1])} since it is noted"


def _signed(size: int) -> str:
    sign = "\u2212" if size < 0 else "+"
    return f"{sign}{byte_size(abs(size))}"


def _days(since: datetime, until: datetime, times: Times) -> list[Label]:
    """Labels at the reader's midnights."""
    first = since.astimezone(times.zone).replace(hour=0, minute=0, second=0, microsecond=0)
    step = max(-(-(until - since).days // _DAY_LABELS), 1)
    labels = []
    for number in range(step, (until - since).days + 2, step):
        day = first + timedelta(days=number)
        share = (day - since) / (until - since) * 100
        if 4 < share < 96:
            labels.append(Label(f"{share:.2f}%", f"{day.day} {day:%b}"))
    return labels


def _bars(place: int, each: Mapping[str, Any], places: int, most: int, times: Times) -> list[Bar]:
    title = f"{times.at(each['at'])}: {each['sent']} sent"
    if each["stopped"]:
        title += f", {each['stopped']} stopped"
    bars = []
    for name, tone in (("sent", "calm"), ("stopped", "bad")):
        if each[name]:
            height = max(round(each[name] / most * HEIGHT), _LEAST)
            x, width = place / places * 100, _FILLED / places * 100
            bars.append(Bar(f"{x:.2f}%", f"{width:.2f}%", HEIGHT - height, height, tone, title))
    return bars
