"""Who is registered. The row is the agent; its manifest on disk is a claim, and follows the row.

The order is the same everywhere: look at the disk, commit the row with all that belongs to it, and only
then write the manifest. So no file is touched for a registration that is refused, and a disk that
refuses cannot undo one that stands.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from weakref import WeakValueDictionary

from dorkos.boundary import Boundary
from dorkos.db.advisory import Turn, take
from dorkos.db.database import Database, Transaction
from dorkos.errors import DorkError, ErrorCode
from dorkos.identity.tokens import NewToken
from dorkos.ids import is_ulid, new_id
from dorkos.mesh import store
from dorkos.mesh.agent_tokens import draft_token, issue
from dorkos.mesh.claims import changes
from dorkos.mesh.copies import Copies
from dorkos.mesh.denials import refuse_denied
from dorkos.mesh.editing import AgentEdit, Edited, edit
from dorkos.mesh.hosts import Hosts
from dorkos.mesh.manifest import InvalidManifest, Manifest, NoManifest
from dorkos.mesh.manifest_file import manifest_path
from dorkos.mesh.manifest_writing import follow_row
from dorkos.mesh.model import AccessRules, Agent, AgentSchedules, Mailboxes, Source
from dorkos.mesh.moving import refuse_from_afar, refuse_move
from dorkos.mesh.patience import NoAnswerError, Patience
from dorkos.mesh.projects import Projects
from dorkos.mesh.registration import Enrolment, Settled, settle
from dorkos.mesh.statement import Statement
from dorkos.vocabulary import AgentRuntime, AgentStatus


@dataclass(frozen=True, slots=True)
class Registered:
    """An agent as it is stored now.

    `manifest_problem` says why its manifest could not be written, and is None when the file says what the
    registry says. `token` is its long-lived token, made when it is registered for the first time: it is
    told this once, since only its hash is kept.
    """

    agent: Agent
    manifest_problem: str | None
    token: str | None = None


class AgentRegistry:
    """Registers, lists, edits, moves and removes agents."""

    def __init__(
        self,
        database: Database,
        boundary: Boundary,
        projects: Projects,
        *,
        mailboxes: Mailboxes,
        schedules: AgentSchedules,
        rules: AccessRules,
        hosts: Hosts,
        copies: Copies,
        token_lifetime: timedelta,
    ) -> None:
        """Keep the collaborators."""
        self._database = database
        self._boundary = boundary
        self._projects = projects
        self._mailboxes = mailboxes
        self._schedules = schedules
        self._rules = rules
        self._hosts = hosts
        self._copies = copies
        self._token_lifetime = token_lifetime
        self._disk = Patience[Path]()
        self._places = Patience[Path]()
        self._files = Patience[Manifest | NoManifest | InvalidManifest]()
        # Two at work on one folder could write the file in another order than the rows.
        self._at_work: WeakValueDictionary[Path, asyncio.Lock] = WeakValueDictionary()

    async def register(
        self,
        path: str,
        overrides: Statement,
        *,
        approver: str,
        actor: str,
        scan_root: str = "",
        default_runtime: AgentRuntime | None = None,
    ) -> Registered:
        """Register the folder, or read it again if it is registered: name, runtime and the like follow the
        manifest and the overrides, id and namespace stay.

        The row, the mailbox, the rules of its namespace, its token and the event are one commit. Raises
        `outside_boundary`, `path_denied`, `invalid_manifest`, `agent_exists` for a copy of a registered
        agent, `validation_failed` when there is no such directory or nothing tells the runtime, which is
        `default_runtime` then if one is given.
        """
        project = await self._disk.require(path, partial(self._projects.confine, path))
        if scan_root:
            found_from = partial(self._projects.scan_root, scan_root)
            scan_root = str(await self._disk.require(scan_root, found_from))
        async with self.lock(project):
            enrolment = await asyncio.to_thread(self._projects.enrol, project, overrides, approver)
            enrolment = replace(enrolment, scan_root=scan_root, default_runtime=default_runtime)
            ids = (new_id(), new_id(), new_id(), new_id())
            token = draft_token()
            try:
                settled, is_new = await self._database.write(
                    lambda tx: self._commit(tx, enrolment, ids=ids, token=token, actor=actor)
                )
            except DorkError as refusal:
                if refusal.code is ErrorCode.AGENT_EXISTS and (claimed := _claimed_id(enrolment.manifest)):
                    await self._copies.note(claimed, project)
                raise
            agent, problem = await follow_row(
                self._database, settled.agent, settled.manifest_data, enrolment.manifest, vouches=True
            )
        return Registered(agent, problem, token.secret if is_new else None)

    async def update(self, agent_id: str, wanted: AgentEdit, *, actor: str) -> Registered:
        """Change the row, then the manifest. Raises `agent_not_found`."""
        agent = await self.get(agent_id)
        project = agent.project_path
        async with self.lock(project):
            found = await self._manifest_of(agent)
            manifest = found if isinstance(found, Manifest) else None

            def change(tx: Transaction) -> Edited:
                before = _held(tx, agent_id)
                made = edit(tx, before, wanted, manifest, actor=actor)
                if made.agent.starts_runs != before.starts_runs:
                    self._open_mailbox(tx, made.agent, endpoint_id=new_id())
                return made

            made = await self._database.write(change)
            if isinstance(found, InvalidManifest):
                return Registered(made.agent, f"{found.path} {found.reason}")
            return Registered(
                *await follow_row(self._database, made.agent, made.data, manifest, vouches=made.vouches)
            )

    async def move(self, agent_id: str, path: str, *, actor: str) -> Agent:
        """Say that the agent's folder was moved to `path`: id, mailbox, schedules and history go with it.

        Only a person can know that, so it is never concluded. An agent of another machine is moved to this
        one. Raises `agent_not_found`; `conflict` while the old folder is still there, or nobody can tell;
        `agent_exists` when another agent is at `path` or its manifest says that it is another;
        `path_denied`, `outside_boundary`, `invalid_manifest`, and `validation_failed` when there is no such
        directory.
        """
        before = await self.get(agent_id)
        project = await self._disk.require(path, partial(self._projects.confine, path))
        async with self.lock(project):
            await asyncio.to_thread(
                refuse_move, self._projects, before, project, is_here=self._hosts.is_here(before)
            )

            def change(tx: Transaction) -> Agent:
                take(tx, Turn.AGENTS_TAKE_PLACES)
                refuse_denied(tx, project)
                agent = _held(tx, agent_id)
                holder = store.agent_by_path(tx, project, self._hosts)
                if holder is not None and holder.id == agent_id:
                    return agent
                if holder is not None:
                    raise _taken(holder)
                if not self._hosts.is_here(agent):
                    refuse_from_afar(tx, agent)
                moved = replace(
                    agent,
                    project_path=project,
                    host=self._hosts.own,
                    status=AgentStatus.ACTIVE,
                    unreachable_since=None,
                    updated_at=tx.now(),
                )
                if not store.move_agent(tx, moved, before=before):
                    raise _busy(project)
                self._open_mailbox(tx, moved, endpoint_id=new_id())
                places = {"from": str(before.project_path), "to": str(project)}
                hosts = {"fromHost": before.host, "toHost": moved.host}
                tx.emit("mesh.agent.moved", agent_id, {**places, **hosts}, actor=actor)
                return moved

            return await self._database.write(change)

    async def unregister(self, agent_id: str, *, actor: str) -> Agent:
        """Remove the agent with its mailbox, schedules, tokens, and the rules of its namespace if it was the
        last one there, in one commit. Raises `agent_not_found`.

        The manifest stays: the folder becomes a candidate again, and only a person can register it.
        """

        def change(tx: Transaction) -> Agent:
            agent = _required(tx, agent_id)
            # Both look the agent up by its id, which goes out of their rows with the row.
            self._schedules.hide_schedules(tx, agent_id=agent_id)
            self._mailboxes.close_mailbox(tx, agent_id=agent_id)
            # Held before the count: an agent that is being registered here right now needs the rules.
            self._rules.hold(tx, namespace=agent.namespace)
            if not store.delete_agent(tx, agent_id):
                raise _not_found(agent_id)  # Somebody else removed it in between; undo the rest.
            if store.agents_in(tx, agent.namespace) == 0:
                self._rules.release(tx, namespace=agent.namespace, actor=actor)
            tx.emit(
                "mesh.agent.unregistered",
                agent_id,
                {"name": agent.name, "subject": agent.subject, "projectPath": str(agent.project_path)},
                actor=actor,
            )
            return agent

        return await self._database.write(change)

    async def issue_token(self, agent_id: str, *, actor: str) -> tuple[Agent, str]:
        """A new long-lived token of the agent, told this once; those before it end. Raises
        `agent_not_found`."""
        token = draft_token()

        def change(tx: Transaction) -> Agent:
            agent = _held(tx, agent_id)
            issue(tx, agent, token, lifetime=self._token_lifetime)
            data = {"tokenId": token.id, "subject": agent.subject}
            tx.emit("mesh.agent.token_issued", agent_id, data, actor=actor)
            return agent

        return await self._database.write(change), token.secret

    async def get(self, agent_id: str) -> Agent:
        """The agent. Raises `agent_not_found`."""
        return await self._database.read(lambda connection: _required(connection, agent_id))

    async def get_by_path(self, path: str) -> Agent | None:
        """The agent at the real path of `path` on this machine, if one is registered there."""
        real = await self._places.require(path, partial(self._boundary.confine, path))
        return await self._database.read(
            lambda connection: store.agent_by_path(connection, real, self._hosts)
        )

    async def list(
        self,
        wanted: store.Wanted = store.EVERY,
        *,
        also: Callable[[Source, list[Agent]], list[Agent]] | None = None,
        after: str | None = None,
        limit: int = 500,
    ) -> tuple[tuple[Agent, ...], str | None]:
        """A page of agents and the cursor of the next; see `store.page_of_agents`."""
        return await self._database.read(
            lambda connection: store.page_of_agents(
                connection,
                wanted,
                also=(lambda found: found) if also is None else (lambda found: also(connection, found)),
                after=after,
                limit=limit,
            )
        )

    def find_agent(self, source: Source, agent_id: str) -> Agent | None:
        """The agent, in the caller's transaction or snapshot; None if it is not registered."""
        return store.agent_by_id(source, agent_id)

    def lock(self, project: Path) -> asyncio.Lock:
        """The lock of a folder, for whoever reads its manifest and stores what it says."""
        return self._at_work.setdefault(project, asyncio.Lock())

    def _commit(
        self,
        tx: Transaction,
        enrolment: Enrolment,
        *,
        ids: tuple[str, str, str, str],
        token: NewToken,
        actor: str,
    ) -> tuple[Settled, bool]:
        agent_id, endpoint_id, *rule_ids = ids
        take(tx, Turn.AGENTS_TAKE_PLACES)
        refuse_denied(tx, enrolment.path)
        settled, existing = _store(tx, enrolment, agent_id=agent_id, hosts=self._hosts)
        agent = settled.agent
        self._open_mailbox(tx, agent, endpoint_id=endpoint_id)
        self._rules.protect(tx, namespace=agent.namespace, rule_ids=(rule_ids[0], rule_ids[1]), actor=actor)
        if existing is None:
            issue(tx, agent, token, lifetime=self._token_lifetime)
        _announce(tx, agent, existing, actor=actor)
        return settled, existing is None

    def _open_mailbox(self, tx: Transaction, agent: Agent, *, endpoint_id: str) -> None:
        self._mailboxes.open_mailbox(
            tx,
            endpoint_id=endpoint_id,
            subject=agent.subject,
            agent_id=agent.id,
            starts_runs=agent.starts_runs,
        )

    async def _manifest_of(self, agent: Agent) -> Manifest | NoManifest | InvalidManifest:
        """The file that an edit may be written to; an invalid one says why it may not."""
        path = manifest_path(agent.project_path)
        if not self._hosts.is_here(agent):
            return InvalidManifest(path, f"lies on the host {agent.host!r}, and is not written from here")
        look = partial(self._projects.manifest_of, agent.project_path)
        try:
            found = await self._files.wait_for(agent.id, look)
        except NoAnswerError as fault:
            return InvalidManifest(path, f"cannot be looked at: {fault.detail}")
        if isinstance(found, Manifest) and found.id not in (None, agent.id):
            return InvalidManifest(path, f"says that it is {found.id}, another agent, and is not written")
        return found


