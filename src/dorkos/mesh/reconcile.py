"""Keeping the registry true to the disk: what was edited, what went away, what came back."""

from __future__ import annotations

import logging
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

import sqlalchemy as sa

from dorkos.clock import Clock
from dorkos.db.database import Database, Transaction
from dorkos.lifecycle import Loop
from dorkos.mesh import store
from dorkos.mesh.budgets import forget_old_calls
from dorkos.mesh.claims import changes
from dorkos.mesh.denials import denial_over, denied_paths
from dorkos.mesh.drift import ManifestState, drift, taken_over
from dorkos.mesh.folders import Folders, Look, Presence
from dorkos.mesh.hosts import Hosts
from dorkos.mesh.manifest import Manifest
from dorkos.mesh.manifest_writing import follow_row
from dorkos.mesh.model import Agent, Mailboxes, Problem, Source
from dorkos.mesh.rewriting import full_manifest
from dorkos.mesh.standing import put, standing
from dorkos.node import hosts_at_work
from dorkos.setting_groups.mesh import MeshSettings
from dorkos.vocabulary import AgentStatus

log = logging.getLogger("dorkos.mesh")

# A server that did not stop in good order and was not seen for so long is taken for gone.
_FORGOTTEN = timedelta(days=30)


class FolderLocks(Protocol):
    """Whoever reads a manifest and stores what it says holds the lock of its folder."""

    def lock(self, project: Path) -> AbstractAsyncContextManager[object]:
        """The lock of a folder in this process."""
        ...


@dataclass
class Reconciled:
    """What one pass did: ids of agents by what became of them, and what could not be looked at.

    `elsewhere` counts those that lie on other machines.
    """

    looked_at: int = 0
    elsewhere: int = 0
    unreachable: list[str] = field(default_factory=list)
    archived: list[str] = field(default_factory=list)
    returned: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


