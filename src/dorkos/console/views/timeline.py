"""A timeline drawn: instants as places between 0 and 100 percent, in the colours of what became of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from dorkos.clock import from_iso, iso
from dorkos.console.times import Times
from dorkos.console.words import tone, words

# As many places as a wide screen can tell apart; those of one place are drawn as the worst of them.
_PLACES = 288
# Labels this near to now would run into its own.
_NOW_SHARE = 0.06
_WORST = ("bad", "warn", "calm", "wait", "good")


@dataclass(frozen=True, slots=True)
class Tick:
    """One drawn mark. `x` and `width` are percent; `address` leads to its run, if it is one."""

    x: str
    width: str
    tone: str
    title: str
    address: str | None


@dataclass(frozen=True, slots=True)
class Label:
    """A label of the axis."""

    x: str
    text: str


def mark_tone(outcome: str) -> str:
    """The colour of an outcome. What was left out because nothing was lost by it is quiet."""
    if outcome in ("overdue", "missed"):
        return "bad"
    if outcome == "skipped":
        return "warn"
    if outcome in ("coalesced", "cancelled"):
        return "calm"
    if outcome == "running":
        return "wait"
    return tone(outcome)


def ticks(lane: Mapping[str, Any], since: datetime, until: datetime, times: Times) -> list[Tick]:
    """The decided instants of a lane."""
    span = until - since
    places: dict[int, list[Mapping[str, Any]]] = {}
    for mark in lane["marks"]:
        share = max((from_iso(mark["dueAt"]) - since) / span, 0.0)
        places.setdefault(int(share * _PLACES), []).append(mark)
    return [_tick(place, marks, since, span, times) for place, marks in sorted(places.items())]


def coming(lane: Mapping[str, Any], since: datetime, until: datetime) -> list[str]:
    """Where the instants to come are."""
    places = {int((from_iso(at) - since) / (until - since) * _PLACES) for at in lane["coming"]}
    return [f"{place / _PLACES * 100:.2f}%" for place in sorted(places) if place <= _PLACES]


def axis(since: datetime, until: datetime, times: Times, *, every_h: int = 6) -> list[Label]:
    """Labels at full hours of the reader's clock."""
    labels = []
    moment = since.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
    while moment < until:
        local = times.local(iso(moment))
        is_near = abs(moment - times.now) < (until - since) * _NOW_SHARE
        if local.hour % every_h == 0 and local.minute == 0 and not is_near:
            text = f"{local:%a}" if local.hour == 0 else f"{local:%H:%M}"
            labels.append(Label(f"{(moment - since) / (until - since) * 100:.2f}%", text))
        moment += timedelta(hours=1)
    return labels


def drawn(timeline: Mapping[str, Any], times: Times) -> dict[str, Any]:
    """Everything that the drawing needs."""
    since, until, now = (from_iso(timeline[name]) for name in ("since", "until", "now"))
    return {
        "labels": axis(since, until, times),
        "now": f"{(now - since) / (until - since) * 100:.2f}%",
        "lanes": [
            {
                **lane,
                "ticks": ticks(lane, since, until, times),
                "ahead": coming(lane, since, until),
                "told": _told(lane),
            }
            for lane in timeline["lanes"]
        ],
    }


def spark(states: Sequence[str]) -> list[tuple[int, str]]:
    """Cells of a row of outcomes, the newest at the right end: (x of 120, colour)."""
    return [
        (120 - 6 * (len(states) - at), "wait" if s == "running" else tone(s)) for at, s in enumerate(states)
    ]


def _tick(
    place: int, marks: Sequence[Mapping[str, Any]], since: datetime, span: timedelta, times: Times
) -> Tick:
    tones = [mark_tone(mark["outcome"]) for mark in marks]
    worst = min(range(len(marks)), key=lambda at: _WORST.index(tones[at]))
    mark = marks[worst]
    end = (from_iso(mark["throughAt"]) - since) / span * 100
    width = max(end - place / _PLACES * 100, 100 / _PLACES) if len(marks) == 1 else 100 / _PLACES
    counted = sum(each["count"] for each in marks)
    title = f"{times.at(mark['dueAt'])}: {words(mark['outcome'])}"
    if mark["reason"] and mark["reason"] != "due":
        title += f" ({words(mark['reason'])})"
    if counted > 1:
        title += f", one of {counted}" if len(marks) > 1 else f", {counted} times"
    address = f"/pulse/runs/{mark['runId']}" if mark["runId"] else None
    return Tick(f"{place / _PLACES * 100:.2f}%", f"{width:.2f}%", tones[worst], title, address)


def _told(lane: Mapping[str, Any]) -> str:
    """The lane in words, for whoever does not see the drawing."""
    counted: dict[str, int] = {}
    for mark in lane["marks"]:
        counted[mark["outcome"]] = counted.get(mark["outcome"], 0) + mark["count"]
    said = [f"{number} {words(outcome)}" for outcome, number in counted.items()]
    return f"{', '.join(said) or 'nothing was due'}; {len(lane['coming'])} to come"
