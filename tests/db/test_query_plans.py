"""The lists that people page through reach their rows by an index, in its order, however much is stored.

What writes, claims and decides is watched in `tests/pulse` and `tests/relay`; here are the lists, on both
engines. On PostgreSQL an index that could serve is told from one that is missing by forbidding the rest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dorkos.db.database import Database
from dorkos.db.schema.mesh import agents
from dorkos.db.schema.relay import relay_messages
from dorkos.errors import DorkError
from dorkos.events import _after
from dorkos.identity.tokens import caller_of
from dorkos.ids import new_id
from dorkos.mesh import store as agent_store
from dorkos.mesh.hosts import Hosts
from dorkos.pulse import reading, runs, schedules, slots, timeline
from dorkos.relay import deadletters, endpoints, expiry, inbox, messages
from dorkos.relay.model import LetterFilter
from dorkos.vocabulary import DeliveryStatus, RunState

ID = new_id()
NOW = datetime(2026, 3, 1, 9, tzinfo=UTC)

Query = Callable[[sa.Connection], object]


@dataclass(frozen=True)
class Case:
    """A list: how it is asked for, and the index that leads to its rows on SQLite.

    `sorts` says that rows which are equal in the index may still be put in order.
    """

    ask: Query
    index: str
    sorts: bool = False


def _key(ask: Query, table: str) -> Case:
    """A list in the order of the primary key."""
    return Case(ask, f"sqlite_autoindex_{table}_1")


def _index(ask: Query, name: str, *, sorts: bool = False) -> Case:
    """A list by an index with a name of ours."""
    return Case(ask, name, sorts)


def _runs(schedule_id: str | None = None, states: list[RunState] | None = None) -> Query:
    return lambda c: runs.listed(c, schedule_id=schedule_id, states=states, limit=50, offset=0)


def _messages(
    subject: str | None = None,
    sender: str | None = None,
    status: DeliveryStatus | None = None,
    before: str | None = None,
) -> Query:
    return lambda c: messages.newest_first(
        c, subject=subject, sender=sender, status=status, before=before, limit=50
    )


def _inbox(status: DeliveryStatus | None, before: str | None) -> Query:
    return lambda c: inbox.newest_first(c, ID, status=status, before=before, limit=50)


CASES = {
    "runs by time": _index(_runs(), "ix_pulse_runs_created_at_id"),
    "runs of a schedule": _index(_runs(ID), "ix_pulse_runs_schedule_id_created_at_id"),
    "runs of a schedule by status": Case(
        _runs(ID, [RunState.FAILED]),
        "ix_pulse_runs_schedule_id_status_created_at_id",
    ),
    "runs by a final status": _index(_runs(None, [RunState.FAILED]), "ix_pulse_runs_status_created_at_id"),
    "slots of a schedule": Case(
        lambda c: slots.of_schedule(c, ID, limit=50, offset=0),
        "sqlite_autoindex_pulse_slots_2",
    ),
    "what was missed": _index(
        lambda c: c.execute(reading._missed_of([ID, new_id()], since=NOW, until=NOW, now=NOW)).all(),
        "ix_pulse_slots_schedule_id_through_at",
        sorts=True,  # Those of several schedules.
    ),
    "what was missed of one schedule": _index(
        lambda c: c.execute(reading._missed_of([ID], since=NOW, until=NOW, now=NOW)).all(),
        "ix_pulse_slots_schedule_id_through_at",
        sorts=True,  # Those that end at one instant.
    ),
    "marks of a timeline": _index(
        lambda c: timeline.marks(c, ID, since=NOW, until=NOW, now=NOW),
        "ix_pulse_slots_schedule_id_through_at",
    ),
    "schedules due": _index(
        lambda c: slots.due(c, NOW, after=None, limit=500), "ix_pulse_schedules_next_due_at_id", sorts=True
    ),
    "the next due instant": _index(lambda c: slots.next_due_at(c, NOW), "ix_pulse_schedules_next_due_at_id"),
    "one schedule": _key(lambda c: schedules.get(c, ID), "pulse_schedules"),
    "messages": _key(_messages(), "relay_messages"),
    "messages after a cursor": _key(_messages(before=ID), "relay_messages"),
    "messages by subject": _index(_messages(subject="a", before=ID), "ix_relay_messages_subject_id"),
    "messages by sender": _index(_messages(sender="a", before=ID), "ix_relay_messages_sender_id"),
    "messages by subject and sender": _index(
        _messages(subject="a", sender="b"), "ix_relay_messages_(subject|sender)_id"
    ),
    "messages of a chain": _index(
        lambda c: c.execute(sa.select(relay_messages.c.id).where(relay_messages.c.chain_id == ID)).all(),
        "ix_relay_messages_chain_id",
    ),
    "one message": _key(lambda c: messages.get(c, ID), "relay_messages"),
    "deliveries of a mailbox": _index(_inbox(None, None), "ix_relay_index_endpoint_id_id"),
    "deliveries after a cursor": _index(_inbox(None, ID), "ix_relay_index_endpoint_id_id"),
    "deliveries that wait": _index(
        _inbox(DeliveryStatus.PENDING, ID),
        "ix_relay_index_claimable",
        sorts=True,  # No more than a mailbox may hold.
    ),
    "deliveries by status": _index(_inbox(DeliveryStatus.DELIVERED, ID), "ix_relay_index_endpoint_id_id"),
    "dead letters": _key(
        lambda c: deadletters.newest_first(c, LetterFilter(before=ID), limit=50), "relay_dead_letters"
    ),
    "one mailbox": Case(lambda c: endpoints.find(c, "a"), "sqlite_autoindex_relay_endpoints_2"),
    "mailboxes that close by themselves": _index(
        lambda c: expiry._over(c, NOW), "ix_relay_endpoints_expires_at"
    ),
    "one agent": _key(lambda c: agent_store.agent_by_id(c, ID), "agents"),
    "an agent by its path": Case(
        lambda c: agent_store.agent_by_path(c, Path("/x"), Hosts("here", shared=True)),
        "sqlite_autoindex_agents_2",
        sorts=True,  # The own machine's before one of none that is known: two rows at most.
    ),
    "events after a position": Case(lambda c: _after(c, 5, 500), "INTEGER PRIMARY KEY"),
    "a token by its hash": Case(lambda c: caller_of(c, "x", NOW), "sqlite_autoindex_tokens_2"),
}


@contextmanager
def _noted(connection: sa.Connection) -> Iterator[list[tuple[str, Any]]]:
    """Every statement that is run, also one that goes to the driver directly."""
    statements: list[tuple[str, Any]] = []
    raw: Any = connection.connection.dbapi_connection
    if connection.dialect.name == "sqlite":
        raw.set_trace_callback(lambda text: statements.append((text, ())))
        try:
            yield statements
        finally:
            raw.set_trace_callback(None)
        return

    def note(_c: object, _k: object, text: str, values: Any, _x: object, many: bool) -> None:
        statements.append((text, values[0] if many else values))

    execute = raw.execute

    def directly(text: str, values: Any = None) -> object:
        statements.append((text, values))
        return execute(text, values)

    sa.event.listen(connection, "before_cursor_execute", note)
    raw.execute = directly
    try:
        yield statements
    finally:
        del raw.execute
        sa.event.remove(connection, "before_cursor_execute", note)


def _plans(ask: Query) -> Callable[[sa.Connection], list[list[str]]]:
    """The lines of each statement's plan, in the order in which they were run."""

    def query(connection: sa.Connection) -> list[list[str]]:
        with _noted(connection) as statements, suppress(DorkError):  # To find nothing is an answer here.
            ask(connection)
        sqlite = connection.dialect.name == "sqlite"
        if not sqlite:
            for other in ("seqscan", "bitmapscan", "sort"):
                connection.exec_driver_sql(f"SET LOCAL enable_{other} = off")
        how, column = ("EXPLAIN QUERY PLAN", 3) if sqlite else ("EXPLAIN", 0)
        return [
            [str(row[column]) for row in connection.exec_driver_sql(f"{how} {text}", values)]
            for text, values in statements
            if text.startswith("SELECT")
        ]

    return query


