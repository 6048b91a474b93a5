"""Hot statements: compiled once for each engine, then run on the driver.

SQLAlchemy's way from a statement to the driver costs several times what the statement itself costs on
SQLite. A `Prepared` walks it once and keeps the text, the order of the parameters and the conversions of
`db.types`; what it stores and answers is the same. For the few statements on a path that is measured;
everything else stays readable SQLAlchemy.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from operator import itemgetter
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from dorkos.db.schema.tables import metadata
from dorkos.db.types import bind_converter, result_converter

_Convert = Callable[[Any], Any]
# Rows of one INSERT on SQLite, where each statement is a trip through the lock of the interpreter.
_BLOCKS = (64, 16, 4)
_MOST_VARIABLES = 30_000


@dataclass(frozen=True, slots=True)
class _Compiled:
    """The text for one engine. A parameter is given by its name, or has the value that is `fixed`."""

    text: str
    names: tuple[str, ...]
    # By their places in `names`, those whose values the driver does not take as they are.
    convert: tuple[tuple[int, _Convert], ...]
    positional: bool
    fixed: Mapping[str, Any]
    answers: bool
    # What `names` name, in their order.
    pick: Callable[[Mapping[str, Any]], Sequence[Any]]
    # By their places in a row that it answers, those that are no Python values yet.
    results: tuple[tuple[int, _Convert], ...]
    # The same INSERT with each of `_BLOCKS` rows, and where in a row stands what it answers.
    # No text: one at a time.
    blocks: tuple[tuple[int, str], ...] = ()
    answered: tuple[int, ...] = ()

    def parameters(self, values: Mapping[str, Any]) -> Sequence[Any] | Mapping[str, Any]:
        """The values as the driver takes them."""
        given = list(self.pick({**self.fixed, **values} if self.fixed else values))
        for place, convert in self.convert:
            given[place] = convert(given[place])
        return given if self.positional else dict(zip(self.names, given, strict=True))

    def row(self, stored: Sequence[Any]) -> tuple[Any, ...]:
        """One row of the answer with its Python values."""
        if not self.results:
            return tuple(stored)
        given = list(stored)
        for place, convert in self.results:
            given[place] = convert(given[place])
        return tuple(given)


class Prepared:
    """One hot statement. Made at import, compiled at its first use on each engine. Thread-safe.

    It must not hold an expanding IN, whose text changes with its values, nor a default made in Python.
    """

    def __init__(self, statement: sa.Insert | sa.Update | sa.Delete | sa.Select[Any], *columns: str) -> None:
        """`columns` are those that an INSERT writes; all others take their default."""
        self._statement = statement
        self._columns = columns
        self._compiled: dict[str, _Compiled] = {}

    @cached_property
    def table(self) -> sa.Table | None:
        """What it changes; None for a query."""
        target = None if isinstance(self._statement, sa.Select) else self._statement.table
        return target if isinstance(target, sa.Table) else None

    @cached_property
    def writes(self) -> frozenset[str]:
        """The name of the table that it changes; none for a query."""
        return frozenset() if self.table is None else frozenset({self.table.name})

    @cached_property
    def looks_at(self) -> frozenset[str]:
        """The tables whose rows it may see or change, or has to find there as what it refers to."""
        # Rather one too many, for a column of the same name, than one too few.
        found = metadata.tables.keys() & self.words
        if self.table is not None:
            refers = (
                key for key in self.table.foreign_keys if self.sets is None or key.parent.name in self.sets
            )
            found |= {key.column.table.name for key in refers}
        if isinstance(self._statement, sa.Delete):
            found |= {each.name for each in metadata.tables.values() if _refers(each, self.table)}
        return frozenset(found)

    @cached_property
    def is_insert(self) -> bool:
        """Whether it only adds rows."""
        return isinstance(self._statement, sa.Insert)

    @cached_property
    def words(self) -> frozenset[str]:
        """The words of its text, names of tables and columns among them."""
        return frozenset(re.findall(r"\w+", self._text))

    @cached_property
    def sets(self) -> frozenset[str] | None:
        """The columns that an UPDATE sets; None where rows come or go."""
        return (
            frozenset(re.findall(r"(\w+)=", self._text)) if isinstance(self._statement, sa.Update) else None
        )

    @cached_property
    def answers(self) -> bool:
        """Whether it answers rows."""
        return isinstance(self._statement, sa.Select) or bool(self._statement.exported_columns)

    def changes(self, query: Prepared) -> bool:
        """Whether it may change what the query answers."""
        if self.writes.isdisjoint(query.looks_at):
            return False
        return self.sets is None or not self.sets.isdisjoint(query.words)

    @cached_property
    def _text(self) -> str:
        return str(self._statement.compile(dialect=sqlite.dialect()))

    @cached_property
    def rank(self) -> int:
        """Where its table stands among all, those first to which others refer."""
        assert self.table is not None
        return metadata.sorted_tables.index(self.table)

    def run(self, connection: sa.Connection, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """Run it in the connection's transaction; the rows that it answers, none for one that answers none.

        Raises what SQLAlchemy would raise for the same fault.
        """
        compiled = self._on(connection.dialect)
        parameters = compiled.parameters(values)
        driver: Any = connection.connection.dbapi_connection
        try:
            cursor = driver.execute(compiled.text, parameters)
            return [compiled.row(row) for row in cursor.fetchall()] if compiled.answers else []
        except connection.dialect.loaded_dbapi.Error as fault:
            raise sa.exc.DBAPIError.instance(
                compiled.text, dict(values), fault, connection.dialect.loaded_dbapi.Error
            ) from fault

    def run_many(
        self, connection: sa.Connection, many: Sequence[Mapping[str, Any]]
    ) -> list[list[tuple[Any, ...]]]:
        """Run it for each of several values, in their order; the rows that each of them answers.

        On PostgreSQL in one pipeline, instead of one round trip after the other. On SQLite the rows of an
        INSERT go together; where it answers, the answer must tell them apart, such as by their ids.
        """
        if connection.dialect.name != "postgresql":
            return self._run_blocks(connection, many)
        if not many:
            return []
        compiled = self._on(connection.dialect)
        driver: Any = connection.connection.dbapi_connection
        answers = compiled.answers
        try:
            with driver.cursor() as cursor:
                cursor.executemany(
                    compiled.text, [compiled.parameters(values) for values in many], returning=answers
                )
                if not answers:
                    return [[] for _ in many]
                found = [[compiled.row(row) for row in cursor.fetchall()]]
                while cursor.nextset():
                    found.append([compiled.row(row) for row in cursor.fetchall()])
                return found
        except connection.dialect.loaded_dbapi.Error as fault:
            raise sa.exc.DBAPIError.instance(
                compiled.text, [dict(values) for values in many], fault, connection.dialect.loaded_dbapi.Error
            ) from fault

    def _run_blocks(
        self, connection: sa.Connection, many: Sequence[Mapping[str, Any]]
    ) -> list[list[tuple[Any, ...]]]:
        if not self.answers and not self.is_insert:
            self._run_all(connection, many)
            return [[] for _ in many]
        found: list[list[tuple[Any, ...]]] = []
        start = 0
        for size, text in self._on(connection.dialect).blocks:
            while len(many) - start >= size:
                found += self._run_block(connection, text, many[start : start + size])
                start += size
        return found + [self.run(connection, values) for values in many[start:]]

    def _run_all(self, connection: sa.Connection, many: Sequence[Mapping[str, Any]]) -> None:
        compiled = self._on(connection.dialect)
        driver: Any = connection.connection.dbapi_connection
        try:
            driver.executemany(compiled.text, [compiled.parameters(values) for values in many])
        except connection.dialect.loaded_dbapi.Error as fault:
            raise sa.exc.DBAPIError.instance(
                compiled.text, [dict(values) for values in many], fault, connection.dialect.loaded_dbapi.Error
            ) from fault

    def _run_block(
        self, connection: sa.Connection, text: str, many: Sequence[Mapping[str, Any]]
    ) -> list[list[tuple[Any, ...]]]:
        compiled = self._on(connection.dialect)
        given: list[Any] = [compiled.parameters(values) for values in many]
        driver: Any = connection.connection.dbapi_connection
        try:
            cursor = driver.execute(text, list(chain.from_iterable(given)))
            if not compiled.answers:
                return [[] for _ in many]
            rows = {tuple(row): compiled.row(row) for row in cursor.fetchall()}
        except connection.dialect.loaded_dbapi.Error as fault:
            raise sa.exc.DBAPIError.instance(
                text, [dict(values) for values in many], fault, connection.dialect.loaded_dbapi.Error
            ) from fault
        keys = [tuple(row[place] for place in compiled.answered) for row in given]
        return [[rows[key]] if key in rows else [] for key in keys]

    def _on(self, dialect: sa.Dialect) -> _Compiled:
        known = self._compiled.get(dialect.name)
        if known is None:
            known = self._compiled[dialect.name] = self._compile(dialect)
        return known

    def _compile(self, dialect: sa.Dialect) -> _Compiled:
        text = self._statement.compile(
            dialect=dialect, column_keys=list(self._columns) if self._columns else None
        )
        binds = {name: bind_converter(bind.type, dialect) for name, bind in text.binds.items()}
        fixed = {
            name: bind.value
            for name, bind in text.binds.items()
            if not bind.required and name not in self._columns
        }
        answered: Any = (
            self._statement.selected_columns
            if isinstance(self._statement, sa.Select)
            else self._statement.exported_columns
        )
        results = ((place, result_converter(column.type, dialect)) for place, column in enumerate(answered))
        order = tuple(getattr(text, "positiontup", None) or ())
        names = order or tuple(binds)
        converts = ((place, binds[name]) for place, name in enumerate(names))
        columns = [column.name for column in answered]
        return _Compiled(
            str(text),
            names,
            tuple((place, convert) for place, convert in converts if convert is not None),
            bool(order),
            fixed,
            bool(answered),
            _picking(names),
            tuple((place, convert) for place, convert in results if convert is not None),
            *(_blocks(str(text), order, columns) if isinstance(self._statement, sa.Insert) else ()),
        )


def _picking(names: Sequence[str]) -> Callable[[Mapping[str, Any]], Sequence[Any]]:
    if len(names) > 1:
        return itemgetter(*names)
    return lambda values: [values[name] for name in names]


def _blocks(
    text: str, order: Sequence[str], answered: Sequence[str]
) -> tuple[tuple[tuple[int, str], ...], tuple[int, ...]]:
    row = f"({', '.join('?' * len(order))})"
    if text.count(row) != 1 or not all(name in order for name in answered):
        return (), ()
    sizes = (size for size in _BLOCKS if len(order) * size <= _MOST_VARIABLES)
    texts = tuple((size, text.replace(row, ", ".join([row] * size))) for size in sizes)
    return texts, tuple(order.index(name) for name in answered)


def _refers(table: sa.Table, to: sa.Table | None) -> bool:
    return any(key.column.table is to for key in table.foreign_keys)
