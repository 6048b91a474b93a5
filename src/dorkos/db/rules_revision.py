"""The revision of the access rules: one row of `system_state` that names what the rules are at the moment.

Servers keep the rules in memory under this name and read only the name again at each publish. So whoever
writes `relay_rules` by any way must renew it in the same transaction. While there is no such row nothing is
kept in memory.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert  # Its ON CONFLICT compiles for SQLite as well.

from dorkos.db.database import Transaction
from dorkos.db.schema.system import system_state
from dorkos.ids import new_id

RULES_KEY = "relay:rules"


def renew(connection: sa.Connection | Transaction) -> None:
    """Give the rules another revision, in the caller's transaction.

    Each call makes a new one, also when a change runs again: what was kept under the name of a change that
    was rolled back is never asked for.
    """
    fresh = insert(system_state).values(key=RULES_KEY, value=new_id())
    connection.execute(
        fresh.on_conflict_do_update(index_elements=["key"], set_={"value": fresh.excluded.value})
    )


def begin(connection: sa.Connection | Transaction) -> None:
    """Give the rules a revision if they have none. Harmless to repeat."""
    fresh = insert(system_state).values(key=RULES_KEY, value=new_id())
    connection.execute(fresh.on_conflict_do_nothing(index_elements=["key"]))
