"""What a restored database must not do: go on as if nothing had happened since the backup was made."""

from __future__ import annotations

import secrets
from collections.abc import Collection
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa

from dorkos.clock import iso
from dorkos.db.connections import reading_sqlite
from dorkos.db.hold import hold_fleet, let_go_of_processes
from dorkos.db.schema.system import events, system_state, tokens

RESTORED = "system.database.restored"
_CHUNK = 500


def set_at_rest(
    connection: sa.Connection, *, name: str, as_of: datetime | None, revoked: Collection[str], now: datetime
) -> None:
    """Begin a new history in the caller's transaction, with nothing at work.

    Old event cursors mean nothing any more, the fleet stands on hold, no token of a run is valid, nor one
    whose hash is in `revoked`. Runs that were at work are left for rescue to end as unconfirmed.
    """
    connection.execute(
        system_state.update().where(system_state.c.key == "epoch").values(value=secrets.token_hex(6))
    )
    moment = f", as of {iso(as_of)}" if as_of else ""
    hold_fleet(connection, reason=f"The database was restored from {name}{moment}", now=now)
    let_go_of_processes(connection)
    _revoke(connection, revoked, now)
    connection.execute(
        events.insert().values(
            kind=RESTORED,
            entity_id=name,
            actor=None,
            at=now,
            data={"file": name, "asOf": iso(as_of) if as_of else None},
        )
    )


def revoked_tokens(path: Path) -> list[str]:
    """The hashes of all tokens that were revoked in the SQLite database at `path`; none if it has none."""
    with reading_sqlite(path) as connection:
        if not sa.inspect(connection).has_table(tokens.name):
            return []
        # Only columns that the table had from its beginning: the database may be older than this code.
        statement = sa.select(tokens.c.hash).where(tokens.c.revoked_at.is_not(None))
        return list(connection.execute(statement).scalars())


def _revoke(connection: sa.Connection, hashes: Collection[str], now: datetime) -> None:
    live = tokens.c.revoked_at.is_(None)
    connection.execute(tokens.update().where(live, tokens.c.run_id.is_not(None)).values(revoked_at=now))
    waiting = sorted(hashes)
    for start in range(0, len(waiting), _CHUNK):
        chunk = waiting[start : start + _CHUNK]
        connection.execute(tokens.update().where(live, tokens.c.hash.in_(chunk)).values(revoked_at=now))