def _reads_all(line: str) -> bool:
    """Whether a line of a plan reads a table from end to end, in no order."""
    if "Seq Scan" in line:
        return True
    return bool(re.match(r"SCAN (?!CONSTANT|\(subquery)", line)) and "INDEX" not in line


@pytest.mark.parametrize("name", CASES)
async def test_a_list_is_read_by_its_index(db: Database, name: str) -> None:
    """And in its order: nothing is sorted, no table is read from end to end.

    On empty tables all indexes are worth the same to PostgreSQL, which takes one or another: there it only
    counts that some index leads to the rows.
    """
    case = CASES[name]
    listing, *others = await db.read(_plans(case.ask))
    if db.dialect == "sqlite":
        assert any(re.search(rf"\b{case.index}\b", line) for line in listing), listing
        assert not [line for line in listing if "TEMP B-TREE" in line] or case.sorts, listing
    else:
        assert any(re.search(r"\b(ix|pk|uq)_[a-z_]+\b", line) for line in listing), listing
    # What is looked up for the rows of one page may be sorted: there are never many.
    assert not [line for plan in (listing, *others) for line in plan if _reads_all(line)]


async def test_a_plan_without_an_index_is_noticed(db: Database) -> None:
    """A list by a column that has none, so that the tests above are worth something."""
    unindexed = sa.select(agents.c.id).where(agents.c.color == "red").order_by(agents.c.icon)
    ((*plan,),) = await db.read(_plans(lambda connection: connection.execute(unindexed).all()))
    assert any(_reads_all(line) for line in plan), plan
    assert any("TEMP B-TREE" in line or "Sort" in line for line in plan), plan