def _store(
    tx: Transaction, enrolment: Enrolment, *, agent_id: str, hosts: Hosts
) -> tuple[Settled, Agent | None]:
    """Settle and store the row; with it, what was registered at the path before."""
    claimed = _claimed_id(enrolment.manifest)
    existing = store.agent_by_path(tx, enrolment.path, hosts)
    if existing is not None:
        existing = store.hold_agent(tx, existing.id)
    holder = None if claimed is None else store.agent_by_id(tx, claimed)
    if holder is not None and (holder.project_path != enrolment.path or not hosts.is_here(holder)):
        raise _copy_of(holder, enrolment.path)
    settled = settle(enrolment, existing, agent_id=claimed or agent_id, host=hosts.own, now=tx.now())
    if existing is None:
        is_stored = store.insert_agent(tx, settled.agent)
    else:
        is_stored = store.put_at(tx, existing, enrolment.path, hosts.own) and store.update_agent(
            tx, settled.agent
        )
    if not is_stored:  # Removed in between, or its id given to another folder.
        raise _busy(enrolment.path)
    return settled, existing


def _claimed_id(manifest: Manifest | None) -> str | None:
    """The id that the manifest claims, if it is one that we could have given."""
    if manifest is None or manifest.id is None or not is_ulid(manifest.id):
        return None
    return manifest.id


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
        changed = sorted(changes(existing, agent))
        if existing.status is not agent.status:
            changed.append("status")
        if existing.manifest_hash != agent.manifest_hash:
            changed.append("manifestHash")
        tx.emit("mesh.agent.updated", agent.id, {"changed": changed}, actor=actor)


