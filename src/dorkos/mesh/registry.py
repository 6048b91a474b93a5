"""Who is registered. The row is the agent; its manifest on disk is a claim, and follows the row.

The order is the same everywhere: look at the disk, commit the row with all that belongs to it, and only
then write the manifest. So no file is touched for a registration that is refused, and a disk that
refuses cannot undo one that stands.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path
from weakref import WeakValueDictionary

import sqlalchemy as sa

from dorkos.boundary import Boundary
from dorkos.db.database import Database, Transaction
from dorkos.errors import DorkError, ErrorCode
from dorkos.ids import is_ulid, new_id
from dorkos.mesh import store
from dorkos.mesh.denials import refuse_denied
from dorkos.mesh.manifest import InvalidManifest, Manifest, hash_of
from dorkos.mesh.manifest_file import ManifestNotWrittenError, manifest_path, write_manifest
from dorkos.mesh.model import Agent, AgentSchedules, Mailboxes
from dorkos.mesh.projects import Projects
from dorkos.mesh.registration import Enrolment, Settled, edited_manifest, full_manifest, settle
from dorkos.mesh.statement import Statement
from dorkos.vocabulary import AgentRuntime


@dataclass(frozen=True, slots=True)
class Registered:
    """An agent as it is stored now. `manifest_problem` says why its manifest could not be written, and is
    None when the file says what the registry says."""

    agent: Agent
    manifest_problem: str | None


@dataclass(frozen=True, slots=True)
class AgentEdit:
    """What a person may change of an agent later. None leaves it; an empty text or list empties it."""

    name: str | None = None
    description: str | None = None
    capabilities: tuple[str, ...] | None = None


class AgentRegistry:
    """Registers, lists, edits and removes agents."""

    def __init__(
        self,
        database: Database,
        boundary: Boundary,
        projects: Projects,
        *,
        mailboxes: Mailboxes,
        schedules: AgentSchedules,
    ) -> None:
        """Keep the collaborators."""
        self._database = database
        self._boundary = boundary
        self._projects = projects
        self._mailboxes = mailboxes
        self._schedules = schedules
        # Two at work on one folder could write the file in another order than the rows.
        self._at_work: WeakValueDictionary[Path, asyncio.Lock] = WeakValueDictionary()

    async def register(self, path: str, overrides: Statement, *, approver: str, actor: str) -> Registered:
        """Register the folder, or read it again if it is registered: name, runtime and the like follow the
        manifest and the overrides, id and namespace stay.

        The row, the mailbox and the event are one commit. Raises `outside_boundary`, `path_denied`,
        `invalid_manifest`, `agent_exists` for a copy of a registered agent, `validation_failed` when there
        is no such directory or nothing tells the runtime.
        """
        project = await asyncio.to_thread(self._projects.confine, path)
        async with self._lock(project):
            enrolment = await asyncio.to_thread(self._projects.enrol, project, overrides, approver)
            agent_id, endpoint_id = new_id(), new_id()
            settled = await self._database.write(
                lambda tx: self._commit(
                    tx, enrolment, agent_id=agent_id, endpoint_id=endpoint_id, actor=actor
                )
            )
            problem = await self._write_manifest(project, settled.manifest_data, enrolment.manifest)
        return Registered(settled.agent, problem)

    async def update(self, agent_id: str, edit: AgentEdit, *, actor: str) -> Registered:
        """Change the row, then the manifest. Raises `agent_not_found`."""
        project = (await self.get(agent_id)).project_path
        async with self._lock(project):
            found = await asyncio.to_thread(self._projects.manifest_of, project)
            manifest = found if isinstance(found, Manifest) else None
            edited, data = await self._database.write(
                lambda tx: _edit(tx, agent_id, edit, manifest, actor=actor)
            )
            if isinstance(found, InvalidManifest):
                return Registered(edited, f"{found.path} {found.reason}")
            problem = await self._write_manifest(project, data, manifest)
        return Registered(edited, problem)

    async def unregister(self, agent_id: str, *, actor: str) -> Agent:
        """Remove the agent with its mailbox and its schedules, in one commit. Raises `agent_not_found`.

        The manifest stays: the folder becomes a candidate again, and only a person can register it.
        """

        def change(tx: Transaction) -> Agent:
            agent = _required(tx, agent_id)
            # Both look the agent up by its id, which goes out of their rows with the row.
            self._schedules.hide_schedules(tx, agent_id=agent_id)
            self._mailboxes.close_mailbox(tx, agent_id=agent_id)
            if not store.delete_agent(tx, agent_id):
                raise _not_found(agent_id)  # Somebody else removed it in between; undo the rest.
            tx.emit(
                "mesh.agent.unregistered",
                agent_id,
                {"name": agent.name, "subject": agent.subject, "projectPath": str(agent.project_path)},
                actor=actor,
            )
            return agent

        return await self._database.write(change)

    async def get(self, agent_id: str) -> Agent:
        """The agent. Raises `agent_not_found`."""
        return await self._database.read(lambda connection: _required(connection, agent_id))

    async def get_by_path(self, path: str) -> Agent | None:
        """The agent at the real path of `path`, if one is registered there."""
        real = await asyncio.to_thread(self._boundary.confine, path)
        return await self._database.read(lambda connection: store.agent_by_path(connection, real))

    async def list(
        self,
        *,
        runtime: AgentRuntime | None = None,
        capability: str | None = None,
        namespace: str | None = None,
        after: str | None = None,
        limit: int = 500,
    ) -> tuple[tuple[Agent, ...], str | None]:
        """A page of agents and the cursor of the next; see `store.page_of_agents`."""
        return await self._database.read(
            lambda connection: store.page_of_agents(
                connection,
                runtime=runtime,
                capability=capability,
                namespace=namespace,
                after=after,
                limit=limit,
            )
        )

    def find_agent(self, source: sa.Connection | Transaction, agent_id: str) -> Agent | None:
        """The agent, in the caller's transaction or snapshot; None if it is not registered."""
        return store.agent_by_id(source, agent_id)

    def _lock(self, project: Path) -> asyncio.Lock:
        return self._at_work.setdefault(project, asyncio.Lock())

    def _commit(
        self, tx: Transaction, enrolment: Enrolment, *, agent_id: str, endpoint_id: str, actor: str
    ) -> Settled:
        refuse_denied(tx, enrolment.path)
        settled, existing = _store(tx, enrolment, agent_id=agent_id)
        self._mailboxes.open_mailbox(
            tx,
            endpoint_id=endpoint_id,
            subject=settled.agent.subject,
            agent_id=settled.agent.id,
            starts_runs=settled.starts_runs,
        )
        _announce(tx, settled.agent, existing, actor=actor)
        return settled

    async def _write_manifest(self, project: Path, data: bytes | None, before: Manifest | None) -> str | None:
        """Why the manifest could not be written, or None."""
        if data is None:
            return None
        try:
            replaces = None if before is None else before.hash
            await asyncio.to_thread(write_manifest, project, data, replaces=replaces)
        except ManifestNotWrittenError as fault:
            return fault.reason
        return None


