"""Mesh's inputs and answers as they cross the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BeforeValidator, Field, PlainSerializer

from dorkos.clock import iso
from dorkos.mesh.manifest import Capabilities, Description, Entrypoint, Line, Name, ResponseMode
from dorkos.mesh.model import Agent, Candidate, Denial, Discovery, Problem
from dorkos.mesh.registry import Registered
from dorkos.operation import Wire
from dorkos.vocabulary import AgentRuntime, AgentStatus

Instant = Annotated[datetime, PlainSerializer(iso, return_type=str)]
AbsolutePath = Annotated[str, Field(min_length=1, max_length=4096, description="An absolute path.")]


def _blank_is_absent(value: object) -> object:
    # The lineage ignored empty filters, and clients send them from empty fields of a form.
    return None if value == "" else value


Filter = Annotated[str | None, BeforeValidator(_blank_is_absent)]


class DiscoverInput(Wire):
    """Where to look. Without roots, where the settings say."""

    roots: list[AbsolutePath] | None = Field(default=None, min_length=1, max_length=100)
    max_depth: int | None = Field(
        default=None, ge=0, le=20, description="Levels below a root to look at; the default is 5."
    )


class BehaviorInput(Wire):
    """How an agent treats messages."""

    response_mode: ResponseMode | None = None


class OverridesInput(Wire):
    """What goes before the manifest's words."""

    name: Name | None = None
    runtime: AgentRuntime | None = None
    description: Description | None = None
    capabilities: Capabilities | None = None
    namespace: str | None = Field(default=None, max_length=200)
    entrypoint: Entrypoint | None = None
    behavior: BehaviorInput = BehaviorInput()


class RegisterInput(Wire):
    """A folder to register."""

    path: AbsolutePath
    overrides: OverridesInput = OverridesInput()
    approver: Annotated[Line, Field(max_length=200)] | None = None


class ListInput(Wire):
    """Filters, all of which must hold, and the place in the list."""

    runtime: Annotated[AgentRuntime | None, BeforeValidator(_blank_is_absent)] = None
    capability: Filter = None
    caller_namespace: Filter = Field(
        default=None,
        description="Only what agents of this namespace may see: their own namespace. `*` sees all.",
    )
    limit: int = Field(default=500, ge=1, le=1000)
    cursor: str | None = None


class AgentInput(Wire):
    """Which agent."""

    id: str


class UpdateInput(AgentInput):
    """What to change; a field that is left out stays."""

    name: Name | None = None
    description: Description | None = None
    capabilities: Capabilities | None = None


class DenyInput(Wire):
    """A path that must not become an agent."""

    path: AbsolutePath
    reason: str | None = Field(default=None, max_length=1000)
    denier: Annotated[Line, Field(max_length=200)] | None = None


class DeniedInput(Wire):
    """Which denial. In the address the whole path is one segment, its slashes written as `%2F`."""

    path: AbsolutePath


class HintsAnswer(Wire):
    """What a strategy gathered about a folder."""

    suggested_name: str
    detected_runtime: AgentRuntime
    inferred_capabilities: list[str]
    description: str | None
    namespace: str | None
    entrypoint: list[str] | None


class CandidateAnswer(Wire):
    """A folder that looks like an agent. `duplicateOf` is the agent that it seems to be a copy of."""

    path: str
    strategy: str
    hints: HintsAnswer
    discovered_at: Instant
    duplicate_of: str | None


class ProblemAnswer(Wire):
    """A place that could not be examined, and why."""

    path: str
    reason: str


class DiscoverAnswer(Wire):
    """What was found. `truncated` tells that a bound ended the search early, `truncatedBy` which one."""

    candidates: list[CandidateAnswer]
    problems: list[ProblemAnswer]
    directories: int
    truncated: bool
    truncated_by: str | None


class AgentAnswer(Wire):
    """A registered agent."""

    id: str
    name: str
    description: str
    runtime: AgentRuntime
    capabilities: list[str]
    entrypoint: list[str] | None
    version: str | None
    namespace: str
    project_path: str
    subject: str
    status: AgentStatus
    registered_at: Instant
    registered_by: str
    updated_at: Instant
    manifest_hash: str | None


class RegisteredAnswer(AgentAnswer):
    """A registered agent, and whether its manifest says the same. The registration stands either way."""

    manifest_written: bool
    manifest_problem: str | None


class AgentsAnswer(Wire):
    """Agents, newest first. `nextCursor` is null on the last page."""

    agents: list[AgentAnswer]
    next_cursor: str | None


class DenialAnswer(Wire):
    """A denied path."""

    path: str
    strategy: str
    reason: str | None
    denied_by: str
    denied_at: Instant


class DenialsAnswer(Wire):
    """All denied paths, newest first."""

    denied: list[DenialAnswer]


def show_agent(agent: Agent) -> AgentAnswer:
    """An agent as it is answered."""
    return AgentAnswer(
        id=agent.id,
        name=agent.name,
        description=agent.description or "",
        runtime=agent.runtime,
        capabilities=list(agent.capabilities),
        entrypoint=None if agent.entrypoint is None else list(agent.entrypoint),
        version=agent.version,
        namespace=agent.namespace,
        project_path=str(agent.project_path),
        subject=agent.subject,
        status=agent.status,
        registered_at=agent.registered_at,
        registered_by=agent.approver or "mesh",
        updated_at=agent.updated_at,
        manifest_hash=agent.manifest_hash,
    )


def show_registered(registered: Registered) -> RegisteredAnswer:
    """An agent with the fate of its manifest."""
    return RegisteredAnswer(
        **show_agent(registered.agent).model_dump(),
        manifest_written=registered.manifest_problem is None,
        manifest_problem=registered.manifest_problem,
    )


def show_discovery(found: Discovery) -> DiscoverAnswer:
    """A discovery as it is answered."""
    return DiscoverAnswer(
        candidates=[_candidate(candidate) for candidate in found.candidates],
        problems=[_problem(problem) for problem in found.problems],
        directories=found.directories,
        truncated=found.truncated is not None,
        truncated_by=found.truncated,
    )


def show_denial(denial: Denial) -> DenialAnswer:
    """A denial as it is answered. Only people deny, hence the lineage's constant strategy."""
    return DenialAnswer(
        path=denial.path,
        strategy="manual",
        reason=denial.reason,
        denied_by=denial.denier or "unknown",
        denied_at=denial.created_at,
    )


def _candidate(candidate: Candidate) -> CandidateAnswer:
    hints = candidate.hints
    return CandidateAnswer(
        path=candidate.path,
        strategy=candidate.strategy,
        hints=HintsAnswer(
            suggested_name=hints.suggested_name,
            detected_runtime=hints.detected_runtime,
            inferred_capabilities=list(hints.inferred_capabilities),
            description=hints.description,
            namespace=hints.namespace,
            entrypoint=None if hints.entrypoint is None else list(hints.entrypoint),
        ),
        discovered_at=candidate.discovered_at,
        duplicate_of=candidate.duplicate_of,
    )


def _problem(problem: Problem) -> ProblemAnswer:
    return ProblemAnswer(path=problem.path, reason=problem.reason)
