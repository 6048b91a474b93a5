"""The column types. Tables use these and no others, so that both engines store the same values.

| type    | Python            | SQLite (STRICT) | PostgreSQL          |
|---------|-------------------|-----------------|---------------------|
| Text    | str               | TEXT            | text COLLATE "C"    |
| Ulid    | str, 26 characters| TEXT            | text COLLATE "C"    |
| Integer | int, 64 bits      | INTEGER         | bigint              |
| Flag    | bool              | INTEGER 0 or 1  | boolean             |
| Instant | aware datetime    | TEXT, fixed ISO | timestamptz(3)      |
| Json    | JSON value        | TEXT            | text COLLATE "C"    |
| Choice  | a StrEnum         | TEXT            | text COLLATE "C"    |

Text is collated "C" on PostgreSQL so that both engines sort alike. JSON is text on both: PostgreSQL's
jsonb reorders keys and refuses values that SQLite keeps. A Choice column needs a CHECK as well, made
with `one_of` in the table.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import TypeDecorator, TypeEngine

from dorkos.clock import from_iso, iso, to_milliseconds

E = TypeVar("E", bound=StrEnum)

# One change stores the same instant in several columns and rows.
_iso = lru_cache(maxsize=1024)(iso)
_from_iso = lru_cache(maxsize=1024)(from_iso)
# Made once: json.dumps with options makes an encoder at every call.
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


def _text(dialect: sa.Dialect) -> TypeEngine[str]:
    if dialect.name == "postgresql":
        return sa.Text(collation="C")
    return sa.Text()


class Text(TypeDecorator[str]):
    """Unicode text without U+0000."""

    impl = sa.Text
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> TypeEngine[str]:
        """Pick the engine's type."""
        return _text(dialect)


class Ulid(Text):
    """A ULID in canonical form."""

    cache_ok = True


class Integer(TypeDecorator[int]):
    """A 64-bit integer. On SQLite the name INTEGER matters: it makes a lone primary key the rowid."""

    impl = sa.BigInteger
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> TypeEngine[int]:
        """Pick the engine's type."""
        return sa.BigInteger() if dialect.name == "postgresql" else sa.Integer()


class Flag(TypeDecorator[bool]):
    """A yes or no."""

    impl = sa.Boolean
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> TypeEngine[Any]:
        """Pick the engine's type."""
        return sa.Boolean() if dialect.name == "postgresql" else sa.Integer()

    def process_bind_param(self, value: bool | None, dialect: sa.Dialect) -> Any:
        """Write 0 or 1 where there is no boolean."""
        if value is None or dialect.name == "postgresql":
            return value
        return int(value)

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> bool | None:
        """Read both engines' answer as a bool."""
        return None if value is None else bool(value)


class Instant(TypeDecorator[datetime]):
    """A point in time in UTC with milliseconds."""

    impl = sa.Text
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> TypeEngine[Any]:
        """Pick the engine's type."""
        if dialect.name == "postgresql":
            return postgresql.TIMESTAMP(timezone=True, precision=3)
        return sa.Text()

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> Any:
        """Cut to milliseconds before storing, so that a value equals itself when read back."""
        if value is None:
            return None
        return to_milliseconds(value) if dialect.name == "postgresql" else _iso(value)

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> datetime | None:
        """Read both engines' answer as an aware datetime."""
        if value is None:
            return None
        return to_milliseconds(value) if isinstance(value, datetime) else from_iso(value)


class Json(TypeDecorator[Any]):
    """A JSON value kept as text. SQL NULL means absent, the text `null` means JSON null.

    Python cannot tell the two apart as values, so a column that must is read as Text.
    """

    impl = sa.Text
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> TypeEngine[str]:
        """Pick the engine's type."""
        return _text(dialect)

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> str | None:
        """Write compact JSON; NaN is refused because no other reader takes it."""
        return None if value is None else to_json(value)

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> Any:
        """Read the JSON text."""
        return None if value is None else json.loads(value)


class Choice(TypeDecorator[E]):
    """A member of a StrEnum, stored as its value."""

    impl = sa.Text
    cache_ok = True

    def __init__(self, enum: type[E]) -> None:
        """`enum` is the one Python definition of the values."""
        super().__init__()
        self.enum = enum

    def load_dialect_impl(self, dialect: sa.Dialect) -> TypeEngine[str]:
        """Pick the engine's type."""
        return _text(dialect)

    def process_bind_param(self, value: E | None, dialect: sa.Dialect) -> str | None:
        """Write the value; a plain string must be one of the members."""
        return None if value is None else self.enum(value).value

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> E | None:
        """Read the member."""
        return None if value is None else self.enum(value)


def bind_converter(kind: TypeEngine[Any], dialect: sa.Dialect) -> Callable[[Any], Any] | None:
    """What turns a value into what the driver takes; None where it takes the value as it is.

    For hot statements: the same conversion as SQLAlchemy's, less the calls around it.
    """
    if isinstance(kind, Choice):
        words: dict[Any, Any] = {member: member.value for member in kind.enum} | {None: None}
        enum = kind.enum
        # What is none of the members is refused by the enum itself, as everywhere.
        return lambda value: words[value] if value in words else enum(value).value
    if isinstance(kind, Instant) and dialect.name != "postgresql":
        return lambda value: None if value is None else _iso(value)
    if isinstance(kind, Json):
        return _json_text
    if isinstance(kind, Text | Integer):
        return None
    return kind.dialect_impl(dialect).bind_processor(dialect)


def _json_text(value: Any) -> str | None:
    # Nothing is the most frequent list of all.
    return None if value is None else "[]" if value == () else _encode(value)


def result_converter(kind: TypeEngine[Any], dialect: sa.Dialect) -> Callable[[Any], Any] | None:
    """What turns the driver's answer into a value; None where it is one. See `bind_converter`."""
    if isinstance(kind, Choice):
        members: dict[Any, Any] = {member.value: member for member in kind.enum} | {None: None}
        enum = kind.enum
        return lambda value: members[value] if value in members else enum(value)
    if isinstance(kind, Instant) and dialect.name != "postgresql":
        return lambda value: None if value is None else _from_iso(value)
    if isinstance(kind, Text | Integer):
        return None
    return kind.dialect_impl(dialect).result_processor(dialect, None)


def one_of(column: str, enum: type[StrEnum]) -> sa.CheckConstraint:
    """The CHECK that keeps `column` within `enum`, named after the column."""
    values = ", ".join(f"'{member.value}'" for member in enum)
    return sa.CheckConstraint(f"{column} IN ({values})", name=column)


def is_flag(column: str) -> sa.CheckConstraint:
    """The CHECK that keeps a Flag within 0 and 1 on SQLite; PostgreSQL has the type for it."""
    return sa.CheckConstraint(f"{column} IN (0, 1)", name=column).ddl_if(dialect="sqlite")


def to_json(value: object) -> str:
    """Compact JSON in UTF-8. Raises ValueError for NaN and infinities."""
    return _encode(value)
