"""The operations about the system as a whole: what it is doing, and on which database."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from dorkos.clock import iso
from dorkos.db.backup_facts import BackupFacts
from dorkos.identity.model import Caller
from dorkos.operation import McpTool, Nothing, NoTool, Operation, Wire, left_out
from dorkos.server.fleet import FleetStatus, fleet_status
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


class BackupStatus(_PartStatus):
    """Backups of the database. A PostgreSQL is backed up by its own tools, of which nothing is known here.

    `problem` says why the last backup, or its rehearsal, failed; null again after the next that does not.
    """

    made_by: Literal["dorkos", "pg_dump"]
    newest: str | None
    newest_at: str | None
    rehearsed_at: str | None
    problem: str | None


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
    backups: BackupStatus
    fleet: FleetStatus
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


class Pong(Wire):
    """The answer of whoever is there."""

    status: Literal["pong"] = "pong"
    timestamp: str
    server: Literal["dorkos"] = "dorkos"


class ServerInfoArguments(Wire):
    """How much to tell."""

    include_uptime: bool = Field(default=False, alias="include_uptime")


class ServerInfo(Wire):
    """The product, and what it has to do. `port` is null where no server listens."""

    product: Literal["DorkOS"] = "DorkOS"
    port: int | None
    version: str
    uptime_seconds: int | None = left_out(alias="uptime_seconds")
    pulse: PulseStatus
    relay: RelayStatus
    mesh: MeshStatus


def _server_info(given: ServerInfoArguments, status: Status) -> ServerInfo:
    url = (status.model_extra or {}).get("url")
    return ServerInfo(
        port=urlsplit(url).port if isinstance(url, str) else None,
        version=status.version,
        uptime_seconds=int(status.uptime_seconds) if given.include_uptime else None,
        pulse=status.pulse,
        relay=status.relay,
        mesh=status.mesh,
    )


async def _ping(system: SystemService, _caller: Caller, _asked: Nothing) -> Pong:
    return Pong(timestamp=iso(system.clock.now()))


async def _status(system: SystemService, _caller: Caller, _asked: Nothing) -> Status:
    facts, counts = await system.database(), await system.counts()
    extra = dict(system.describe())
    parts = {name: _mapping(extra.pop(name, {})) for name in ("backups", "pulse", "relay", "mesh")}
    return Status(
        version=system.version,
        started_at=iso(system.started_at),
        uptime_seconds=round(system.uptime_s(), 3),
        node=NodeStatus(id=system.node.id, host=system.node.host, pid=system.node.pid),
        database=DatabaseSummary(dialect=facts.dialect, location=facts.location, size_bytes=facts.size_bytes),
        event_cursor=str(system.feed.head),
        fleet=fleet_status(await system.fleet()),
        backups=_backups(system.dialect, await system.backups(), parts["backups"]),
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


def _backups(dialect: str, facts: BackupFacts, settings: dict[str, Any]) -> BackupStatus:
    made, rehearsed = facts.made, facts.rehearsed
    problem = facts.failed.problem if facts.failed else None
    if problem is None and rehearsed is not None and not rehearsed.ok:
        problem = f"{rehearsed.file} cannot be restored: {rehearsed.problem}"
    return BackupStatus(
        made_by="dorkos" if dialect == "sqlite" else "pg_dump",
        newest=made.file if made else None,
        newest_at=_iso(made.at if made else None),
        rehearsed_at=_iso(rehearsed.at if rehearsed else None),
        problem=problem,
        **settings,
    )


def _iso(instant: datetime | None) -> str | None:
    return None if instant is None else iso(instant)


def _mapping(value: object) -> dict[str, Any]:
    assert isinstance(value, dict)
    return value


SYSTEM: tuple[Operation[Any, Any, Any], ...] = (
    Operation(
        name="ping",
        summary="Whether somebody is there who knows the token",
        part="system",
        method="GET",
        path="/api/ping",
        scope=None,
        input=Nothing,
        answer=Pong,
        handler=_ping,
        tags=("system",),
        mcp=McpTool("ping", "Ask whether DorkOS is there.", read_only=True),
    ),
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
        mcp=McpTool(
            "get_server_info",
            "Show which DorkOS this is and what it has to do.",
            read_only=True,
            input=ServerInfoArguments,
            ask=lambda _given: Nothing(),
            answer=ServerInfo,
            present=_server_info,
        ),
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
        mcp=NoTool("It is for whoever runs the server: `dorkos db status` shows it."),
        tags=("system",),
    ),
)