def _store(tx: Transaction, enrolment: Enrolment, *, agent_id: str) -> tuple[Settled, Agent | None]:
    """Settle and store the row; with it, what was registered at the path before."""
    claimed = _claimed_id(enrolment.manifest)
    # On PostgreSQL another server may take or leave the path between our look and our write; the second
    # time we see what it did.
    for _ in range(2):
        holder = None if claimed is None else store.agent_by_id(tx, claimed)
        if holder is not None and holder.project_path != enrolment.path:
            raise _copy_of(holder, enrolment.path)
        existing = store.agent_by_path(tx, enrolment.path)
        settled = settle(enrolment, existing, agent_id=claimed or agent_id, now=tx.now())
        keep = store.insert_agent if existing is None else store.update_agent
        if keep(tx, settled.agent):
            return settled, existing
    raise DorkError(
        ErrorCode.CONFLICT,
        f"Somebody else registers or removes {enrolment.path} at the same time.",
        hint="Look at the list of agents, then try again.",
    )


def _claimed_id(manifest: Manifest | None) -> str | None:
    """The id that the manifest claims, if it is one that we could have given."""
    if manifest is None or manifest.id is None or not is_ulid(manifest.id):
        return None
    return manifest.id


def _edit(
    tx: Transaction, agent_id: str, edit: AgentEdit, manifest: Manifest | None, *, actor: str
) -> tuple[Agent, bytes | None]:
    agent = _required(tx, agent_id)
    edited = replace(
        agent,
        name=agent.name if edit.name is None else edit.name,
        description=agent.description if edit.description is None else edit.description or None,
        capabilities=agent.capabilities if edit.capabilities is None else edit.capabilities,
    )
    changes = _changes(agent, edited)
    if not changes:
        return agent, None
    edited = replace(edited, updated_at=tx.now())
    data = full_manifest(edited, None, None) if manifest is None else edited_manifest(manifest, changes)
    # A file that was edited since it was last registered still holds what nobody approved: its new hash
    # must not pass for the approved one.
    if data is not None and (manifest is None or manifest.hash == agent.manifest_hash):
        edited = replace(edited, manifest_hash=hash_of(data))
    if not store.update_agent(tx, edited):
        raise _not_found(agent_id)
    tx.emit("mesh.agent.updated", agent_id, {"changed": sorted(changes)}, actor=actor)
    return edited, data


