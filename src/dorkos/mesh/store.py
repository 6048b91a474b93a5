"""Statements on the `agents` table, and rows as values. Whoever calls owns the transaction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

# The construct of the PostgreSQL dialect compiles for SQLite as well; there is no neutral one.
from sqlalchemy.dialects.postgresql import insert

from dorkos.clock import from_iso, iso
from dorkos.db.database import Transaction
from dorkos.db.schema.mesh import agents
from dorkos.db.types import Instant, to_json
from dorkos.errors import DorkError, ErrorCode
from dorkos.mesh.claims import behavior_document, behavior_of, budget_document, budget_of
from dorkos.mesh.hosts import Hosts
from dorkos.mesh.model import Agent, Looks, Source
from dorkos.vocabulary import AgentRuntime, AgentStatus

# Rows are read in pieces of this size while a filter is applied that the database cannot apply.
_PIECE = 200

_CHANGEABLE = (
    "name",
    "runtime",
    "capabilities_json",
    "entrypoint",
    "version",
    "description",
    "status",
    "updated_at",
    "manifest_hash",
    "scan_root",
    "behavior_json",
    "budget_json",
    "persona",
    "persona_enabled",
    "color",
    "icon",
    "unreachable_since",
)


class _WhenSeen(Instant):
    """The instant, or None where a row from elsewhere holds something that is none: one such row must not
    break every list."""

    cache_ok = True

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> datetime | None:
        """Read what can be read."""
        try:
            return super().process_result_value(value, dialect)
        except ValueError:
            return None


_COLUMNS = [
    sa.type_coerce(column, _WhenSeen()).label(column.name)
    if column.name in ("last_seen_at", "unreachable_since")
    else column
    for column in agents.c
]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Filters of the list, all of which must hold; None asks for nothing.

    `in_paths` says whether `text` is sought in the path too: who is not told it must not guess it either.
    """

    runtime: AgentRuntime | None = None
    status: AgentStatus | None = None
    capability: str | None = None
    namespaces: frozenset[str] | None = None
    text: str | None = None
    in_paths: bool = True

    def fits(self, agent: Agent) -> bool:
        """What the database cannot tell: whether capability and text are really there."""
        if self.capability is not None and self.capability not in agent.capabilities:
            return False
        if self.text is None:
            return True
        sought = self.text.casefold()
        path = (str(agent.project_path),) if self.in_paths else ()
        spoken = (agent.name, agent.description or "", *path, *agent.capabilities)
        return any(sought in words.casefold() for words in spoken)


EVERY = Wanted()


def agent_by_id(source: Source, agent_id: str) -> Agent | None:
    """The agent with this id."""
    row = source.execute(sa.select(*_COLUMNS).where(agents.c.id == agent_id)).one_or_none()
    return None if row is None else _agent(row)


def hold_agent(tx: Transaction, agent_id: str) -> Agent | None:
    """The same, as it stays until the change ends: whoever stores a whole row of what was read here must
    not take back what another change stored in between. (SQLite has one writer, and knows no such lock.)"""
    statement = sa.select(*_COLUMNS).where(agents.c.id == agent_id).with_for_update(key_share=True)
    row = tx.execute(statement).one_or_none()
    return None if row is None else _agent(row)


def agent_by_path(source: Source, path: Path, hosts: Hosts) -> Agent | None:
    """The agent at this real path of this machine."""
    statement = (
        sa.select(*_COLUMNS)
        .where(agents.c.project_path == str(path), hosts.lies_here())
        # A database of one machine may hold rows that came from several.
        .order_by(sa.case((agents.c.host == hosts.own, 0), else_=1), agents.c.id)
        .limit(1)
    )
    row = source.execute(statement).one_or_none()
    return None if row is None else _agent(row)


def registered_paths(source: Source, hosts: Hosts) -> dict[str, str]:
    """The ids of the agents on this machine, by their paths."""
    rows = source.execute(sa.select(agents.c.project_path, agents.c.id).where(hosts.lies_here()))
    return {row.project_path: row.id for row in rows}


def registered_ids(source: Source) -> set[str]:
    """The ids of all agents, on whichever machine."""
    return set(source.execute(sa.select(agents.c.id)).scalars())


