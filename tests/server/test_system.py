"""What the server says of itself and of its database, on both engines."""

from __future__ import annotations

from datetime import timedelta

import sqlalchemy as sa

from dorkos.clock import ManualClock
from dorkos.db.database import Database
from dorkos.db.schema.mesh import agents
from dorkos.db.schema.pulse import pulse_runs, pulse_schedules
from dorkos.db.schema.relay import relay_endpoints
from dorkos.db.schema.system import system_state
from dorkos.events import PRUNED_KEY, EventFeed
from dorkos.ids import new_id
from dorkos.node import Node
from dorkos.server.system import SystemService
from dorkos.vocabulary import RunState
from tests.server.kit import Served


def service(db: Database, clock: ManualClock) -> SystemService:
    """The service over a database."""
    return SystemService(
        database=db,
        clock=clock,
        node=Node("01HZZZZZZZZZZZZZZZZZZZZZZZ", "host", "boot", 1),
        feed=EventFeed(db),
        started_at=clock.now(),
        version="1.2.3",
        describe=dict,
    )


async def test_an_empty_system_counts_nothing(db: Database, clock: ManualClock) -> None:
    """Sums of no rows are 0, and nothing is next."""
    counts = await service(db, clock).counts()

    assert {0, None} == {getattr(counts, name) for name in type(counts).__slots__}


async def test_what_there_is_is_counted(db: Database, clock: ManualClock) -> None:
    """What was deleted or closed is not, although its rows are still there."""
    now = clock.now()
    schedule = {"name": "s", "prompt": "p", "decided_until": now, "created_at": now, "updated_at": now}
    run = {"prompt": "p", "created_at": now}
    endpoint = {"hash": "h", "created_at": now}
    agent = {"name": "a", "runtime": "command", "registered_at": now, "updated_at": now}

    def fill(tx: object) -> None:
        execute = tx.execute  # type: ignore[attr-defined]  # A transaction.
        execute(
            pulse_schedules.insert(),
            [
                {**schedule, "id": new_id(), "next_due_at": now + timedelta(hours=1), "deleted_at": None},
                {**schedule, "id": new_id(), "next_due_at": now + timedelta(hours=2), "deleted_at": None},
                {**schedule, "id": new_id(), "next_due_at": None, "deleted_at": now},
            ],
        )
        for state in (RunState.QUEUED, RunState.COMPLETED):
            execute(pulse_runs.insert(), {**run, "id": new_id(), "chain_id": new_id(), "status": state})
        for subject, waiting, closed in (("relay.a", 2, None), ("relay.b", 3, None), ("relay.c", 0, now)):
            execute(
                relay_endpoints.insert(),
                {
                    **endpoint,
                    "id": new_id(),
                    "subject": subject,
                    "pending_count": waiting,
                    "closed_at": closed,
                },
            )
        execute(agents.insert(), {**agent, "id": new_id(), "project_path": "/srv/a"})

    await db.write(fill)
    counts = await service(db, clock).counts()

    assert (counts.schedules, counts.runs_queued, counts.runs_running) == (2, 1, 0)
    assert now + timedelta(hours=1) == counts.next_due_at
    assert (counts.endpoints, counts.messages_pending, counts.agents) == (2, 5, 1)


async def test_the_database_tells_where_it_is_and_what_was_applied(db: Database, clock: ManualClock) -> None:
    """With the size and the version of its engine, and without a password."""
    facts = await service(db, clock).database()

    assert db.dialect == facts.dialect
    assert facts.size_bytes > 10_000
    assert facts.engine_version[0].isdigit()
    assert facts.migrations[0].id == "0000_initial"
    assert sorted(row.id for row in facts.migrations) == [row.id for row in facts.migrations]
    if db.dialect == "sqlite":
        assert facts.location.endswith("dork.db")
    else:
        assert not any(sign in facts.location for sign in "@=?")


async def test_the_span_of_events_is_that_of_the_database(db: Database, clock: ManualClock) -> None:
    """Whether or not this server has seen it, from behind what was taken away."""
    system = service(db, clock)
    assert await system.event_span() == (0, 0)
    await db.write(lambda tx: tx.emit("system.node.started", "N"))
    stored = system_state.insert().values(key=PRUNED_KEY, value="1")
    await db.write(lambda tx: tx.execute(stored).rowcount)

    newest = await db.read(lambda c: c.execute(sa.text("SELECT max(position) FROM events")).scalar())
    assert await system.event_span() == (1, newest)


async def test_uptime_is_not_moved_by_the_wall_clock(db: Database, clock: ManualClock) -> None:
    """A clock that is set back must not make the server younger than it is."""
    system = service(db, clock)
    clock.advance(timedelta(seconds=90))
    clock.advance(timedelta(days=-1))

    assert system.uptime_s() == 90.0


async def test_status_shows_the_system_at_a_glance(served: Served) -> None:
    """With what the composition root adds, beside and inside the parts."""
    await served.emit("a")
    answer = (await served.client.get("/api/status")).json()

    assert tuple(answer[key] for key in ("version", "startedAt", "uptimeSeconds")) == (
        "1.2.3",
        "2026-03-01T09:00:00.000Z",
        0.0,
    )
    assert answer["node"] == {"id": "01HZZZZZZZZZZZZZZZZZZZZZZZ", "host": "host", "pid": 1}
    assert answer["pulse"] == {
        "schedules": 0,
        "runsQueued": 0,
        "runsRunning": 0,
        "nextDueAt": None,
        "enabled": True,
    }
    assert answer["relay"] == {"endpoints": 0, "messagesPending": 0, "deadLetters": 0}
    assert answer["mesh"] == {"agents": 0, "denials": 0}
    assert answer["home"] == "/srv/dork"
    assert answer["eventCursor"].startswith(f"{served.feed.head.epoch}:")


async def test_db_status_shows_the_database(served: Served) -> None:
    """The applied migrations with their times."""
    answer = (await served.client.get("/api/db/status")).json()

    assert {"dialect", "location", "engineVersion", "sizeBytes", "migrations"} == set(answer)
    assert {"id", "version", "appliedAt", "durationMs"} == set(answer["migrations"][0])
