"""Reading rows of an older shape, so that no odd value stops a migration and none is lost.

The lineage's tables had no CHECKs and no strict types: anything may stand anywhere. A value that its
new column cannot hold is replaced by its safest reading; the original is kept word for word.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from dorkos.clock import from_iso, to_milliseconds
from dorkos.db.step import Step


class Keeper:
    """Reads values of old rows; what does not fit is kept aside and counted.

    Every row needs a column `id`. Reading a value again is harmless: it is kept and counted once.
    """

    def __init__(self, step: Step) -> None:
        """Belong to one step, whose `now` stands in for instants that cannot be read."""
        self.now = step.now
        self._kept: dict[str, str] = {}
        self._step = step
        self._changes: Counter[tuple[str, str, str]] = Counter()

    def keep(self, table: str, row: Mapping[str, Any], column: str, became: str) -> None:
        """Keep the original of one value. `became` says in words what stands in its place."""
        key = f"lineage:{table}:{plain_text(row['id'])}:{column}"
        if key not in self._kept:
            self._kept[key] = _literal(row[column])
            self._changes[table, column, became] += 1

    def rows(self) -> Iterator[dict[str, object]]:
        """What was kept, as rows of `system_state`."""
        return ({"key": key, "value": value} for key, value in self._kept.items())

    def write_notes(self) -> None:
        """Tell what was replaced, one line a column and reason."""
        for (table, column, became), count in sorted(self._changes.items()):
            values = "1 value" if count == 1 else f"{count} values"
            self._step.note(
                f"{table}.{column}: {values} {became}; the original is kept in system_state "
                f"under lineage:{table}:<id>:{column}."
            )

    def text(self, table: str, row: Mapping[str, Any], column: str) -> str | None:
        """A text or NULL."""
        value = row[column]
        if value is None:
            return None
        plain = plain_text(value)
        if not isinstance(value, str) or plain != value:
            self.keep(table, row, column, "held bytes that are not text and now shows U+FFFD in their place")
        return plain

    def required(self, table: str, row: Mapping[str, Any], column: str) -> str:
        """A text of a column that cannot be NULL."""
        return self.text(table, row, column) or ""

    def integer(self, table: str, row: Mapping[str, Any], column: str) -> int | None:
        """A whole number or NULL."""
        value = row[column]
        if value is None or isinstance(value, int):
            return value
        self.keep(table, row, column, "was not a whole number and is empty now")
        return None

    def instant(self, table: str, row: Mapping[str, Any], column: str) -> datetime:
        """An instant, else the time of this migration."""
        value = row[column]
        if isinstance(value, datetime):
            return to_milliseconds(value)
        try:
            instant = from_iso(value)
        except (TypeError, ValueError, OverflowError):
            instant = None
        # Years below 1000 lose their leading zeros in text, and with them the order of times.
        if instant is None or instant.year < 1000:
            self.keep(table, row, column, "was not an instant and became the time of this migration")
            return self.now
        if datetime.fromisoformat(value) != instant:
            self.keep(table, row, column, "was finer than a millisecond and is cut to it")
        return instant

    def optional_instant(self, table: str, row: Mapping[str, Any], column: str) -> datetime | None:
        """An instant or NULL; what is neither becomes the time of this migration."""
        return None if row[column] is None else self.instant(table, row, column)

    def word(
        self, table: str, row: Mapping[str, Any], column: str, known: tuple[str, ...], otherwise: str
    ) -> str:
        """One of the `known` words, else `otherwise`."""
        value = row[column]
        if isinstance(value, str) and value in known:
            return value
        self.keep(table, row, column, f"was an unknown word and became {otherwise!r}")
        return otherwise

    def words(self, table: str, row: Mapping[str, Any], column: str) -> list[str] | None:
        """A JSON list of texts, or None when the column holds anything else."""
        try:
            value = json.loads(row[column])
        except (TypeError, ValueError, RecursionError):
            return None
        return value if isinstance(value, list) and all(isinstance(item, str) for item in value) else None


def plain_text(value: object) -> str:
    """The text of a stored value, with U+FFFD for what is not UTF-8.

    Undecodable bytes arrive as surrogates: the runner reads with `surrogateescape`.
    """
    if isinstance(value, str):
        value = value.encode("utf-8", "surrogateescape")
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _literal(value: object) -> str:
    """A value word for word: text as it is, anything else as a SQL literal that cannot be mistaken."""
    if isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            value = value.encode("utf-8", "surrogateescape")
        else:
            return value
    return f"X'{value.hex()}'" if isinstance(value, bytes) else str(value)
