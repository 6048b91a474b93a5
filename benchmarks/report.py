"""One measured number beside what the documentation promises."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Self


@dataclass(frozen=True, slots=True)
class Row:
    """`value` in `unit`; `most` and `least` are the promise, or None where none is given.

    `spread` is from the least to the most of the rounds of which `value` is the median.
    """

    work: str
    value: float
    unit: str
    most: float | None = None
    least: float | None = None
    spread: tuple[float, float] | None = None

    @classmethod
    def of(cls, work: str, rounds: Sequence[float], unit: str, most: float | None = None) -> Self:
        """The median of several rounds."""
        return cls(work, median(rounds), unit, most, spread=(min(rounds), max(rounds)))

    @property
    def kept(self) -> bool | None:
        """Whether the promise holds; None without one."""
        if self.most is None and self.least is None:
            return None
        return (self.most is None or self.value <= self.most) and (
            self.least is None or self.value >= self.least
        )

    @property
    def promise(self) -> str:
        """The promise in words, empty without one."""
        words = []
        if self.least is not None:
            words.append(f"at least {self.least:,g} {self.unit}")
        if self.most is not None:
            words.append(f"at most {self.most:,g} {self.unit}")
        return ", ".join(words)

    def document(self) -> dict[str, object]:
        """What the JSON report holds of it."""
        return {
            "work": self.work,
            "value": round(self.value, 4),
            "unit": self.unit,
            "spread": self.spread and [round(value, 4) for value in self.spread],
            "atLeast": self.least,
            "atMost": self.most,
            "kept": self.kept,
        }

    def __str__(self) -> str:
        """The line of the report."""
        verdict = {True: ": kept", False: ": MISSED", None: ""}[self.kept]
        return f"{self.work:<52} {self.value:>12,.2f} {self.unit:<4} {self.promise}{verdict}".rstrip()