def insert_agent(tx: Transaction, agent: Agent) -> bool:
    """Store a new agent; False if its id or its path is taken."""
    statement = insert(agents).values(id=agent.id, **_columns(agent)).on_conflict_do_nothing()
    return tx.execute(statement.returning(agents.c.id)).one_or_none() is not None


def update_agent(tx: Transaction, agent: Agent) -> bool:
    """Store what may change of an agent; False if it is not registered any more.

    Id, namespace and first approval never change, the path only by `move_agent`, and when it was last
    seen is for others to say.
    """
    columns = _columns(agent)
    changeable = {name: columns[name] for name in _CHANGEABLE}
    statement = sa.update(agents).where(agents.c.id == agent.id).values(changeable)
    return tx.execute(statement.returning(agents.c.id)).one_or_none() is not None


def delete_agent(tx: Transaction, agent_id: str) -> bool:
    """Remove the row; False if it was gone."""
    statement = sa.delete(agents).where(agents.c.id == agent_id).returning(agents.c.id)
    return tx.execute(statement).one_or_none() is not None


def move_agent(tx: Transaction, agent: Agent, *, before: Agent) -> bool:
    """Store an agent at another place; False if it is not where it was any more, or the place is taken."""
    moved = put_at(tx, before, agent.project_path, agent.host)
    return moved and update_agent(tx, agent)


def put_at(tx: Transaction, agent: Agent, path: Path, host: str) -> bool:
    """Store where an agent lies; False if it is not where it was any more, or another is there."""
    other = agents.alias()
    taken = sa.exists().where(other.c.project_path == str(path), other.c.host == host, other.c.id != agent.id)
    statement = (
        sa.update(agents)
        .where(
            agents.c.id == agent.id,
            agents.c.project_path == str(agent.project_path),
            agents.c.host == agent.host,
            ~taken,
        )
        .values(project_path=str(path), host=host)
    )
    return tx.execute(statement.returning(agents.c.id)).one_or_none() is not None


def set_manifest_hash(tx: Transaction, agent: Agent, written: str) -> bool:
    """Store which file says now what is registered; False if another became that file since it was read."""
    statement = (
        sa.update(agents)
        .where(agents.c.id == agent.id, agents.c.manifest_hash.is_not_distinct_from(agent.manifest_hash))
        .values(manifest_hash=written)
    )
    return tx.execute(statement.returning(agents.c.id)).one_or_none() is not None


def set_status(
    tx: Transaction, agent: Agent, status: AgentStatus, unreachable_since: datetime | None
) -> bool:
    """Store where an agent stands; False if somebody else changed that since `agent` was read."""
    statement = (
        sa.update(agents)
        .where(agents.c.id == agent.id, agents.c.status == agent.status)
        .values(status=status, unreachable_since=unreachable_since)
    )
    return tx.execute(statement.returning(agents.c.id)).one_or_none() is not None


def all_agents(source: Source, *, namespaces: frozenset[str] | None = None) -> list[Agent]:
    """Every agent, or every one of some namespaces, by id."""
    statement = sa.select(*_COLUMNS).order_by(agents.c.id)
    if namespaces is not None:
        statement = statement.where(agents.c.namespace.in_(sorted(namespaces)))
    return [_agent(row) for row in source.execute(statement)]


def agents_below(tx: Transaction, path: str) -> list[Agent]:
    """The agents at a real path and below it, on any machine, by id; as they stay until the change ends."""
    prefix = path.rstrip("/") + "/"
    # Not LIKE: it would ignore case on SQLite, and `_` and `%` may stand in a path.
    below = sa.func.substr(agents.c.project_path, 1, len(prefix)) == prefix
    statement = (
        sa.select(*_COLUMNS)
        .where(sa.or_(agents.c.project_path == path, below))
        .order_by(agents.c.id)
        .with_for_update(key_share=True)
    )
    return [_agent(row) for row in tx.execute(statement)]


def agents_in(source: Source, namespace: str) -> int:
    """How many agents a namespace has."""
    statement = sa.select(sa.func.count()).where(agents.c.namespace == namespace)
    return int(source.execute(statement).scalar_one())


