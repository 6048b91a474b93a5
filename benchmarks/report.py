"""One measured number beside what the documentation promises."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """`value` in `unit`; `most` is the promise, or None where none is given."""

    work: str
    value: float
    unit: str
    most: float | None

    def __str__(self) -> str:
        """The line of the report."""
        if self.most is None:
            promise = ""
        else:
            promise = f"at most {self.most:g} {self.unit}: {'kept' if self.value <= self.most else 'MISSED'}"
        return f"{self.work:<40} {self.value:>10.2f} {self.unit:<4} {promise}".rstrip()
