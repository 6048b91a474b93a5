"""What a registration settles: a pure decision from a person's words, manifest, row and hints."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from dorkos.errors import DorkError, ErrorCode
from dorkos.mesh.manifest import Manifest, ResponseMode
from dorkos.mesh.model import Agent, Behavior, Budget, Hints, Looks
from dorkos.mesh.namespace import choose_namespace
from dorkos.mesh.rewriting import full_manifest
from dorkos.mesh.statement import Statement, by_hints, by_manifest, by_registry, first_stated
from dorkos.vocabulary import AgentRuntime, AgentStatus


@dataclass(frozen=True, slots=True)
class Enrolment:
    """Everything known about a folder before the registry is asked. Without a manifest `hints` count.

    `default_name` and `default_runtime` are for when nothing else tells them; `scan_root` is the folder whose
    scan found it.
    """

    path: Path
    overrides: Statement
    manifest: Manifest | None
    hints: Hints | None
    default_name: str
    approver: str
    scan_root: str = ""
    default_runtime: AgentRuntime | None = None


@dataclass(frozen=True, slots=True)
class Settled:
    """The row as it shall be, and the manifest's new bytes if it changes."""

    agent: Agent
    manifest_data: bytes | None


def settle(
    enrolment: Enrolment, existing: Agent | None, *, agent_id: str, host: str, now: datetime
) -> Settled:
    """Decide each fact: the person's word, else the manifest's, else what was registered, else the hint.

    `existing` is what is registered at the path already: its id, namespace and first approval stay. `host`
    is the machine on which the folder lies.
    Raises `validation_failed` when nothing tells the runtime or the runtime needs an entrypoint, and
    `agent_exists` when the person asks to move a registered agent to another namespace.
    """
    stated = _stated(enrolment, existing)
    if stated.runtime is None:
        stated = replace(stated, runtime=enrolment.default_runtime)
    agent = Agent(
        id=agent_id,
        name=stated.name or enrolment.default_name,
        runtime=_runtime(stated, enrolment.path),
        project_path=enrolment.path,
        namespace=_namespace(enrolment, existing),
        capabilities=stated.capabilities or (),
        entrypoint=stated.entrypoint,
        version=stated.version,
        description=stated.description or None,
        approver=enrolment.approver,
        status=AgentStatus.ACTIVE,
        host=host,
        last_seen_at=None,
        last_seen_event=None,
        registered_at=now,
        updated_at=now,
        # Until the file is written: one that could not be must not pass for an edit by hand.
        manifest_hash=None if enrolment.manifest is None else enrolment.manifest.hash,
        scan_root=enrolment.scan_root,
        behavior=Behavior(_mode(stated, enrolment, existing), stated.escalation_threshold),
        budget=Budget(stated.max_hops_per_message, stated.max_calls_per_hour),
        looks=Looks(
            persona=stated.persona or None,
            persona_enabled=stated.persona_enabled is not False,
            color=stated.color or None,
            icon=stated.icon or None,
        ),
    )
    if existing is not None:
        agent = replace(
            agent,
            id=existing.id,
            approver=existing.approver,
            last_seen_at=existing.last_seen_at,
            last_seen_event=existing.last_seen_event,
            registered_at=existing.registered_at,
            scan_root=enrolment.scan_root or existing.scan_root,
        )
    data = full_manifest(agent, enrolment.manifest)
    if existing is not None and replace(agent, updated_at=existing.updated_at) == existing:
        agent = existing
    return Settled(agent, manifest_data=data)


def _mode(stated: Statement, enrolment: Enrolment, existing: Agent | None) -> ResponseMode | None:
    """A file of our own says the mode; a person's file that leaves it to the default goes on leaving it."""
    if stated.response_mode is None and enrolment.manifest is None and existing is None:
        return ResponseMode.ALWAYS
    return stated.response_mode


def _stated(enrolment: Enrolment, existing: Agent | None) -> Statement:
    said = [enrolment.overrides]
    if enrolment.manifest is not None:
        said.append(by_manifest(enrolment.manifest))
    # A manifest that is gone unsays nothing: what was registered stays. One that is there and names no
    # entrypoint does say something: a person took it out.
    if existing is not None:
        registered = by_registry(existing)
        said.append(registered if enrolment.manifest is None else replace(registered, entrypoint=None))
    if enrolment.hints is not None:
        said.append(by_hints(enrolment.hints))
    return first_stated(*said)


def _runtime(stated: Statement, path: Path) -> AgentRuntime:
    if stated.runtime is None:
        raise DorkError(
            ErrorCode.VALIDATION_FAILED,
            f"Nothing in {path} tells which runtime drives this agent.",
            hint=f"Give `overrides.runtime`, one of: {', '.join(AgentRuntime)}.",
        )
    if stated.runtime is AgentRuntime.COMMAND and stated.entrypoint is None:
        raise DorkError(
            ErrorCode.VALIDATION_FAILED,
            "The runtime `command` needs an entrypoint: the program that takes a turn, as a list of words.",
            hint='Put "entrypoint": ["python3", "agent.py"] in the manifest, or give `overrides.entrypoint`.',
        )
    return stated.runtime


def _namespace(enrolment: Enrolment, existing: Agent | None) -> str:
    asked = enrolment.overrides.namespace
    is_asked = asked is not None and bool(asked.strip())
    if existing is None:
        if not is_asked and enrolment.manifest is not None:
            asked = enrolment.manifest.namespace
        return choose_namespace(enrolment.path, asked)
    if is_asked and choose_namespace(enrolment.path, asked) != existing.namespace:
        raise DorkError(
            ErrorCode.AGENT_EXISTS,
            f"{existing.name!r} is registered at {existing.project_path} in the namespace "
            f"{existing.namespace!r}, and an agent's namespace never changes.",
            hint="Leave the namespace out, or unregister the agent first.",
            details={"agentId": existing.id, "path": str(existing.project_path)},
        )
    return existing.namespace
