"""How a cost grows with what is stored."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Curve:
    """What something costs, in `unit`, by how much is stored."""

    name: str
    unit: str
    values: Mapping[int, float]

    @property
    def exponent(self) -> float:
        """`k` of the power n^k that fits best: 0 does not grow, 1 is in proportion.

        The slope of the line of least squares through the logarithms. Two sizes at the least.
        """
        points = [(math.log(size), math.log(max(value, 1e-9))) for size, value in self.values.items()]
        mean_x = sum(x for x, _ in points) / len(points)
        mean_y = sum(y for _, y in points) / len(points)
        spread = sum((x - mean_x) ** 2 for x, _ in points)
        return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread

    @property
    def ratio(self) -> float:
        """The cost with the most stored, in times of that with the least."""
        return self.values[max(self.values)] / self.values[min(self.values)]

    def __str__(self) -> str:
        """The line of the report."""
        values = " ".join(f"{self.values[size]:>10,.3f}" for size in sorted(self.values))
        return (
            f"{self.name:<36} {self.unit:<3} {values}  n^{self.exponent:.2f}, last to first {self.ratio:.2f}"
        )

    def document(self) -> dict[str, object]:
        """What the JSON report holds of it."""
        return {
            "name": self.name,
            "unit": self.unit,
            "values": {str(size): round(value, 4) for size, value in self.values.items()},
            "exponent": round(self.exponent, 3),
            "ratio": round(self.ratio, 3),
        }
