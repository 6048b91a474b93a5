"""Changes that share a commit: what they hand over, what they read once, and who pays for a fault."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import sqlalchemy as sa

from dorkos.db.batch import Alike
from dorkos.db.database import Change, Database, Transaction
from dorkos.db.group import Group
from dorkos.db.postgres import PostgresDatabase
from dorkos.db.prepared import Prepared
from dorkos.db.schema.relay import relay_dead_letters, relay_index, relay_messages
from dorkos.db.schema.system import events, system_state
from dorkos.db.tally import Tally
from dorkos.errors import DorkError, ErrorCode
from dorkos.testing import create_test_db
from dorkos.vocabulary import LimitKind

PUT = Prepared(sa.insert(system_state), "key", "value")
ALTER = Prepared(
    sa.update(system_state)
    .where(system_state.c.key == sa.bindparam("of_key"))
    .values(value=sa.bindparam("to"))
    .returning(system_state.c.key)
)
FIND = Prepared(sa.select(system_state.c.value).where(system_state.c.key == sa.bindparam("of_key")))


async def together(db: Database, *changes: Change[Any]) -> Sequence[Any]:
    """What became of the changes, which wait for the writer at once and so share a commit."""
    release = threading.Event()
    waiting = [asyncio.ensure_future(db.write(lambda tx: release.wait(30)))]
    waiting += [asyncio.ensure_future(db.write(change)) for change in changes]
    await asyncio.wait(waiting, timeout=0)
    release.set()
    return (await asyncio.gather(*waiting, return_exceptions=True))[1:]


def put(key: str, value: str = "v", calls: list[str] | None = None) -> Change[None]:
    """Hand over a row and an event."""

    def change(tx: Transaction) -> None:
        if calls is not None:
            calls.append(key)
        tx.add(PUT, {"key": key, "value": value})
        tx.emit("system.node.started", key)

    return change


@dataclass(frozen=True)
class Note(Alike):
    """One of a kind: a row and an event. `bad` is what comes of it instead; `calls` has each round."""

    key: str
    calls: list[list[str]]
    bad: Exception | None = None

    def __call__(self, tx: Transaction) -> None:
        """Alone."""
        [refusal] = self.together(tx, [self])
        if refusal is not None:
            raise refusal

    @classmethod
    def together(cls, tx: Transaction, changes: Sequence[Note]) -> list[DorkError | None]:
        """In their order."""
        changes[0].calls.append([change.key for change in changes])
        refusals: list[DorkError | None] = []
        for change in changes:
            if isinstance(change.bad, DorkError):
                refusals.append(change.bad)
                continue
            put(change.key)(tx)
            refusals.append(None)
        return refusals


async def stored(db: Database) -> tuple[list[str], list[str]]:
    """The keys, and what the events are about."""
    return await db.read(
        lambda c: (
            sorted(
                c.execute(sa.select(system_state.c.key).where(system_state.c.key.startswith("k"))).scalars()
            ),
            list(c.execute(sa.select(events.c.entity_id).order_by(events.c.position)).scalars()),
        )
    )


async def test_those_of_a_kind_are_applied_together_where_they_follow_one_another(db: Database) -> None:
    """In their order among the others, each with an answer of its own; a refused one stops nobody."""
    calls: list[list[str]] = []
    refusal = DorkError(ErrorCode.LEASE_LOST, "It is not yours.")
    answers = await together(
        db,
        Note("k1", calls),
        Note("k2", calls, refusal),
        Note("k3", calls),
        put("k4"),
        Note("k5", calls),
    )
    assert answers == [None, refusal, None, None, None]
    assert calls == [["k1", "k2", "k3"], ["k5"]]
    assert await stored(db) == (["k1", "k3", "k4", "k5"], ["k1", "k3", "k4", "k5"])


@pytest.mark.parametrize("bad", [LookupError("on purpose"), DorkError(ErrorCode.LEASE_LOST, "Not yours.")])
async def test_a_fault_among_those_of_a_kind_is_the_one_ones_own(db: Database, bad: Exception) -> None:
    """Each is applied alone then, so that the others are stored, once."""
    calls: list[list[str]] = []

    @dataclass(frozen=True)
    class Rude(Note):
        """Raises where it should have told."""

        @classmethod
        def together(cls, tx: Transaction, changes: Sequence[Note]) -> list[DorkError | None]:
            changes[0].calls.append([change.key for change in changes])
            for change in changes:
                put(change.key)(tx)
                if change.bad is not None:
                    raise change.bad
            return [None] * len(changes)

    answers = await together(db, Rude("k1", calls), Rude("k2", calls, bad), Rude("k3", calls))
    assert answers == [None, bad, None]
    assert calls == [["k1", "k2", "k3"], ["k1"], ["k2"], ["k3"]]
    assert await stored(db) == (["k1", "k3"], ["k1", "k3"])


@pytest.mark.parametrize(
    "look",
    [
        lambda tx: tx.run(FIND, {"of_key": "k"}),
        lambda tx: tx.recall(FIND, {"of_key": "k"}),
        lambda tx: [
            tuple(row) for row in tx.execute(sa.select(system_state.c.value).where(system_state.c.key == "k"))
        ],
        lambda tx: [("v",)] if tx.run_many(ALTER, [{"of_key": "k", "to": "v"}]) == [[("k",)]] else [],
    ],
    ids=["run", "recall", "execute", "run_many"],
)
async def test_a_row_that_was_handed_over_is_there_for_whoever_looks(
    db: Database, look: Callable[[Transaction], object]
) -> None:
    """In the same change and in the next one of the commit: nobody can tell that it was not written yet."""

    def mine(tx: Transaction) -> object:
        put("k")(tx)
        return look(tx)

    assert await together(db, mine, look) == [[("v",)], [("v",)]]
    assert await stored(db) == (["k"], ["k"])


async def test_a_fault_rolls_back_alone_with_what_was_handed_over(db: Database) -> None:
    """Its neighbours are stored once, in their order, though they ran a second time for it."""

    def broken(tx: Transaction) -> None:
        put("k-broken")(tx)
        raise LookupError("on purpose")

    answers = await together(db, put("k1"), broken, put("k2"))
    assert [answers[0], answers[2]] == [None, None]
    assert isinstance(answers[1], LookupError)
    assert await stored(db) == (["k1", "k2"], ["k1", "k2"])


async def test_a_row_that_does_not_fit_is_told_to_the_one_who_handed_it_over(db: Database) -> None:
    """Though it comes out only after the change has returned; nobody else hears of it."""
    answers = await together(db, put("k1"), put("k1", "again"), put("k2"))
    assert [answers[0], answers[2]] == [None, None]
    assert isinstance(answers[1], sa.exc.IntegrityError)
    assert await stored(db) == (["k1", "k2"], ["k1", "k2"])


async def test_a_refusal_before_anything_is_changed_runs_nobody_again(db: Database) -> None:
    """Most refusals are of this kind: they must not cost the others anything."""
    calls: list[str] = []

    def refuse(tx: Transaction) -> None:
        tx.run(FIND, {"of_key": "k1"})
        tx.run(ALTER, {"of_key": "k3", "to": "new"})
        tx.run_many(ALTER, [{"of_key": "k3", "to": "new"}, {"of_key": "k4", "to": "new"}])
        tx.emit("system.node.stopped", "never")
        raise DorkError(ErrorCode.CONFLICT, "No.")

    answers = await together(db, put("k1", calls=calls), refuse, put("k2", calls=calls))
    assert [answers[0], answers[2]] == [None, None]
    assert isinstance(answers[1], DorkError)
    assert calls == ["k1", "k2"]
    assert await stored(db) == (["k1", "k2"], ["k1", "k2"])


@pytest.mark.parametrize(
    "alter",
    [
        lambda tx: tx.run(ALTER, {"of_key": "k", "to": "new"}),
        lambda tx: tx.execute(sa.update(system_state).where(system_state.c.key == "k").values(value="new")),
        lambda tx: tx.execute(sa.text("UPDATE system_state SET value = 'new' WHERE key = 'k'")),
    ],
    ids=["run", "execute", "text"],
)
async def test_what_was_read_once_is_read_anew_after_a_change(
    db: Database, alter: Callable[[Transaction], object]
) -> None:
    """Whichever change of the commit makes it, and however."""

    def look(tx: Transaction) -> object:
        return tx.recall(FIND, {"of_key": "k"})

    answers = await together(db, put("k", "old"), look, look, lambda tx: (alter(tx), None)[1], look)
    assert answers == [None, [("old",)], [("old",)], None, [("new",)]]


async def test_what_was_not_there_when_it_was_read_is_there_once_it_is_handed_over(db: Database) -> None:
    """An answer is not recalled over a row that still waits."""

    def look(tx: Transaction) -> object:
        return tx.recall(FIND, {"of_key": "k1"}), tx.recall(FIND, {"of_key": "k2"})

    answers = await together(db, look, put("k1"), look, put("k2"), look)
    assert answers == [([], []), None, ([("v",)], []), None, ([("v",)], [("v",)])]


@pytest.mark.parametrize(
    "fault", [StopIteration, SystemExit, GeneratorExit, asyncio.CancelledError, MemoryError]
)
async def test_no_fault_of_a_change_keeps_others_from_their_answers(
    db: Database, fault: type[BaseException]
) -> None:
    """Not even one that ends a generator, a task or a thread; it is told to whoever waits for that change."""

    def bad(tx: Transaction) -> None:
        tx.add(PUT, {"key": "k-bad", "value": "v"})
        raise fault

    async with asyncio.timeout(30):
        first, told, last = await together(db, put("k1"), bad, put("k2"))
        alone = (await asyncio.gather(db.write(bad), return_exceptions=True))[0]
    expected = MemoryError if fault is MemoryError else RuntimeError
    assert (first, type(told), last, type(alone)) == (None, expected, None, expected)
    assert await stored(db) == (["k1", "k2"], ["k1", "k2"])


class Refusing:
    """Something shared that is refused when it is to be stored."""

    tables = frozenset({system_state.name})

    def __init__(self, group: Group) -> None:
        """Nothing of it is ever stored."""
        self._waits = True

    def write(self) -> None:
        """Refuse, in the same way as a change does that has changed nothing. Then nothing waits any more."""
        if self._waits:
            self._waits = False
            raise DorkError(ErrorCode.VALIDATION_FAILED, "It does not fit.")

    def forget(self) -> None:
        """Nothing was read."""


@pytest.mark.parametrize("catches", [False, True])
async def test_what_waited_is_not_lost_with_the_change_that_came_upon_it(
    db: Database, *, catches: bool
) -> None:
    """Whoever looks has what waits of others stored. If that is refused, it is not their refusal, and nobody
    is told of rows that were dropped on the way."""

    def share(tx: Transaction) -> None:
        put("k1")(tx)
        tx.part(Refusing)

    def look(tx: Transaction) -> object:
        try:
            return tx.run(FIND, {"of_key": "k1"})
        except DorkError:
            if catches:
                return "caught"
            raise

    kept, refused, looked = await together(db, put("k0"), share, look)
    assert (kept, type(refused), looked) == (None, DorkError, [])
    assert await stored(db) == (["k0"], ["k0"])


async def test_what_is_counted_together_is_counted_for_all(db: Database) -> None:
    """A limit of three lets three through, in one commit or several; who fails is not counted."""

    def take(*, fails: bool = False) -> Change[bool]:
        def change(tx: Transaction) -> bool:
            minute = int(tx.now().timestamp()) // 60
            tally = tx.part(Tally)
            if tally.used(LimitKind.SENDER, "ada", minute=minute, minutes=2) >= 3:
                return False
            tally.count(LimitKind.SENDER, "ada", minute)
            if fails:
                raise LookupError("on purpose")
            return True

        return change

    assert await db.write(take())
    answers = await together(db, take(fails=True), take(), take(), take())
    assert isinstance(answers[0], LookupError)
    assert answers[1:] == [True, True, False]
    assert await together(db, take(), take()) == [False, False]


async def test_two_servers_that_lock_in_a_circle_do_not_wait_for_each_other(db: Database) -> None:
    """Each writes one row, then the other's: whoever writes has its turn, so none is a victim."""
    await db.write(lambda tx: [put("k1")(tx), put("k2")(tx)])
    if not isinstance(db, PostgresDatabase):
        assert await together(db, put("k3"), put("k4")) == [None, None]
        return
    other = PostgresDatabase(db.url.render_as_string(hide_password=False))
    await other.open()
    inside = threading.Event()
    runs: list[str] = []

    def cross(first: str, second: str) -> Change[None]:
        def change(tx: Transaction) -> None:
            runs.append(first)
            tx.run(ALTER, {"of_key": first, "to": first})
            # The other one cannot come in meanwhile; without its turn it would, and both would be stuck.
            inside.wait(0.2)
            tx.run(ALTER, {"of_key": second, "to": second})
            inside.set()

        return change

    await asyncio.gather(db.write(cross("k1", "k2")), other.write(cross("k2", "k1")))
    await other.close()
    assert sorted(runs) == ["k1", "k2"]


