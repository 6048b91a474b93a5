"""The database that every test gets is fresh."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from dorkos.db.database import Database, Transaction
from dorkos.db.schema.system import events, system_state


@pytest.mark.parametrize("turn", [1, 2, 3])
async def test_a_test_starts_empty_whatever_the_one_before_left(db: Database, turn: int) -> None:
    """Rows, facts and event positions of one test are gone in the next, on both engines."""

    def change(tx: Transaction) -> None:
        tx.execute(system_state.insert().values(key="left_behind", value="x"))
        tx.emit("schedule.created", "S")

    await db.write(change)
    stored = await db.read(lambda c: c.execute(sa.select(events.c.position)).scalars().all())
    assert stored == [1]
