"""Whether every stored value is one that its column's readers understand. Reads only.

SQLite itself guards pages, indexes, CHECKs and storage classes. It takes any text for an instant or for JSON,
and any bytes for a text: one wrong value then costs every reader that meets it its answer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from typing import Any

import sqlalchemy as sa

from dorkos.clock import from_iso, iso
from dorkos.db.rows import Kind, Shape, ledger_shape, shapes
from dorkos.db.schema.tables import metadata
from dorkos.errors import DorkError, ErrorCode

# What each problem here begins with.
VALUES = "values: "
# More of them would say no more; the first show where to look.
_MOST_TOLD = 20
_FETCH = 500
# A text of up to this many characters is too short for what SQLite reads as JSON and Python does not.
_LONG_JSON = 1500
_IS_NO_TEXT = "dorkos_is_no_text"

# A key, to be shown, and the bytes of some columns of its row.
_Found = tuple[str, tuple[bytes | None, ...]]


def wrong_values(
    connection: sa.Connection, declared: sa.MetaData = metadata, *, to_move: bool = False
) -> list[str]:
    """What is stored and cannot be read as what its column holds: table, column and key, never the value.

    `to_move` adds what SQLite holds and PostgreSQL cannot: texts with U+0000, as a lineage database may have.
    Tables and columns that are not there are passed over. At most twenty are told. Reads every row, within
    the transaction that is open, if one is.
    """
    inspector = sa.inspect(connection)
    present = set(inspector.get_table_names())
    told: list[str] = []
    for shape in shapes(declared) if to_move else (*shapes(declared), ledger_shape()):
        if shape.table not in present:
            continue
        there = {column["name"] for column in inspector.get_columns(shape.table)}
        if not there.issuperset(shape.names):
            continue  # That is a matter of the schema, which is compared elsewhere.
        for problem in _of_table(connection, shape, to_move=to_move):
            told.append(problem)
            if len(told) == _MOST_TOLD:
                return told
    return told


def refuse_wrong_values(connection: sa.Connection) -> None:
    """Raise `database_corrupt` if a value cannot be read as what its column holds, or cannot be moved.

    Asked before rows leave for another place, which would not take them.
    """
    problems = wrong_values(connection, to_move=True)
    if problems:
        raise DorkError(
            ErrorCode.DATABASE_CORRUPT,
            f"The database holds what no reader understands: {problems[0].partition(': ')[2]}"
            f"{f', and {len(problems) - 1} more' if len(problems) > 1 else ''}. Nothing was written.",
            hint="With `--json` up to twenty of them are named. Restore a backup, or stop the server and "
            "put a value that can be read in its place.",
            details={"problems": problems},
        )


def is_instant(text: str) -> bool:
    """Whether a text is an instant as SQLite stores it: fixed width, in UTC, with milliseconds."""
    try:
        return iso(from_iso(text)) == text
    except (ValueError, OverflowError):
        return False


def is_json(text: str) -> bool:
    """Whether a text can be read as JSON."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _of_table(connection: sa.Connection, shape: Shape, *, to_move: bool) -> Iterator[str]:
    if connection.dialect.name == "postgresql":
        # Its types guard instants, and it takes no bytes that are no text.
        yield from _wrong_json(shape, lambda name: _rows_of_postgres(connection, shape, name))
        return
    yield from _no_texts(connection, shape, zero_is_wrong=to_move)
    yield from _wrong_instants(connection, shape)
    yield from _wrong_json(shape, lambda name: _rows_of_sqlite(connection, shape, (name,), _suspect(name)))


