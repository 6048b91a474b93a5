"""Rows on their way into our tables, and how those of several stores become one set.

The upgrade of the lineage left its older stores behind unread, so both generations hold rows that count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dorkos.db.legacy.report import PART, Report
from dorkos.db.legacy.values import E, Values, literal, plain_text

Row = dict[str, Any]
# By the names of our tables.
Rows = dict[str, list[Row]]

# In order of precedence. The second has the tables of the first, since a server of the lineage once
# applied all of its migrations to the wrong file.
DRIZZLE_DATABASES = ("dork.db", "relay/index.db")


@dataclass(frozen=True, slots=True)
class Cells:
    """The values of one stored row by their columns. What they lose is kept under the row's new `id`."""

    values: Values
    table: str
    id: str
    stored: Mapping[str, object]

    def text(self, column: str) -> str | None:
        """A text or NULL."""
        return self.values.text(self.table, self.id, column, self.stored.get(column))

    def required(self, column: str) -> str:
        """A text."""
        return self.values.required(self.table, self.id, column, self.stored.get(column))

    def integer(self, column: str) -> int | None:
        """A whole number or NULL."""
        return self.values.integer(self.table, self.id, column, self.stored.get(column))

    def flag(self, column: str, *, absent: bool, otherwise: bool) -> bool:
        """A yes or no: `absent` where there is no such column, `otherwise` for what is neither."""
        stored = self.stored.get(column, absent)
        return self.values.flag(self.table, self.id, column, stored, otherwise=otherwise)

    def instant(self, column: str) -> datetime:
        """An instant, else the time of the import."""
        return self.values.instant(self.table, self.id, column, self.stored.get(column))

    def optional_instant(self, column: str) -> datetime | None:
        """An instant or NULL."""
        return self.values.optional_instant(self.table, self.id, column, self.stored.get(column))

    def word(self, column: str, known: dict[str, E], *, absent: E, otherwise: E) -> E:
        """A known word: `absent` where there is no such column, `otherwise` for an unknown word."""
        stored = self.stored.get(column, absent.value)
        return self.values.word(self.table, self.id, column, stored, known, otherwise=otherwise)

    def structure(self, column: str, kind: type[list[Any] | dict[str, Any]]) -> Any:
        """A JSON list or object, from its text or as it is; None for NULL and for anything else."""
        return self.values.structure(self.table, self.id, column, self.stored.get(column), kind)

    def keep(self, column: str, became: str) -> None:
        """Keep the original of a value that has no place, or another one."""
        self.values.keep(self.table, self.id, column, self.stored.get(column), became)

    def keep_unknown(self, understood: frozenset[str]) -> None:
        """Keep every value whose column is none of those."""
        for column in sorted(self.stored.keys() - understood):
            self.keep(column, "has no column here")


def key_of(stored: object, number: int) -> str:
    """The id of a stored row as text. What is no text is told apart by its literal, and NULL by its place."""
    if stored is None:
        return f"NULL-{number + 1}"
    return stored if isinstance(stored, str) and plain_text(stored) == stored else literal(stored)


def unite(
    rows: list[Row],
    further: Sequence[Row],
    keys: Sequence[str],
    *,
    part: str,
    values: Values,
    report: Report,
) -> list[Row]:
    """`rows` and those of `further` that share none of the `keys` with any before them.

    Of the others, what differs is kept under `lineage:<part>:<id>:<column>` and reported: the earlier one
    stands, and neither is lost.
    """
    united = list(rows)
    seen = {(key, row[key]): row for key in keys for row in rows}
    for row in further:
        standing = next((seen[key, row[key]] for key in keys if (key, row[key]) in seen), None)
        if standing is None:
            united.append(row)
            seen.update({(key, row[key]): row for key in keys})
            continue
        report.already(part)
        for column, value in row.items():
            if column != PART and value != standing.get(column):
                values.keep(
                    part.replace(" ", "/"),
                    str(row["id"]),
                    column,
                    value,
                    f"differs from what {standing[PART]} says, which stands",
                )
    return united
