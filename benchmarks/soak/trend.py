"""Whether a series of numbers grows: a line through it, and what counts as flat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How much a series may rise from the begin to the end of its line: the larger of both.

    `share` is of its median; `least` is in its unit.
    """

    share: float
    least: float


@dataclass(frozen=True, slots=True)
class Trend:
    """A line through a series, from the first of its points to the last."""

    name: str
    unit: str
    middle: float
    most: float
    begin: float
    end: float
    allowed: float

    @property
    def rise(self) -> float:
        """How much higher the line ends than it begins."""
        return self.end - self.begin

    @property
    def grows(self) -> bool:
        """Whether that is more than is allowed."""
        return self.rise > self.allowed

    def document(self) -> dict[str, object]:
        """What the JSON report holds of it."""
        numbers = {
            "median": self.middle,
            "most": self.most,
            "begin": self.begin,
            "end": self.end,
            "rise": self.rise,
            "allowed": self.allowed,
        }
        return {
            "name": self.name,
            "unit": self.unit,
            **{name: round(value, 2) for name, value in numbers.items()},
            "grows": self.grows,
        }


def trend(
    name: str,
    unit: str,
    points: Sequence[tuple[float, float]],
    tolerance: Tolerance,
    *,
    explained: float = 0,
) -> Trend:
    """The line through points (time, value): its slope is the median of those between any two points.

    So that a few points that are far off, as of a machine that did something else, do not turn it. Two points
    at the least. A rise by the share that is `explained` is allowed beside the tolerance.
    """
    slope = median((w - v) / (u - t) for (t, v), (u, w) in combinations(_thinned(points), 2) if u > t)
    height = median(value - slope * at for at, value in points)
    values = [value for _, value in points]
    middle = median(values)
    first, last = points[0][0], points[-1][0]
    return Trend(
        name=name,
        unit=unit,
        middle=middle,
        most=max(values),
        begin=height + slope * first,
        end=height + slope * last,
        allowed=max(tolerance.share * abs(middle), tolerance.least) + explained * abs(middle),
    )


def _thinned(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """Some of a long series, evenly: all pairs of thousands would be millions."""
    step = max(len(points) // 500, 1)
    return points[::step]
