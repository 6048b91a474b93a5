"""Whole tables as plain values: what a digest, an export and a transfer read and write.

A plain row is a tuple of texts, integers, booleans and None, the same on both engines: an instant is its
fixed ISO text, a flag a boolean, JSON the text that is stored. Rows come in the order of their primary
key, which both engines sort alike, and they are streamed, so that memory does not grow with a table.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any

import sqlalchemy as sa

from dorkos.db.hold import FLEET_KEY
from dorkos.db.marks import MARKS
from dorkos.db.rules_revision import RULES_KEY
from dorkos.db.schema.system import GROWTH_KEY, METRICS_KEY, SEARCH_KEY, schema_ledger, system_state
from dorkos.db.schema.tables import metadata
from dorkos.db.types import Flag, Instant, Integer, Json

Value = str | int | bool | None
PlainRow = tuple[Value, ...]

# Facts about one database, not about what it holds: they are made anew where rows arrive.
LOCAL_FACTS = (
    *("epoch", "schema_fingerprint", FLEET_KEY, RULES_KEY, METRICS_KEY, SEARCH_KEY, GROWTH_KEY),
    *MARKS,
)
LOCAL_FACTS_PREFIX = "backup:"

_FETCH = 200
BATCH_ROWS = 2000
_BATCH_CHARACTERS = 4_000_000
_ISO = 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'


class Kind(StrEnum):
    """What a column holds, as a plain value."""

    TEXT = "text"
    JSON = "json"
    INTEGER = "integer"
    FLAG = "flag"
    INSTANT = "instant"


@dataclass(frozen=True)
class Shape:
    """A table as a stream of rows: its columns in order with their kinds, and its primary key."""

    table: str
    columns: tuple[tuple[str, Kind], ...]
    key: tuple[str, ...]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The columns' names."""
        return tuple(name for name, _ in self.columns)

    def key_of(self, row: PlainRow) -> PlainRow:
        """The primary key within a row of all columns."""
        names = self.names
        return tuple(row[names.index(name)] for name in self.key)


def shapes(declared: sa.MetaData = metadata) -> tuple[Shape, ...]:
    """Every table that holds something of the user's, parents before the rows that refer to them."""
    return tuple(_shape(table) for table in declared.sorted_tables if table.name != schema_ledger.name)


def ledger_shape() -> Shape:
    """The table of applied migrations, which stays with its database."""
    return _shape(schema_ledger)


def is_local_fact(key: object) -> bool:
    """Whether a row of `system_state` stays with its database when everything else moves."""
    return key in LOCAL_FACTS or str(key).startswith(LOCAL_FACTS_PREFIX)


def stream(connection: sa.Connection, shape: Shape, *, after: PlainRow | None = None) -> Generator[PlainRow]:
    """The rows whose key is greater than `after`, in key order. Facts that are local are left out."""
    postgres = connection.dialect.name == "postgresql"
    statement = (
        sa.select(*(_plain(name, kind, postgres=postgres) for name, kind in shape.columns))
        .select_from(sa.table(shape.table))
        .order_by(*(sa.column(name) for name in shape.key))
    )
    if after is not None:
        key = sa.tuple_(*(sa.column(name) for name in shape.key))
        statement = statement.where(key > sa.tuple_(*(sa.literal(value) for value in after)))
    result = connection.execute(_of_the_user(statement, shape), execution_options={"yield_per": _FETCH})
    try:
        for page in result.partitions():
            yield from map(tuple, page)
    finally:
        result.close()  # A reader may stop early, and the connection is wanted for something else.


def is_empty(connection: sa.Connection, shape: Shape) -> bool:
    """Whether the table has no row but local facts."""
    any_row: sa.Select[Any] = sa.select(sa.literal_column("1")).select_from(sa.table(shape.table)).limit(1)
    return connection.execute(_of_the_user(any_row, shape)).first() is None


def _of_the_user(statement: sa.Select[Any], shape: Shape) -> sa.Select[Any]:
    """The same without local facts."""
    if shape.table != system_state.name:
        return statement
    return statement.where(
        sa.column("key").not_in(LOCAL_FACTS),
        sa.not_(sa.column("key", sa.Text).startswith(LOCAL_FACTS_PREFIX)),
    )


def count_rows(connection: sa.Connection, shape: Shape) -> int:
    """How many rows the table has, local facts included: the size of the work, near enough."""
    return connection.execute(sa.select(sa.func.count()).select_from(sa.table(shape.table))).scalar_one()


def batches(rows: Iterable[PlainRow]) -> Iterator[list[PlainRow]]:
    """The rows in lists of some thousands, of fewer where they are large."""
    batch: list[PlainRow] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += sum(len(value) for value in row if type(value) is str)
        if len(batch) >= BATCH_ROWS or size >= _BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def insert(connection: sa.Connection, shape: Shape, rows: Sequence[PlainRow]) -> None:
    """Store plain rows in the open transaction. Raises SQLAlchemy's errors, on PostgreSQL as well."""
    if not rows:
        return
    quote = connection.dialect.identifier_preparer.quote_identifier
    table, columns = quote(shape.table), ", ".join(map(quote, shape.names))
    if connection.dialect.name == "postgresql":
        _copy(connection, f"COPY {table} ({columns}) FROM STDIN", rows)
        return
    marks = ", ".join("?" for _ in shape.columns)
    # Table and columns are quoted names of ours or of the live schema.
    connection.exec_driver_sql(f"INSERT INTO {table} ({columns}) VALUES ({marks})", list(rows))  # noqa: S608  # As above.


def is_row_refused(fault: sa.exc.DBAPIError) -> bool:
    """Whether the engine does not take a row as it is, as opposed to a fault of disk or connection."""
    if isinstance(fault, sa.exc.IntegrityError | sa.exc.DataError):
        return True
    # Such as a text that is too long for an index of PostgreSQL.
    return getattr(fault.orig, "sqlstate", None) == "54000"


def _copy(connection: sa.Connection, statement: str, rows: Sequence[PlainRow]) -> None:
    """PostgreSQL's own way of loading rows, a dozen times as fast as inserting them."""
    raw: Any = connection.connection.dbapi_connection
    driver: Any = connection.dialect.dbapi
    try:
        with raw.cursor() as cursor, cursor.copy(statement) as copy:
            for row in rows:
                copy.write_row(row)
    except driver.Error as fault:
        raise sa.exc.DBAPIError.instance(
            statement, None, fault, driver.Error, dialect=connection.dialect
        ) from fault


def _shape(table: sa.Table) -> Shape:
    columns = tuple((column.name, _kind(column.type)) for column in table.columns)
    return Shape(table.name, columns, tuple(column.name for column in table.primary_key.columns))


def _kind(declared: object) -> Kind:
    for of_type, kind in (
        (Integer, Kind.INTEGER),
        (Flag, Kind.FLAG),
        (Instant, Kind.INSTANT),
        (Json, Kind.JSON),
    ):
        if isinstance(declared, of_type):
            return kind
    return Kind.TEXT


def _plain(name: str, kind: Kind, *, postgres: bool) -> sa.ColumnElement[Any]:
    if kind is Kind.INTEGER:
        return sa.column(name, sa.BigInteger)
    if kind is Kind.FLAG:
        return sa.column(name, Flag())
    if kind is Kind.INSTANT and postgres:
        return sa.func.to_char(sa.func.timezone("UTC", sa.column(name)), _ISO).label(name)
    return sa.column(name, sa.Text)
