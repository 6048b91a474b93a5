"""What each source says of an agent, in one shape, and which of them counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from dorkos.mesh.claims import facts_stated
from dorkos.mesh.manifest import Manifest, ResponseMode
from dorkos.mesh.model import Agent, Hints
from dorkos.vocabulary import AgentRuntime


@dataclass(frozen=True, slots=True)
class Statement:
    """Some facts about an agent. None says nothing; an empty text or list does say something."""

    name: str | None = None
    runtime: AgentRuntime | None = None
    description: str | None = None
    capabilities: tuple[str, ...] | None = None
    namespace: str | None = None
    entrypoint: tuple[str, ...] | None = None
    version: str | None = None
    response_mode: ResponseMode | None = None
    escalation_threshold: float | None = None
    max_hops_per_message: int | None = None
    max_calls_per_hour: int | None = None
    persona: str | None = None
    persona_enabled: bool | None = None
    color: str | None = None
    icon: str | None = None


def first_stated(*statements: Statement) -> Statement:
    """Each fact as the first statement says it that says it at all."""
    return Statement(
        **{
            field.name: next(
                (value for said in statements if (value := getattr(said, field.name)) is not None), None
            )
            for field in fields(Statement)
        }
    )


def by_manifest(manifest: Manifest) -> Statement:
    """What the file in the project says."""
    said: Mapping[str, Any] = facts_stated(manifest)
    return Statement(
        name=manifest.name,
        runtime=manifest.runtime,
        description=manifest.description,
        capabilities=manifest.capabilities,
        namespace=manifest.namespace,
        entrypoint=manifest.entrypoint,
        version=manifest.version,
        response_mode=manifest.response_mode,
        escalation_threshold=said.get("behavior.escalationThreshold"),
        max_hops_per_message=said.get("budget.maxHopsPerMessage"),
        max_calls_per_hour=said.get("budget.maxCallsPerHour"),
        persona=said.get("persona"),
        persona_enabled=said.get("personaEnabled"),
        color=said.get("color"),
        icon=said.get("icon"),
    )


def by_registry(agent: Agent) -> Statement:
    """What was registered before. The namespace is no question any more, so nothing is said of it."""
    return Statement(
        name=agent.name,
        runtime=agent.runtime,
        description=agent.description or "",
        capabilities=agent.capabilities,
        entrypoint=agent.entrypoint,
        version=agent.version,
        response_mode=agent.behavior.response_mode,
        escalation_threshold=agent.behavior.escalation_threshold,
        max_hops_per_message=agent.budget.max_hops_per_message,
        max_calls_per_hour=agent.budget.max_calls_per_hour,
        persona=agent.looks.persona,
        persona_enabled=agent.looks.persona_enabled,
        color=agent.looks.color,
        icon=agent.looks.icon,
    )


def by_hints(hints: Hints) -> Statement:
    """What a strategy gathered."""
    return Statement(
        name=hints.suggested_name,
        runtime=hints.detected_runtime,
        description=hints.description,
        capabilities=hints.inferred_capabilities,
    )