def page_of_agents(
    source: Source,
    wanted: Wanted,
    *,
    also: Callable[[list[Agent]], list[Agent]] = list,
    after: str | None,
    limit: int,
) -> tuple[tuple[Agent, ...], str | None]:
    """Agents, newest first and by id among equals, with the cursor of the next page.

    `also` takes out of a piece of the list what the caller does not want. Raises `invalid_cursor`.
    """
    place = None if after is None else _parse_cursor(after)
    found: list[Agent] = []
    while len(found) <= limit:
        piece = _piece(source, wanted, place)
        found += also([agent for agent in piece if wanted.fits(agent)])
        if len(piece) < _PIECE:
            break
        place = (piece[-1].registered_at, piece[-1].id)
    page = found[:limit]
    return tuple(page), _cursor(page[-1]) if len(found) > limit else None


def _piece(source: Source, wanted: Wanted, place: tuple[datetime, str] | None) -> list[Agent]:
    statement = sa.select(*_COLUMNS).order_by(agents.c.registered_at.desc(), agents.c.id.desc()).limit(_PIECE)
    if wanted.runtime is not None:
        statement = statement.where(agents.c.runtime == wanted.runtime)
    if wanted.status is not None:
        statement = statement.where(agents.c.status == wanted.status)
    if wanted.namespaces is not None:
        statement = statement.where(agents.c.namespace.in_(sorted(wanted.namespaces)))
    if wanted.capability is not None:
        # Narrows only: text that looks like the capability may also stand inside another.
        stored = sa.cast(agents.c.capabilities_json, sa.Text)
        statement = statement.where(stored.contains(to_json(wanted.capability), autoescape=True))
    if place is not None:
        at, agent_id = place
        statement = statement.where(
            (agents.c.registered_at < at) | ((agents.c.registered_at == at) & (agents.c.id < agent_id))
        )
    return [_agent(row) for row in source.execute(statement)]


def _cursor(last: Agent) -> str:
    return f"{iso(last.registered_at)}~{last.id}"


def _parse_cursor(text: str) -> tuple[datetime, str]:
    at, _, agent_id = text.partition("~")
    try:
        instant = from_iso(at)
    except (ValueError, OverflowError):  # The latter at the ends of the calendar.
        instant = None
    if instant is None or not agent_id:
        raise DorkError(
            ErrorCode.INVALID_CURSOR,
            f"{text!r} is not a cursor of this list.",
            hint="Use the `nextCursor` of the page before, or leave it out to begin at the top.",
        )
    return instant, agent_id


def _columns(agent: Agent) -> dict[str, object]:
    """All but the id."""
    return {
        "name": agent.name,
        "runtime": agent.runtime,
        "project_path": str(agent.project_path),
        "namespace": agent.namespace,
        "capabilities_json": list(agent.capabilities),
        "entrypoint": None if agent.entrypoint is None else list(agent.entrypoint),
        "version": agent.version,
        "description": agent.description,
        "approver": agent.approver,
        "status": agent.status,
        "last_seen_at": agent.last_seen_at,
        "last_seen_event": agent.last_seen_event,
        "registered_at": agent.registered_at,
        "updated_at": agent.updated_at,
        "manifest_hash": agent.manifest_hash,
        "scan_root": agent.scan_root,
        "behavior_json": behavior_document(agent.behavior),
        "budget_json": budget_document(agent.budget),
        "persona": agent.looks.persona,
        "persona_enabled": agent.looks.persona_enabled,
        "color": agent.looks.color,
        "icon": agent.looks.icon,
        "unreachable_since": agent.unreachable_since,
        "host": agent.host,
    }


def _agent(row: sa.Row[Any]) -> Agent:
    return Agent(
        id=row.id,
        name=row.name,
        runtime=row.runtime,
        project_path=Path(row.project_path),
        namespace=row.namespace,
        capabilities=_words(row.capabilities_json),
        entrypoint=None if row.entrypoint is None else _words(row.entrypoint),
        version=row.version,
        description=row.description,
        approver=row.approver,
        status=row.status,
        last_seen_at=row.last_seen_at,
        last_seen_event=row.last_seen_event,
        registered_at=row.registered_at,
        updated_at=row.updated_at,
        manifest_hash=row.manifest_hash,
        scan_root=row.scan_root,
        behavior=behavior_of(row.behavior_json),
        budget=budget_of(row.budget_json),
        looks=Looks(row.persona, row.persona_enabled, row.color, row.icon),
        unreachable_since=row.unreachable_since,
        host=row.host,
    )


def _words(value: object) -> tuple[str, ...]:
    # A row from before the rules may hold any JSON; one such row must not break every list.
    return tuple(str(word) for word in value) if isinstance(value, list) else ()
