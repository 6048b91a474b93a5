"""The maintenance lease: which of the servers on one database takes away what is old.

It is one row of `system_state`. Two servers at it at once would do no harm, only the work twice.
"""

from __future__ import annotations

from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert  # Its ON CONFLICT compiles for SQLite as well.

from dorkos.clock import iso
from dorkos.db.database import Transaction
from dorkos.db.schema.system import system_state
from dorkos.node import Node

LEASE_KEY = "maintenance"
_LEASE = timedelta(hours=1)


def take_lease(tx: Transaction, node: Node) -> bool:
    """Take or keep the lease. The value begins with its end, which as text is in the order of time."""
    now = tx.now()
    value = f"{iso(now + _LEASE)} {node.id}"
    stored = insert(system_state).values(key=LEASE_KEY, value=value)
    statement = stored.on_conflict_do_update(
        index_elements=["key"],
        set_={"value": stored.excluded.value},
        where=sa.or_(system_state.c.value < iso(now), system_state.c.value.endswith(node.id)),
    )
    return tx.execute(statement.returning(system_state.c.key)).one_or_none() is not None
