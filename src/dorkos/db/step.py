"""What a migration works with: one open transaction, the time, and a place for remarks."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.util import OrderedSet

if TYPE_CHECKING:
    from alembic.operations import Operations


@dataclass
class Step:
    """The argument of a revision's `upgrade`.

    A revision never begins, commits or rolls back, and never touches the foreign key switch: SQLite
    ignores it inside a transaction, so the runner sets it before. `now` is the same instant for the
    whole revision.
    """

    connection: sa.Connection
    now: datetime
    notes: list[str] = field(default_factory=list)

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        return self.connection.dialect.name

    @cached_property
    def op(self) -> Operations:
        """Alembic's operations on this transaction, imported by the first revision that asks for them."""
        from alembic.operations import Operations
        from alembic.runtime.migration import MigrationContext

        return Operations(MigrationContext.configure(self.connection))

    def note(self, text: str) -> None:
        """Tell the person who migrates about something that was not carried over as it stood."""
        self.notes.append(text)


@sa.event.listens_for(sa.Table, "before_create")
def _make_indexes_in_order(table: sa.Table, _connection: sa.Connection, **_more: object) -> None:
    """Let the indexes of a new table be made by name.

    SQLAlchemy keeps them in a set, so that each process made them in another order, and SQLite chooses by it
    among those that serve a query equally well. Installations are to plan alike.
    """
    table.indexes = OrderedSet(sorted(table.indexes, key=lambda index: str(index.name)))
