"""Hot statements reach their rows by an index, however much is stored."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from itertools import permutations
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.schema import CreateIndex, DropIndex

from dorkos.clock import ManualClock
from dorkos.db.database import Transaction
from dorkos.db.schema.tables import metadata
from dorkos.db.sqlite import SqliteDatabase
from dorkos.relay.model import LetterFilter
from dorkos.testing import create_test_db
from dorkos.vocabulary import DeliveryStatus, RunState
from tests.relay.post_office import ADA, INBOX, PostOffice, post_office

Statements = list[tuple[str, Any]]

# Those of deliveries that a reader of one mailbox may be led to.
DELIVERY_INDEXES = ("claimable", "endpoint_id_id", "expiring")


@pytest.fixture
async def watched(clock: ManualClock) -> AsyncIterator[tuple[PostOffice, Statements]]:
    """Relay with a mailbox, and the list of every statement that it runs."""
    async with create_test_db("sqlite", clock=clock) as db:
        assert isinstance(db, SqliteDatabase)
        statements: Statements = []

        def keep(_connection: Any, _cursor: Any, sql: str, values: Any, _context: Any, many: bool) -> None:
            statements.append((sql, values[0] if many else values))

        office = post_office(db, clock)
        await office.open()
        await office.relay.access.start()
        # The rules are read as a whole, once until somebody changes them.
        await office.send(to="relay.human.nobody")
        for engine in (db._write_engine, db._read_engine):
            sa.event.listen(engine, "before_cursor_execute", keep)
        yield office, statements


async def plan_lines(office: PostOffice, statements: Statements) -> list[str]:
    """Every line of the statements' plans, each with its statement."""

    def query(connection: sa.Connection) -> list[str]:
        return [
            f"{line[3]}: {sql}"
            for sql, values in dict(statements).items()
            for line in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", values)
        ]

    return await office.db.read(query)


async def scans(office: PostOffice, statements: Statements) -> list[str]:
    """Those lines that read a whole table."""
    return [line for line in await plan_lines(office, list(statements)) if line.startswith("SCAN")]


async def test_moving_a_message_scans_no_table(watched: tuple[PostOffice, Statements]) -> None:
    """Publish, claim, extend, nack, ack, runs and expiry: no table of messages is read from end to end."""
    office, statements = watched
    agent = await office.open_for_agent("worker")
    statements.clear()
    await office.send()
    held = await office.claim_one()
    await office.relay.extend(ADA, INBOX, *held)
    await office.relay.nack(ADA, INBOX, *held, delay=timedelta(0), reject=False)
    await office.relay.ack(ADA, INBOX, *await office.claim_one())
    await office.relay.claim(ADA, INBOX, limit=1)
    await office.send(to=agent.subject)
    run = await office.start_run(agent)
    assert run is not None
    await office.send(caller=run)
    await office.finish_run(run, RunState.FAILED)
    await office.relay.expiry.work()

    # The loop that looks for mailboxes with work goes through the mailboxes and adapters, which are few.
    few = ("SCAN relay_endpoints", "SCAN relay_adapters")
    assert [scan for scan in await scans(office, statements) if not scan.startswith(few)] == []


async def test_lists_are_read_in_the_order_of_an_index(watched: tuple[PostOffice, Statements]) -> None:
    """The newest of a list are found without sorting it."""
    office, statements = watched
    await office.send()
    statements.clear()
    await office.relay.messages(limit=1)
    await office.relay.messages(subject=INBOX, limit=1)
    await office.relay.inbox(ADA, INBOX, status=None, before=None, limit=1)
    await office.relay.letters.newest_first(LetterFilter(), limit=1)

    lists = [(sql, values) for sql, values in statements if " DESC" in sql]
    assert len(lists) == 4
    assert [line for line in await plan_lines(office, lists) if "TEMP B-TREE" in line] == []


@pytest.mark.parametrize("order", list(permutations(DELIVERY_INDEXES)), ids="-".join)
async def test_a_mailbox_with_much_in_it_is_read_by_its_index_once_statistics_are_known(
    watched: tuple[PostOffice, Statements], order: tuple[str, ...]
) -> None:
    """ANALYZE says that one mailbox holds nearly all: SQLite then likes to begin with the mailboxes, and
    sorts all that lies in one, which is seconds at a million. Where it finds two ways equally good it takes
    one by the order in which the indexes were made, which SQLAlchemy leaves to chance."""
    office, statements = watched
    await office.send()
    many = "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 3000) "

    def fill(tx: Transaction) -> None:
        for table, column in (("relay_messages", "subject"), ("relay_index", "endpoint_id")):
            columns = sa.inspect(metadata.tables[table]).columns.keys()
            made = {"id": "printf('01J%023d', n)", "message_id": "printf('01J%023d', n)", "position": "n + 9"}
            made |= {"status": "'delivered'"} if column == "endpoint_id" else {}
            picked = ", ".join(made.get(name, name) for name in columns if name != "idempotency_key")
            named = ", ".join(name for name in columns if name != "idempotency_key")
            newest = f"(SELECT * FROM {table} ORDER BY id DESC LIMIT 1)"
            tx.execute(sa.text(f"{many}INSERT INTO {table} ({named}) SELECT {picked} FROM {newest}, n"))

    def make_indexes_anew(tx: Transaction) -> None:
        made = {str(index.name): index for index in metadata.tables["relay_index"].indexes}
        for name in order:
            tx.execute(DropIndex(made[f"ix_relay_index_{name}"]))
        for name in order:
            tx.execute(CreateIndex(made[f"ix_relay_index_{name}"]))

    await office.db.write(fill)
    await office.db.write(make_indexes_anew)
    await office.db.write(lambda tx: tx.execute(sa.text("ANALYZE")))
    statements.clear()
    for status in (None, DeliveryStatus.DELIVERED, DeliveryStatus.PENDING, DeliveryStatus.FAILED):
        await office.relay.inbox(ADA, INBOX, status=status, before=None, limit=50)
    await office.relay.messages(status=DeliveryStatus.PENDING, limit=50)
    await office.relay.messages(status=DeliveryStatus.FAILED, limit=50)
    lists = {sql: values for sql, values in statements if " DESC" in sql}
    # How each finds its page: what is joined to the few rows of one does not matter.
    reached = (
        "relay_index USING COVERING INDEX ix_relay_index_endpoint_id_id (endpoint_id=?)",
        "relay_index USING INDEX ix_relay_index_endpoint_id_id (endpoint_id=?)",
        "relay_index USING INDEX ix_relay_index_claimable (endpoint_id=? AND position>?)",
        "relay_index USING INDEX sqlite_autoindex_relay_index_2 (message_id=? AND endpoint_id=?)",
        "relay_messages USING INDEX sqlite_autoindex_relay_messages_1 (id=?)",
        "relay_messages USING INDEX sqlite_autoindex_relay_messages_1 (id=?)",
    )
    assert len(lists) == len(reached)
    for (sql, values), wanted in zip(lists.items(), reached, strict=True):
        lines = await plan_lines(office, [(sql, values)])
        assert any(line.startswith(f"SEARCH {wanted}") for line in lines), [line[:90] for line in lines]
