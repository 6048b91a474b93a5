"""Hot statements on the driver store and answer what SQLAlchemy would."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from json import JSONDecodeError
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.types import TypeEngine

from dorkos.clock import from_iso
from dorkos.db.database import Database, Transaction
from dorkos.db.prepared import Prepared
from dorkos.db.schema.pulse import pulse_schedules as s
from dorkos.db.types import (
    Choice,
    Flag,
    Instant,
    Integer,
    Json,
    Text,
    Ulid,
    bind_converter,
    result_converter,
)
from dorkos.ids import new_id
from dorkos.vocabulary import OverlapPolicy, ScheduleStatus

AT = from_iso("2026-03-01T09:00:00.123Z")
WEST = timezone(timedelta(hours=-7))
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


KINDS: tuple[tuple[TypeEngine[Any], tuple[object, ...]], ...] = (
    (Text(), ("", "ночь \U0001f680", None)),
    (Ulid(), (new_id(), None)),
    (Integer(), (0, -(2**63), 2**63 - 1, None)),
    (Flag(), (True, False, None)),
    (Instant(), (AT, AT.replace(microsecond=123_999), AT.astimezone(WEST), None)),
    (Json(), (None, [], {"ключ": [1.5, None, True]}, "text", 2**70, float("nan"))),
    (Choice(ScheduleStatus), (ScheduleStatus.PAUSED, "paused", "asleep", None)),
)


async def test_values_are_converted_as_sqlalchemy_does(db: Database) -> None:
    """To the driver and back, and what the one refuses the other refuses: both write the same columns."""
    dialect = await db.read(lambda connection: connection.dialect)
    for kind, values in KINDS:
        for value in values:
            stored = outcome(bind_converter(kind, dialect), value)
            assert stored == outcome(kind.bind_processor(dialect), value), (kind, value)
            if isinstance(stored, type):
                continue
            back = outcome(result_converter(kind, dialect), stored)
            expected = outcome(kind.result_processor(dialect, None), stored)
            assert (back, type(back)) == (expected, type(expected)), (kind, value)


@pytest.mark.parametrize(
    ("kind", "stored"),
    [
        (Choice(ScheduleStatus), "asleep"),
        (Json(), "{"),
        (Instant(), AT.astimezone(WEST)),
        (Instant(), AT.replace(microsecond=123_456)),
        (Instant(), "2026-03-01T09:00:00.123Z"),
        (Flag(), 1),
    ],
)
async def test_what_a_driver_answers_is_read_as_sqlalchemy_does(
    db: Database, kind: TypeEngine[Any], stored: object
) -> None:
    """Also what no writer of ours stored: a word that is none is refused, another zone is brought to UTC."""
    dialect = await db.read(lambda connection: connection.dialect)
    if isinstance(stored, datetime) and dialect.name == "sqlite":
        stored = stored.isoformat()  # Its driver knows no instants.
    ours = outcome(result_converter(kind, dialect), stored)
    assert ours == outcome(kind.result_processor(dialect, None), stored)
    assert ours in (AT, True) or ours in (ValueError, JSONDecodeError)


def outcome(convert: Callable[[Any], Any] | None, value: object) -> object:
    """What it makes of a value, or the kind of error that it raises."""
    try:
        return value if convert is None else convert(value)
    except ValueError as fault:
        return type(fault)
