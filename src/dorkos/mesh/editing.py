"""Editing a registered agent: what a person may change of it, in the row and in its manifest."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

from dorkos.db.database import Transaction
from dorkos.errors import DorkError, ErrorCode
from dorkos.mesh import store
from dorkos.mesh.claims import changes
from dorkos.mesh.manifest import Manifest, ResponseMode
from dorkos.mesh.model import Agent, Behavior, Budget, Looks
from dorkos.mesh.rewriting import edited_manifest, full_manifest

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Edited:
    """The agent as it is stored, and the new bytes of its manifest, None if the file stays.

    Once they are written, `vouches` says whether the file stands for what a person approved: one that was
    edited since it was last registered still holds what nobody did.
    """

    agent: Agent
    data: bytes | None
    vouches: bool


@dataclass(frozen=True, slots=True)
class AgentEdit:
    """What a person may change of an agent later. None leaves it; an empty text or list empties it."""

    name: str | None = None
    description: str | None = None
    capabilities: tuple[str, ...] | None = None
    response_mode: ResponseMode | None = None
    escalation_threshold: float | None = None
    max_hops_per_message: int | None = None
    max_calls_per_hour: int | None = None
    persona: str | None = None
    persona_enabled: bool | None = None
    color: str | None = None
    icon: str | None = None


def edit(
    tx: Transaction, agent: Agent, wanted: AgentEdit, manifest: Manifest | None, *, actor: str
) -> Edited:
    """Store the edit with its event.

    `manifest` is what is on disk now. Raises `agent_not_found` if somebody removed the agent.
    """
    edited = _edited(agent, wanted)
    changed = changes(agent, edited)
    if not changed:
        return Edited(agent, None, vouches=False)
    edited = replace(edited, updated_at=tx.now())
    data = full_manifest(edited, None) if manifest is None else edited_manifest(manifest, changed)
    if not store.update_agent(tx, edited):
        raise DorkError(
            ErrorCode.AGENT_NOT_FOUND,
            f"The agent {agent.id} was removed in the meantime.",
            hint="List the agents to see their ids.",
        )
    tx.emit("mesh.agent.updated", agent.id, {"changed": sorted(changed)}, actor=actor)
    return Edited(edited, data, vouches=manifest is None or manifest.hash == agent.manifest_hash)


def _edited(agent: Agent, wanted: AgentEdit) -> Agent:
    looks, behavior, budget = agent.looks, agent.behavior, agent.budget
    return replace(
        agent,
        name=_given(wanted.name, agent.name),
        description=_given(wanted.description, agent.description or "") or None,
        capabilities=_given(wanted.capabilities, agent.capabilities),
        behavior=Behavior(
            _given(wanted.response_mode, behavior.response_mode),
            _given(wanted.escalation_threshold, behavior.escalation_threshold),
        ),
        budget=Budget(
            _given(wanted.max_hops_per_message, budget.max_hops_per_message),
            _given(wanted.max_calls_per_hour, budget.max_calls_per_hour),
        ),
        looks=Looks(
            persona=_given(wanted.persona, looks.persona or "") or None,
            persona_enabled=_given(wanted.persona_enabled, looks.persona_enabled),
            color=_given(wanted.color, looks.color or "") or None,
            icon=_given(wanted.icon, looks.icon or "") or None,
        ),
    )


def _given(wanted: T | None, kept: T) -> T:
    return kept if wanted is None else wanted