def _required(source: Source, agent_id: str) -> Agent:
    agent = store.agent_by_id(source, agent_id)
    if agent is None:
        raise _not_found(agent_id)
    return agent


def _held(tx: Transaction, agent_id: str) -> Agent:
    agent = store.hold_agent(tx, agent_id)
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
        f"{path} looks like a copy of {holder.name!r}, which is registered at {_place(holder, path)}: "
        f"both manifests say they are {holder.id}.",
        hint=f"If it is an agent of its own, delete `id` from {manifest_path(path)} and register again. "
        f"If the folder was moved: dorkos mesh move {holder.id} {path}",
        details={"agentId": holder.id, "path": str(holder.project_path)},
    )


def _place(agent: Agent, path: Path) -> str:
    """Where an agent lies; the machine is named where the path alone would not tell it from `path`."""
    return f"{agent.project_path}" + (f" on {agent.host}" if agent.project_path == path else "")


def _taken(holder: Agent) -> DorkError:
    return DorkError(
        ErrorCode.AGENT_EXISTS,
        f"{holder.name!r} is registered at {holder.project_path}.",
        hint="Unregister it first if the folder belongs to the other agent now.",
        details={"agentId": holder.id, "path": str(holder.project_path)},
    )


def _busy(path: Path) -> DorkError:
    return DorkError(
        ErrorCode.CONFLICT,
        f"Somebody else registers, moves or removes {path} at the same time.",
        hint="Look at the list of agents, then try again.",
    )
