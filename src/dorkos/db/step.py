"""What a migration works with: one open transaction, the time, and a place for remarks."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING

import sqlalchemy as sa

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
