"""What the changes of one commit have in common: rows that are written together, and what was read once.

Many changes are committed as one transaction, and most of the time of a small change is spent around its
statements. So a change may hand over rows that nobody looks at before the commit: those of all changes are
inserted together. They are written earlier if a statement comes that could see them, so no change can tell
the difference. All this belongs to one transaction and ends with it, whether it is committed or rolled back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar, cast

import sqlalchemy as sa

from dorkos.db.prepared import Prepared

Rows = list[tuple[Any, ...]]


class Part(Protocol):
    """Something else that changes of one commit share, such as counters. It is made at its first use."""

    tables: frozenset[str]
    """What it stands for. Before another statement looks at one of them, `write` is called."""

    def __init__(self, group: Group) -> None:
        """Made at its first use in a commit."""
        ...

    def write(self) -> None:
        """Store what waits, if anything does."""
        ...

    def forget(self) -> None:
        """Forget what was read: somebody else has written to the tables."""
        ...


P = TypeVar("P", bound=Part)


class Group:
    """The statements of one transaction. Used by one thread."""

    def __init__(self, connection: sa.Connection) -> None:
        """Nothing waits and nothing is known."""
        self.connection = connection
        self.has_written = False
        """Whether anything was changed in the transaction, or waits to be."""
        self.fault: Exception | None = None
        """Why something that waited could not be stored. It may be another change's, so none may stay."""
        self._waiting: dict[Prepared, list[Mapping[str, Any]]] = {}
        self._parts: dict[type[Any], Part] = {}
        self._tables: set[str] = set()
        self._answers: dict[tuple[Prepared, tuple[tuple[str, Any], ...]], Rows] = {}

    def execute(self, statement: sa.Executable, parameters: Any) -> sa.CursorResult[Any]:
        """Run any statement, after writing what waits; if it changes something, nothing is known any more."""
        self.write()
        if not isinstance(statement, sa.Select):
            self.has_written = True
            self._forget_all()
        return self.connection.execute(statement, parameters)

    def run(self, prepared: Prepared, values: Mapping[str, Any], *, of: Part | None = None) -> Rows:
        """Run one hot statement; the rows that it answers.

        A part says that it is its own: what it knows and what waits in it is its own affair then.
        """
        self._make_way(prepared, of)
        answer = prepared.run(self.connection, values)
        self._note_written(prepared, bool(answer))
        return answer

    def run_many(self, prepared: Prepared, many: Sequence[Mapping[str, Any]]) -> list[Rows]:
        """Run one hot statement for each of several values; what each of them answers."""
        self._make_way(prepared)
        answers = prepared.run_many(self.connection, many)
        self._note_written(prepared, any(answers))
        return answers

    def add(self, prepared: Prepared, values: Mapping[str, Any]) -> None:
        """Insert or change a row, at the latest before the commit."""
        waiting = self._waiting.get(prepared)
        if waiting is None:
            # Of those that concern the same rows one comes after the other.
            self._write_what_is_in(prepared.writes if prepared.is_insert else prepared.looks_at)
            # What was read before is not known any more; who reads now has all that waits written first.
            self._forget(prepared)
            waiting = self._waiting[prepared] = []
            self._tables |= prepared.writes
        waiting.append(values)
        self.has_written = True

    def recall(self, prepared: Prepared, values: Mapping[str, Any]) -> Rows:
        """What a query answers; asked once, until one of its tables is written to."""
        asked = (prepared, tuple(values.items()))
        known = self._answers.get(asked)
        if known is None:
            known = self._answers[asked] = self.run(prepared, values)
        return known

    def part(self, kind: type[P]) -> P:
        """The one of its kind in this commit. Whoever asks for it is taken to change it."""
        self.has_written = True
        found = self._parts.get(kind)
        if found is None:
            found = self._parts[kind] = kind(self)
        return cast(P, found)

    def write(self) -> None:
        """Store all that waits. Whoever refers comes after what it refers to."""
        self._or_note_fault(self._store)

    def _or_note_fault(self, store: Callable[[], None]) -> None:
        try:
            store()
        except Exception as fault:
            self.fault = fault
            raise

    def _store(self) -> None:
        for part in self._parts.values():
            part.write()
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, {}
        self._tables.clear()
        for prepared in sorted(waiting, key=lambda each: each.rank):
            self._forget(prepared)
            prepared.run_many(self.connection, waiting[prepared])

    def _note_written(self, prepared: Prepared, has_answered: bool) -> None:
        # Where nothing fits the condition of a change, nothing was changed.
        self.has_written |= bool(prepared.writes) and (has_answered or not prepared.answers)

    def _make_way(self, prepared: Prepared, of: Part | None = None) -> None:
        """Before a hot statement: write what it could see, and forget what it changes."""
        self._write_what_is_in(prepared.looks_at, of)
        if prepared.writes:
            self._forget(prepared, of)

    def _write_what_is_in(self, tables: frozenset[str], of: Part | None = None) -> None:
        if not self._tables.isdisjoint(tables):
            self.write()
            return
        for part in self._parts.values():
            if part is not of and not part.tables.isdisjoint(tables):
                self._or_note_fault(part.write)

    def _forget(self, changing: Prepared, of: Part | None = None) -> None:
        for asked in [each for each in self._answers if changing.changes(each[0])]:
            del self._answers[asked]
        for part in self._parts.values():
            if part is not of and not part.tables.isdisjoint(changing.writes):
                part.forget()

    def _forget_all(self) -> None:
        self._answers.clear()
        for part in self._parts.values():
            part.forget()
