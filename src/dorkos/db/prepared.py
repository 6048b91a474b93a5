"""Hot statements: compiled once for each engine, then run on the driver.

SQLAlchemy's way from a statement to the driver costs several times what the statement itself costs on
SQLite. A `Prepared` walks it once and keeps the text, the order of the parameters and the conversions of
`db.types`; what it stores and answers is the same. For the few statements on a path that is measured;
everything else stays readable SQLAlchemy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import sqlalchemy as sa

from dorkos.db.types import bind_converter, result_converter

_Convert = Callable[[Any], Any]
# Rows of one INSERT on SQLite, where each statement is a trip through the lock of the interpreter.
_BLOCK = 50
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
    results: tuple[_Convert | None, ...]
    converts: bool
    # The same INSERT with `_BLOCK` rows, and where in a row stands what it answers. None: one at a time.
    block: tuple[str, tuple[int, ...]] | None = None

    def parameters(self, values: Mapping[str, Any]) -> Sequence[Any] | Mapping[str, Any]:
        """The values as the driver takes them."""
        whole = {**self.fixed, **values} if self.fixed else values
        given = [whole[name] for name in self.names]
        for place, convert in self.convert:
            given[place] = convert(given[place])
        return given if self.positional else dict(zip(self.names, given, strict=True))

    def row(self, stored: Sequence[Any]) -> tuple[Any, ...]:
        """One row of the answer with its Python values."""
        if not self.converts:
            return tuple(stored)
        return tuple(
            value if convert is None else convert(value)
            for value, convert in zip(stored, self.results, strict=True)
        )


class Prepared:
    """One hot statement. Made at import, compiled at its first use on each engine. Thread-safe.

    It must not hold an expanding IN, whose text changes with its values, nor a default made in Python.
    """

    def __init__(self, statement: sa.Insert | sa.Update | sa.Delete | sa.Select[Any], *columns: str) -> None:
        """`columns` are those that an INSERT writes; all others take their default."""
        self._statement = statement
        self._columns = columns
        self._compiled: dict[str, _Compiled] = {}

    def run(self, connection: sa.Connection, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """Run it in the connection's transaction; the rows that it answers, none for one that answers none.

        Raises what SQLAlchemy would raise for the same fault.
        """
        compiled = self._on(connection.dialect)
        parameters = compiled.parameters(values)
        driver: Any = connection.connection.dbapi_connection
        try:
            cursor = driver.execute(compiled.text, parameters)
            return [compiled.row(row) for row in cursor.fetchall()] if compiled.results else []
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
        answers = bool(compiled.results)
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
        block = self._on(connection.dialect).block
        whole = 0 if block is None else len(many) // _BLOCK * _BLOCK
        found: list[list[tuple[Any, ...]]] = []
        for start in range(0, whole, _BLOCK):
            found += self._run_block(connection, many[start : start + _BLOCK])
        return found + [self.run(connection, values) for values in many[whole:]]

    def _run_block(
        self, connection: sa.Connection, many: Sequence[Mapping[str, Any]]
    ) -> list[list[tuple[Any, ...]]]:
        compiled = self._on(connection.dialect)
        assert compiled.block is not None
        text, answered = compiled.block
        given: list[Any] = [compiled.parameters(values) for values in many]
        driver: Any = connection.connection.dbapi_connection
        try:
            cursor = driver.execute(text, list(chain.from_iterable(given)))
            rows = {tuple(row): compiled.row(row) for row in cursor.fetchall()} if compiled.results else {}
        except connection.dialect.loaded_dbapi.Error as fault:
            raise sa.exc.DBAPIError.instance(
                text, [dict(values) for values in many], fault, connection.dialect.loaded_dbapi.Error
            ) from fault
        keys = [tuple(row[place] for place in answered) for row in given]
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
        results = tuple(result_converter(column.type, dialect) for column in answered)
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
            results,
            any(results),
            _block(str(text), order, columns) if isinstance(self._statement, sa.Insert) else None,
        )


def _block(text: str, order: Sequence[str], answered: Sequence[str]) -> tuple[str, tuple[int, ...]] | None:
    row = f"({', '.join('?' * len(order))})"
    if text.count(row) != 1 or len(order) * _BLOCK > _MOST_VARIABLES:
        return None
    if not all(name in order for name in answered):
        return None
    together = text.replace(row, ", ".join([row] * _BLOCK))
    return together, tuple(order.index(name) for name in answered)
