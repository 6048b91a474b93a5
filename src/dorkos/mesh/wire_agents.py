"""Registered agents as they cross the wire: what is asked of them, and what is told."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

from dorkos.mesh.budgets import CallBudgets
from dorkos.mesh.editing import AgentEdit
from dorkos.mesh.health import Health
from dorkos.mesh.manifest import (
    ON_ONE_LINE,
    Capabilities,
    Description,
    Entrypoint,
    Limit,
    Mark,
    Name,
    Persona,
    ResponseMode,
)
from dorkos.mesh.model import Agent
from dorkos.mesh.observing import Observed
from dorkos.mesh.registry import Registered
from dorkos.mesh.statement import Statement
from dorkos.mesh.wire import AbsolutePath, Filter, Instant, blank_is_absent
from dorkos.operation import Wire, left_out
from dorkos.vocabulary import AgentRuntime, AgentStatus, HealthState

# The lineage's words for health; where it had none, the one that alarms.
_OLD_WORDS = {HealthState.UNREACHABLE: HealthState.STALE, HealthState.STUCK: HealthState.STALE}


class BehaviorInput(Wire):
    """How an agent treats messages. What is left out stays."""

    response_mode: ResponseMode | None = None
    escalation_threshold: float | None = Field(default=None, allow_inf_nan=False)


class BudgetInput(Wire):
    """What an agent may spend. What is left out stays."""

    max_hops_per_message: Limit | None = None
    max_calls_per_hour: Limit | None = None


class LooksInput(Wire):
    """How an agent presents itself. What is left out stays, an empty text takes away."""

    persona: Persona | None = None
    persona_enabled: bool | None = None
    color: Mark | None = None
    icon: Mark | None = None


class OverridesInput(LooksInput):
    """What goes before the manifest's words."""

    name: Name | None = None
    runtime: AgentRuntime | None = None
    description: Description | None = None
    capabilities: Capabilities | None = None
    namespace: str | None = Field(default=None, max_length=200)
    entrypoint: Entrypoint | None = None
    behavior: BehaviorInput = BehaviorInput()
    budget: BudgetInput = BudgetInput()

    def statement(self) -> Statement:
        """The same, as one of the sources of a registration."""
        return Statement(
            name=self.name,
            runtime=self.runtime,
            description=self.description,
            capabilities=_tuple(self.capabilities),
            namespace=self.namespace,
            entrypoint=_tuple(self.entrypoint),
            response_mode=self.behavior.response_mode,
            escalation_threshold=self.behavior.escalation_threshold,
            max_hops_per_message=self.budget.max_hops_per_message,
            max_calls_per_hour=self.budget.max_calls_per_hour,
            persona=self.persona,
            persona_enabled=self.persona_enabled,
            color=self.color,
            icon=self.icon,
        )


class RegisterInput(Wire):
    """A folder to register. `scanRoot` is as the candidate says, if a discovery found it."""

    path: AbsolutePath
    overrides: OverridesInput = OverridesInput()
    approver: Annotated[str, Field(max_length=200), ON_ONE_LINE] | None = None
    scan_root: str = Field(default="", max_length=4096)


class ListInput(Wire):
    """Filters, all of which must hold, and the place in the list."""

    runtime: Annotated[AgentRuntime | None, BeforeValidator(blank_is_absent)] = None
    status: Annotated[AgentStatus | None, BeforeValidator(blank_is_absent)] = None
    health: Annotated[HealthState | None, BeforeValidator(blank_is_absent)] = None
    capability: Filter = Field(default=None, description="Exactly this word among its capabilities.")
    namespace: Filter = None
    text: Filter = Field(default=None, description="Somewhere in name, description, capabilities or path.")
    caller_namespace: Filter = Field(
        default=None,
        description="Only what agents of this namespace may see; `*` sees all.",
    )
    limit: int = Field(default=500, ge=1, le=1000)
    cursor: str | None = None


class AgentInput(Wire):
    """Which agent."""

    id: str


class UpdateFields(LooksInput):
    """What may be changed of an agent; a field that is left out stays."""

    name: Name | None = None
    description: Description | None = None
    capabilities: Capabilities | None = None
    behavior: BehaviorInput = BehaviorInput()
    budget: BudgetInput = BudgetInput()

    def edit(self) -> AgentEdit:
        """The same, as the registry takes it."""
        return AgentEdit(
            name=self.name,
            description=self.description,
            capabilities=_tuple(self.capabilities),
            response_mode=self.behavior.response_mode,
            escalation_threshold=self.behavior.escalation_threshold,
            max_hops_per_message=self.budget.max_hops_per_message,
            max_calls_per_hour=self.budget.max_calls_per_hour,
            persona=self.persona,
            persona_enabled=self.persona_enabled,
            color=self.color,
            icon=self.icon,
        )


class UpdateInput(AgentInput, UpdateFields):
    """Which agent, and what to change of it."""