def _no_texts(connection: sa.Connection, shape: Shape, *, zero_is_wrong: bool) -> Iterator[str]:
    """Bytes that are not UTF-8. All texts of a row are looked at in one call."""
    names = _of_kind(shape, Kind.TEXT, Kind.JSON, Kind.INSTANT)
    raw: Any = connection.connection.dbapi_connection
    is_wrong = _is_no_text_elsewhere if zero_is_wrong else _is_no_text
    raw.create_function(_IS_NO_TEXT, 1, is_wrong, deterministic=True)
    joined = " || x'0a' || ".join(f"coalesce({_quoted(name)}, '')" for name in names)
    for key, values in _rows_of_sqlite(connection, shape, names, f"{_IS_NO_TEXT}(CAST({joined} AS BLOB))"):
        for name, value in zip(names, values, strict=True):
            if value is not None and is_wrong(value):
                what = "is not UTF-8" if _is_no_text(value) else "holds U+0000, which PostgreSQL has not"
                yield f"{VALUES}{shape.table}.{name} of row {key} {what}"


def _wrong_instants(connection: sa.Connection, shape: Shape) -> Iterator[str]:
    for name in _of_kind(shape, Kind.INSTANT):
        column = _quoted(name)
        # What is no date becomes another one there, or NULL. SQLite has a year 0 and an hour 24 besides.
        where = (
            f"strftime('%Y-%m-%dT%H:%M:%fZ', {column}) IS NOT {column} "
            f"OR {column} < '0001' OR substr({column}, 12, 2) > '23'"
        )
        for key, (value,) in _rows_of_sqlite(connection, shape, (name,), where):
            if value is not None and not is_instant(value.decode("utf-8", "replace")):
                yield f"{VALUES}{shape.table}.{name} of row {key} is no instant"


def _wrong_json(shape: Shape, rows_of: Callable[[str], Iterable[_Found]]) -> Iterator[str]:
    for name in _of_kind(shape, Kind.JSON):
        for key, (value,) in rows_of(name):
            if value is not None and not is_json(value.decode("utf-8", "replace")):
                yield f"{VALUES}{shape.table}.{name} of row {key} is no JSON"


def _suspect(name: str) -> str:
    """Where SQLite and Python may differ over JSON: it takes deeper nesting and longer numbers."""
    return f"NOT json_valid({_quoted(name)}) OR length({_quoted(name)}) > {_LONG_JSON}"


def _rows_of_sqlite(
    connection: sa.Connection, shape: Shape, names: Sequence[str], where: str
) -> Iterator[_Found]:
    """Those rows for which the condition holds. As bytes, since a text may be none."""
    columns = ", ".join(f"CAST({_quoted(name)} AS BLOB)" for name in (*shape.key, *names))
    # Names of ours throughout.
    statement = f"SELECT {columns} FROM {_quoted(shape.table)} WHERE {where}"  # noqa: S608  # As above.
    with closing(connection.exec_driver_sql(statement)) as found:
        for row in found:
            key, values = row[: len(shape.key)], row[len(shape.key) :]
            yield "/".join(_shown(value) for value in key), tuple(values)


def _rows_of_postgres(connection: sa.Connection, shape: Shape, name: str) -> Iterator[_Found]:
    """All rows in which the column is not empty."""
    columns: tuple[sa.ColumnElement[Any], ...] = (*map(sa.column, shape.key), sa.column(name, sa.Text))
    not_empty = sa.column(name).is_not(None)
    statement = sa.select(*columns).select_from(sa.table(shape.table)).where(not_empty)
    with closing(connection.execute(statement, execution_options={"yield_per": _FETCH})) as found:
        for *key, value in found:
            yield "/".join(map(str, key)), (value.encode(),)


def _of_kind(shape: Shape, *kinds: Kind) -> tuple[str, ...]:
    return tuple(name for name, kind in shape.columns if kind in kinds)


def _is_no_text(stored: bytes) -> bool:
    try:
        stored.decode()
    except UnicodeDecodeError:
        return True
    return False


def _is_no_text_elsewhere(stored: bytes) -> bool:
    return b"\x00" in stored or _is_no_text(stored)


def _shown(key: bytes | None) -> str:
    return "NULL" if key is None else key.decode("utf-8", "backslashreplace")


def _quoted(name: str) -> str:
    return f'"{name}"'
