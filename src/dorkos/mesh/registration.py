"""What a registration settles: a pure decision from a person's words, manifest, row and hints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from dorkos.clock import iso
from dorkos.errors import DorkError, ErrorCode
from dorkos.mesh.manifest import Manifest, ResponseMode, encode_manifest, hash_of
from dorkos.mesh.model import Agent, Hints
from dorkos.mesh.namespace import choose_namespace, normalise
from dorkos.mesh.statement import Statement, by_hints, by_manifest, by_registry, first_stated
from dorkos.vocabulary import AgentRuntime, AgentStatus


@dataclass(frozen=True, slots=True)
class Enrolment:
    """Everything known about a folder before the registry is asked. Without a manifest `hints` count.

    `default_name` is for when nothing else names it.
    """

    path: Path
    overrides: Statement
    manifest: Manifest | None
    hints: Hints | None
    default_name: str
    approver: str


@dataclass(frozen=True, slots=True)
class Settled:
    """The row as it shall be, whether messages start runs, and the manifest's new bytes if it changes.

    `starts_runs` None leaves the mailbox as it is: nothing says how this agent is to answer any more, and
    that must not turn an agent that was told to be silent into one that runs.
    """

    agent: Agent
    starts_runs: bool | None
    manifest_data: bytes | None


def settle(enrolment: Enrolment, existing: Agent | None, *, agent_id: str, now: datetime) -> Settled:
    """Decide each fact: the person's word, else the manifest's, else what was registered, else the hint.

    `existing` is what is registered at the path already: its id, namespace and first approval stay.
    Raises `validation_failed` when nothing tells the runtime or the runtime needs an entrypoint, and
    `agent_exists` when the person asks to move a registered agent to another namespace.
    """
    stated = _stated(enrolment, existing)
    mode = stated.response_mode
    if mode is None and (existing is None or existing.entrypoint is None):
        mode = ResponseMode.ALWAYS
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
        last_seen_at=None,
        last_seen_event=None,
        registered_at=now,
        updated_at=now,
        manifest_hash=None,
    )
    if existing is not None:
        agent = replace(
            agent,
            id=existing.id,
            approver=existing.approver,
            last_seen_at=existing.last_seen_at,
            last_seen_event=existing.last_seen_event,
            registered_at=existing.registered_at,
        )
    # A person's file that leaves the mode to the default goes on leaving it.
    said_mode = mode if enrolment.manifest is None else stated.response_mode
    data = full_manifest(agent, enrolment.manifest, said_mode)
    agent = replace(agent, manifest_hash=_hash(data, enrolment.manifest))
    if existing is not None and replace(agent, updated_at=existing.updated_at) == existing:
        agent = existing
    return Settled(agent, _starts_runs(agent, mode), manifest_data=data)


def _starts_runs(agent: Agent, mode: ResponseMode | None) -> bool | None:
    if agent.entrypoint is None:
        return False
    return None if mode is None else mode is not ResponseMode.SILENT


def full_manifest(agent: Agent, manifest: Manifest | None, mode: ResponseMode | None) -> bytes | None:
    """The bytes of a manifest that says what the registry says, or None if the one on disk does already.

    What is right in the file stays as it is written there, and so do fields that we do not know. When it
    was registered, and by whom, is history: it is filled in, never changed.
    """
    document: dict[str, object] = {} if manifest is None else dict(manifest.document)
    said = {} if manifest is None else _facts(manifest)
    wanted: dict[str, object] = {
        "id": agent.id,
        "name": agent.name,
        "description": agent.description or "",
        "runtime": agent.runtime.value,
        "capabilities": list(agent.capabilities),
        "behavior": None if mode is None else mode.value,
        "namespace": agent.namespace,
        "registeredAt": document.get("registeredAt") or iso(agent.registered_at),
        "registeredBy": document.get("registeredBy") or agent.approver,
        "entrypoint": None if agent.entrypoint is None else list(agent.entrypoint),
        "version": agent.version,
    }
    for key, value in wanted.items():
        if value is None or said.get(key) == value:
            continue
        document[key] = {**_object(document.get(key)), "responseMode": value} if key == "behavior" else value
    if manifest is not None and document == manifest.document:
        return None
    return encode_manifest(document)


def edited_manifest(manifest: Manifest, changes: Mapping[str, object]) -> bytes:
    """The manifest's bytes with some of its fields replaced, by their names in the file."""
    return encode_manifest({**manifest.document, **changes})


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


def _facts(manifest: Manifest) -> dict[str, object]:
    """What the manifest comes down to, in the terms of what the registry wants it to say."""
    return {
        "id": manifest.id,
        "name": manifest.name,
        "description": manifest.description,
        "runtime": manifest.runtime.value,
        "capabilities": list(manifest.capabilities),
        "behavior": None if manifest.response_mode is None else manifest.response_mode.value,
        "namespace": normalise(manifest.namespace or ""),
        "registeredAt": manifest.registered_at,
        "registeredBy": manifest.registered_by,
        "entrypoint": None if manifest.entrypoint is None else list(manifest.entrypoint),
        "version": manifest.version,
    }


def _hash(data: bytes | None, manifest: Manifest | None) -> str | None:
    if data is not None:
        return hash_of(data)
    return None if manifest is None else manifest.hash


def _object(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}