class BehaviorAnswer(Wire):
    """How an agent treats messages."""

    response_mode: ResponseMode
    escalation_threshold: float | None = left_out()


class BudgetAnswer(Wire):
    """What an agent may spend: its own limits, or those of the settings."""

    max_hops_per_message: int
    max_calls_per_hour: int


class AgentAnswer(Wire):
    """A registered agent. `host` is the machine on which `projectPath` lies, null until a server there
    has seen it. Both, and `scanRoot`, are null for whoever may not see paths."""

    id: str
    name: str
    description: str
    runtime: AgentRuntime
    capabilities: list[str]
    behavior: BehaviorAnswer
    budget: BudgetAnswer
    entrypoint: list[str] | None
    version: str | None
    persona: str | None
    persona_enabled: bool
    color: str | None
    icon: str | None
    namespace: str
    project_path: str | None
    host: str | None
    scan_root: str | None
    subject: str
    status: AgentStatus
    unreachable_since: Instant | None
    registered_at: Instant
    registered_by: str
    updated_at: Instant
    manifest_hash: str | None


class RegisteredAnswer(AgentAnswer):
    """A registered agent, and whether its manifest says the same. The registration stands either way.

    `token` is told once, when the agent is registered for the first time: what a program of the agent's
    own sends and receives with. Its runs have tokens of their own.
    """

    manifest_written: bool
    manifest_problem: str | None
    token: str | None


class ReasonAnswer(Wire):
    """Why an agent is said to be as it is."""

    reason: str
    detail: str


class ObservedAnswer(AgentAnswer):
    """An agent and how it is. `healthStatus` is one of the lineage's words: active, inactive or stale;
    `health` says unreachable and stuck as well."""

    last_seen_at: Instant | None
    last_seen_event: str | None
    health_status: HealthState
    health: HealthState
    health_reasons: list[ReasonAnswer]


class AgentsAnswer(Wire):
    """Agents, newest first. `nextCursor` is null on the last page."""

    agents: list[ObservedAnswer]
    next_cursor: str | None


def show_agent(agent: Agent, budgets: CallBudgets, *, paths: bool = True) -> AgentAnswer:
    """An agent as it is answered; without its paths and its program for whoever is not to see them."""
    hops, calls = agent.budget.max_hops_per_message, agent.budget.max_calls_per_hour
    shows_program = paths and agent.entrypoint is not None
    return AgentAnswer(
        id=agent.id,
        name=agent.name,
        description=agent.description or "",
        runtime=agent.runtime,
        capabilities=list(agent.capabilities),
        behavior=BehaviorAnswer(
            response_mode=agent.behavior.response_mode or ResponseMode.ALWAYS,
            escalation_threshold=agent.behavior.escalation_threshold,
        ),
        budget=BudgetAnswer(
            max_hops_per_message=hops or budgets.hops_per_message,
            max_calls_per_hour=calls or budgets.calls_per_hour,
        ),
        entrypoint=list(agent.entrypoint or ()) if shows_program else None,
        version=agent.version,
        persona=agent.looks.persona,
        persona_enabled=agent.looks.persona_enabled,
        color=agent.looks.color,
        icon=agent.looks.icon,
        namespace=agent.namespace,
        project_path=str(agent.project_path) if paths else None,
        host=(agent.host or None) if paths else None,
        scan_root=agent.scan_root if paths else None,
        subject=agent.subject,
        status=agent.status,
        unreachable_since=agent.unreachable_since,
        registered_at=agent.registered_at,
        registered_by=agent.approver or "mesh",
        updated_at=agent.updated_at,
        manifest_hash=agent.manifest_hash,
    )


def show_registered(registered: Registered, budgets: CallBudgets) -> RegisteredAnswer:
    """An agent with the fate of its manifest, and its token if it has just been made."""
    return RegisteredAnswer(
        **show_agent(registered.agent, budgets).model_dump(),
        manifest_written=registered.manifest_problem is None,
        manifest_problem=registered.manifest_problem,
        token=registered.token,
    )


def show_observed(observed: Observed, budgets: CallBudgets, *, paths: bool) -> ObservedAnswer:
    """An agent with its health."""
    agent = observed.agent
    return ObservedAnswer(
        **show_agent(agent, budgets, paths=paths).model_dump(),
        last_seen_at=agent.last_seen_at,
        last_seen_event=agent.last_seen_event,
        health_status=old_word(observed.health.state),
        health=observed.health.state,
        health_reasons=show_reasons(observed.health),
    )


def old_word(state: HealthState) -> HealthState:
    """The state in the words that the lineage had."""
    return _OLD_WORDS.get(state, state)


def show_reasons(health: Health) -> list[ReasonAnswer]:
    """The reasons, the deciding one first."""
    return [ReasonAnswer(reason=each.reason, detail=each.detail) for each in health.reasons]


def _tuple(words: list[str] | None) -> tuple[str, ...] | None:
    return None if words is None else tuple(words)
