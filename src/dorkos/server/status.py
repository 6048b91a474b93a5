"""The operations about the system as a whole: what it is doing, and on which database."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import ConfigDict
from pydantic.alias_generators import to_camel

from dorkos.clock import iso
from dorkos.identity.model import Caller
from dorkos.operation import Nothing, Operation, Wire
from dorkos.server.system import SystemService
from dorkos.vocabulary import Scope


class _PartStatus(Wire):
    """A part's own facts; the composition root may add some."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="allow")


class PulseStatus(_PartStatus):
    """Pulse in numbers. `nextDueAt` is the next instant at which any schedule is due."""

    schedules: int
    runs_queued: int
    runs_running: int
    next_due_at: str | None


class RelayStatus(_PartStatus):
    """Relay in numbers."""

    endpoints: int
    messages_pending: int
    dead_letters: int


class MeshStatus(_PartStatus):
    """Mesh in numbers."""

    agents: int
    denials: int


class NodeStatus(Wire):
    """The server process that answers."""

    id: str
    host: str
    pid: int


class DatabaseSummary(Wire):
    """Which database it works on; `/api/db/status` says more."""

    dialect: str
    location: str
    size_bytes: int


class Status(Wire):
    """The system at a glance. `eventCursor` is where a stream begun now would begin."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="allow")

    version: str
    started_at: str
    uptime_seconds: float
    node: NodeStatus
    database: DatabaseSummary
    event_cursor: str
    pulse: PulseStatus
    relay: RelayStatus
    mesh: MeshStatus


class AppliedMigration(Wire):
    """A migration in the ledger. `version` is the DorkOS that applied it."""

    id: str
    version: str
    applied_at: str
    duration_ms: int


class DatabaseStatus(Wire):
    """The database in use. `engineVersion` is that of SQLite or of the PostgreSQL server."""

    dialect: str
    location: str
    engine_version: str
    size_bytes: int
    migrations: list[AppliedMigration]


async def _status(system: SystemService, _caller: Caller, _asked: Nothing) -> Status:
    facts, counts = await system.database(), await system.counts()
    extra = dict(system.describe())
    parts = {name: _mapping(extra.pop(name, {})) for name in ("pulse", "relay", "mesh")}
    return Status(
        version=system.version,
        started_at=iso(system.started_at),
        uptime_seconds=round(system.uptime_s(), 3),
        node=NodeStatus(id=system.node.id, host=system.node.host, pid=system.node.pid),
        database=DatabaseSummary(dialect=facts.dialect, location=facts.location, size_bytes=facts.size_bytes),
        event_cursor=str(system.feed.head),
        pulse=PulseStatus(
            schedules=counts.schedules,
            runs_queued=counts.runs_queued,
            runs_running=counts.runs_running,
            next_due_at=_iso(counts.next_due_at),
            **parts["pulse"],
        ),
        relay=RelayStatus(
            endpoints=counts.endpoints,
            messages_pending=counts.messages_pending,
            dead_letters=counts.dead_letters,
            **parts["relay"],
        ),
        mesh=MeshStatus(agents=counts.agents, denials=counts.denials, **parts["mesh"]),
        **extra,
    )


async def _database_status(system: SystemService, _caller: Caller, _asked: Nothing) -> DatabaseStatus:
    facts = await system.database()
    return DatabaseStatus(
        dialect=facts.dialect,
        location=facts.location,
        engine_version=facts.engine_version,
        size_bytes=facts.size_bytes,
        migrations=[
            AppliedMigration(
                id=row.id, version=row.version, applied_at=iso(row.applied_at), duration_ms=row.duration_ms
            )
            for row in facts.migrations
        ],
    )


def _iso(instant: datetime | None) -> str | None:
    return None if instant is None else iso(instant)


def _mapping(value: object) -> dict[str, Any]:
    assert isinstance(value, dict)
    return value


SYSTEM: tuple[Operation[Any, Any, Any], ...] = (
    Operation(
        name="status",
        summary="The system at a glance",
        part="system",
        method="GET",
        path="/api/status",
        scope=Scope.OBSERVE,
        input=Nothing,
        answer=Status,
        handler=_status,
        tags=("system",),
    ),
    Operation(
        name="db.status",
        summary="The database in use: where it is, how large, and which migrations were applied",
        part="system",
        method="GET",
        path="/api/db/status",
        scope=Scope.OBSERVE,
        input=Nothing,
        answer=DatabaseStatus,
        handler=_database_status,
        tags=("system",),
    ),
)