async def test_a_row_that_another_program_has_locked_is_waited_for_once_in_a_commit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On PostgreSQL, where other programs may lock rows. All writers wait for the end of the commit, however
    many of its changes need that row; and who comes after it waits as long as ever."""
    monkeypatch.setattr(
        "dorkos.db.postgres._LOOK_AT_CLOCK",
        sa.text("SELECT clock_timestamp(), set_config('lock_timeout', '300', true)"),
    )

    def patience(tx: Transaction) -> object:
        return tx.execute(sa.text("SHOW lock_timeout")).scalar_one()

    def alter(tx: Transaction) -> None:
        tx.run(ALTER, {"of_key": "k", "to": "new"})

    async with create_test_db("postgresql") as db:
        assert isinstance(db, PostgresDatabase)
        await db.write(put("k"))
        with db.engine.connect() as other:
            other.execute(sa.text("SELECT value FROM system_state WHERE key = 'k' FOR UPDATE"))
            before, *refused, after, stays = await together(db, patience, alter, alter, patience, put("k2"))
        assert (before, after, stays, await db.write(patience)) == ("300ms", "50ms", None, "300ms")
        assert [each.code for each in refused] == [ErrorCode.DATABASE_BUSY] * 2
        assert (await stored(db))[0] == ["k", "k2"]


def test_a_statement_knows_the_tables_that_it_depends_on() -> None:
    """Those it names, those it refers to, and for a deletion those that refer to it."""
    insert = Prepared(sa.insert(relay_dead_letters), "id")
    assert {"relay_messages", "relay_endpoints"} < insert.looks_at
    delete = Prepared(sa.delete(relay_messages).where(relay_messages.c.id == sa.bindparam("x")))
    assert {"relay_index", "relay_dead_letters"} < delete.looks_at
    select = Prepared(sa.select(relay_index.c.id).where(relay_index.c.id == sa.bindparam("x")))
    assert select.looks_at == {"relay_index"}
    assert not select.writes
    assert Prepared(sa.insert(relay_index), "id").rank > Prepared(sa.insert(relay_messages), "id").rank
