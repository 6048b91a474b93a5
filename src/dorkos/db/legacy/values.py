"""Reading values of the lineage, where anything may stand anywhere, and losing none.

A value that its column here cannot hold is replaced by its safest reading. The original is kept word for
word in `system_state`, under `lineage:<table>:<id>:<column>`, and reported.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, TypeVar

from dorkos.clock import from_iso, iso, to_milliseconds
from dorkos.db.legacy.report import PART, Report

E = TypeVar("E", bound=StrEnum)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_INTEGER_MAX = 2**63 - 1
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
# A lone surrogate as the lineage wrote it into a database: one character, though three wrong bytes.
_SURROGATE_BYTES = re.compile(rb"\xed[\xa0-\xbf][\x80-\xbf]")
_REPLACEMENT = "\ufffd"


class Values:
    """Reads values of one part, and collects the originals of those that it replaced.

    Every method takes the table and id under which an original is kept, its column, and the value. Reading
    a value again is harmless: it is kept and counted once.
    """

    def __init__(self, report: Report, part: str, *, now: datetime, from_json: bool = False) -> None:
        """`now`, the time of the import, stands in for instants that cannot be read.

        `from_json` says where surrogates come from: an escape in a JSON file, else undecodable bytes of a
        database, which are read with `surrogateescape`.
        """
        self.now = now
        self._report = report
        self._part = part
        self._from_json = from_json
        self._kept: dict[str, str] = {}

    def keep(self, table: str, row_id: str, column: str, original: object, became: str) -> None:
        """Keep an original. `became` says in words what stands in its place, and shows no value."""
        key = f"lineage:{table}:{plain_text(row_id)}:{column}"
        if key not in self._kept:
            self._kept[key] = literal(original, from_json=self._from_json)
            self._report.kept(self._part, plain_text(row_id), column, became)

    def note_id(self, table: str, new_id: str, old_id: str) -> None:
        """Keep the id that a row had, if it is another now. That changes nothing that the row says."""
        if new_id != old_id:
            self._kept.setdefault(f"lineage:{table}:{new_id}:id", old_id)

    def rows(self) -> list[dict[str, object]]:
        """What was kept, as rows of `system_state`."""
        return [{"key": key, "value": value, PART: self._part} for key, value in self._kept.items()]

    def text(self, table: str, row_id: str, column: str, value: object) -> str | None:
        """A text or NULL."""
        if value is None:
            return None
        plain = plain_text(value)
        if plain != value:
            self.keep(
                table, row_id, column, value, "held what is no text; U+FFFD or its text form stands there"
            )
        return plain

    def required(self, table: str, row_id: str, column: str, value: object) -> str:
        """A text of a column that cannot be NULL."""
        if value is None:
            self.keep(table, row_id, column, None, "was NULL and is an empty text")
        return self.text(table, row_id, column, value) or ""

    def integer(self, table: str, row_id: str, column: str, value: object) -> int | None:
        """A whole number of 64 bits or NULL."""
        number = int(value) if isinstance(value, float) and value.is_integer() else value
        if number is None or (
            isinstance(number, int) and not isinstance(number, bool) and abs(number) <= _INTEGER_MAX
        ):
            return number
        self.keep(table, row_id, column, value, "was not a whole number and is empty")
        return None

    def flag(self, table: str, row_id: str, column: str, value: object, *, otherwise: bool) -> bool:
        """A yes or no, from 0 and 1 or from JSON."""
        if isinstance(value, bool | int) and value in (0, 1):
            return bool(value)
        self.keep(table, row_id, column, value, f"was neither yes nor no and became {_yes_no(otherwise)}")
        return otherwise

    def instant(self, table: str, row_id: str, column: str, value: object) -> datetime:
        """An instant, else the time of this import."""
        found = read_instant(value)
        if found is None:
            self.keep(table, row_id, column, value, "was not an instant and became the time of the import")
            return self.now
        if isinstance(value, str) and iso(found) != value:
            self.keep(table, row_id, column, value, "was written otherwise; the instant is the same")
        return found

    def optional_instant(self, table: str, row_id: str, column: str, value: object) -> datetime | None:
        """An instant or NULL; what is neither becomes the time of this import."""
        return None if value is None else self.instant(table, row_id, column, value)

    def word(
        self, table: str, row_id: str, column: str, value: object, known: dict[str, E], *, otherwise: E
    ) -> E:
        """The member that one of the `known` words stands for, else `otherwise`."""
        if isinstance(value, str) and value in known:
            return known[value]
        self.keep(table, row_id, column, value, f"was an unknown word and became {otherwise.value!r}")
        return otherwise

    def structure(
        self, table: str, row_id: str, column: str, value: object, kind: type[list[Any] | dict[str, Any]]
    ) -> Any:
        """A JSON list or object, from its text or as it is; None for NULL, and for what is neither."""
        if value is None:
            return None
        found = _parsed(value) if isinstance(value, str) else value
        if not isinstance(found, kind):
            word = "list" if kind is list else "object"
            self.keep(table, row_id, column, value, f"was not a JSON {word} and is empty")
            return None
        clean = _storable(found)
        if clean != found:
            self.keep(table, row_id, column, value, "held what is no text; U+FFFD stands there")
        return clean


def _parsed(text: str) -> object:
    """The value of a JSON text, or None."""
    try:
        found: object = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return None
    return found


def _refuse_constant(name: str) -> None:
    # NaN and infinities: Python reads them, no other reader does.
    raise ValueError(name)


def _storable(value: object) -> object:
    if isinstance(value, str):
        return plain_text(value)
    if isinstance(value, list):
        return [_storable(item) for item in value]
    if isinstance(value, dict):
        return {plain_text(key): _storable(item) for key, item in value.items()}
    return value


def read_instant(value: object) -> datetime | None:
    """The instant of an ISO text that names its zone, or of whole milliseconds since 1970; else None."""
    try:
        if isinstance(value, str):
            found = from_iso(value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found = to_milliseconds(_EPOCH + timedelta(milliseconds=value))
        else:
            return None
    except (ValueError, OverflowError):
        return None
    # Years below 1000 lose their leading zeros in text, and with them the order of times.
    return found if found.year >= 1000 else None


def plain_text(value: object) -> str:
    """A value as text that both engines can store: U+FFFD for U+0000 and for whatever is no text."""
    if isinstance(value, str):
        if not _UNSTORABLE.search(value):
            return value
        try:
            return _decoded(value.encode("utf-8", "surrogateescape"))
        except UnicodeEncodeError:  # A surrogate of a JSON escape, which no byte stands for.
            return _UNSTORABLE.sub(_REPLACEMENT, value)
    return _decoded(value) if isinstance(value, bytes) else literal(value)


def literal(value: object, *, from_json: bool = False) -> str:
    """A value word for word: text as it is, structures as JSON, else a SQL literal."""
    if value is None:
        return "NULL"
    if isinstance(value, str) and not _UNSTORABLE.search(value):
        return value
    if isinstance(value, str):
        return f"X'{_encoded(value, from_json=from_json).hex()}'"
    if isinstance(value, bytes):
        return f"X'{value.hex()}'"
    if isinstance(value, datetime):
        return iso(value)
    # Escapes keep U+0000 and lone surrogates of texts inside.
    return json.dumps(value)


def _encoded(text: str, *, from_json: bool) -> bytes:
    try:
        return text.encode("utf-8", "surrogatepass" if from_json else "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def _decoded(stored: bytes) -> str:
    text = _SURROGATE_BYTES.sub(_REPLACEMENT.encode(), stored).decode("utf-8", "replace")
    return text.replace("\x00", _REPLACEMENT)


def _yes_no(value: bool) -> str:
    return "yes" if value else "no"