def _announce(tx: Transaction, agent: Agent, existing: Agent | None, *, actor: str) -> None:
    if existing is None:
        data: dict[str, object] = {
            "name": agent.name,
            "runtime": agent.runtime.value,
            "namespace": agent.namespace,
            "subject": agent.subject,
            "projectPath": str(agent.project_path),
        }
        tx.emit("mesh.agent.registered", agent.id, data, actor=actor)
    elif existing != agent:
        changed = sorted(_changes(existing, agent))
        if existing.manifest_hash != agent.manifest_hash:
            changed.append("manifestHash")
        tx.emit("mesh.agent.updated", agent.id, {"changed": changed}, actor=actor)


def _changes(before: Agent, after: Agent) -> dict[str, object]:
    """The facts that differ, with their new values, by their names in the manifest."""
    old, new = _facts(before), _facts(after)
    return {key: value for key, value in new.items() if old[key] != value}


def _facts(agent: Agent) -> dict[str, object]:
    return {
        "name": agent.name,
        "runtime": agent.runtime.value,
        "description": agent.description or "",
        "capabilities": list(agent.capabilities),
        "entrypoint": None if agent.entrypoint is None else list(agent.entrypoint),
        "version": agent.version,
    }


def _required(source: sa.Connection | Transaction, agent_id: str) -> Agent:
    agent = store.agent_by_id(source, agent_id)
    if agent is None:
        raise _not_found(agent_id)
    return agent


def _not_found(agent_id: str) -> DorkError:
    return DorkError(
        ErrorCode.AGENT_NOT_FOUND,
        f"No agent has the id {agent_id!r}.",
        hint="List the agents to see their ids.",
    )


def _copy_of(holder: Agent, path: Path) -> DorkError:
    return DorkError(
        ErrorCode.AGENT_EXISTS,
        f"{path} looks like a copy of {holder.name!r}, which is registered at {holder.project_path}: "
        f"both manifests say they are {holder.id}.",
        hint=f"If it is an agent of its own, delete `id` from {manifest_path(path)} and register again. "
        "If the folder was moved, unregister the old one first.",
        details={"agentId": holder.id, "path": str(holder.project_path)},
    )
