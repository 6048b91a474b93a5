"""What the server says of itself and of its database."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from dorkos.clock import Clock
from dorkos.db.backup_facts import BackupFacts, read_backup_facts
from dorkos.db.database import Database
from dorkos.db.growth import database_size
from dorkos.db.schema.mesh import agent_denials, agents
from dorkos.db.schema.pulse import pulse_runs, pulse_schedules
from dorkos.db.schema.relay import relay_dead_letters, relay_endpoints
from dorkos.db.schema.system import events, schema_ledger
from dorkos.events import EventFeed, pruned_to
from dorkos.fleet import Fleet, read
from dorkos.node import Node
from dorkos.vocabulary import RunState, ScheduleStatus


@dataclass(frozen=True, slots=True)
class Counts:
    """How much there is of what, at one moment."""

    schedules: int
    runs_queued: int
    runs_running: int
    next_due_at: datetime | None
    endpoints: int
    messages_pending: int
    dead_letters: int
    agents: int
    denials: int


@dataclass(frozen=True, slots=True)
class AppliedRow:
    """A migration that was applied, by which version and when."""

    id: str
    version: str
    applied_at: datetime
    duration_ms: int


@dataclass(frozen=True, slots=True)
class DatabaseFacts:
    """Where the state is kept. `location` is a path, or host, port and name; never a password."""

    dialect: str
    location: str
    engine_version: str
    size_bytes: int
    migrations: tuple[AppliedRow, ...]


@dataclass(frozen=True, slots=True)
class NewEvents:
    """What was committed behind a position, through `position`."""

    position: int
    by_kind: dict[str, int]
    apart: tuple[tuple[str, Any], ...]


class SystemService:
    """Answers about the running system. `describe` gives what only the composition root knows.

    Its entries `backups`, `pulse`, `relay` and `mesh` are mappings that are shown with those parts; other
    entries are shown beside them.
    """

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        node: Node,
        feed: EventFeed,
        started_at: datetime,
        version: str,
        describe: Callable[[], Mapping[str, object]],
    ) -> None:
        """Nothing is read yet."""
        self.node = node
        self.feed = feed
        self.started_at = started_at
        self.version = version
        self.describe = describe
        self._database = database
        self.clock = clock
        self._started = clock.monotonic()

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        return self._database.dialect

    def uptime_s(self) -> float:
        """Seconds since the start, by the clock that never jumps."""
        return self.clock.monotonic() - self._started

    async def counts(self) -> Counts:
        """All counts from one snapshot."""
        return await self._database.read(_counts)

    async def backups(self) -> BackupFacts:
        """What is remembered of backups."""
        return await self._database.read(read_backup_facts)

    async def database(self) -> DatabaseFacts:
        """What the database says of itself."""
        return await self._database.read(_facts)

    async def fleet(self) -> Fleet:
        """Whether work may start at all."""
        return await self._database.read(read)

    async def events_after(self, position: int, apart: Collection[str]) -> NewEvents:
        """The events behind a position, counted by kind; of the kinds `apart`, the data of each."""
        return await self._database.read(lambda connection: _events_after(connection, position, apart))

    async def event_span(self) -> tuple[int, int]:
        """The positions between which the database holds every event, whether or not this server has seen it.

        Begin after the first of them at the earliest: events up to there may have been taken away.
        """
        return await self._database.read(_span)


def _events_after(connection: sa.Connection, position: int, apart: Collection[str]) -> NewEvents:
    newest = connection.execute(sa.select(sa.func.max(events.c.position))).scalar() or 0
    # Both look at the same events: what is committed meanwhile is counted the next time.
    new = sa.and_(events.c.position > position, events.c.position <= newest)
    counted = sa.select(events.c.kind, sa.func.count().label("number")).where(new).group_by(events.c.kind)
    told = sa.select(events.c.kind, events.c.data).where(new, events.c.kind.in_(apart))
    return NewEvents(
        max(newest, position),
        {row.kind: row.number for row in connection.execute(counted)},
        tuple((kind, data) for kind, data in connection.execute(told)),
    )


def _span(connection: sa.Connection) -> tuple[int, int]:
    newest = connection.execute(sa.select(sa.func.max(events.c.position))).scalar()
    return pruned_to(connection), newest or 0


def _counts(connection: sa.Connection) -> Counts:
    alive = pulse_schedules.c.deleted_at.is_(None)
    is_open = relay_endpoints.c.closed_at.is_(None)
    counts = connection.execute(
        sa.select(
            _count(pulse_schedules, alive).label("schedules"),
            _count(pulse_runs, pulse_runs.c.status == RunState.QUEUED).label("runs_queued"),
            _count(pulse_runs, pulse_runs.c.status == RunState.RUNNING).label("runs_running"),
            sa.select(sa.func.min(pulse_schedules.c.next_due_at))
            # One that is paused or waits for approval has a next instant too, but no run there.
            .where(pulse_schedules.c.status == ScheduleStatus.ACTIVE)
            .scalar_subquery()
            .label("next_due_at"),
            _count(relay_endpoints, is_open).label("endpoints"),
            # A sum of bigint is numeric on PostgreSQL.
            sa.select(
                sa.cast(sa.func.coalesce(sa.func.sum(relay_endpoints.c.pending_count), 0), sa.BigInteger)
            )
            .scalar_subquery()
            .label("messages_pending"),
            _count(relay_dead_letters, relay_dead_letters.c.redriven_at.is_(None)).label("dead_letters"),
            _count(agents).label("agents"),
            _count(agent_denials).label("denials"),
        )
    )
    return Counts(**counts.mappings().one())


def _count(table: sa.Table, *where: sa.ColumnElement[bool]) -> sa.ScalarSelect[int]:
    return sa.select(sa.func.count()).select_from(table).where(*where).scalar_subquery()


def _facts(connection: sa.Connection) -> DatabaseFacts:
    rows = connection.execute(sa.select(schema_ledger).order_by(schema_ledger.c.id))
    migrations = tuple(AppliedRow(row.id, row.version, row.applied_at, row.duration_ms) for row in rows)
    facts = _sqlite if connection.dialect.name == "sqlite" else _postgres
    return DatabaseFacts(connection.dialect.name, *facts(connection), migrations)


def _sqlite(connection: sa.Connection) -> tuple[str, str, int]:
    def ask(question: str) -> Any:
        return connection.exec_driver_sql(question).scalar_one()

    path = ask("SELECT file FROM pragma_database_list WHERE name = 'main'")
    return path, ask("SELECT sqlite_version()"), database_size(connection)


def _postgres(connection: sa.Connection) -> tuple[str, str, int]:
    url = connection.engine.url
    # Not the URL: a password may stand in it in more than one place.
    location = f"{url.host or 'local socket'}:{url.port or 5432}/{url.database}"
    version = connection.execute(sa.select(sa.func.current_setting("server_version"))).scalar_one()
    return location, version, database_size(connection)
