"""Hot statements on the driver store and answer what SQLAlchemy would."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from dorkos.clock import from_iso
from dorkos.db.database import Database, Transaction
from dorkos.db.prepared import Prepared
from dorkos.db.schema.pulse import pulse_schedules as s
from dorkos.ids import new_id
from dorkos.vocabulary import OverlapPolicy, ScheduleStatus

AT = from_iso("2026-03-01T09:00:00.123Z")
COLUMNS = (
    "id",
    "name",
    "prompt",
    "command",
    "status",
    "enabled",
    "decided_until",
    "created_at",
    "updated_at",
)
INSERT = Prepared(sa.insert(s), *COLUMNS)
FIND = Prepared(
    sa.select(s.c.name, s.c.command, s.c.status, s.c.enabled, s.c.decided_until, s.c.overlap, s.c.next_due_at)
    .where(s.c.id == sa.bindparam("of_id"), s.c.status == ScheduleStatus.PAUSED)
    .order_by(s.c.id)
)
RENAME = Prepared(
    sa.update(s)
    .where(s.c.id == sa.bindparam("of_id"))
    .values(name=sa.bindparam("to_name"))
    .returning(s.c.name)
)


def row(schedule_id: str) -> dict[str, object]:
    return {
        "id": schedule_id,
        "name": "ночь ☕ '\"%s",
        "prompt": "p",
        "command": ["a", "b c"],
        "status": ScheduleStatus.PAUSED,
        "enabled": False,
        "decided_until": AT,
        "created_at": AT,
        "updated_at": AT,
    }


async def test_values_of_every_type_come_back_as_they_went_in(db: Database) -> None:
    """Texts, JSON, words, flags, instants and NULL pass through the same conversions; defaults apply."""
    schedule_id = new_id()
    await db.write(lambda tx: tx.run(INSERT, row(schedule_id)))
    found = await db.write(lambda tx: tx.run(FIND, {"of_id": schedule_id}))
    assert found == [
        ("ночь ☕ '\"%s", ["a", "b c"], ScheduleStatus.PAUSED, False, AT, OverlapPolicy.SKIP, None)
    ]
    stored = await db.read(lambda c: c.execute(sa.select(s.c.decided_until, s.c.command)).one())
    assert tuple(stored) == (AT, ["a", "b c"])


async def test_a_change_answers_the_rows_that_it_returns(db: Database) -> None:
    """RETURNING answers what was changed, and nothing where nothing was."""
    schedule_id = new_id()

    def change(tx: Transaction) -> tuple[list[tuple[object, ...]], list[tuple[object, ...]]]:
        tx.run(INSERT, row(schedule_id))
        renamed = tx.run(RENAME, {"of_id": schedule_id, "to_name": "day"})
        return renamed, tx.run(RENAME, {"of_id": new_id(), "to_name": "day"})

    assert await db.write(change) == ([("day",)], [])


async def test_a_fault_of_the_driver_is_explained_as_ever(db: Database) -> None:
    """A broken constraint comes out as the same refusal, and the change is rolled back alone."""
    schedule_id = new_id()
    await db.write(lambda tx: tx.run(INSERT, row(schedule_id)))
    with pytest.raises(sa.exc.IntegrityError):
        await db.write(lambda tx: tx.run(INSERT, row(schedule_id)))
    assert await db.write(lambda tx: tx.run(RENAME, {"of_id": schedule_id, "to_name": "b"})) == [("b",)]


async def test_a_missing_value_is_a_fault_and_stores_nothing(db: Database) -> None:
    """A column that the statement writes must be given: it is never taken for NULL."""
    values = row(new_id())
    del values["prompt"]
    with pytest.raises(KeyError):
        await db.write(lambda tx: tx.run(INSERT, values))
    assert await db.read(lambda c: c.execute(sa.select(sa.func.count()).select_from(s)).scalar_one()) == 0


async def test_many_values_answer_each_for_itself(db: Database) -> None:
    """In their order, also where one of them matches nothing; none at all is no fault."""
    ids = [new_id() for _ in range(3)]
    stored = await db.write(lambda tx: tx.run_many(INSERT, [row(one) for one in ids]))
    assert stored == [[], [], []]
    wishes = [{"of_id": one, "to_name": f"name {n}"} for n, one in enumerate((ids[0], new_id(), ids[2]))]
    assert await db.write(lambda tx: tx.run_many(RENAME, wishes)) == [[("name 0",)], [], [("name 2",)]]
    assert await db.write(lambda tx: tx.run_many(RENAME, [])) == []


async def test_a_fault_among_many_is_what_sqlalchemy_raises(db: Database) -> None:
    """And nothing of the change is stored, neither before the fault nor after it."""
    first, second = new_id(), new_id()
    with pytest.raises(sa.exc.IntegrityError):
        await db.write(lambda tx: tx.run_many(INSERT, [row(first), row(first), row(second)]))
    counted = sa.select(sa.func.count()).select_from(s)
    assert await db.read(lambda connection: connection.execute(counted).scalar_one()) == 0


STORE = Prepared(insert(s).on_conflict_do_nothing().returning(s.c.id), *COLUMNS)


@pytest.mark.parametrize("count", [49, 64, 65, 84, 130])
async def test_rows_that_are_there_already_answer_nothing(db: Database, count: int) -> None:
    """However many go together: each new row answers for itself, in its place, and is stored once."""
    ids = [new_id() for _ in range(count)]
    known = ids[::7]
    await db.write(lambda tx: tx.run_many(INSERT, [row(one) for one in known]))
    found = await db.write(lambda tx: tx.run_many(STORE, [row(one) for one in ids]))
    assert found == [[] if one in known else [(one,)] for one in ids]
    stored = await db.read(lambda c: c.execute(sa.select(s.c.id, s.c.name, s.c.enabled)).all())
    assert sorted(tuple(each) for each in stored) == [(one, "ночь ☕ '\"%s", False) for one in ids]


@pytest.mark.parametrize("at", [0, 49, 99, 119])
async def test_a_fault_anywhere_among_many_stores_nothing(db: Database, at: int) -> None:
    """A name that is missing, in whichever of the rows."""
    rows = [row(new_id()) for _ in range(120)]
    rows[at]["name"] = None
    with pytest.raises(sa.exc.IntegrityError):
        await db.write(lambda tx: tx.run_many(INSERT, rows))
    counted = sa.select(sa.func.count()).select_from(s)
    assert await db.read(lambda connection: connection.execute(counted).scalar_one()) == 0
