"""Folders that claim the identity of an agent that is registered elsewhere: copied checkouts.

A copy is shown and never adopted. What is stored is only a memory of where to look: whether a folder still
claims the identity is read from it again, by a server of the machine on which it lies.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import sqlalchemy as sa

# The construct of the PostgreSQL dialect compiles for SQLite as well; there is no neutral one.
from sqlalchemy.dialects.postgresql import insert

from dorkos.db.database import Database, Transaction
from dorkos.db.schema.mesh import agent_copies
from dorkos.mesh import store
from dorkos.mesh.hosts import Hosts
from dorkos.mesh.manifest import InvalidManifest, Manifest
from dorkos.mesh.manifest_file import read_manifest
from dorkos.mesh.model import Source
from dorkos.mesh.patience import NoAnswerError, Patience

# Of one agent. A repository that is checked out a thousand times need not be told a thousand times.
_MOST_EACH = 50

_c = agent_copies.c


@dataclass(frozen=True, slots=True)
class Copy:
    """A folder that was seen to claim to be the agent. Its path means a place on `host`."""

    agent_id: str
    host: str
    path: Path


class Copies:
    """Remembers copies that were seen, over restarts and for all servers of a database."""

    def __init__(self, database: Database, hosts: Hosts, *, patience_s: float | None = None) -> None:
        """`patience_s` is how long one look at a copy may take."""
        self._database = database
        self._hosts = hosts
        self._patience = Patience[bool | None](patience_s)

    async def note(self, agent_id: str, path: Path) -> None:
        """Remember a folder on this machine that claims to be the agent. Harmless to repeat."""
        copy = Copy(agent_id, self._hosts.own, path)
        if not await self._database.read(lambda connection: _is_known(connection, copy)):
            await self._database.write(lambda tx: _note(tx, copy))

    async def of(self, agent_id: str, home: Path | None) -> tuple[Copy, ...]:
        """Folders that claim to be this agent, as far as can be told from here; `home`, on this machine, is
        the agent's own. One that does not claim it any more is forgotten."""
        known = await self._database.read(lambda connection: _known(connection, agent_id))
        shown, past = [], []
        # All at once: of those on a disk that is away none is waited for after another.
        looks = await asyncio.gather(*(self._still_claims(copy) for copy in known))
        for copy, claims in zip(known, looks, strict=True):
            if claims is False or (self._hosts.owns(copy.host) and copy.path == home):
                past.append(copy)
            elif claims:
                shown.append(copy)
        if past:
            await self._database.write(lambda tx: _forget(tx, past))
        return tuple(shown)

    async def _still_claims(self, copy: Copy) -> bool | None:
        """None if that cannot be told just now."""
        if not self._hosts.owns(copy.host):
            return True  # Of a folder on another machine nothing can be told here but that it was seen.
        try:
            return await self._patience.wait_for(f"{copy.agent_id} {copy.path}", partial(_claims, copy))
        except NoAnswerError:
            return None


def _is_known(source: Source, copy: Copy) -> bool:
    """Also if nobody is registered by this id any more, or enough copies are known."""
    known = _known(source, copy.agent_id)
    return copy in known or len(known) >= _MOST_EACH or store.agent_by_id(source, copy.agent_id) is None


def _known(source: Source, agent_id: str) -> list[Copy]:
    statement = sa.select(_c.host, _c.path).where(_c.agent_id == agent_id).order_by(_c.host, _c.path)
    return [Copy(agent_id, row.host, Path(row.path)) for row in source.execute(statement)]


def _note(tx: Transaction, copy: Copy) -> None:
    # Held: the row of a copy refers to the agent, which may just be removed.
    agent = store.hold_agent(tx, copy.agent_id)
    if agent is None:
        return
    statement = insert(agent_copies).values(
        agent_id=copy.agent_id, host=copy.host, path=str(copy.path), seen_at=tx.now()
    )
    if tx.execute(statement.on_conflict_do_nothing().returning(_c.path)).one_or_none() is not None:
        data = {"name": agent.name, "projectPath": str(agent.project_path), "copy": str(copy.path)}
        tx.emit("mesh.agent.copied", copy.agent_id, {**data, "host": copy.host})


def _forget(tx: Transaction, copies: list[Copy]) -> None:
    for copy in copies:
        tx.execute(
            sa.delete(agent_copies).where(
                _c.agent_id == copy.agent_id, _c.host == copy.host, _c.path == str(copy.path)
            )
        )


def _claims(copy: Copy) -> bool | None:
    """Whether the folder claims the identity; None if that cannot be read just now."""
    found = read_manifest(copy.path)
    if isinstance(found, InvalidManifest):
        return None
    return isinstance(found, Manifest) and found.id == copy.agent_id
