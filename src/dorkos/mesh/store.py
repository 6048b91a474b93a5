"""Statements on the `agents` table, and rows as values. Whoever calls owns the transaction."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

# The construct of the PostgreSQL dialect compiles for SQLite as well; there is no neutral one.
from sqlalchemy.dialects.postgresql import insert

from dorkos.clock import from_iso, iso
from dorkos.db.database import Transaction
from dorkos.db.schema.mesh import agents
from dorkos.db.types import to_json
from dorkos.errors import DorkError, ErrorCode
from dorkos.mesh.model import Agent
from dorkos.vocabulary import AgentRuntime

Source = sa.Connection | Transaction

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
)


def agent_by_id(source: Source, agent_id: str) -> Agent | None:
    """The agent with this id."""
    row = source.execute(sa.select(agents).where(agents.c.id == agent_id)).one_or_none()
    return None if row is None else _agent(row)


def agent_by_path(source: Source, path: Path) -> Agent | None:
    """The agent at this real path."""
    row = source.execute(sa.select(agents).where(agents.c.project_path == str(path))).one_or_none()
    return None if row is None else _agent(row)


def registered_paths(source: Source) -> dict[str, str]:
    """The ids of all agents by their paths."""
    rows = source.execute(sa.select(agents.c.project_path, agents.c.id))
    return {row.project_path: row.id for row in rows}


def insert_agent(tx: Transaction, agent: Agent) -> bool:
    """Store a new agent; False if its id or its path is taken."""
    statement = insert(agents).values(id=agent.id, **_columns(agent)).on_conflict_do_nothing()
    return tx.execute(statement.returning(agents.c.id)).one_or_none() is not None


def update_agent(tx: Transaction, agent: Agent) -> bool:
    """Store what may change of an agent; False if it is not registered any more.

    Id, path, namespace and first approval never change, and when it was last seen is for others to say.
    """
    columns = _columns(agent)
    changeable = {name: columns[name] for name in _CHANGEABLE}
    statement = sa.update(agents).where(agents.c.id == agent.id).values(changeable)
    return tx.execute(statement.returning(agents.c.id)).one_or_none() is not None


def delete_agent(tx: Transaction, agent_id: str) -> bool:
    """Remove the row; False if it was gone."""
    statement = sa.delete(agents).where(agents.c.id == agent_id).returning(agents.c.id)
    return tx.execute(statement).one_or_none() is not None


def page_of_agents(
    source: Source,
    *,
    runtime: AgentRuntime | None,
    capability: str | None,
    namespace: str | None,
    after: str | None,
    limit: int,
) -> tuple[tuple[Agent, ...], str | None]:
    """Agents, newest first and by id among equals, with the cursor of the next page.

    A page may hold fewer than `limit`, and still have a next one. Raises `invalid_cursor`.
    """
    statement = sa.select(agents).order_by(agents.c.registered_at.desc(), agents.c.id.desc()).limit(limit + 1)
    if runtime is not None:
        statement = statement.where(agents.c.runtime == runtime)
    if namespace is not None:
        statement = statement.where(agents.c.namespace == namespace)
    if capability is not None:
        # Narrows only: text that looks like the capability may also stand inside another.
        stored = sa.cast(agents.c.capabilities_json, sa.Text)
        statement = statement.where(stored.contains(to_json(capability), autoescape=True))
    if after is not None:
        at, agent_id = _parse_cursor(after)
        statement = statement.where(
            (agents.c.registered_at < at) | ((agents.c.registered_at == at) & (agents.c.id < agent_id))
        )
    found = [_agent(row) for row in source.execute(statement)]
    page = found[:limit]
    cursor = _cursor(page[-1]) if len(found) > limit else None
    return tuple(agent for agent in page if capability is None or capability in agent.capabilities), cursor


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
    )


def _words(value: object) -> tuple[str, ...]:
    # A row from before the rules may hold any JSON; one such row must not break every list.
    return tuple(str(word) for word in value) if isinstance(value, list) else ()
