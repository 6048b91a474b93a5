"""What an import found and what became of it, counted and told one by one.

A *part* is a source as a person would name it, such as `pulse.db runs` or `schedules.json`. No secret may
be given to a report: it is printed, logged and answered as JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# Under this key a row that is to be written names its part, or a tuple of parts that all tell of it. No
# table has such a column.
PART = "part"


@dataclass(slots=True)
class PartCount:
    """Rows or entries of one part. `kept` of those added were changed, with the original kept."""

    found: int = 0
    added: int = 0
    already: int = 0
    kept: int = 0
    unreadable: int = 0


@dataclass(frozen=True, slots=True)
class KeptValue:
    """A value that could not stand as it was. `key` is its row's id, `why` says what stands there now."""

    part: str
    key: str
    column: str
    why: str


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A file, a table or a row that could not be read and was left out."""

    part: str
    where: str
    why: str


@dataclass(slots=True)
class Report:
    """Filled while reading and writing.

    `settings` are those of the old home that have a meaning here, none of them secret. `before` and `after`
    count the rows of every table of the target.
    """

    parts: dict[str, PartCount] = field(default_factory=dict)
    values: list[KeptValue] = field(default_factory=list)
    left_out: list[Unreadable] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    settings: dict[str, object] = field(default_factory=dict)
    before: dict[str, int] = field(default_factory=dict)
    after: dict[str, int] = field(default_factory=dict)

    def found(self, part: str, n: int = 1) -> None:
        """Count what the source holds; 0 shows a part that is there and empty."""
        self._count(part).found += n

    def added(self, part: str, n: int = 1) -> None:
        """Count what was not in the target before."""
        self._count(part).added += n

    def already(self, part: str, n: int = 1) -> None:
        """Count what the target had already, such as from an earlier import."""
        self._count(part).already += n

    def kept(self, part: str, key: str, column: str, why: str) -> None:
        """Tell that a value of row `key` was replaced and its original kept in `system_state`."""
        self._count(part).kept += 1
        self.values.append(KeptValue(part, key, column, why))

    def unreadable(self, part: str, where: str, why: str) -> None:
        """Tell that something was left out. `where` is a path, or a path and the place in it."""
        self._count(part).unreadable += 1
        self.left_out.append(Unreadable(part, where, why))

    def note(self, text: str) -> None:
        """Tell a person something that they should know before they let the fleet go."""
        self.notes.append(text)

    def count_of(self, part: str) -> PartCount:
        """The counts of one part; zeros for one that was never named."""
        return self.parts.get(part, PartCount())

    def answer(self) -> dict[str, Any]:
        """The report as JSON data."""
        return {
            "parts": [
                {
                    "part": part,
                    "found": count.found,
                    "added": count.added,
                    "already": count.already,
                    "kept": count.kept,
                    "unreadable": count.unreadable,
                }
                for part, count in self.parts.items()
            ],
            "kept": [
                {"part": value.part, "id": value.key, "column": value.column, "why": value.why}
                for value in self.values
            ],
            "unreadable": [
                {"part": item.part, "where": item.where, "why": item.why} for item in self.left_out
            ],
            "notes": list(self.notes),
            "settings": dict(self.settings),
            "tables": _tables(self.before, self.after),
        }

    def _count(self, part: str) -> PartCount:
        return self.parts.setdefault(part, PartCount())


def _tables(before: Mapping[str, int], after: Mapping[str, int]) -> list[dict[str, object]]:
    return [
        {"table": table, "before": before.get(table, 0), "after": after.get(table, 0)}
        for table in sorted(before.keys() | after.keys())
    ]
