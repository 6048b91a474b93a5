"""As of when a database is: the time of its newest event."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from dorkos.clock import from_iso
from dorkos.db.schema.system import events


def newest_event(connection: sa.Connection) -> datetime | None:
    """The time of the newest event of a SQLite database; None if there is none, or if it cannot be read.

    Asked of databases that are about to be replaced, or not verified yet: a damaged value is no fault here.
    """
    if not sa.inspect(connection).has_table(events.name):
        return None  # One of the very first migrations.
    # As bytes, since a damaged text may not even be one.
    at = sa.cast(sa.type_coerce(events.c.at, sa.Text), sa.LargeBinary)
    stored = connection.execute(sa.select(at).order_by(events.c.position.desc()).limit(1)).scalar()
    try:
        return None if stored is None else from_iso(stored.decode())
    except (ValueError, OverflowError):
        return None
