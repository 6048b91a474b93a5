"""How fast messages are published, claimed and acknowledged, beside the same statements driven raw."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from benchmarks.report import Row
from dorkos.clock import SystemClock
from dorkos.db import prepared
from dorkos.db.database import Database, Transaction
from dorkos.db.prepared import Prepared
from dorkos.events import EventFeed
from dorkos.identity.model import OPERATOR, Caller
from dorkos.ids import new_id
from dorkos.node import this_node
from dorkos.relay.model import CallRefusal, Envelope, NoRoutes, RunRequest
from dorkos.relay.service import RelayService
from dorkos.settings import RelaySettings
from dorkos.testing import create_test_db
from dorkos.vocabulary import Scope

_MESSAGES = 8_000
_AT_ONCE = 64
_ALONE = 500
_PAYLOAD = '{"content":"The build of the main branch is done; all 2,108 tests passed."}'
_SENDER = Caller("relay.human.bench", frozenset({Scope.SEND}))
_OPEN = 2**31 - 1


class _NoRuns:
    def queue_run(self, tx: Transaction, request: RunRequest, *, run_id: str) -> None:
        raise AssertionError((tx, request, run_id))


class _NoBudgets:
    def take_call(self, tx: Transaction, agent_id: str) -> CallRefusal | None:
        raise AssertionError((tx, agent_id))

    def max_hops(self, tx: Transaction, agent_id: str) -> int | None:
        raise AssertionError((tx, agent_id))


def service(db: Database) -> RelayService:
    """Relay with limits that a benchmark does not meet; each of them is looked at all the same."""
    settings = RelaySettings(
        max_mailbox_size=_OPEN, max_mailbox_bytes=2**50, rate_limit=_OPEN, pair_limit=_OPEN
    )
    return RelayService(
        database=db,
        clock=SystemClock(),
        settings=settings,
        feed=EventFeed(db),
        runs=_NoRuns(),
        budgets=_NoBudgets(),
        routes=NoRoutes(),
        node=this_node(),
    )


def rows() -> list[Row]:
    """On SQLite, each on a database of its own."""
    return asyncio.run(_measure())


async def _measure() -> list[Row]:
    published, raw = await _many()
    through, raw_through = await _through()
    return [
        Row("publish, 64 at once, per second", published, "/s", None),
        Row("the same statements raw, per second", raw, "/s", None),
        Row("publish to raw (at least 0.5)", published / raw, "x", None),
        Row("publish, claim, ack, per second", through, "/s", None),
        Row("publish, claim, ack to raw (at least 0.4)", through / raw_through, "x", None),
        await _alone(),
    ]


async def _many() -> tuple[float, float]:
    async with _Office() as (db, relay, inbox):
        begun = time.perf_counter()
        await _spread(lambda: _publish(relay, inbox), _MESSAGES)
        rate = _MESSAGES / (time.perf_counter() - begun)
        with _recorded() as statements:
            await _publish(relay, inbox)
        return rate, await _raw(db, statements)


async def _through() -> tuple[float, float]:
    async with _Office() as (db, relay, inbox):
        done = 0

        async def consume() -> None:
            nonlocal done
            while done < _MESSAGES:
                claim = await relay.claim(OPERATOR, inbox, limit=100, wait_ms=50)
                await asyncio.gather(
                    *(relay.ack(OPERATOR, inbox, d.message.id, d.lease_token or "") for d in claim.deliveries)
                )
                done += len(claim.deliveries)

        await relay._wakeups._feed.start()  # noqa: SLF001  # A long poll is woken by it, as in a server.
        begun = time.perf_counter()
        await asyncio.gather(_spread(lambda: _publish(relay, inbox), _MESSAGES), consume())
        rate = _MESSAGES / (time.perf_counter() - begun)
        await relay._wakeups._feed.stop()  # noqa: SLF001  # As above.
        with _recorded() as statements:
            await _publish(relay, inbox)
            (taken,) = (await relay.claim(OPERATOR, inbox, limit=1)).deliveries
            await relay.ack(OPERATOR, inbox, taken.message.id, taken.lease_token or "")
        return rate, await _raw(db, statements)


async def _alone() -> Row:
    """One at a time, compared with one synced commit of one row."""
    async with _Office() as (db, relay, inbox):
        begun = time.perf_counter()
        for _ in range(_ALONE):
            await _publish(relay, inbox)
        took = time.perf_counter() - begun
        begun = time.perf_counter()
        for _ in range(_ALONE):
            await db.write(_one_row)
        return Row("publish alone to a synced commit", took / (time.perf_counter() - begun), "x", 2.5)


def _one_row(tx: Transaction) -> None:
    tx.execute(sa.text("UPDATE system_state SET value = value || '.' WHERE key = 'bench'"))


async def _publish(relay: RelayService, inbox: str) -> None:
    receipt = await relay.publish(_SENDER, Envelope(id=new_id(), subject=inbox, payload=_PAYLOAD))
    assert receipt.delivered_to == 1


async def _spread(work: Callable[[], Awaitable[None]], times: int) -> None:
    """Do it so often, never more than some at once."""

    async def worker() -> None:
        for _ in range(times // _AT_ONCE):
            await work()

    await asyncio.gather(*(worker() for _ in range(_AT_ONCE)))


class _Office:
    """A database with Relay and one mailbox."""

    async def __aenter__(self) -> tuple[Database, RelayService, str]:
        self._db = create_test_db("sqlite")
        db = await self._db.__aenter__()
        relay = service(db)
        await relay.access.start()
        await db.write(lambda tx: tx.execute(sa.text("INSERT INTO system_state VALUES ('bench', '')")))
        await relay.open(OPERATOR, "relay.human.inbox", description=None)
        return db, relay, "relay.human.inbox"

    async def __aexit__(self, *raised: Any) -> None:
        await self._db.__aexit__(*raised)


@contextmanager
def _recorded() -> Iterator[list[tuple[str, list[Any]]]]:
    """What hot statements run on the driver, with their parameters."""
    found: list[tuple[str, list[Any]]] = []
    run = Prepared.run

    def recording(self: Prepared, connection: sa.Connection, values: Any) -> Any:
        compiled = self._on(connection.dialect)
        found.append((compiled.text, list(compiled.parameters(values))))
        return run(self, connection, values)

    prepared.Prepared.run = recording  # type: ignore[method-assign]  # For this one message.
    try:
        yield found
    finally:
        prepared.Prepared.run = run  # type: ignore[method-assign]  # As above.


async def _raw(db: Database, statements: list[tuple[str, list[Any]]]) -> float:
    """The same statements on the bare driver, in batches of as many with one synced commit, new ids each."""
    path = await db.read(lambda c: c.exec_driver_sql("PRAGMA database_list").first())
    assert path is not None
    return await asyncio.to_thread(_drive, str(path[2]), statements)


def _drive(path: str, statements: list[tuple[str, list[Any]]]) -> float:
    from dorkos.db.engine import sqlite_driver

    driver = sqlite_driver().connect(path, isolation_level=None)
    driver.execute("PRAGMA synchronous = FULL")
    driver.execute("PRAGMA foreign_keys = ON")
    known = {value for _, values in statements for value in values if _is_id(value)}
    lasting = {row[0] for row in driver.execute("SELECT id FROM relay_endpoints")}
    begun = time.perf_counter()
    for _ in range(_MESSAGES // _AT_ONCE):
        driver.execute("BEGIN IMMEDIATE")
        for _ in range(_AT_ONCE):
            fresh = {old: new_id() for old in known - lasting}
            for text, values in statements:
                driver.execute(text, [fresh.get(v, v) if _is_id(v) else v for v in values]).fetchall()
        driver.execute("COMMIT")
    rate = _MESSAGES / (time.perf_counter() - begun)
    driver.close()
    return rate


def _is_id(value: object) -> bool:
    return isinstance(value, str) and len(value) == 26


if __name__ == "__main__":
    for row in rows():
        print(row)