class Reconciler(Loop):
    """Looks at the folder of every agent, again and again. It never deletes, and never for absence.

    | what it sees                       | what it does                                                  |
    |------------------------------------|---------------------------------------------------------------|
    | an agent of another machine        | nothing: a server there looks                                 |
    | the folder is gone                 | `unreachable`; after `mesh.archiveDays` `archived`            |
    | the folder is there (again)        | `active`, with the mailbox as it was                          |
    | the folder cannot be read          | nothing but a problem in the report: that is not absence      |
    | a manifest edited by hand          | see `drift`; what waits for a person is told once             |
    | a manifest that is invalid or gone | nothing but a problem in the report                           |
    | one that could not be written yet  | writes it                                                     |

    One agent that cannot be dealt with holds up no other. Where it is not known on which machine an agent
    lies, the machine on which its folder is seen is taken down; while servers of other hosts share the
    database, that its folder is not here is no evidence.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        settings: MeshSettings,
        folders: Folders,
        locks: FolderLocks,
        *,
        mailboxes: Mailboxes,
        hosts: Hosts,
    ) -> None:
        """Keep the collaborators."""
        super().__init__("mesh.reconcile", interval_s=settings.reconcile_seconds)
        self._database = database
        self._clock = clock
        self._enabled = settings.enabled
        self._archive_after = timedelta(days=settings.archive_days)
        self._folders = folders
        self._locks = locks
        self._mailboxes = mailboxes
        self._hosts = hosts
        # The files of which it was told what waits in them, so that each is told of once.
        self._told: dict[str, str] = {}

    async def work(self) -> float | None:
        """One pass, unless Mesh is switched off; and old counts are cleared away."""
        if self._enabled:
            await self.reconcile()
        await forget_old_calls(self._database, self._clock.now())
        return None

    async def reconcile(self) -> Reconciled:
        """Look at every agent now."""
        done = Reconciled()
        agents = await self._database.read(store.all_agents)
        denied = await self._database.read(denied_paths)
        is_shared = await self._database.read(self._is_shared)
        for agent in agents:
            if self.stopping:
                break
            if not self._hosts.is_here(agent):
                done.elsewhere += 1
                continue
            done.looked_at += 1
            try:
                if await self._is_settled(agent, denied, done):
                    continue
                async with self._locks.lock(agent.project_path):
                    await self._one(agent.id, is_shared, done)
            except Exception as fault:  # One agent must not keep the others from being looked at.
                log.exception("the agent %s could not be reconciled", agent.id)
                done.problems.append(Problem(str(agent.project_path), f"failed: {fault}"))
        registered = {agent.id for agent in agents}
        self._told = {key: seen for key, seen in self._told.items() if key in registered}
        return done

    async def _is_settled(self, agent: Agent, denied: set[str], done: Reconciled) -> bool:
        """Whether a look at its folder leaves nothing to do. Most agents are as they were, and of thousands
        of them neither the writer nor the database should know much."""
        look = await self._folders.look(agent)
        if look.presence is Presence.UNREADABLE:
            done.problems.append(Problem(str(agent.project_path), look.detail or "cannot be read"))
            return True
        since = None if look.presence is Presence.THERE else agent.unreachable_since or self._clock.now()
        is_denied = any(str(folder) in denied for folder in (agent.project_path, *agent.project_path.parents))
        stands = self._stands(since, self._clock.now(), is_denied=is_denied)
        if agent.host != self._hosts.own or (agent.status, agent.unreachable_since) != (stands, since):
            return False
        found = look.found
        return found is None or (
            isinstance(found, Manifest)
            and found.hash == agent.manifest_hash
            and _to_complete(agent, found) is None
        )

    async def _one(self, agent_id: str, is_shared: bool, done: Reconciled) -> None:
        # Read under the lock: an edit that has just been made must not be taken for an old file.
        agent = await self._database.read(lambda connection: store.agent_by_id(connection, agent_id))
        if agent is None or not self._hosts.is_here(agent):
            return
        look = await self._folders.look(agent)
        if look.presence is Presence.UNREADABLE:
            done.problems.append(Problem(str(agent.project_path), look.detail or "cannot be read"))
            return
        is_known_to_be_here = not self._hosts.shared or agent.host == self._hosts.own
        if look.presence is Presence.GONE and is_shared and not is_known_to_be_here:
            return
        if look.presence is Presence.THERE and agent.host != self._hosts.own:
            agent = await self._take_down(agent)
        stands = await self._database.read(
            lambda connection: self._standing(connection, agent, look, self._clock.now())
        )
        # Most agents are where they were, and looking at them must not keep the writer busy.
        if stands != (agent.status, agent.unreachable_since):
            became = await self._database.write(lambda tx: self._store_presence(tx, agent, look))
            {
                AgentStatus.UNREACHABLE: done.unreachable,
                AgentStatus.ARCHIVED: done.archived,
                AgentStatus.ACTIVE: done.returned,
            }.get(became or AgentStatus.INACTIVE, []).append(agent.id)
        if look.found is not None:
            await self._compare(agent, look, done)

    async def _take_down(self, agent: Agent) -> Agent:
        """Store that the agent lies on this machine: its folder was seen here, and no other is known."""
        place, own = agent.project_path, self._hosts.own
        if await self._database.write(lambda tx: store.put_at(tx, agent, place, own)):
            return replace(agent, host=own)
        return agent

    def _store_presence(self, tx: Transaction, agent: Agent, look: Look) -> AgentStatus | None:
        """The status that the agent got, or None if it kept its own."""
        status, since = self._standing(tx, agent, look, tx.now())
        reason = {
            AgentStatus.INACTIVE: "Its path is denied.",
            AgentStatus.UNREACHABLE: f"{agent.project_path} is not there.",
            AgentStatus.ARCHIVED: f"{agent.project_path} has not been there for long.",
            AgentStatus.ACTIVE: f"{agent.project_path} is there.",
        }[status]
        stored = put(tx, agent, status, since, mailboxes=self._mailboxes, reason=reason, actor=None)
        return status if stored and status is not agent.status else None

    def _standing(
        self, source: Source, agent: Agent, look: Look, now: datetime
    ) -> tuple[AgentStatus, datetime | None]:
        """Where the agent stands by what was seen, and since when its folder is away."""
        since = None if look.presence is Presence.THERE else agent.unreachable_since or now
        is_denied = denial_over(source, agent.project_path) is not None
        return self._stands(since, now, is_denied=is_denied), since

    def _stands(self, since: datetime | None, now: datetime, *, is_denied: bool) -> AgentStatus:
        return standing(denied=is_denied, unreachable_since=since, now=now, archive_after=self._archive_after)

    async def _compare(self, agent: Agent, look: Look, done: Reconciled) -> None:
        found = look.found
        if isinstance(found, Manifest) and found.hash == agent.manifest_hash:
            await self._complete(agent, found, done)
            return
        if found is None:
            return
        seen = drift(agent, found)
        if seen.detail is not None:
            if seen.state is not ManifestState.MISSING or agent.manifest_hash is not None:
                done.problems.append(Problem(str(agent.project_path), seen.detail))
            return
        assert isinstance(found, Manifest)  # All else has a detail.
        if seen.waiting:
            done.waiting.append(agent.id)
        is_news = bool(seen.waiting) and self._told.get(agent.id) != found.hash

        def change(tx: Transaction) -> bool:
            current = store.hold_agent(tx, agent.id)
            if current is None or current.updated_at != agent.updated_at:
                return False  # Somebody else was here since; the next pass sees what they left.
            edited = taken_over(current, found, seen, tx.now())
            if edited != current:
                if not store.update_agent(tx, edited):
                    return False
                tx.emit(
                    "mesh.agent.updated",
                    agent.id,
                    {"changed": sorted(changes(current, edited)) or ["manifestHash"], "by": "manifest"},
                )
            if is_news:
                data = {"waiting": dict(seen.waiting), "projectPath": str(agent.project_path)}
                tx.emit("mesh.agent.manifest_changed", agent.id, data)
            return edited != current

        if await self._database.write(change):
            done.updated.append(agent.id)
        if is_news:
            self._told[agent.id] = found.hash

    async def _complete(self, agent: Agent, found: Manifest, done: Reconciled) -> None:
        """Write what the registry says and the file does not, because a crash or the disk came between."""
        data = _to_complete(agent, found)
        if data is None:
            return
        _, problem = await follow_row(self._database, agent, data, found, vouches=True)
        if problem is not None:
            done.problems.append(Problem(str(agent.project_path), problem))

    def _is_shared(self, connection: sa.Connection) -> bool:
        """Whether servers of other hosts may be at work on this database."""
        return bool(hosts_at_work(connection, since=self._clock.now() - _FORGOTTEN) - {self._hosts.own})


def _to_complete(agent: Agent, found: Manifest) -> bytes | None:
    """What is to be written over a file that a person registered and that lags behind the row."""
    return None if found.is_newer else full_manifest(agent, found)
